package kafka

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/cloudevents"
)

var errEnough = errors.New("enough")

// start sends a record of partition 0 on its way.
func start(t *testing.T, p *Producer, r cloudevents.Record) api.Publication {
	t.Helper()
	w, err := p.Claims().Start(0, r)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// closed waits until a channel is.
func closed(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-within(t, 10*time.Second).Done():
		t.Fatalf("%s is not closed", what)
	}
}

// isOpen fails where a channel is closed.
func isOpen(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
		t.Errorf("%s is closed", what)
	default:
	}
}

// held is what the budget of claims has.
func held(p *Producer) (records, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.forClaims.records, p.forClaims.bytes
}

// nothingWaits waits until the budget of claims is free.
func nothingWaits(t *testing.T, p *Producer) {
	t.Helper()
	await(t, "the budget is free", 10*time.Second, func() bool {
		records, bytes := held(p)
		return records == 0 && bytes == 0
	})
}

// inFlight holds the next produce request up at the broker. It returns when the record's request is there; the request
// goes on with release.
func inFlight(t *testing.T, cluster *kfake.Cluster, p *Producer, r cloudevents.Record, answer func(*kmsg.ProduceRequest) kmsg.Response) (w api.Publication, release func()) {
	t.Helper()
	there, released := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		if !first.CompareAndSwap(false, true) {
			return nil, nil, false
		}
		close(there)
		cluster.SleepControl(func() { <-released })
		if answer == nil {
			return nil, nil, false
		}
		return answer(req.(*kmsg.ProduceRequest)), nil, true
	})
	release = sync.OnceFunc(func() { close(released) })
	t.Cleanup(release)
	w = start(t, p, r)
	closed(t, "the request", there)
	return w, release
}

// What the broker refuses has failed: who waits for the outcome need not wait any longer.
func TestPublicationIsRefused(t *testing.T) {
	cluster := fake(t, 1)
	p := NewProducer(connectFake(t, cluster), ProducerConfig{})
	run(t, p)
	w, release := inFlight(t, cluster, p, value("x"), func(req *kmsg.ProduceRequest) kmsg.Response {
		return refuseAll(req, kerr.InvalidRecord)
	})
	isOpen(t, "Failed", w.Failed())
	_, err := w.Result()
	wantIs(t, err, api.ErrUnknown, errPending)
	release()
	closed(t, "Failed", w.Failed())
	closed(t, "Settled", w.Settled())
	_, err = w.Result()
	wantIs(t, err, api.ErrNotPublished)
	if errors.Is(err, api.ErrUnknown) {
		t.Errorf("it is not unknown: %v", err)
	}
	nothingWaits(t, p)
	_, err = w.GiveUp(errEnough)
	wantIs(t, err, api.ErrNotPublished)
}

// Whoever asks only then whether it has failed hears it at once; of what was given up nobody hears.
func TestPublicationHasFailed(t *testing.T) {
	for _, gone := range []bool{false, true} {
		cluster := fake(t, 1)
		p := NewProducer(connectFake(t, cluster), ProducerConfig{})
		run(t, p)
		w, release := inFlight(t, cluster, p, value("x"), func(req *kmsg.ProduceRequest) kmsg.Response {
			return refuseAll(req, kerr.InvalidRecord)
		})
		if gone {
			_, _ = w.GiveUp(errEnough)
		}
		release()
		nothingWaits(t, p)
		select {
		case <-w.Failed():
			if gone {
				t.Error("given up, and Failed is closed")
			}
		default:
			if !gone {
				t.Error("Failed is asked for after the refusal, and is open")
			}
		}
	}
}

// What the broker has taken has settled, and not failed; whoever asks only then hears it at once.
func TestPublicationIsAcknowledged(t *testing.T) {
	cluster := fake(t, 1)
	p := NewProducer(connectFake(t, cluster), ProducerConfig{})
	run(t, p)
	for want := range int64(2) {
		w, release := inFlight(t, cluster, p, value("x"), nil)
		early := want == 0 // the other time nobody has asked before it is over
		if early {
			isOpen(t, "Settled", w.Settled())
		}
		release()
		if early {
			closed(t, "Settled", w.Settled())
		}
		nothingWaits(t, p)
		select {
		case <-w.Settled():
		default:
			t.Error("Settled is asked for after the acknowledgement, and is open")
		}
		isOpen(t, "Failed", w.Failed())
		if offset, err := w.Result(); offset != want || err != nil {
			t.Errorf("the result is %d, %v, want %d", offset, err, want)
		}
		if offset, err := w.GiveUp(errEnough); offset != want || err != nil {
			t.Errorf("given up behind its acknowledgement it is %d, %v, want %d", offset, err, want)
		}
	}
}

// A record that is given up in flight is unknown, whatever becomes of it. It keeps its place in the budget until the
// broker has answered, and its caller hears no more.
func TestPublicationIsGivenUpInFlight(t *testing.T) {
	for name, answer := range map[string]func(*kmsg.ProduceRequest) kmsg.Response{
		"then acknowledged": nil,
		"then refused":      func(req *kmsg.ProduceRequest) kmsg.Response { return refuseAll(req, kerr.InvalidRecord) },
		"then to be tried again": func(req *kmsg.ProduceRequest) kmsg.Response {
			return refuseAll(req, kerr.NotEnoughReplicas)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := fake(t, 1)
			p := NewProducer(connectFake(t, cluster), ProducerConfig{})
			run(t, p)
			w, release := inFlight(t, cluster, p, value("x"), answer)
			failed, settled := w.Failed(), w.Settled()
			_, err := w.GiveUp(errEnough)
			wantIs(t, err, api.ErrUnknown, errEnough)
			_, err = w.Result()
			wantIs(t, err, api.ErrUnknown)
			if records, bytes := held(p); records != 1 || bytes == 0 {
				t.Errorf("in flight there are %d records, %d bytes", records, bytes)
			}
			var later atomic.Int32
			if answer != nil { // from now on the broker takes everything
				cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
					cluster.KeepControl()
					later.Add(1)
					return nil, nil, false
				})
			}
			release()
			nothingWaits(t, p)
			isOpen(t, "Failed", failed)
			isOpen(t, "Settled", settled)
			if answer == nil {
				return
			}
			// Nothing of it is sent again: the next record is the first one in the log.
			next := start(t, p, value("y"))
			closed(t, "Settled", next.Settled())
			if offset, err := next.Result(); offset != 0 || err != nil || later.Load() != 1 {
				t.Errorf("the next record is at %d, %v, after %d requests", offset, err, later.Load())
			}
		})
	}
}

// A record that is given up before it is sent never is.
func TestPublicationIsGivenUpUnsent(t *testing.T) {
	cluster := fake(t, 1)
	p := NewProducer(connectFake(t, cluster), ProducerConfig{})
	w := start(t, p, value("x")) // nothing is sent yet
	failed, settled := w.Failed(), w.Settled()
	_, err := w.GiveUp(errEnough)
	wantIs(t, err, api.ErrNotPublished)
	nothingWaits(t, p)
	run(t, p)
	next := start(t, p, value("y"))
	closed(t, "Settled", next.Settled())
	if offset, err := next.Result(); offset != 0 || err != nil {
		t.Errorf("the next record is at %d, %v", offset, err)
	}
	isOpen(t, "Failed", failed)
	isOpen(t, "Settled", settled)
}
