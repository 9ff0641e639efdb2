package app_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/dibstest"
)

// TestPausedProcessorIsFenced pauses a processor that has looked up what a batch needs, for as long as it takes the other
// one to take its partitions over and decide in all of them, then lets it go on with the old batch in hand.
func TestPausedProcessorIsFenced(t *testing.T) {
	t.Parallel()
	dibstest.NeedRealKafka(t)
	pausedProcessorIsFenced(t, 1, 0)
}

// TestCampaignPausedProcessorIsFenced pauses it for 15 s, several times.
func TestCampaignPausedProcessorIsFenced(t *testing.T) {
	campaign(t)
	dibstest.NeedRealKafka(t)
	pausedProcessorIsFenced(t, 5, 15*time.Second)
}

func pausedProcessorIsFenced(t *testing.T, times int, least time.Duration) {
	d := deploy(t, 6)
	d.calm = true
	d.audit()
	api := d.start("api").ready()
	zombie, other := d.start("processor").ready(), d.start("processor").ready()
	d.assigned(time.Minute, zombie, other)
	for round := range times {
		m := d.measure(api, fmt.Sprintf("zombie-%d", round))
		m.after(time.Now(), 5)
		theirs := make(map[string]int32) // the writer ids that the zombie has
		for _, s := range d.owners(zombie) {
			theirs[s.Writer] = s.Partition
		}
		fenced, rebalances := zombie.metrics()["dibs_fenced_total"], zombie.metrics()["dibs_rebalances_total"]

		// Its look-up waits for us, and is answered when it sleeps: when it wakes up, it holds what was right before.
		release := d.hold(`LOCK TABLE names IN ACCESS EXCLUSIVE MODE`)
		for _, partition := range theirs {
			d.leave(api, namesOf(fmt.Sprintf("in-hand-%d", round), int(partition), d.partitions), 1)
		}
		eventually(t, 10*time.Second, func() error { // again and again: it waits no longer than 2 s for a lock
			if n := value[int](d, `SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'`, zombie.name); n == 0 {
				return fmt.Errorf("the processor looks nothing up")
			}
			return nil
		})
		began := time.Now()
		zombie.pause()
		release()
		m.after(time.Now(), 3) // of its own partitions, too: the other one has decided
		for _, s := range d.standings() {
			if p, old := theirs[s.Writer]; old {
				t.Fatalf("partition %d decides, and its writer is still that of the paused processor (of partition %d)", s.Partition, p)
			}
		}
		if rest := least - time.Since(began); rest > 0 {
			m.after(began.Add(least), 1)
		}
		paused := time.Since(began)
		zombie.resume()
		eventually(t, 30*time.Second, func() error {
			now := zombie.metrics()
			if now["dibs_fenced_total"] > fenced || now["dibs_rebalances_total"] > rebalances {
				return nil
			}
			return fmt.Errorf("the paused processor has not noticed: fenced %v, rebalances %v", now["dibs_fenced_total"], now["dibs_rebalances_total"])
		})
		d.assigned(time.Minute, zombie, other)
		m.after(time.Now(), 5)
		m.end()
		for _, s := range d.standings() {
			if _, old := theirs[s.Writer]; old {
				t.Errorf("partition %d went back to a writer that was fenced", s.Partition)
			}
		}
		now := zombie.metrics()
		t.Logf("paused for %s with %d partitions: fenced %v times, %v rebalances after it went on", paused.Round(time.Millisecond), len(theirs),
			now["dibs_fenced_total"]-fenced, now["dibs_rebalances_total"]-rebalances)
	}
	d.settled(30 * time.Second)
	d.oneWriter()
	d.check()
}

// owners are the rows of the partitions that a processor has taken over last, as the audit saw it.
func (d *deployment) owners(p *process) []standing {
	d.t.Helper()
	return rows[standing](d, `SELECT p.partition, p.log_epoch, p.next_offset, p.published_through, p.writer_epoch, p.writer_id::text, coalesce(p.halted, '')
		FROM partitions p JOIN audit a ON a.acquired AND a.partition = p.partition AND a.writer_id = p.writer_id WHERE a.app = $1`, p.name)
}
