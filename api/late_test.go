package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/cloudevents"
)

const never = time.Duration(-1)

// late is a Claims whose records reach the log, and are acknowledged, when the test says. What is given up before it has
// reached the log never does; neither of its channels is closed any more.
type late struct {
	memory *memory
	// How long after Start a record is in the log and decided, and how long after Start that is acknowledged or, with an
	// err, failed.
	written, settled time.Duration
	err              error

	mu      sync.Mutex
	givenUp []givenUp // since the start of each publication
}

type givenUp struct {
	after time.Duration
	why   error
}

// giveUps is what was given up so far.
func (l *late) giveUps() []givenUp {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]givenUp(nil), l.givenUp...)
}

func (l *late) Start(partition int32, r cloudevents.Record) (api.Publication, error) {
	p := &latePublication{late: l, started: time.Now(), failed: make(chan struct{}), settled: make(chan struct{})}
	at := func(d time.Duration, what func()) {
		if d != never {
			time.AfterFunc(d, what)
		}
	}
	inLog := make(chan struct{})
	at(l.written, func() {
		defer close(inLog)
		l.mu.Lock()
		gone := p.gone
		p.inLog = true
		l.mu.Unlock()
		if !gone {
			offset, _ := l.memory.write(context.Background(), partition, r)
			l.mu.Lock()
			p.offset = offset
			l.mu.Unlock()
		}
	})
	at(l.settled, func() {
		if l.written != never && l.written <= l.settled {
			<-inLog // also where both are due at once
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if p.over = true; p.gone {
			return
		}
		if l.err != nil {
			close(p.failed)
		}
		close(p.settled)
	})
	return p, nil
}

type latePublication struct {
	late            *late
	started         time.Time
	failed, settled chan struct{}

	// late.mu guards these.
	inLog, over, gone bool
	offset            int64
}

func (p *latePublication) Failed() <-chan struct{}  { return p.failed }
func (p *latePublication) Settled() <-chan struct{} { return p.settled }

func (p *latePublication) Result() (int64, error) {
	p.late.mu.Lock()
	defer p.late.mu.Unlock()
	return p.result(errors.New("still on its way"))
}

func (p *latePublication) GiveUp(why error) (int64, error) {
	p.late.mu.Lock()
	defer p.late.mu.Unlock()
	p.late.givenUp = append(p.late.givenUp, givenUp{time.Since(p.started), why})
	p.gone = p.gone || !p.over
	return p.result(why)
}

func (p *latePublication) result(why error) (int64, error) {
	switch {
	case p.over && !p.gone:
		return p.offset, p.late.err
	case p.gone && !p.inLog:
		return 0, fmt.Errorf("%w: %w", api.ErrNotPublished, why)
	}
	return 0, fmt.Errorf("%w: %w", api.ErrUnknown, why)
}

// inLateTime is inTime with a late Claims.
func inLateTime(t *testing.T, l *late, test func(t *testing.T, w *world)) {
	t.Helper()
	inTime(t, func(t *testing.T, w *world) {
		l.memory = w.memory
		test(t, w)
	}, func(s *setup) { s.claims = l })
}

// count is the value of a metric without labels.
func (w *world) count(name string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if m := f.GetMetric(); f.GetName() == name && len(m) == 1 {
			return m[0].GetCounter().GetValue() + m[0].GetGauge().GetValue()
		}
	}
	w.t.Fatalf("no metric %s", name)
	return 0
}

// The outcome is there before the acknowledgement that says whose it is: the answer waits for that, for a moment.
func TestAcknowledgedAfterTheOutcome(t *testing.T) {
	const first, again = "", "true" // Idempotent-Replayed
	for name, test := range map[string]struct {
		settled        time.Duration
		err            error
		took           time.Duration
		before, repeat string
	}{
		"together":             {0, nil, 0, first, again},
		"a moment later":       {40 * time.Millisecond, nil, 40 * time.Millisecond, first, again},
		"just within the time": {999 * time.Millisecond, nil, 999 * time.Millisecond, first, again},
		"too late":             {1001 * time.Millisecond, nil, time.Second, first, first},
		"never":                {never, nil, time.Second, first, first},
		"fails, unknown":       {40 * time.Millisecond, api.ErrUnknown, 40 * time.Millisecond, first, first},
		"fails, not published": {40 * time.Millisecond, api.ErrNotPublished, 40 * time.Millisecond, again, again},
	} {
		t.Run(name, func(t *testing.T) {
			l := &late{settled: test.settled, err: test.err}
			inLateTime(t, l, func(t *testing.T, w *world) {
				replayed := 0.0
				for _, want := range []string{test.before, test.repeat} {
					a := w.claim(alice, "Idempotency-Key: k").is(201, "").heads("Idempotent-Replayed", want)
					if a.took != test.took {
						t.Errorf("took %s, want %s", a.took, test.took)
					}
					if want != "" {
						replayed++
					}
				}
				// Who cannot have claimed it before does not wait for that.
				if a := w.claim(`{"name":"Bob","owner":"u-17"}`).is(201, "").heads("Idempotent-Replayed", ""); a.took != 0 {
					t.Errorf("without a key it took %s", a.took)
				}
				if n := w.count("dibs_claims_replayed_total"); n != replayed {
					t.Errorf("%v replays are counted, want %v", n, replayed)
				}
				time.Sleep(time.Minute)
				if all := l.giveUps(); len(all) != 0 {
					t.Errorf("given up: %v", all)
				}
				w.published(3)
			})
		})
	}
}

