package app

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestRetained: decisions are kept for longer than the records that they are of, or dibs does not start.
func TestRetained(t *testing.T) {
	const day = 24 * time.Hour
	for what, c := range map[string]struct {
		keep, keeps, want time.Duration
		err               error
		refused, warned   bool
	}{
		"the defaults":              {keep: 400 * day, keeps: 14 * day, want: 400 * day},
		"just long enough":          {keep: 21 * day, keeps: 14 * day, want: 21 * day},
		"a moment less":             {keep: 21*day - 1, keeps: 14 * day, refused: true},
		"the topic keeps for ever":  {keep: 400 * day, keeps: -1, warned: true},
		"the topic keeps for years": {keep: 400 * day, keeps: 800 * day, refused: true},
		"the broker does not say":   {keep: 8 * day, err: errors.New("hidden"), want: 8 * day, warned: true},
	} {
		warned := false
		got, err := retained(c.keep, c.keeps, c.err, "claims", func(string) { warned = true })
		if got != c.want || (err != nil) != c.refused || warned != c.warned {
			t.Errorf("%s: %s, %v, warned %t", what, got, err, warned)
		}
		if err != nil && !strings.Contains(err.Error(), "processor.decisions_retention") {
			t.Errorf("%s: %v does not say what to set", what, err)
		}
	}
}
