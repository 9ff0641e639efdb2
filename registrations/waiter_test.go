package registrations_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

func outcome(id uuid.UUID, partition int32, name string) registrations.Outcome {
	return registrations.Outcome{
		Type: registrations.Accepted, RequestID: id, ClaimID: id, Partition: partition,
		Ref: names.Ref{Space: names.Username, Key: names.Key(name)},
	}
}

func expect(t *testing.T, w *registrations.Waiter, id uuid.UUID, partition int32) *registrations.Ticket {
	t.Helper()
	ticket, err := w.Expect(id, partition)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ticket.Release)
	return ticket
}

func got(t *testing.T, ticket *registrations.Ticket, want names.Key) {
	t.Helper()
	o := ticket.Outcome()
	switch {
	case want == "" && o != nil:
		t.Errorf("has the outcome of %s, want none", o.Ref)
	case want != "" && o == nil:
		t.Errorf("has no outcome, want that of %s", want)
	case o != nil && o.Ref.Key != want:
		t.Errorf("has the outcome of %s, want that of %s", o.Ref.Key, want)
	}
}

func TestWaiterHandsOutcomeToItsTickets(t *testing.T) {
	w := registrations.NewWaiter(registrations.WaiterConfig{})
	id, other := uuid.New(), uuid.New()
	first, second := expect(t, w, id, 3), expect(t, w, id, 3)
	elsewhere, anywhere := expect(t, w, id, 4), expect(t, w, id, registrations.AnyPartition)
	stranger := expect(t, w, other, 3)

	if !w.Waiting(id) || !w.Waiting(other) || w.Waiting(uuid.New()) {
		t.Error("Waiting does not say who is waited for")
	}
	fact := outcome(id, 3, "fact")
	fact.Fact = true
	w.Deliver(fact)
	got(t, first, "")
	got(t, anywhere, "")

	w.Deliver(outcome(id, 3, "alice"))
	got(t, first, "alice")
	got(t, second, "alice")
	got(t, anywhere, "alice")
	got(t, elsewhere, "")
	got(t, stranger, "")
	if !w.Waiting(id) {
		t.Error("one partition's outcome ended the wait for the other's")
	}

	w.Deliver(outcome(id, 3, "again")) // a copy, or an id used twice: the first outcome stays
	got(t, first, "alice")
	w.Deliver(outcome(id, 4, "bob"))
	got(t, elsewhere, "bob")
	got(t, anywhere, "alice")
	if w.Waiting(id) {
		t.Error("still waiting after all outcomes are there")
	}
	if n := w.Counts(); n.Waiting != 1 || n.Delivered != 4 {
		t.Errorf("counts %+v", n)
	}
}

func TestWaiterReleaseInAnyOrder(t *testing.T) {
	for order := range 6 {
		w := registrations.NewWaiter(registrations.WaiterConfig{})
		id := uuid.New()
		tickets := []*registrations.Ticket{expect(t, w, id, 0), expect(t, w, id, 0), expect(t, w, id, 0)}
		for n := 3; n > 0; n-- {
			i := order % n
			released := tickets[i]
			tickets = append(tickets[:i:i], tickets[i+1:]...)
			released.Release()
			released.Release()
			if want := n > 1; w.Waiting(id) != want || w.Counts().Waiting != int64(n-1) {
				t.Fatalf("order %d: %d waiting after %d releases, Waiting = %t", order, w.Counts().Waiting, 4-n, !want)
			}
			if n == 2 {
				w.Deliver(outcome(id, 0, "alice"))
				got(t, tickets[0], "alice")
				got(t, released, "")
				tickets[0].Release()
				break
			}
			order /= 2
		}
		if n := w.Counts().Waiting; n != 0 {
			t.Fatalf("order %d: %d still waiting", order, n)
		}
	}
}

func TestWaiterIsBounded(t *testing.T) {
	w := registrations.NewWaiter(registrations.WaiterConfig{Max: 2})
	id := uuid.New()
	first := expect(t, w, id, 0)
	if w.Full() {
		t.Fatal("full with one ticket of two")
	}
	expect(t, w, uuid.New(), 0)
	if !w.Full() {
		t.Fatal("not full with two tickets of two")
	}
	if _, err := w.Expect(uuid.New(), 0); !errors.Is(err, registrations.ErrFull) {
		t.Fatalf("third ticket of two: %v, want ErrFull", err)
	}
	if first.Release(); w.Full() {
		t.Fatal("full when one is released")
	}
	expect(t, w, id, 0)
	w.Deliver(outcome(id, 0, "alice")) // a delivered ticket makes room as well
	expect(t, w, uuid.New(), 0)
}

// record is what a Decided of these tests knows.
type record struct {
	mu    sync.Mutex
	known []registrations.Outcome
	err   error
	asked []string // "<when> <how many ids>"
	start time.Time
}

func (r *record) Decided(_ context.Context, ids []uuid.UUID) ([]registrations.Outcome, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, fmt.Sprint(time.Since(r.start), " ", len(ids)))
	if r.err != nil {
		return nil, r.err
	}
	var found []registrations.Outcome
	for _, o := range r.known {
		for _, id := range ids {
			if o.RequestID == id {
				found = append(found, o)
			}
		}
	}
	return found, nil
}

