package app_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/dibstest"
)

// TestServersRestartInMidImport restarts the broker, and Postgres twice, cleanly and not, while sign-ups are imported and
// clients claim. The processes of dibs are the same from beginning to end.
func TestServersRestartInMidImport(t *testing.T) {
	t.Parallel()
	dibstest.NeedRealKafka(t)
	kafka, database := dibstest.OwnKafka(t), dibstest.OwnPostgres(t)
	const partitions = 6
	d := prepare(t, kafka, database, partitions)
	d.calm = true
	d.mustRun("migrate", "up")
	d.mustRun("topics", "create", "--partitions", strconv.Itoa(partitions))
	d.audit()
	processes := []*process{d.start("processor"), d.start("processor"), d.start("api"), d.start("api")}
	for _, p := range processes {
		p.ready()
	}
	d.assigned(time.Minute, processes[:2]...)
	s := makeSignups(t, 2, 5000)
	clients := d.call(&crew{processes: processes[2:]}, 4)
	running := d.importing(s, 16)
	restarts := []struct {
		name string
		do   func() error
	}{
		{"the broker", func() error { return kafka.Restart(t.Context()) }},
		{"Postgres", func() error { return database.Restart(t.Context()) }},
		{"Postgres, stopped at once,", func() error {
			if err := database.StopImmediate(); err != nil {
				return err
			}
			return database.Start(t.Context())
		}},
	}
	for i, restart := range restarts {
		part := (i + 1) * s.rows / (len(restarts) + 2)
		eventually(t, 2*time.Minute, func() error {
			if n := d.decided(); n < part {
				return fmt.Errorf("%d rows are decided", n)
			}
			return nil
		})
		if !running.alive() {
			t.Fatal("the import had ended before everything was restarted")
		}
		before := d.decided()
		began := time.Now()
		if err := restart.do(); err != nil {
			t.Fatalf("restart %s: %v", restart.name, err)
		}
		back := time.Now()
		eventually(t, time.Minute, func() error {
			if n := d.decided(); n < before+100 && running.alive() {
				return fmt.Errorf("%d rows are decided, %d before %s was restarted", n, before, restart.name)
			}
			return nil
		})
		t.Logf("%s was away for %s; 100 claims were decided %s after it was back", restart.name,
			back.Sub(began).Round(time.Millisecond), time.Since(back).Round(time.Millisecond))
	}
	got := d.imported(running, s, 5*time.Minute)
	clients.finish()
	for _, p := range processes {
		if !p.alive() {
			t.Errorf("%s has ended: %s", p.name, p.cmd.ProcessState)
		}
	}
	d.assigned(time.Minute, processes[:2]...)
	d.settled(time.Minute)
	outcomes := s.rows - s.invalid + int(clients.claims.Load())
	if n := d.decided(); n != outcomes {
		t.Errorf("%d outcomes are stored, want one for each of %d claims", n, outcomes)
	}
	if n := d.published(); n != outcomes {
		t.Errorf("%d claims have an outcome on the topic, want %d", n, outcomes)
	}
	for _, row := range d.standings() {
		if row.Halted != "" {
			t.Errorf("partition %d is halted: %s", row.Partition, row.Halted)
		}
	}
	t.Logf("%d rows, %d accepted, rejected %v; %d claims of callers, %d calls repeated", s.rows, got.Accepted, got.Rejected,
		clients.claims.Load(), clients.repeated.Load())
	d.oneWriter()
	d.check()
}
