package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fill claims n fresh names in a partition, and expects to get them.
func (d *deployment) fill(api *process, next func() string, n int) {
	d.t.Helper()
	for range n {
		if a := d.claim(api, asked{name: next(), owner: "u-1"}); a.status != http.StatusCreated {
			d.t.Fatal(a)
		}
	}
}

// leave claims n fresh names without waiting, and returns where the claims can be read.
func (d *deployment) leave(api *process, next func() string, n int) (locations []string) {
	d.t.Helper()
	for range n {
		a := d.claim(api, asked{name: next(), owner: "u-1", prefer: "respond-async"})
		if a.status != http.StatusAccepted {
			d.t.Fatal(a)
		}
		locations = append(locations, a.header.Get("Location"))
	}
	return locations
}

// halts waits until a partition is halted, and everybody says so who should.
func (d *deployment) halts(p, api *process, next func() string, partition int32, why string) {
	d.t.Helper()
	number := strconv.Itoa(int(partition))
	eventually(d.t, 30*time.Second, func() error {
		switch s := d.standing(partition); {
		case s.Halted == "":
			return fmt.Errorf("partition %d is not halted", partition)
		case !strings.Contains(s.Halted, why):
			return fmt.Errorf("partition %d is halted because %q, which does not say %q", partition, s.Halted, why)
		}
		if p.metrics()[`dibs_partition_halted{partition="`+number+`"}`] != 1 {
			return fmt.Errorf("dibs_partition_halted is not 1")
		}
		if ready := p.readiness(); !strings.Contains(ready, "partition "+number+" is halted") {
			return fmt.Errorf("readiness does not say so: %s", ready)
		}
		if a := d.claim(api, asked{name: next(), owner: "u-1", prefer: "respond-async"}); a.status != http.StatusServiceUnavailable || a.claim.Reason != "partition_halted" {
			return fmt.Errorf("a claim is answered %s", a)
		}
		return nil
	})
	for line := range strings.Lines(d.mustRun("partitions")) {
		if fields := strings.Fields(line); fields[0] == number && !strings.Contains(line, "HALTED: ") {
			d.t.Errorf("dibs partitions says %q", line)
		}
	}
	for line := range strings.Lines(d.mustRun("partitions", "-o", "json")) {
		var row struct {
			Partition int32
			Halted    string
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil || row.Partition == partition && row.Halted == "" {
			d.t.Errorf("dibs partitions -o json says %q (%v)", line, err)
		}
	}
}

func (d *deployment) standing(partition int32) standing {
	d.t.Helper()
	for _, s := range d.standings() {
		if s.Partition == partition {
			return s
		}
	}
	d.t.Fatalf("partition %d has no row", partition)
	return standing{}
}

// accept lets a halted partition go on, and expects what is written down of it.
func (d *deployment) accept(partition int32, from standing, start int64) {
	d.t.Helper()
	number := strconv.Itoa(int(partition))
	if p, code := d.run("partitions", "resume", number, "--accept-gap", "--reason", "we know"); code != 2 || !strings.Contains(p.errors(), "--actor") {
		d.t.Errorf("resumed by nobody: exit code %d\n%s", code, p.errors())
	}
	said := d.mustRun("partitions", "resume", number, "--accept-gap", "--actor", "ops@example.org", "--reason", "the disk of broker 3 is lost")
	if want := fmt.Sprintf("partition %d goes on at offset %d, in log %d\n", partition, start, from.LogEpoch+1); said != want {
		d.t.Errorf("resume said %q, want %q", said, want)
	}
	type gap struct {
		From, To              int32
		FromOffset, ToOffset  int64
		Halted, Actor, Reason string
	}
	kept := rows[gap](d, `SELECT from_epoch, to_epoch, from_offset, to_offset, halted, actor, reason FROM gaps WHERE partition = $1 ORDER BY id DESC LIMIT 1`, partition)
	want := gap{from.LogEpoch, from.LogEpoch + 1, from.Next, start, from.Halted, "ops@example.org", "the disk of broker 3 is lost"}
	if len(kept) != 1 || kept[0] != want {
		d.t.Errorf("of the gap is kept %+v, want %+v", kept, want)
	}
}

// goesOn waits until a partition decides again, in a log epoch.
func (d *deployment) goesOn(api *process, next func() string, epoch int32) {
	d.t.Helper()
	eventually(d.t, 30*time.Second, func() error {
		a := d.claim(api, asked{name: next(), owner: "u-1"})
		if a.status != http.StatusCreated || a.claim.LogEpoch != epoch {
			return fmt.Errorf("want an acceptance in log epoch %d, got %s", epoch, a)
		}
		return nil
	})
}

// TestRetentionPastUsHaltsThatPartition deletes records that are not decided yet, once while nobody processes and once
// under a running processor.
func TestRetentionPastUsHaltsThatPartition(t *testing.T) {
	t.Parallel()
	const partitions = 3
	d := deploy(t, partitions)
	api, p := d.start("api").ready(), d.start("processor").ready()
	d.assigned(time.Minute, p)
	next := make([]func() string, partitions)
	for i := range next {
		next[i] = namesOf("cut", i, partitions)
		d.fill(api, next[i], 5)
	}

	if code := p.stop(); code != 0 {
		t.Fatalf("exit code %d after SIGTERM", code)
	}
	was := d.standing(0)
	left := d.leave(api, next[0], 5)
	d.topic.cut(0, was.Next+3)
	p = d.again(p).ready()
	d.halts(p, api, next[0], 0, "records are lost")
	for _, i := range []int{1, 2} {
		d.fill(api, next[i], 3)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	p = d.again(p).ready()
	d.halts(p, api, next[0], 0, "records are lost")
	for _, i := range []int{1, 2} {
		d.fill(api, next[i], 3)
	}

	// Under the running processor: it sleeps while the records come and go, and is back before its session is over.
	wasHere := d.standing(1)
	p.pause()
	d.leave(api, next[1], 4)
	d.topic.cut(1, wasHere.Next+4)
	p.resume()
	d.halts(p, api, next[1], 1, "records are lost")
	d.fill(api, next[2], 3)

	// What the broker had sent before it was deleted is decided; behind that, nothing is.
	for i, want := range []standing{was, wasHere} {
		s := d.standing(int32(i))
		decided := value[int64](d, `SELECT count(DISTINCT "offset") FROM decisions WHERE partition = $1`, i)
		if s.LogEpoch != 1 || s.Next != decided || s.Published != decided || s.Next < want.Next || i == 0 && s.Next > want.Next {
			t.Errorf("partition %d stood at %+v when its log was cut, and stands at %+v with %d offsets decided: something was skipped", i, want, s, decided)
		}
	}
	// Nothing was put right, so it halts again.
	d.mustRun("partitions", "resume", "0", "--actor", "ops@example.org", "--reason", "try")
	d.halts(p, api, next[0], 0, "records are lost")
	d.accept(0, d.standing(0), was.Next+3)
	d.accept(1, d.standing(1), wasHere.Next+4)
	d.goesOn(api, next[0], 2)
	d.goesOn(api, next[1], 2)

	// What was left of the log is decided; what was deleted never is.
	for i, location := range left {
		a := d.look(api, location, "")
		if i < 3 && (a.status != http.StatusNotFound || a.claim.Reason != "unknown_claim") || i >= 3 && a.claim.State != "accepted" {
			t.Errorf("claim %d of 5, of which 3 were deleted: %s", i, a)
		}
	}
	eventually(t, 10*time.Second, func() error {
		if ready := p.readiness(); !strings.HasSuffix(ready, "\nready\n") {
			return fmt.Errorf("after all that: %s", ready)
		}
		return nil
	})
	d.settled(30 * time.Second)
	d.check()
}

// TestTopicMadeAnewHaltsItsPartitions deletes the topic and creates it again under a running processor, then once more
// with a log that is longer than what was read of the former one.
func TestTopicMadeAnewHaltsItsPartitions(t *testing.T) {
	t.Parallel()
	const partitions = 3
	d := deploy(t, partitions)
	api, p := d.start("api").ready(), d.start("processor").ready()
	d.assigned(time.Minute, p)
	next := make([]func() string, partitions)
	for i := range next {
		next[i] = namesOf("anew", i, partitions)
	}
	d.fill(api, next[0], 4) // and nothing in partition 2, which has nothing to lose
	d.fill(api, next[1], 4)
	was := []standing{d.standing(0), d.standing(1)}

	d.topic.remove(d.topic.claims)
	d.mustRun("topics", "create", "--partitions", strconv.Itoa(partitions))
	for i := range was {
		d.halts(p, api, next[i], int32(i), "the log is not the one that was read")
	}
	d.goesOn(api, next[2], 1)
	if !p.alive() || !api.alive() {
		t.Fatal("a process did not survive it")
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	p = d.again(p).ready()
	for i := range was {
		d.halts(p, api, next[i], int32(i), "the log is not the one that was read")
		if s := d.standing(int32(i)); s.Next != was[i].Next || s.LogEpoch != 1 {
			t.Errorf("partition %d stood at %+v and stands at %+v: something was skipped", i, was[i], s)
		}
		d.accept(int32(i), d.standing(int32(i)), 0)
	}
	for i := range was {
		d.goesOn(api, next[i], 2)
	}

	// A log that has the offset we want, of another record than the one before it: only its content tells.
	p.stop()
	before := d.standing(0)
	decided := d.decided()
	d.topic.remove(d.topic.claims)
	d.mustRun("topics", "create", "--partitions", strconv.Itoa(partitions))
	ids := make([]string, 0, before.Next+5)
	for range cap(ids) {
		r := newClaim(partitions, next[0](), "u-2")
		ids = append(ids, r.id)
		d.topic.append(d.topic.client, r.Record)
	}
	p = d.again(p).ready()
	d.halts(p, api, next[0], 0, "another record")
	if n := d.decided(); n != decided {
		t.Errorf("%d claims of the new log are decided, behind a part that was skipped", n-decided)
	}
	for i := range int32(partitions) { // by now all have been written
		d.halts(p, api, next[i], i, "the log is not the one that was read")
		d.accept(i, d.standing(i), 0)
	}
	for i, epoch := range []int32{3, 3, 2} {
		d.goesOn(api, next[i], epoch)
	}
	for _, id := range ids {
		if a := d.look(api, "/v1/claims/"+id, ""); a.claim.State != "accepted" || a.claim.LogEpoch != 3 {
			t.Errorf("a claim of the new log: %s", a)
		}
	}
	d.settled(30 * time.Second)
	d.check()
}
