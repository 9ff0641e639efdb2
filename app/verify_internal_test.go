package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/dibs-hq/dibs/kafka"
)

type answered string

func (a answered) Error() string    { return "answered " + string(a) }
func (a answered) SQLState() string { return string(a) }

// TestUnreachable: a server that goes away in the middle of a run is out of reach; what it answers is not.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		fmt.Errorf("partition 1: %w", kafka.ErrSilent): true, io.ErrUnexpectedEOF: true, io.EOF: true,
		answered("57P01"): true, answered("08006"): true, answered("42P01"): false, context.Canceled: false, errors.New("else"): false,
	} {
		if got := unreachable(err); errors.Is(got, ErrUnreachable) != want || !errors.Is(got, err) {
			t.Errorf("%v: %v", err, got)
		}
	}
	if unreachable(nil) != nil {
		t.Error("nothing is something")
	}
}
