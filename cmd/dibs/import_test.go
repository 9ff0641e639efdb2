package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/importer"
)

// TestImportThatEndsByItself says why, what to do, and that nothing is lost.
func TestImportThatEndsByItself(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	for _, c := range []struct {
		err  error
		code int
		want []string
	}{
		{errors.Join(&importer.HaltedError{Partition: 7, Reason: "the log was cut"}, refused), exitFailure,
			[]string{"partition 7 is halted: the log was cut", "dibs partitions resume 7", "after row 41", "the same command goes on"}},
		{errors.Join(fmt.Errorf("%w: none for 5m0s", importer.ErrSilent), errors.New("stop tail")), exitUnreachable,
			[]string{"none for 5m0s", "Kafka, Postgres or the processor", "after row 41", "the same command goes on"}},
		{errors.New("the file is torn"), exitFailure, []string{"the file is torn"}},
	} {
		err := ended(c.err, 41)
		if code := exitCode(err); code != c.code {
			t.Errorf("%v: exit %d, want %d", err, code, c.code)
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %q", err, want)
			}
		}
	}
	if err := ended(nil, 41); err != nil {
		t.Error(err)
	}
}
