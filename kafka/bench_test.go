package kafka

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/dibstest"
	"github.com/dibs-hq/dibs/processor"
)

// BenchmarkPublish is the API's way: so many callers, each waits for its record's offset. They are spread over 12
// partitions.
func BenchmarkPublish(b *testing.B) {
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprint(callers, "-waiting"), func(b *testing.B) {
			dibstest.NeedRealKafka(b)
			c := broker(b, 12)
			p := NewProducer(c, ProducerConfig{})
			run(b, p)
			record := benchRecords(1)[0]
			record.Time = time.Time{}
			claims := p.Claims()
			ctx := b.Context()
			if _, err := claims.Publish(ctx, 0, record); err != nil {
				b.Fatal(err)
			}
			latencies := make([][]time.Duration, callers)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for w := range callers {
				wg.Go(func() {
					for {
						i := next.Add(1)
						if i > int64(b.N) {
							return
						}
						began := time.Now()
						if _, err := claims.Publish(ctx, int32(i%12), record); err != nil {
							b.Error(err)
							return
						}
						latencies[w] = append(latencies[w], time.Since(began))
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			all := slices.Concat(latencies...)
			slices.Sort(all)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

// BenchmarkPublishOutputs is the processor's way: batches of outputs, a few at a time.
func BenchmarkPublishOutputs(b *testing.B) {
	dibstest.NeedRealKafka(b)
	c := broker(b, 12)
	p := NewProducer(c, ProducerConfig{})
	run(b, p)
	publishMany(b, p, b.N)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

func publishMany(b *testing.B, p *Producer, n int) {
	const batch = 4000
	records := benchRecords(1)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range 3 {
		wg.Go(func() {
			for {
				i := int(next.Add(batch)) - batch
				if i >= n {
					return
				}
				out := make([]processor.Output, min(batch, n-i))
				for j := range out {
					out[j] = processor.Output{Partition: int32(j % 12), Record: records[0]}
				}
				if err := p.Publisher().Publish(b.Context(), out); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
}

// BenchmarkFetch reads a backlog of 12 partitions.
func BenchmarkFetch(b *testing.B) {
	dibstest.NeedRealKafka(b)
	c := broker(b, 12)
	p := NewProducer(c, ProducerConfig{})
	stop := run(b, p)
	publishMany(b, p, b.N)
	stop()
	r := NewReader(c, ReaderConfig{Topic: c.Registrations()})
	run(b, r)
	b.ReportAllocs()
	b.ResetTimer()
	b.StartTimer()
	for part := range int32(12) {
		r.Seek(part, 0)
	}
	polls := 0
	for got := 0; got < b.N; polls++ {
		fetched, err := r.Poll(context.Background(), processor.Beside{}, 8000, time.Second)
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range fetched {
			if f.Err != nil {
				b.Fatal(f.Err)
			}
			got += len(f.Messages)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(b.N)/float64(polls), "records/poll")
}
