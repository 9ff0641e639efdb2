package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// stages are the running parts of a process, in the order in which they were started. Each runs until it is told to
// stop, which happens in the opposite order, one after the other.
type stages struct {
	log     *slog.Logger
	running []stage
	failed  chan error
}

type stage struct {
	name string
	stop context.CancelFunc
	done chan struct{}
	err  *error // written before done is closed
}

func newStages(log *slog.Logger) *stages {
	return &stages{log: log, failed: make(chan error, 1)}
}

// start runs a part beside the others. It must return nil when its context ends, and not before.
func (s *stages) start(ctx context.Context, name string, run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	st := stage{name: name, stop: stop, done: make(chan struct{}), err: new(error)}
	s.running = append(s.running, st)
	go func() {
		defer close(st.done)
		err := run(ctx)
		if ctx.Err() == nil { // nobody asked it to
			if err == nil {
				err = errors.New("stopped by itself")
			}
			select {
			case s.failed <- fmt.Errorf("%s: %w", name, err):
			default:
			}
			return
		}
		*st.err = err
	}()
}

// wait blocks until ctx ends or a part fails, then stops all parts, the last started first. It returns the failure.
func (s *stages) wait(ctx context.Context) error {
	var failure error
	select {
	case <-ctx.Done():
	case failure = <-s.failed:
	}
	return errors.Join(failure, s.stopAll(ctx))
}

func (s *stages) stopAll(ctx context.Context) error {
	var errs []error
	for i := len(s.running) - 1; i >= 0; i-- {
		st := s.running[i]
		s.log.DebugContext(ctx, "stopping", "part", st.name)
		st.stop()
		<-st.done
		if err := *st.err; err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, fmt.Errorf("stop %s: %w", st.name, err))
		}
	}
	s.running = nil
	return errors.Join(errs...)
}
