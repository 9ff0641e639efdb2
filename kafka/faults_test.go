package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/dibstest"
	"github.com/dibs-hq/dibs/processor"
)

// publish puts numbered records on a partition of claims.
func publish(t testing.TB, c *Client, partition int32, from, to int) {
	t.Helper()
	p := NewProducer(c, ProducerConfig{})
	stop := run(t, p)
	defer stop()
	var out []processor.Output
	for i := from; i < to; i++ {
		out = append(out, processor.Output{Topic: processor.ToClaims, Partition: partition, Record: value("%d", i)})
	}
	if err := p.Publisher().Publish(within(t, 20*time.Second), out); err != nil {
		t.Fatal(err)
	}
}

// consumer is a reader of claims with a consumer that goes on where it is interrupted, as a processor does.
type consumer struct {
	*Reader
	got         []processor.Message
	next        int64
	interrupted int
}

func consume(t testing.TB, c *Client) *consumer {
	t.Helper()
	r := NewReader(c, ReaderConfig{})
	run(t, r)
	r.Seek(0, 0)
	return &consumer{Reader: r}
}

// until polls partition 0 until ok says that it is enough.
func (c *consumer) until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for ctx := within(t, 20*time.Second); !ok(); {
		fetched, err := c.Poll(ctx, processor.Beside{}, 1000, time.Second)
		if err != nil {
			t.Fatalf("%s: %d records, next %d, %d interruptions: %v", what, len(c.got), c.next, c.interrupted, err)
		}
		for _, f := range fetched {
			if f.From != c.next {
				t.Fatalf("[%d, %d) comes where %d is next", f.From, f.Next, c.next)
			}
			c.got, c.next = append(c.got, f.Messages...), f.Next
			switch {
			case errors.Is(f.Err, processor.ErrInterrupted):
				c.interrupted++
				c.Seek(0, c.next)
			case f.Err != nil:
				t.Fatal(f.Err)
			}
		}
	}
}

func (c *consumer) records(t testing.TB, n int) {
	t.Helper()
	c.until(t, "read", func() bool { return len(c.got) >= n })
	same(t, numbers(n), values(c.got))
}

// K16, K18: markers of transactions are stepped over, also at the end, without a record to tell; and without keeping
// a core busy.
func TestTransactions(t *testing.T) {
	t.Parallel()
	c := broker(t, 1)
	producer := other(t, c, kgo.TransactionalID(c.cfg.TopicPrefix), kgo.DefaultProduceTopic(c.Claims()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	n := 0
	for i, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for range 3 + i {
			r := &kgo.Record{Value: fmt.Append(nil, n)}
			if err := producer.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
			n++
		}
		if err := producer.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
	}
	in := consume(t, c)
	in.records(t, n) // aborted ones too: every data record is a request
	in.until(t, "step over the last marker", func() bool { return in.next == int64(n+3) })
	start, end, err := in.Bounds(t.Context(), 0)
	if err != nil || start != 0 || end != int64(n+3) {
		t.Errorf("bounds are [%d, %d), %v", start, end, err)
	}
	if _, found, err := in.At(t.Context(), 0, int64(n+2)); found || err != nil {
		t.Errorf("a marker is read as a record: %v, %v", found, err)
	}
	if r, found, err := in.At(t.Context(), 0, 4); !found || err != nil || string(r.Value) != "3" {
		t.Errorf("behind a marker there is %q, %v, %v", r.Value, found, err)
	}
	fetches := func() uint64 { return sampleCount(t, c.metrics.requests.WithLabelValues("fetch")) }
	before := fetches()
	if f, err := in.Poll(t.Context(), processor.Beside{}, 10, 1200*time.Millisecond); err != nil || len(f) != 0 {
		t.Fatal(f, err)
	}
	if n := fetches() - before; n > 6 {
		t.Errorf("%d fetches within 1.2 s of an idle partition", n)
	}
}

func TestCompressedBatches(t *testing.T) {
	t.Parallel()
	c := broker(t, 1)
	n := 0
	for _, codec := range []kgo.CompressionCodec{
		kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(), kgo.NoCompression(),
	} {
		producer := other(t, c, kgo.ProducerBatchCompression(codec), kgo.DefaultProduceTopic(c.Claims()), kgo.ProducerLinger(20*time.Millisecond))
		var rs []*kgo.Record
		for range 500 {
			rs = append(rs, &kgo.Record{Value: fmt.Append(nil, n), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("v")}}})
			n++
		}
		if err := producer.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	in := consume(t, c)
	in.records(t, n)
	same(t, []cloudevents.Header{{Name: "h", Value: []byte("v")}}, in.got[77].Headers)
	for _, offset := range []int{0, 1, 499, 500, 777, 1234, 2002} {
		if r, found, err := in.At(t.Context(), 0, int64(offset)); err != nil || !found || string(r.Value) != fmt.Sprint(offset) {
			t.Errorf("at offset %d there is %q, %v, %v", offset, r.Value, found, err)
		}
	}
}

