package kafka

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/processor"
)

// beside is a reader of claims whose consumer decides some partitions in transactions, which take as long as the test says.
type beside struct {
	*Reader
	busy map[int32]bool
	next map[int32]int64
	errs map[int32]error // what stopped reading
}

func readBeside(t testing.TB, c *Client, cfg ReaderConfig, partitions int32) *beside {
	t.Helper()
	b := &beside{Reader: NewReader(c, cfg), busy: map[int32]bool{}, next: map[int32]int64{}, errs: map[int32]error{}}
	run(t, b.Reader)
	for p := range partitions {
		b.Seek(p, 0)
	}
	return b
}

// transaction makes partitions busy.
func (b *beside) transaction(partitions ...int32) {
	for _, p := range partitions {
		b.busy[p] = true
	}
}

// poll takes what is worth it, and fails where that is of a busy partition or not what comes next.
func (b *beside) poll(t testing.TB, most, least int, wait time.Duration) (records int) {
	t.Helper()
	busy := func(p int32) bool { return b.busy[p] }
	fetched, err := b.Poll(t.Context(), processor.Beside{Busy: busy, Least: least}, most, wait)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fetched {
		if b.busy[f.Partition] {
			t.Fatalf("of busy partition %d come %d records and error %v", f.Partition, len(f.Messages), f.Err)
		}
		if f.From != b.next[f.Partition] {
			t.Fatalf("partition %d: [%d, %d) comes where %d is next", f.Partition, f.From, f.Next, b.next[f.Partition])
		}
		b.next[f.Partition] = f.Next
		records += len(f.Messages)
		if f.Err != nil {
			b.errs[f.Partition] = f.Err
		}
	}
	return records
}

// until polls until the partitions have been read to this offset, or fails.
func (b *beside) until(t testing.TB, what string, end int64, within time.Duration, partitions ...int32) {
	t.Helper()
	for began := time.Now(); slices.ContainsFunc(partitions, func(p int32) bool { return b.next[p] < end }); {
		left := within - time.Since(began)
		if left <= 0 {
			t.Fatalf("not within %v: %s; next are %v", within, what, b.next)
		}
		b.poll(t, 1000, 1, left)
	}
}

// held is how many bytes are read ahead, in all and of busy partitions.
func (b *beside) held() (all, busy int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range b.order {
		all += g.bytes
		if b.busy[g.partition] {
			busy += g.bytes
		}
	}
	return all, busy
}

// full waits until there is no room for what is free, or for what is busy where nothing else is.
func (b *beside) full(t testing.TB) {
	t.Helper()
	await(t, "there is no room", 10*time.Second, func() bool {
		all, busy := b.held()
		return len(b.busy) < len(b.order) && all-busy >= b.cfg.MaxBytes || len(b.busy) == len(b.order) && all >= b.cfg.MaxBytes
	})
	b.settled(t)
}

// settled waits until no request is under way and none is going to be.
func (b *beside) settled(t testing.TB) {
	t.Helper()
	quiet := 0
	await(t, "nothing more is asked for", 10*time.Second, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		quiet++
		for _, f := range b.fetchers {
			if f.callOff != nil {
				quiet = 0
			}
		}
		return quiet > 20
	})
}

// fillSmall is fill in batches of 50 kB.
func fillSmall(t testing.TB, p *Producer, partition int32, n int) {
	t.Helper()
	for ; n > 0; n -= 10 {
		fill(t, p, partition, min(n, 10), 'a')
	}
}

// rig is a fake cluster with one broker, which leads all partitions, and a producer.
func rig(t testing.TB, partitions int32) (*Client, *Producer) {
	t.Helper()
	c := connectFake(t, fake(t, partitions))
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	return c, p
}

// Partitions whose transaction hangs keep what has been read ahead of them, and the others of their leader are read on.
func TestHangingTransactionHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	const most = 1 << 20 // what may be read ahead of all
	c, p := rig(t, 5)
	hung := []int32{0, 1, 2, 3}
	for _, partition := range hung {
		fill(t, p, partition, 500, 'a')
	}
	in := readBeside(t, c, ReaderConfig{MaxBytes: most}, 5)
	in.full(t)
	fill(t, p, 4, 600, 'a') // three times what may be read ahead
	in.transaction(hung...)
	_, before := in.held()
	in.until(t, "the fifth partition is read", 600, 5*time.Second, 4)
	fastest := time.Hour
	for i := range 5 {
		fill(t, p, 4, 10, 'a')
		began := time.Now()
		in.until(t, "what comes later is read", 610+10*int64(i), 5*time.Second, 4)
		fastest = min(fastest, time.Since(began))
	}
	if fastest > 500*time.Millisecond {
		t.Errorf("what came later was read after %v or more", fastest)
	}
	if _, n := in.held(); n != before {
		t.Errorf("%d bytes were held of the hung partitions, and now are %d", before, n)
	}
	clear(in.busy)
	in.until(t, "all are read", 500, 10*time.Second, hung...)
	if len(in.errs) > 0 {
		t.Error(in.errs)
	}
}