// Who hangs up while it is found out whose the outcome is waits no longer.
func TestHangsUpBeforeTheAcknowledgement(t *testing.T) {
	l := &late{settled: never}
	inLateTime(t, l, func(t *testing.T, w *world) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if a := w.askCtx(ctx, http.MethodPost, "/v1/claims", alice, "Idempotency-Key: k"); a.took != 300*time.Millisecond {
			t.Errorf("took %s", a.took)
		}
		time.Sleep(time.Minute)
		if all := l.giveUps(); len(all) != 0 {
			t.Errorf("given up: %v", all)
		}
	})
}

// What a caller who has gone claimed is published if that succeeds before PublishTimeout, and never afterwards.
func TestPublishedForCallersWhoAreGone(t *testing.T) {
	const wait = "Prefer: wait=20"
	for name, test := range map[string]struct {
		wait     string
		goes     time.Duration // when the caller hangs up
		written  time.Duration // when the broker is back
		givenUp  time.Duration
		records  int
		timeouts float64
	}{
		"soon":                             {wait, time.Second, 3 * time.Second, 5 * time.Second, 1, 0},
		"right away":                       {wait, time.Second, 1001 * time.Millisecond, 5 * time.Second, 1, 0},
		"at the last moment":               {wait, time.Second, 4999 * time.Millisecond, 5 * time.Second, 1, 0},
		"too late":                         {wait, time.Second, 5001 * time.Millisecond, 5 * time.Second, 0, 0},
		"never":                            {wait, time.Second, never, 5 * time.Second, 0, 0},
		"the caller was patient":           {wait, 9 * time.Second, 10 * time.Second, 9 * time.Second, 0, 0},
		"behind its wait, soon":            {"Prefer: wait=1", 2 * time.Second, 3 * time.Second, 5 * time.Second, 1, 1},
		"behind its wait, too late":        {"Prefer: wait=1", 2 * time.Second, 6 * time.Second, 5 * time.Second, 0, 1},
		"it never waited, and it is never": {"Prefer: respond-async", 2 * time.Second, never, 5 * time.Second, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := &late{written: test.written, settled: test.written}
			inLateTime(t, l, func(t *testing.T, w *world) {
				ctx, cancel := context.WithTimeout(t.Context(), test.goes)
				defer cancel()
				if a := w.askCtx(ctx, http.MethodPost, "/v1/claims", alice, "Idempotency-Key: k", test.wait); a.took != test.goes {
					t.Errorf("waited %s for a caller that is gone", a.took)
				}
				if n := w.count("dibs_http_waiters"); n != 0 {
					t.Errorf("%v tickets are still out", n)
				}
				time.Sleep(time.Minute)
				w.published(test.records)
				all := l.giveUps()
				if len(all) != 1 || all[0].after != test.givenUp || !errors.Is(all[0].why, context.DeadlineExceeded) {
					t.Errorf("given up: %v, want once, after %s", all, test.givenUp)
				}
				if n := w.count("dibs_wait_timeouts_total"); n != test.timeouts {
					t.Errorf("%v waits ran out, want %v", n, test.timeouts)
				}
				if n := w.count("dibs_claims_replayed_total"); n != 0 {
					t.Errorf("%v replays are counted", n)
				}
				// Whoever asks again under the same key finds it, or claims it now.
				l.written, l.settled = 0, 0
				replayed := map[int]string{0: "", 1: "true"}[test.records]
				w.claim(alice, "Idempotency-Key: k").is(201, "").heads("Idempotent-Replayed", replayed)
			})
		})
	}
}