// Whatever goes wrong with a fetch is reported, and reading goes on from there after the next Seek.
func TestReadingIsInterrupted(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(*kfake.Cluster){
		"connection cut": func(c *kfake.Cluster) {
			c.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("cut"), true })
		},
		"broker hangs": func(c *kfake.Cluster) {
			c.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, nil, true })
		},
		"not leader": func(c *kfake.Cluster) {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.NotLeaderForPartition})
		},
		"leader not available": func(c *kfake.Cluster) {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.LeaderNotAvailable})
		},
		"storage error": func(c *kfake.Cluster) {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.KafkaStorageError})
		},
		"forbidden": func(c *kfake.Cluster) {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.TopicAuthorizationFailed})
		},
		"whole request": func(c *kfake.Cluster) {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.UnknownServerError, TopLevel: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := fake(t, 1)
			c := connectFake(t, cluster)
			publish(t, c, 0, 0, 10)
			in := consume(t, c)
			in.records(t, 10)
			harm(cluster)
			in.until(t, "be interrupted", func() bool { return in.interrupted == 1 })
			publish(t, c, 0, 10, 20)
			in.records(t, 20)
			if in.interrupted != 1 {
				t.Errorf("%d interruptions", in.interrupted)
			}
		})
	}
}

// A leader that moves interrupts once: the next Seek goes to the new one.
func TestReadingFollowsTheLeader(t *testing.T) {
	t.Parallel()
	cluster := fake(t, 1, kfake.NumBrokers(3))
	reading, writing := connectFake(t, cluster), connectFake(t, cluster) // each finds out for itself
	publish(t, writing, 0, 0, 10)
	in := consume(t, reading)
	in.records(t, 10)
	for i := range 6 {
		in.interrupted = 0
		if err := cluster.MoveTopicPartition(claimsName, 0, (cluster.LeaderFor(claimsName, 0)+1)%3); err != nil {
			t.Fatal(err)
		}
		publish(t, writing, 0, 10+10*i, 20+10*i)
		in.records(t, 20+10*i)
		if in.interrupted > 1 {
			t.Errorf("%d interruptions", in.interrupted)
		}
	}
}

// K30: an answer that is damaged on the way or on a broker's disk never makes a record go missing.
func TestDamagedAnswer(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func([]byte) []byte{
		"second batch flipped":   func(b []byte) []byte { return flip(b, first(b)+batchHeader+3) },
		"first batch flipped":    func(b []byte) []byte { return flip(b, batchHeader+3) },
		"second batch has gone":  func(b []byte) []byte { return b[:first(b)] },
		"second batch is cut":    func(b []byte) []byte { return b[:first(b)+70] },
		"length claims too much": func(b []byte) []byte { b = flip(b, first(b)+batchLength+1); return b },
		"length claims nothing":  func(b []byte) []byte { binary.BigEndian.PutUint32(b[first(b)+batchLength:], 0); return b },
		"nothing comes":          func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := fake(t, 1)
			c := connectFake(t, cluster)
			for i := range 4 {
				publish(t, c, 0, 5*i, 5*i+5)
			}
			whole := fetchRaw(t, c)
			cluster.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
				return answerFetch(r, damage(append([]byte{}, whole...)), 20), nil, true
			})
			in := consume(t, c)
			in.records(t, 20)
			in.until(t, "reach the end", func() bool { return in.next == 20 })
		})
	}
}