// A partition that was not asked while it was busy is, once it is not.
func TestFreePartitionIsAsked(t *testing.T) {
	t.Parallel()
	c, p := rig(t, 2)
	fill(t, p, 0, 500, 'a')
	in := readBeside(t, c, ReaderConfig{MaxBytes: 1 << 19}, 2)
	in.transaction(0, 1)
	in.poll(t, 1, 1, 0)
	in.full(t)
	fill(t, p, 1, 10, 'a')
	before, _ := in.held()
	in.poll(t, 1, 1, 100*time.Millisecond)
	if n, _ := in.held(); n != before {
		t.Fatalf("%d bytes are held of busy partitions that there is no room for, and %d were", n, before)
	}
	delete(in.busy, 1)
	in.until(t, "what is free is read", 10, 5*time.Second, 1)
}

// Of a partition that was not asked for too long reading stops once, when it is free: behind what was read ahead. It goes on
// with the next Seek.
func TestHangingTransactionIsUnheard(t *testing.T) {
	t.Parallel()
	c, p := rig(t, 3)
	hung := []int32{0, 1}
	for _, partition := range hung {
		fill(t, p, partition, 500, 'a')
	}
	in := readBeside(t, c, ReaderConfig{MaxBytes: 1 << 19}, 3)
	in.full(t)
	in.transaction(hung...)
	in.poll(t, 1, 1, 200*time.Millisecond)
	in.unhear(unheardMax)
	in.poll(t, 1, 1, 200*time.Millisecond) // partition 2 is asked all the time, but for a moment it looks as if it were not
	delete(in.errs, 2)
	clear(in.busy)
	stops := map[int32]int{}
	for began := time.Now(); in.next[0] < 500 || in.next[1] < 500; {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("next are %v, after %v stops", in.next, stops)
		}
		in.poll(t, 100, 1, time.Second)
		for partition, err := range in.errs {
			wantIs(t, err, processor.ErrInterrupted)
			stops[partition]++
			in.Seek(partition, in.next[partition])
		}
		clear(in.errs)
	}
	if stops[0] != 1 || stops[1] != 1 {
		t.Errorf("reading stopped this often: %v", stops)
	}
}

// What is held of busy partitions is bounded, however many transactions hang, and however long.
func TestBusyReadAheadIsBounded(t *testing.T) {
	t.Parallel()
	const most, answers = 1 << 18, 2 // MaxBytes; how many of that are held of partitions that are free, and of a transaction's
	c, p := rig(t, 12)
	for partition := range int32(12) {
		fillSmall(t, p, partition, 200)
	}
	in := readBeside(t, c, ReaderConfig{MaxBytes: most}, 12)
	for hung := range int32(3) {
		in.poll(t, 1, math.MaxInt, 0)
		in.full(t)
		in.poll(t, 10, 1, time.Second)
		in.transaction(3*hung, 3*hung+1, 3*hung+2)
		bound := answers * most * int(2+hung)
		for range 30 {
			in.poll(t, 10, 1, 10*time.Millisecond)
			if n, _ := in.held(); n > bound {
				t.Fatalf("%d transactions hang: %d bytes are held, more than %d", hung+1, n, bound)
			}
		}
	}
	clear(in.busy)
	in.until(t, "all are read", 200, 20*time.Second, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
}

// Where nothing is free, what is read ahead is no more than without transactions.
func TestAllBusyIsBounded(t *testing.T) {
	t.Parallel()
	const most = 1 << 18
	c, p := rig(t, 12)
	for partition := range int32(12) {
		fillSmall(t, p, partition, 200)
	}
	in := readBeside(t, c, ReaderConfig{MaxBytes: most}, 12)
	in.transaction(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
	in.poll(t, 1, 1, 0)
	in.full(t)
	in.poll(t, 1, 1, 300*time.Millisecond)
	if n, _ := in.held(); n > 2*most {
		t.Errorf("%d bytes are held", n)
	}
}

// A record of a busy partition does not keep the answer that it came with, which is of others as well.
func TestBusyRecordKeepsNoAnswer(t *testing.T) {
	t.Parallel()
	c, p := rig(t, 2)
	fill(t, p, 0, 1, 'a')
	whole := fetchRaw(t, c)
	r := NewReader(c, ReaderConfig{})
	f := newFetcher(r, 0)
	for partition := range int32(2) {
		g := &reading{partition: partition, fetcher: f, passed: partition == 0, passedSince: time.Now().Add(-time.Second)}
		r.partitions[partition], r.order = g, append(r.order, g)
		f.asked, f.places = append(f.asked, g), append(f.places, place{partition, 0})
		f.index[partition] = int(partition)
	}
	answers := [][]byte{bytes.Clone(whole), bytes.Clone(whole)}
	f.apply(&fetchAnswer{partitions: []fetchedPartition{
		{partition: 0, highWatermark: 1, batches: answers[0]}, {partition: 1, highWatermark: 1, batches: answers[1]},
	}})
	for i, want := range []byte{'a', 0} { // 0: what is free is not copied
		clear(answers[i])
		if got := r.order[i].messages; len(got) != 1 || got[0].Value[0] != want {
			t.Errorf("partition %d has %d messages, or not what is expected", i, len(got))
		}
	}
}

// Few records are worth it where there is no room for more of them.
func TestLargeRecordsAreWorthIt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cfg     ReaderConfig
		records map[int32]int // of 5 kB, by partition
	}{
		"a partition is full":             {ReaderConfig{}, map[int32]int{1: 600}},
		"the leader's readings are full":  {ReaderConfig{MaxBytes: 1 << 18}, map[int32]int{1: 40, 2: 40, 3: 40}},
		"busy ones hold most of the room": {ReaderConfig{MaxBytes: 1 << 18}, map[int32]int{0: 200, 1: 40, 2: 40}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, p := rig(t, 4)
			for partition, n := range test.records {
				fill(t, p, partition, n, 'a')
			}
			in := readBeside(t, c, test.cfg, 4)
			in.transaction(0)
			if n := in.poll(t, 10_000, 1000, 5*time.Second); n == 0 || n >= 1000 {
				t.Fatalf("%d records are worth it", n)
			}
		})
	}
}

