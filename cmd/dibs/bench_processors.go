package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/dibs-hq/dibs/app"
	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/dev"
	"github.com/dibs-hq/dibs/dev/child"
)

// roleProcessor is a child process that does what dibs processor does, until its parent goes. Its task is a config.Config.
const roleProcessor = "processor"

// deciding is the answer of a roleProcessor.
type deciding struct{ Ops string }

// childMain does not return in a process that was started as a child of this program.
func childMain() { dev.ChildMain(map[string]child.Role{roleProcessor: serveProcessor}) }

func serveProcessor(ctx context.Context, job *child.Job) error {
	var settings config.Config
	if err := job.Task(&settings); err != nil {
		return err
	}
	var failed error
	err := app.Run(ctx, app.Options{
		Config: settings, Processor: true,
		Log:     slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})), // its end is shown where it fails
		OnReady: func(_, ops string) { failed = job.Ready(deciding{ops}) },
	})
	return errors.Join(err, failed)
}

// processes are the processors of one deployment: so many processes, or with none of them one in this process.
type processes struct {
	settings config.Config
	size     int
	log      *slog.Logger
	fail     func(error) // told of one that ends by itself

	inside func() error // stops the one in this process

	mu      sync.Mutex // guards what follows, and stopped of each
	started []*process
}

type process struct {
	*child.Process
	ops     string
	stopped bool
}

// start starts all at once.
func (ps *processes) start(ctx context.Context) error {
	if ps.size == 0 {
		ps.startInside(ctx)
		return nil
	}
	faults := make([]error, ps.size)
	var all sync.WaitGroup
	for i := range ps.size {
		all.Go(func() { faults[i] = ps.startOne(ctx) })
	}
	all.Wait()
	return errors.Join(faults...)
}

func (ps *processes) startInside(ctx context.Context) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		err := app.Run(running, app.Options{Config: ps.settings, Processor: true, Log: ps.log})
		if err != nil {
			ps.fail(fmt.Errorf("processor: %w", err))
		}
		ended <- err
	}()
	ps.inside = func() error {
		cancel()
		return <-ended
	}
}

// startOne starts one process.
func (ps *processes) startOne(ctx context.Context) error {
	var answer deciding
	p, err := child.Start(ctx, roleProcessor, ps.settings, &answer, child.Options{Logger: ps.log})
	if err != nil {
		return fmt.Errorf("processor: %w", err)
	}
	m := &process{Process: p, ops: answer.Ops}
	ps.mu.Lock()
	ps.started = append(ps.started, m)
	ps.mu.Unlock()
	go func() {
		<-p.Done()
		ps.mu.Lock()
		defer ps.mu.Unlock()
		if !m.stopped {
			ps.fail(fmt.Errorf("processor: %w", p.Failure()))
		}
	}()
	return nil
}

// await returns when every partition is decided by one of the processes, and each has its part.
func (ps *processes) await(ctx context.Context, partitions int) error {
	ctx, cancel := context.WithTimeout(ctx, benchWait)
	defer cancel()
	for {
		fault := ps.unassigned(ctx, partitions)
		if fault == nil {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), fault)
		}
	}
}

// unassigned says what is missing until every partition is decided, and each process has its part; nil for nothing.
func (ps *processes) unassigned(ctx context.Context, partitions int) error {
	running, busy := 0, 0
	for _, m := range ps.present() {
		owned, err := app.AskPartitions(ctx, m.ops)
		if err != nil {
			return err
		}
		for _, p := range owned {
			if p.State == "running" {
				running++
			}
		}
		if len(owned) > 0 {
			busy++
		}
	}
	if running != partitions || busy != min(ps.size, partitions) {
		return fmt.Errorf("%d of %d processors decide %d of %d partitions", busy, ps.size, running, partitions)
	}
	return nil
}

// present are those that nobody has stopped.
func (ps *processes) present() (all []*process) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, m := range ps.started {
		if !m.stopped {
			all = append(all, m)
		}
	}
	return all
}

func (ps *processes) pids() (all []int) {
	for _, m := range ps.present() {
		all = append(all, m.PID())
	}
	return all
}

// markStopped marks one as stopped.
func (ps *processes) markStopped(m *process) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	m.stopped = true
}

// kill ends one as kill -9 does.
func (ps *processes) kill() error {
	all := ps.present()
	if len(all) == 0 {
		return errors.New("no processor is left to kill")
	}
	ps.markStopped(all[0])
	return all[0].Signal(syscall.SIGKILL)
}

// stop stops all, one beside the other.
func (ps *processes) stop() error {
	if ps.inside != nil {
		return ps.inside()
	}
	present := ps.present()
	faults := make([]error, len(present))
	var all sync.WaitGroup
	for i, m := range present {
		ps.markStopped(m)
		all.Go(func() { faults[i] = m.Stop() })
	}
	all.Wait()
	return errors.Join(faults...)
}