// first is the length of the first batch.
func first(b []byte) int { return batchPrefix + int(binary.BigEndian.Uint32(b[batchLength:])) }

// fetchRaw is all of partition 0 of claims, as it comes.
func fetchRaw(t testing.TB, c *Client) []byte {
	t.Helper()
	body, _, err := c.roundTrip(within(t, 5*time.Second), &exchange{
		to: c.metadata.current().brokerIDs()[0], request: fetchRequest(c.Claims(), []place{{0, 0}}, 0, 1<<20, 1<<20), decode: decodeFetch,
	})
	if err != nil {
		t.Fatal(err)
	}
	return body.(*fetchAnswer).partitions[0].batches
}

func (v *view) brokerIDs() (ids []int32) {
	for id := range v.brokers {
		ids = append(ids, id)
	}
	return ids
}

func answerFetch(r kmsg.Request, batches []byte, end int64) kmsg.Response {
	req := r.(*kmsg.FetchRequest)
	resp := req.ResponseKind().(*kmsg.FetchResponse)
	rt := kmsg.NewFetchResponseTopic()
	rt.Topic = req.Topics[0].Topic
	for _, p := range req.Topics[0].Partitions {
		rp := kmsg.NewFetchResponseTopicPartition()
		rp.Partition, rp.HighWatermark, rp.RecordBatches = p.Partition, end, batches
		rt.Partitions = append(rt.Partitions, rp)
	}
	resp.Topics = append(resp.Topics, rt)
	return resp
}

// A log whose end goes back is not the log it was, or no more: nothing of it is handed out before it is looked at.
func TestEndGoesBack(t *testing.T) {
	cluster := fake(t, 1)
	c := connectFake(t, cluster)
	publish(t, c, 0, 0, 10)
	whole := fetchRaw(t, c)
	in := consume(t, c)
	in.records(t, 10)
	cluster.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		return answerFetch(r, placed(whole, 10), 9), nil, true
	})
	in.until(t, "be interrupted", func() bool { return in.interrupted == 1 })
	if in.next != 10 || len(in.got) != 10 {
		t.Errorf("%d records, next %d", len(in.got), in.next)
	}
	publish(t, c, 0, 10, 20)
	in.records(t, 20)
}

// A broker that answers at once, and nothing, does not keep a core busy.
func TestBrokerThatDoesNotWait(t *testing.T) {
	t.Parallel()
	cluster := fake(t, 1)
	c := connectFake(t, cluster)
	var requests atomic.Int32
	cluster.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		requests.Add(1)
		return answerFetch(r, nil, 0), nil, true
	})
	in := consume(t, c)
	if _, err := in.Poll(t.Context(), processor.Beside{}, 1, time.Second); err != nil {
		t.Fatal(err)
	}
	if n := requests.Load(); n > 40 {
		t.Errorf("%d requests within a second", n)
	}
}

// A Seek does not wait behind the long poll for other partitions, however many come in a row.
func TestSeekIsFast(t *testing.T) {
	t.Parallel()
	const partitions = 12
	c := broker(t, partitions)
	for p := range int32(partitions) {
		publish(t, c, p, 0, 1)
	}
	r := NewReader(c, ReaderConfig{MaxWait: 30 * time.Second})
	run(t, r)
	ctx := within(t, time.Minute)
	for round := range 2 {
		var worst time.Duration
		for p := range int32(partitions) {
			began := time.Now()
			r.Seek(p, 0)
			for got := false; !got; {
				fetched, err := r.Poll(ctx, processor.Beside{}, 100, time.Second)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range fetched {
					if f.Err != nil {
						t.Fatal(f.Err)
					}
					got = got || f.Partition == p
				}
			}
			if worst = max(worst, time.Since(began)); p == 0 {
				pause(ctx, 3*time.Second) // by then a poll has begun that waits until the sixth second or so
			}
		}
		t.Logf("round %d: the slowest of %d seeks took %v", round, partitions, worst)
		if worst > 1500*time.Millisecond {
			t.Errorf("the slowest seek took %v", worst)
		}
		for p := range int32(partitions) {
			r.Drop(p)
		}
	}
}