// Where there is room for more, less than is worth it is waited for; and where nothing is worth it, all of it.
func TestWhatIsNotWorthIt(t *testing.T) {
	t.Parallel()
	c, p := rig(t, 2)
	fill(t, p, 0, 100, 'a') // counts for nothing
	fill(t, p, 1, 20, 'a')
	in := readBeside(t, c, ReaderConfig{MaxBytes: 1 << 18}, 2)
	in.transaction(0)
	if n := in.poll(t, 1000, 21, 500*time.Millisecond); n > 0 {
		t.Fatalf("%d records come where 21 would be worth it", n)
	}
	fill(t, p, 1, 100, 'a')
	in.full(t)
	if n := in.poll(t, 1000, math.MaxInt, 300*time.Millisecond); n > 0 {
		t.Fatalf("%d records come where nothing is worth it", n)
	}
	if n := in.poll(t, 1000, 1000, 0); n == 0 {
		t.Fatal("nothing comes")
	}
}

// That reading of a busy partition has stopped is told when it is free; and among the others each is first in turn, also
// behind many that are passed over.
func TestTakeBeside(t *testing.T) {
	t.Parallel()
	c, _ := rig(t, 1)
	r := NewReader(c, ReaderConfig{})
	stopped := errors.New("stopped")
	for partition := range int32(8) {
		g := &reading{partition: partition, next: 1000, err: stopped}
		for offset := range g.next {
			g.messages = append(g.messages, processor.Message{Offset: offset})
		}
		r.partitions[partition], r.order = g, append(r.order, g)
	}
	free := func(p int32) bool { return p == 5 || p == 6 || p == 7 }
	b := processor.Beside{Busy: func(p int32) bool { return !free(p) }, Least: 2}
	firsts := map[int32]int{}
	for range 90 {
		f := r.take(b, 10)
		if len(f) != 1 || !free(f[0].Partition) || f[0].Err != nil {
			t.Fatal(f)
		}
		firsts[f[0].Partition]++
	}
	if firsts[5] != 30 || firsts[6] != 30 || firsts[7] != 30 {
		t.Errorf("this often each was first: %v", firsts)
	}
	got := map[int32]error{}
	for b.Least = 1; len(got) < 3; {
		f := r.take(b, 1000)
		if len(f) == 0 {
			t.Fatalf("no more comes, and only %v have stopped", got)
		}
		for _, f := range f {
			if !free(f.Partition) {
				t.Fatalf("busy partition %d comes", f.Partition)
			}
			if f.Err != nil {
				got[f.Partition] = f.Err
			}
		}
	}
	if f := r.take(b, 1000); len(f) > 0 || len(r.order) != 5 {
		t.Fatalf("%v comes; %d partitions are read", f, len(r.order))
	}
	if f := r.take(processor.Beside{}, 10_000); len(f) != 5 {
		t.Fatalf("of 5 partitions that are free again come %d", len(f))
	}
	f := r.take(processor.Beside{}, 10_000)
	if len(f) != 5 || !slices.ContainsFunc(f, func(f processor.Fetched) bool { return errors.Is(f.Err, stopped) }) || len(r.order) != 0 {
		t.Fatalf("what has stopped is told as %v", f)
	}
}