func (r *record) questions(t *testing.T, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if fmt.Sprint(r.asked) != fmt.Sprint(want) {
		t.Errorf("the record was asked at %q, want %q", r.asked, want)
	}
}

// run starts the Waiter in the bubble and makes sure that it ends.
func run(t *testing.T, w *registrations.Waiter) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestWaiterLooksUpWhatDoesNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late, lost, never := uuid.New(), uuid.New(), uuid.New()
		// What the record has of lost was about another name: the request we wait for went to the dead letters.
		r := &record{start: time.Now(), known: []registrations.Outcome{outcome(late, 1, "alice"), outcome(lost, 1, "other")}}
		w := registrations.NewWaiter(registrations.WaiterConfig{Record: r})
		run(t, w)
		tickets := []*registrations.Ticket{expect(t, w, late, 1), expect(t, w, lost, 1), expect(t, w, never, 1)}

		time.Sleep(250 * time.Millisecond)
		synctest.Wait()
		r.questions(t)

		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		got(t, tickets[0], "alice")
		got(t, tickets[1], "other")
		got(t, tickets[2], "")

		time.Sleep(30 * time.Second)
		synctest.Wait()
		r.questions(t, "300ms 3", "1.3s 1", "4.3s 1", "14.3s 1", "24.3s 1")
		if n := w.Counts(); n.Waiting != 1 || n.Found != 2 || n.LookUps != 5 || n.Failed != 0 {
			t.Errorf("counts %+v", n)
		}
	})
}

func TestWaiterRecordAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := uuid.New()
		r := &record{start: time.Now(), known: []registrations.Outcome{outcome(id, 1, "alice")}, err: errors.New("away")}
		w := registrations.NewWaiter(registrations.WaiterConfig{Record: r})
		run(t, w)
		ticket := expect(t, w, id, 1)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		got(t, ticket, "")
		r.mu.Lock()
		r.err = nil
		r.mu.Unlock()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		got(t, ticket, "alice")
		r.questions(t, "300ms 1", "1.3s 1", "4.3s 1")
		if n := w.Counts(); n.Failed != 2 || n.Found != 1 {
			t.Errorf("counts %+v", n)
		}
	})
}

// What comes in time is never looked up; a second ticket has a time of its own.
func TestWaiterLooksUpOverdueOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &record{start: time.Now()}
		w := registrations.NewWaiter(registrations.WaiterConfig{Record: r})
		run(t, w)
		prompt, slow := uuid.New(), uuid.New()
		expect(t, w, prompt, 1)
		time.Sleep(150 * time.Millisecond)
		w.Deliver(outcome(prompt, 1, "alice"))
		released := expect(t, w, uuid.New(), 1)
		expect(t, w, slow, 1)
		time.Sleep(150 * time.Millisecond)
		released.Release()
		time.Sleep(time.Second)
		synctest.Wait()
		r.questions(t, "500ms 1") // 150 ms + 300 ms, at the next look round
	})
}

func TestWaiterManyAtOnce(t *testing.T) {
	w := registrations.NewWaiter(registrations.WaiterConfig{})
	const n = 2_000
	type request struct {
		id    uuid.UUID
		stays bool // its caller does not give up
	}
	published := make(chan request, n)
	var waiting, delivering sync.WaitGroup
	delivering.Go(func() {
		for r := range published {
			if r.stays && !w.Waiting(r.id) {
				t.Error("nobody is waiting for a published request")
			}
			w.Deliver(outcome(r.id, 1, "alice"))
		}
	})
	for i := range n {
		waiting.Go(func() {
			r := request{uuid.New(), i%10 != 0}
			ticket, err := w.Expect(r.id, 1)
			if err != nil {
				t.Error(err)
				return
			}
			defer ticket.Release()
			published <- r
			if r.stays {
				<-ticket.Done()
			}
		})
	}
	waiting.Wait()
	close(published)
	delivering.Wait()
	if left := w.Counts().Waiting; left != 0 {
		t.Errorf("%d still waiting", left)
	}
}

// BenchmarkWaiter is what a claim costs: ticket, delivery, release.
func BenchmarkWaiter(b *testing.B) {
	w := registrations.NewWaiter(registrations.WaiterConfig{Max: 1 << 20})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		id := uuid.New()
		for n := uint16(0); pb.Next(); n++ {
			id[14], id[15] = byte(n>>8), byte(n)
			ticket, err := w.Expect(id, 1)
			if err != nil {
				b.Fatal(err)
			}
			w.Deliver(registrations.Outcome{RequestID: id, Partition: 1})
			<-ticket.Done()
			ticket.Release()
		}
	})
}

// BenchmarkWaiterElsewhere is what each outcome costs that another replica waits for.
func BenchmarkWaiterElsewhere(b *testing.B) {
	w := registrations.NewWaiter(registrations.WaiterConfig{})
	for range 5_000 {
		if _, err := w.Expect(uuid.New(), 1); err != nil {
			b.Fatal(err)
		}
	}
	o := outcome(uuid.New(), 1, "alice")
	value := o.AppendJSON(nil)
	b.ReportAllocs()
	for b.Loop() {
		if id, ok := registrations.PeekRequestID(value); ok && w.Waiting(id) {
			b.Fatal("nobody waits for this")
		}
	}
}