// What nobody takes is not read without end.
func TestReadAheadIsBounded(t *testing.T) {
	t.Parallel()
	c := broker(t, 4)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	var out []processor.Output
	for i := range 4000 {
		out = append(out, processor.Output{Topic: processor.ToClaims, Partition: int32(i % 4), Record: cloudevents.Record{Value: make([]byte, 5000)}})
	}
	if err := p.Publisher().Publish(within(t, 30*time.Second), out); err != nil {
		t.Fatal(err)
	}
	r := NewReader(c, ReaderConfig{MaxBytes: 1 << 20})
	run(t, r)
	for p := range int32(4) {
		r.Seek(p, 0)
	}
	held := func() (n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, g := range r.order {
			n += g.bytes
		}
		return n
	}
	await(t, "something is read", 10*time.Second, func() bool { return held() > 0 })
	pause(t.Context(), 300*time.Millisecond)
	if n := held(); n > 3<<20 {
		t.Errorf("%d bytes are held", n)
	}
	got := 0
	for ctx := within(t, 30*time.Second); got < len(out); {
		fetched, err := r.Poll(ctx, processor.Beside{}, 37, time.Second)
		if err != nil {
			t.Fatal(err, got)
		}
		for _, f := range fetched {
			got += len(f.Messages)
		}
		if n := held(); n > 3<<20 {
			t.Fatalf("%d bytes are held", n)
		}
	}
}

// K14, K15: where the log is not what it was, reading stops; it is never reset.
func TestTopicIsCreatedAgain(t *testing.T) {
	t.Parallel()
	c := broker(t, 1)
	publish(t, c, 0, 0, 20)
	in := consume(t, c)
	in.records(t, 20)
	if err := c.DeleteTopics(t.Context()); err != nil {
		t.Fatal(err)
	}
	var stopped error
	for ctx := within(t, 20*time.Second); stopped == nil; {
		fetched, err := in.Poll(ctx, processor.Beside{}, 100, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range fetched {
			if stopped = f.Err; errors.Is(stopped, processor.ErrInterrupted) {
				stopped = nil
				in.Seek(0, in.next)
			}
		}
	}
	wantIs(t, stopped, processor.ErrOutOfLog)
	_, _, err := in.Bounds(within(t, 10*time.Second), 0)
	wantIs(t, err, processor.ErrOutOfLog)

	await(t, "the topics are created again", 20*time.Second, func() bool {
		r, err := c.CreateTopics(t.Context(), TopicsConfig{Partitions: 1})
		return err == nil && !r.Topics[0].Existed
	})
	publish(t, c, 0, 0, 5)
	in.Seek(0, 20)
	for stopped = nil; stopped == nil; {
		fetched, err := in.Poll(within(t, 20*time.Second), processor.Beside{}, 100, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range fetched {
			if len(f.Messages) > 0 {
				t.Fatalf("%d records come", len(f.Messages))
			}
			stopped = f.Err
		}
	}
	wantIs(t, stopped, processor.ErrOutOfLog)
	if start, end, err := in.Bounds(t.Context(), 0); err != nil || start != 0 || end != 5 {
		t.Errorf("bounds are [%d, %d), %v", start, end, err)
	}
}

// Bounds and At ride out what goes away again.
func TestAskingIsPatient(t *testing.T) {
	t.Parallel()
	cluster := fake(t, 1, kfake.NumBrokers(2))
	c := connectFake(t, cluster)
	publish(t, c, 0, 0, 10)
	r := NewReader(c, ReaderConfig{})
	for i := range 5 {
		if err := cluster.MoveTopicPartition(claimsName, 0, int32(i%2)); err != nil {
			t.Fatal(err)
		}
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets, kmsg.Fetch}, Err: kerr.OffsetNotAvailable, Count: 2})
		cluster.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("cut"), true })
		ctx := within(t, 5*time.Second)
		if start, end, err := r.Bounds(ctx, 0); err != nil || start != 0 || end != 10 {
			t.Fatalf("bounds are [%d, %d), %v", start, end, err)
		}
		if got, found, err := r.At(ctx, 0, 7); err != nil || !found || string(got.Value) != "7" {
			t.Fatalf("at 7 there is %q, %v, %v", got.Value, found, err)
		}
	}
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.LeaderNotAvailable, Count: -1})
	_, _, err := r.Bounds(within(t, 200*time.Millisecond), 0)
	wantIs(t, err, context.DeadlineExceeded)
}

