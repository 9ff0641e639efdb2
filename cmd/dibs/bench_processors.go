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

// crew is the processors of one deployment: so many processes, or with none of them one in this process.
type crew struct {
	settings config.Config
	size     int
	log      *slog.Logger
	fail     func(error) // told of one that ends by itself

	inside func() error // stops the one in this process

	mu      sync.Mutex // guards what follows, and stopped of each
	members []*member
}

type member struct {
	*child.Process
	ops     string
	stopped bool
}

// start starts all at once.
func (c *crew) start(ctx context.Context) error {
	if c.size == 0 {
		c.startInside(ctx)
		return nil
	}
	faults := make([]error, c.size)
	var all sync.WaitGroup
	for i := range c.size {
		all.Go(func() { faults[i] = c.hire(ctx) })
	}
	all.Wait()
	return errors.Join(faults...)
}

func (c *crew) startInside(ctx context.Context) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		err := app.Run(running, app.Options{Config: c.settings, Processor: true, Log: c.log})
		if err != nil {
			c.fail(fmt.Errorf("processor: %w", err))
		}
		ended <- err
	}()
	c.inside = func() error {
		cancel()
		return <-ended
	}
}

// hire starts one process.
func (c *crew) hire(ctx context.Context) error {
	var answer deciding
	p, err := child.Start(ctx, roleProcessor, c.settings, &answer, child.Options{Logger: c.log})
	if err != nil {
		return fmt.Errorf("processor: %w", err)
	}
	m := &member{Process: p, ops: answer.Ops}
	c.mu.Lock()
	c.members = append(c.members, m)
	c.mu.Unlock()
	go func() {
		<-p.Done()
		c.mu.Lock()
		defer c.mu.Unlock()
		if !m.stopped {
			c.fail(fmt.Errorf("processor: %w", p.Failure()))
		}
	}()
	return nil
}

// await returns when every partition is decided by one of the processes, and each has its part.
func (c *crew) await(ctx context.Context, partitions int) error {
	ctx, cancel := context.WithTimeout(ctx, benchWait)
	defer cancel()
	for {
		fault := c.deals(ctx, partitions)
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

// deals says what is wrong with who decides which partitions.
func (c *crew) deals(ctx context.Context, partitions int) error {
	running, busy := 0, 0
	for _, m := range c.present() {
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
	if running != partitions || busy != min(c.size, partitions) {
		return fmt.Errorf("%d of %d processors decide %d of %d partitions", busy, c.size, running, partitions)
	}
	return nil
}

// present are those that nobody has stopped.
func (c *crew) present() (all []*member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		if !m.stopped {
			all = append(all, m)
		}
	}
	return all
}

func (c *crew) pids() (all []int) {
	for _, m := range c.present() {
		all = append(all, m.PID())
	}
	return all
}

// take marks one as stopped.
func (c *crew) take(m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.stopped = true
}

// kill ends one as kill -9 does.
func (c *crew) kill() error {
	all := c.present()
	if len(all) == 0 {
		return errors.New("no processor is left to kill")
	}
	c.take(all[0])
	return all[0].Signal(syscall.SIGKILL)
}

// stop stops all, one beside the other.
func (c *crew) stop() error {
	if c.inside != nil {
		return c.inside()
	}
	present := c.present()
	faults := make([]error, len(present))
	var all sync.WaitGroup
	for i, m := range present {
		c.take(m)
		all.Go(func() { faults[i] = m.Stop() })
	}
	all.Wait()
	return errors.Join(faults...)
}
