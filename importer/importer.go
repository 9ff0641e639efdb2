package importer

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// Config says how to import.
type Config struct {
	// Policies and Partitions are those of the deployment. Required.
	Policies   names.Policies
	Partitions int
	// Peppers are what the keys of private spaces are made with.
	Peppers names.Peppers
	// Principal is who the claims are said to come from. Defaults to "import".
	Principal string
	// Sign signs the claims. Nil: they are not signed.
	Sign func(cloudevents.Record) cloudevents.Record
	// Waiting is how many rows wait for their outcome at once. Defaults to 2,048.
	Waiting int
	// Resend is how long to wait for an outcome before the claim is sent again, under the same id. Defaults to 30 s.
	Resend time.Duration
	// Patience is how long to go on although rows wait and no outcome comes, of any. Defaults to 5 min.
	Patience time.Duration
	// Log gets what is tried again. Nil discards.
	Log *slog.Logger
}

// Rejection says why a row is not accepted. The zero value says that it is.
type Rejection struct{ Reason, Detail string }

// Result is what became of a row.
type Result struct {
	Row
	ID uuid.UUID // zero where nothing was claimed
	Rejection
}

// Claims writes requests to the topic claims. It is safe for concurrent use.
type Claims interface {
	// Publish appends the record to the partition and returns its offset once all in-sync replicas have it. It tries
	// again, within ctx, whatever may succeed later. Errors are api's.
	Publish(ctx context.Context, partition int32, r cloudevents.Record) (offset int64, err error)
}

// Partitions reads how far the partitions are, and which are halted.
type Partitions interface {
	Partitions(ctx context.Context) ([]api.Partition, error)
}

// Importer claims the rows of a file.
type Importer struct {
	cfg        Config
	claims     Claims
	waiter     *registrations.Waiter
	partitions Partitions
	told       atomic.Int64 // when a trouble was told last
}

// New builds an importer on a writer of claims, a waiter that is fed from the topic registrations, and the record of how
// far the partitions are.
func New(cfg Config, c Claims, w *registrations.Waiter, p Partitions) *Importer {
	if cfg.Principal == "" {
		cfg.Principal = "import"
	}
	if cfg.Waiting == 0 {
		cfg.Waiting = 2048
	}
	if cfg.Resend == 0 {
		cfg.Resend = 30 * time.Second
	}
	if cfg.Patience == 0 {
		cfg.Patience = 5 * time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Importer{cfg: cfg, claims: c, waiter: w, partitions: p}
}

// work is a row on its way.
type work struct {
	row   Row
	id    uuid.UUID
	ref   names.Ref
	claim *claims.UsernameClaimed
}

// Run imports all rows behind the first skip ones. It calls done for each, in the order of their completion, from one
// goroutine at a time. It returns nil when every row is done, or the first error that is not a row's: a *HaltedError where
// a row cannot be decided before an operator acts, ErrSilent where nothing has been decided for as long as it has patience.
func (im *Importer) Run(ctx context.Context, rows Reader, skip int, done func(Result)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := newWatch(im.cfg, im.partitions)
	var mu sync.Mutex
	finish := func(r Result) {
		mu.Lock()
		defer mu.Unlock()
		done(r)
	}
	// One name is always the same worker's, so that the first row in the file claims first.
	queues := make([]chan work, im.cfg.Waiting)
	var wg sync.WaitGroup
	for i := range queues {
		queues[i] = make(chan work, 64)
		wg.Go(func() {
			for w := range queues[i] {
				if rejection, err := im.settle(ctx, watch, w); err == nil {
					finish(Result{w.row, w.id, rejection})
				}
			}
		})
	}
	var watching sync.WaitGroup
	watching.Go(func() { cancel(watch.run(ctx)) })
	err := im.deal(ctx, rows, skip, queues, finish)
	for _, q := range queues {
		close(q)
	}
	if err != nil {
		cancel(err)
	}
	wg.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	cancel(nil)
	watching.Wait()
	return err
}

// deal reads rows and gives each to its worker.
func (im *Importer) deal(ctx context.Context, rows Reader, skip int, queues []chan work, finish func(Result)) error {
	seed := maphash.MakeSeed()
	for {
		row, err := rows.Next()
		var broken *RowError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case row.Number <= skip && (err == nil || errors.As(err, &broken)):
			continue
		case errors.As(err, &broken):
			finish(Result{Row: broken.Row, Rejection: Rejection{"malformed", broken.Detail}})
			continue
		case err != nil:
			return err
		}
		id, ref, claim, rejection, err := row.claim(im.cfg.Policies, im.cfg.Peppers)
		if err != nil {
			return err
		}
		if claim == nil {
			finish(Result{Row: row, Rejection: rejection})
			continue
		}
		queue := queues[maphash.String(seed, ref.String())%uint64(len(queues))]
		select {
		case queue <- work{row, id, ref, claim}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// settle claims a name until its outcome is known. Whatever happens on the way, the id stays the same, so a claim that
// was sent twice is decided once.
func (im *Importer) settle(ctx context.Context, watch *watch, w work) (Rejection, error) {
	partition := claims.Partition(w.ref.String(), im.cfg.Partitions)
	watch.begins(partition)
	defer watch.ends(partition)
	hash := w.claim.Hash(w.ref, im.cfg.Principal, im.cfg.Policies)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		o, err := im.attempt(ctx, w, partition)
		if err == nil {
			watch.heard(partition)
			switch {
			case o.RequestHash != hash:
				return Rejection{"idempotency_mismatch", "the request id was used before for something else"}, nil
			case o.Type == registrations.Rejected:
				return Rejection{string(o.Reason), o.FullDetail()}, nil
			}
			return Rejection{}, nil
		}
		if ctx.Err() != nil {
			return Rejection{}, ctx.Err()
		}
		watch.fails(err)
		im.trouble(ctx, w, err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return Rejection{}, ctx.Err()
		}
	}
}

// tellEvery is how often a trouble is told: with it come all the rows that wait.
const tellEvery = 10 * time.Second

func (im *Importer) trouble(ctx context.Context, w work, err error) {
	now := time.Now().UnixNano()
	if told := im.told.Load(); now-told < int64(tellEvery) || !im.told.CompareAndSwap(told, now) {
		return
	}
	im.cfg.Log.WarnContext(ctx, "claims are sent again until they are decided; Ctrl-C stops, and the same command goes on", "row", w.row.Number, "err", err)
}

// attempt sends the claim once and waits for its outcome.
func (im *Importer) attempt(ctx context.Context, w work, partition int32) (registrations.Outcome, error) {
	ticket, err := im.waiter.Expect(w.id, partition) // before publishing: no outcome can slip past
	if err != nil {
		return registrations.Outcome{}, err
	}
	defer ticket.Release()
	ctx, cancel := context.WithTimeout(ctx, im.cfg.Resend)
	defer cancel()
	event := cloudevents.Event{ID: w.id, Source: "dibs/import", Principal: im.cfg.Principal, Time: time.Now()}
	record := w.claim.Record(event, w.ref)
	if im.cfg.Sign != nil {
		record = im.cfg.Sign(record)
	}
	if _, err := im.claims.Publish(ctx, partition, record); err != nil && !errors.Is(err, api.ErrUnknown) {
		return registrations.Outcome{}, err
	}
	select {
	case <-ticket.Done():
		return *ticket.Outcome(), nil
	case <-ctx.Done():
		return registrations.Outcome{}, fmt.Errorf("wait for the outcome of %s: %w", w.id, ctx.Err())
	}
}
