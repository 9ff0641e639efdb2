package processor

import (
	"context"
	"errors"
)

// class is the bounded name of an error, for a label.
func class(err error) string {
	for _, c := range []struct {
		err  error
		name string
	}{
		{ErrInterrupted, "interrupted"}, {ErrOutOfLog, "out_of_log"}, {ErrRefused, "refused"},
		{ErrFenced, "fenced"}, {ErrConflict, "conflict"}, {ErrData, "data"},
		{context.DeadlineExceeded, "timeout"}, {context.Canceled, "canceled"},
	} {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	return "other"
}
