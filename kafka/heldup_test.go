package kafka

import (
	"testing"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/processor"
)

// unhear makes partitions look as if their leader had last told of them so long before it did.
func (r *Reader) unhear(ago time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.order {
		g.heard = g.heard.Add(-ago)
	}
}

// fill puts n records of 5 kB on a partition of claims, whose first byte says which log they are of.
func fill(t testing.TB, p *Producer, partition int32, n int, log byte) {
	t.Helper()
	var out []processor.Output
	for range n {
		v := make([]byte, 5000)
		v[0] = log
		out = append(out, processor.Output{Topic: processor.ToClaims, Partition: partition, Record: cloudevents.Record{Value: v}})
	}
	if err := p.Publisher().Publish(within(t, 30*time.Second), out); err != nil {
		t.Fatal(err)
	}
}

// A topic that is made again and grows past our place, while there is no room for what a partition would bring, is not
// taken for the one before: what was read ahead comes, then an interruption, and nothing of the new log.
func TestTopicIsCreatedAgainWhileHeldUp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		maxBytes int
		// How many records there are of the partition that holds the fetcher up, and of the one beside it.
		full, beside int
	}{
		"its own reading is full":        {8 << 20, 1000, 0},
		"the leader's readings are full": {1 << 19, 400, 50},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := connectFake(t, fake(t, 2))
			p := NewProducer(c, ProducerConfig{})
			run(t, p)
			r := NewReader(c, ReaderConfig{MaxBytes: test.maxBytes})
			fill(t, p, 0, test.full, 'a')
			if test.beside > 0 {
				fill(t, p, 1, test.beside, 'a')
				r.Seek(1, 0)
			}
			run(t, r)
			readAhead := func(partition int32) int64 {
				r.mu.Lock()
				defer r.mu.Unlock()
				return r.partitions[partition].next
			}
			if test.beside > 0 { // first, so that it waits at its end
				await(t, "what is beside is read", 10*time.Second, func() bool { return readAhead(1) == int64(test.beside) })
			}
			r.Seek(0, 0)
			heldUp := func() bool { // and nothing is under way any more
				r.mu.Lock()
				defer r.mu.Unlock()
				if f := r.partitions[0].fetcher; f == nil || f.callOff != nil {
					return false
				}
				n := 0
				for _, g := range r.order {
					n += g.bytes
				}
				return n >= test.maxBytes || r.partitions[0].bytes >= partitionMax
			}
			await(t, "there is no room", 10*time.Second, heldUp)
			held := readAhead(0)
			if held >= int64(test.full) {
				t.Fatalf("all %d records are read ahead", held)
			}
			if err := c.DeleteTopics(t.Context()); err != nil {
				t.Fatal(err)
			}
			created(t, c, 2)
			fill(t, p, 0, test.full+100, 'b')
			if test.beside > 0 {
				fill(t, p, 1, test.beside+100, 'b')
			}
			r.unhear(unheardMax)

			waiting := map[int32]bool{0: true}
			if test.beside > 0 {
				waiting[1] = true
			}
			got := map[int32]int64{}
			for ctx := within(t, 20*time.Second); len(waiting) > 0; {
				fetched, err := r.Poll(ctx, processor.Beside{}, 40, time.Second)
				if err != nil {
					t.Fatal(err, got)
				}
				for _, f := range fetched {
					for i := range f.Messages {
						if log := f.Messages[i].Value[0]; log != 'a' {
							t.Fatalf("partition %d, offset %d is of log %c", f.Partition, f.Messages[i].Offset, log)
						}
					}
					got[f.Partition] = f.Next
					if f.Err != nil {
						wantIs(t, f.Err, processor.ErrInterrupted)
						delete(waiting, f.Partition)
					}
				}
			}
			if got[0] != held {
				t.Errorf("interrupted at offset %d; %d records had been read ahead", got[0], held)
			}
			r.Seek(0, held) // its consumer has looked, and says that it is the log it knew
			for ctx := within(t, 20*time.Second); got[0] == held; {
				fetched, err := r.Poll(ctx, processor.Beside{}, 40, time.Second)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range fetched {
					if f.Err != nil {
						t.Fatal(f.Err)
					}
					got[f.Partition] = f.Next
				}
			}
		})
	}
}

// A partition that is asked is not interrupted, however idle it is, nor one that waits for room for a moment.
func TestIdleIsNotHeldUp(t *testing.T) {
	t.Parallel()
	c := connectFake(t, fake(t, 2))
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	fill(t, p, 0, 1000, 'a')
	r := NewReader(c, ReaderConfig{})
	run(t, r)
	r.Seek(0, 0)
	r.Seek(1, 0)
	read := 0
	poll := func(most int, wait time.Duration) {
		t.Helper()
		fetched, err := r.Poll(t.Context(), processor.Beside{}, most, wait)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range fetched {
			if f.Err != nil {
				t.Fatalf("partition %d: %v", f.Partition, f.Err)
			}
			read += len(f.Messages)
		}
	}
	for read < 1000 { // it is held up for moments now
		poll(10, time.Second)
	}
	poll(1, 600*time.Millisecond)
	r.unhear(unheardMax - 5*time.Second) // as if it had been idle for so long
	for began := time.Now(); time.Since(began) < 7*time.Second; {
		poll(1, time.Second)
	}
}