// A leader that does not show a record to readers yet is asked again; one whose log ends before it is believed.
func TestAtWaitsForTheHighWatermark(t *testing.T) {
	cluster := fake(t, 1)
	c := connectFake(t, cluster)
	publish(t, c, 0, 0, 10)
	r := NewReader(c, ReaderConfig{})
	for range 2 {
		cluster.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) { return answerFetch(r, nil, 8), nil, true })
	}
	if got, found, err := r.At(within(t, 5*time.Second), 0, 9); err != nil || !found || string(got.Value) != "9" {
		t.Errorf("at 9 there is %q, %v, %v", got.Value, found, err)
	}
	if _, found, err := r.At(within(t, 5*time.Second), 0, 10); err != nil || found {
		t.Errorf("at the end there is something: %v, %v", found, err)
	}
}

func TestReaderLeavesNothingRunning(t *testing.T) {
	noLeaks(t)
	cluster := fake(t, 3, kfake.NumBrokers(3))
	c := connectFake(t, cluster)
	r := NewReader(c, ReaderConfig{})
	stop := run(t, r)
	for p := range int32(5) {
		r.Seek(p, 0)
	}
	if _, err := r.Poll(t.Context(), processor.Beside{}, 1, 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	stop()
	c.Close()
}

// A broker that restarts, dies or is stopped in its tracks costs time, never a record, nor their order.
func TestBrokerRestarts(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	b := dibstest.OwnKafka(t)
	c := created(t, connect(t, Config{Brokers: b.Addrs, TopicPrefix: b.Prefix, RequestTimeout: 2 * time.Second}), 1)
	p := NewProducer(c, ProducerConfig{})
	run(t, p)
	tailed := make(chan string, 100_000)
	tail := NewTail(c, func(_ context.Context, _ int32, r cloudevents.Record) { tailed <- string(r.Value) })
	run(t, tail)
	<-tail.Ready()

	ctx, cancel := context.WithCancel(within(t, 3*time.Minute))
	defer cancel()
	written := make(chan int, 1)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			out := []processor.Output{{Topic: processor.ToClaims, Record: value("%d", n)}, {Record: value("%d", n)}}
			if err := p.Publisher().Publish(context.WithoutCancel(ctx), out); err != nil {
				t.Error(err)
				break
			}
			pause(ctx, time.Millisecond)
		}
		written <- n
	}()
	in := consume(t, c)
	for name, harm := range map[string]func() error{
		"restart": func() error { return b.Restart(ctx) },
		"kill":    func() error { return errors.Join(b.Kill(), b.Start(ctx)) },
		"pause": func() error {
			err := b.Pause()
			pause(ctx, 4*time.Second)
			return errors.Join(err, b.Continue())
		},
	} {
		n := len(in.got)
		in.until(t, "before "+name, func() bool { return len(in.got) > n+100 })
		if err := harm(); err != nil {
			t.Fatal(name, err)
		}
		back := time.Now()
		n = len(in.got)
		in.until(t, "after "+name, func() bool { return len(in.got) > n+100 })
		t.Logf("%s: reading again %v after the broker is back", name, time.Since(back))
	}
	cancel()
	n := <-written
	in.until(t, "the rest", func() bool { return len(firsts(in.got)) == n })
	same(t, numbers(n), firsts(in.got))
	if in.interrupted < 3 {
		t.Errorf("%d interruptions", in.interrupted)
	}
	seen := map[string]bool{}
	for len(seen) < n {
		select {
		case v := <-tailed:
			seen[v] = true
		case <-time.After(10 * time.Second):
			t.Fatalf("the tail has %d of %d records", len(seen), n)
		}
	}
	t.Logf("%d records, %d copies, %d interruptions", n, len(in.got)-n, in.interrupted)
}
