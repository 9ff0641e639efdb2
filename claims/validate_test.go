package claims_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/claims"
)

func TestValidate(t *testing.T) {
	if err := minimal().Validate(); err != nil {
		t.Errorf("minimal: %v", err)
	}
	if err := full().Validate(); err != nil {
		t.Errorf("full: %v", err)
	}
	// {"k":"…"} around the text.
	metadata := func(size int) map[string]string {
		return map[string]string{"k": strings.Repeat("x", size-len(`{"k":""}`))}
	}
	for name, test := range map[string]struct {
		change func(*claims.UsernameClaimed)
		field  string // "" for a claim that is valid
	}{
		"owner empty":         {func(c *claims.UsernameClaimed) { c.Owner = "" }, "owner"},
		"owner of 255":        {func(c *claims.UsernameClaimed) { c.Owner = strings.Repeat("o", 255) }, ""},
		"owner of 256":        {func(c *claims.UsernameClaimed) { c.Owner = strings.Repeat("o", 256) }, "owner"},
		"owner, every sign":   {func(c *claims.UsernameClaimed) { c.Owner = " !\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~" }, ""},
		"owner with tab":      {func(c *claims.UsernameClaimed) { c.Owner = "u\t1" }, "owner"},
		"owner with DEL":      {func(c *claims.UsernameClaimed) { c.Owner = "u\x7f" }, "owner"},
		"owner beyond ASCII":  {func(c *claims.UsernameClaimed) { c.Owner = "ü" }, "owner"},
		"mode reserve":        {func(c *claims.UsernameClaimed) { c.Mode = claims.ModeReserve }, ""},
		"mode empty":          {func(c *claims.UsernameClaimed) { c.Mode = "" }, "mode"},
		"mode unknown":        {func(c *claims.UsernameClaimed) { c.Mode = "Register" }, "mode"},
		"on_conflict unknown": {func(c *claims.UsernameClaimed) { c.OnConflict = "return" }, "on_conflict"},
		"version 0":           {func(c *claims.UsernameClaimed) { c.ExpectedVersion = new(int64(0)) }, ""},
		"version -1":          {func(c *claims.UsernameClaimed) { c.ExpectedVersion = new(int64(-1)) }, "expected_version"},
		"metadata of 1 KiB":   {func(c *claims.UsernameClaimed) { c.Metadata = metadata(1024) }, ""},
		"metadata of 1 KiB+1": {func(c *claims.UsernameClaimed) { c.Metadata = metadata(1025) }, "metadata"},
		"metadata, escapes":   {func(c *claims.UsernameClaimed) { c.Metadata = map[string]string{"k": strings.Repeat("\x01", 200)} }, "metadata"},
	} {
		t.Run(name, func(t *testing.T) {
			c := minimal()
			test.change(c)
			err := c.Validate()
			if test.field == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var invalid *claims.InvalidError
			if !errors.As(err, &invalid) || invalid.Field != test.field || !strings.HasPrefix(err.Error(), test.field+" ") || invalid.Detail == "" {
				t.Errorf("%v, want an InvalidError about %s", err, test.field)
			}
		})
	}
}
