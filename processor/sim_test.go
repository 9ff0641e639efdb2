package processor_test

import (
	"flag"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	simSeeds = flag.Int("sim.seeds", 0, "how many worlds to simulate; 0: as many as a test run has time for")
	simFirst = flag.Uint64("sim.first", 1, "the first seed")
	simMost  = flag.Int("sim.failures", 10, "after how many failing seeds to stop")
	simSteps = flag.Int("sim.steps", 1500, "how many steps of faults a world takes before the calm")
	simSeed  = flag.Uint64("sim.seed", 0, "replay this one seed and print its history")
)

// sometimes lists what must have happened in a campaign, or it has not shown what it claims to.
var sometimes = strings.Split(strings.TrimSpace(`
crash
a process goes on with what it owns when the faults are over
clean stop, drained
stop before everything was published
hang
rebalance
two processes are assigned one partition
a generation is over before the next
fail-over
fail-over undid a commit
fail-over undid a take-over
fail-over to where a look-up should have been
fail-over under a halt
fail-over when all was done
commit fenced
look-up thrown away: fenced
a late transaction was fenced
a transaction in flight landed
a transaction in flight died
waited for a row lock
several partitions in one transaction
several transactions at once
unknown commit settled: committed
unknown commit settled: unchanged
unknown commit settled: lost the partition
take-over publishes again
cursor saved when idle
deciding waits for publishing
publish lost, tried again
publish unknown, arrives later, tried again
publish arrived, answer lost, tried again
an output is on its topic twice
an output refused by its topic
a misrouted record too large to be forwarded
reading interrupted
reading out of the log
a leader showed less than its whole log
gap at the end of what was read
read nothing but a gap
a topic was created again
a log was truncated
retention passed a partition
halted: the log is another
halt fenced
operator resumed a partition
operator accepted a gap
the database refused data
a name was changed behind the log
a request arrives late
a request arrives twice
duplicate
forwarded
dead
outcome Accepted
a rename or what exists: Accepted
a rename or what exists: Rejected invalid_request
outcome Rejected taken
outcome Rejected malformed
outcome Rejected unknown_space
outcome Rejected deadline_passed
outcome Rejected invalid_name
outcome Rejected invalid_request
outcome Rejected reserved_word
outcome Rejected version_conflict
outcome Rejected not_allowed
outcome Rejected withdrawn
outcome Rejected blocked
outcome Rejected unknown_claim
outcome Rejected reservation_expired
outcome Rejected not_owner
outcome Rejected wrong_state
outcome Rejected cooling_down
outcome Rejected confusable
outcome Rejected limit_exceeded
outcome Confirmed
outcome Extended
outcome Released
outcome Withdrawn
outcome Deactivated
outcome Reactivated
outcome Transferred
outcome Blocked
outcome Unblocked
outcome Expired
outcome Unchanged
fact Expired
fact Released
mark
a follow-up
rename: the old name is released
rename: the old name stays, not_owner
rename: the old name stays, version_conflict
rename: after a fail-over the old name was free before the new one was decided again
asked: a rename
asked: in the last moment
asked: a withdrawal before its claim
asked: under an id of dibs' own, forged
the sweeper asks
a question refused by its topic
policy
a policy was activated
a policy was activated in the middle of a batch
fail-over undid an activation
halted: a key is lacking
halted: a key is lacking that holds already
asked: signed with the late key
asked: a policy
asked: a policy of a version that holds
asked: a policy, not signed as one
asked: a policy that cannot be stored
asked: a policy that cannot be read
asked: by a key that is no name
asked: by its name in a private space
asked: by a key of another pepper
private: forwarded
private: a follow-up
private: Accepted
private: Confirmed
private: Expired
private: invalid_name
private: reservation_expired
private: taken
asked: a sign-up
asked: a sign-up with a private name
a sign-up is under way
sent
sent SignupVoted
sent ConfirmRequested
sent WithdrawRequested
fact Begun
fact Abandoned
outcome Voted
sign-up: all
sign-up: none
decided outcome SignupRequested Accepted
decided outcome SignupRequested Rejected deadline_passed
decided pending SignupRequested
decided duplicate SignupRequested Accepted
decided fact SignupRequested Accepted
erasure of a sign-up: Erased
erasure of a sign-up: Erased  free
erasure of a sign-up: Rejected wrong_state`), "\n")

// TestSimulation runs the lane through many small worlds full of faults, and has an independent checker judge each.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		replay(t, *simSeed)
		return
	}
	seeds, full := *simSeeds, true
	if seeds == 0 {
		if seeds = 3000; raceEnabled || testing.Short() {
			seeds, full = 150, false
			t.Logf("race detector or -short: %d seeds only (without them: 3,000)", seeds)
		}
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	var (
		began  = time.Now()
		next   atomic.Uint64
		mu     sync.Mutex
		failed []*world
		count  = make(map[string]int)
		turns  int
		wg     sync.WaitGroup
	)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= uint64(seeds) {
					return
				}
				w := simulate(*simFirst+i, *simSteps, false)
				mu.Lock()
				for what, n := range w.count {
					count[what] += n
				}
				turns += w.resumes
				if len(w.violations) > 0 {
					failed = append(failed, w)
				}
				enough := len(failed) >= *simMost
				mu.Unlock()
				if enough {
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	t.Logf("%d seeds, %d turns in %.1f s: %.0f seeds/s", seeds, turns, took.Seconds(), float64(seeds)/took.Seconds())
	for _, what := range slices.Sorted(maps.Keys(count)) {
		t.Logf("%9d %s", count[what], what)
	}
	slices.SortFunc(failed, func(a, b *world) int { return int(a.seed) - int(b.seed) })
	for _, w := range failed {
		t.Errorf("seed %d: %s\n  %s", w.seed, w.violations[0], replayCommand(w.seed))
	}
	if len(failed) > 0 {
		return
	}
	for _, what := range sometimes {
		if count[what] == 0 {
			if full && seeds >= 1000 {
				t.Errorf("it never happened: %s", what)
			} else {
				t.Logf("it never happened: %s", what)
			}
		}
	}
}

func replayCommand(seed uint64) string {
	return fmt.Sprintf("go test ./processor -run TestSimulation -v -sim.steps=%d -sim.seed=%d", *simSteps, seed)
}

// replay prints the history of one seed.
func replay(t *testing.T, seed uint64) {
	w := simulate(seed, *simSteps, true)
	for _, line := range w.lines {
		t.Log(line)
	}
	for _, v := range w.violations {
		t.Error(v)
	}
	t.Logf("seed %d, history %016x, %d turns", seed, w.sum.Sum64(), w.resumes)
}

// TestSimulationRepeats: the same seed is the same history, or no failing seed could be looked at.
func TestSimulationRepeats(t *testing.T) {
	for seed := uint64(1); seed <= 30; seed++ {
		first, second := simulate(seed, *simSteps, false), simulate(seed, *simSteps, true)
		if a, b := first.sum.Sum64(), second.sum.Sum64(); a != b {
			t.Errorf("seed %d has the histories %016x and %016x", seed, a, b)
		}
	}
}
