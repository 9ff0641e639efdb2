package app_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestDatabaseThatRefuses: a function of ours is not there any more, as after a migration that went wrong. No record is at
// fault and nothing is skipped: everybody who is asked says since when and why nothing is decided, and it goes on by
// itself when the function is back. So it is for who has the partitions, and for who cannot take them over.
func TestDatabaseThatRefuses(t *testing.T) {
	t.Parallel()
	d := deploy(t, 2)
	p := d.start("processor").ready()
	api := d.start("api").ready()
	d.assigned(30*time.Second, p)
	tells := func(trouble string) {
		t.Helper()
		eventually(t, 30*time.Second, func() error {
			ready := p.readiness()
			if !regexp.MustCompile(`\[-\] deciding: partitions [01, ]+: nothing is decided for \d+s: .*`+trouble).MatchString(ready) || !strings.Contains(ready, "not ready") {
				return fmt.Errorf("readiness says\n%s", ready)
			}
			if said := d.mustRun("partitions", "--ops-addr", p.opsAddr()); !regexp.MustCompile(`STUCK since 20\S+Z: .*` + trouble).MatchString(said) {
				return fmt.Errorf("dibs partitions says\n%s", said)
			}
			if said := d.mustRun("partitions", "--ops-addr", p.opsAddr(), "-o", "json"); !regexp.MustCompile(`"stuck_because":".*` + trouble).MatchString(said) {
				return fmt.Errorf("dibs partitions -o json says\n%s", said)
			}
			for name, v := range p.metrics() {
				if strings.HasPrefix(name, "dibs_partition_stuck_seconds{") && v > 3 {
					return nil
				}
			}
			return fmt.Errorf("no partition is stuck: %v", p.metrics())
		})
	}
	recovers := func() {
		t.Helper()
		d.settled(30 * time.Second)
		eventually(t, 15*time.Second, func() error {
			if ready := p.readiness(); !strings.Contains(ready, "[+] deciding\n[+] partitions\nready") {
				return fmt.Errorf("readiness says\n%s", ready)
			}
			return nil
		})
		if said := d.mustRun("partitions", "--ops-addr", p.opsAddr()); strings.Contains(said, "STUCK") || strings.Count(said, "  ok\n") != 2 {
			t.Errorf("dibs partitions says\n%s", said)
		}
		for name, v := range p.metrics() {
			if strings.HasPrefix(name, "dibs_partition_stuck_seconds{") && v > 3 {
				t.Errorf("%s is %v", name, v)
			}
		}
	}
	refused := `function .*advance.* does not exist \(SQLSTATE 42883\)`

	functions := value[string](d, `SELECT string_agg(format('ALTER FUNCTION %s RENAME TO advance_away', p.oid::regprocedure), ';') FROM pg_proc p
		WHERE p.pronamespace = current_schema()::regnamespace AND p.proname = 'advance'`)
	d.exec(functions)
	for i := range 4 {
		if a := d.claim(api, asked{name: fmt.Sprint("jammed-", i), owner: "u-1", prefer: "respond-async"}); a.status != 202 {
			t.Fatalf("a claim that waits: %s", a)
		}
	}
	tells(refused)
	d.exec(strings.ReplaceAll(strings.ReplaceAll(functions, "advance(", "advance_away("), "RENAME TO advance_away", "RENAME TO advance"))
	recovers()
	if n := value[int](d, `SELECT count(*) FROM names WHERE key LIKE 'jammed-%' AND state = 'r'`); n != 4 {
		t.Errorf("%d of 4 claims are accepted", n)
	}

	// Who comes now cannot take a partition over.
	d.exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not like this' USING ERRCODE = '42P17'; END $$;
		CREATE TRIGGER refuse BEFORE UPDATE OF writer_id ON partitions FOR EACH ROW EXECUTE FUNCTION refuse()`)
	p.stop()
	p = d.start("processor").ready()
	tells(`take over partition \d: .*not like this \(SQLSTATE 42P17\)`)
	d.exec(`DROP TRIGGER refuse ON partitions`)
	d.assigned(30*time.Second, p)
	recovers()
}
