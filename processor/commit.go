package processor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// run is what was read of one partition and is to be decided: all of [From, Next), read records and gaps alike.
type run struct {
	tenure  *tenure
	from    int64
	next    int64
	records []Received
	refused map[int64]string // offsets that the database cannot store
	lacking error            // what this process has not got of what holds behind it
	sent    *Batch           // what a commit whose fate may be unknown would have written
	pause   *backoff         // before it is tried again; nil before the first failure
}

// decideNext takes what has arrived, and begins to decide it beside the stage.
func (l *lane) decideNext(ctx context.Context) {
	fetched, err := l.poll(ctx)
	if err != nil {
		if ctx.Err() == nil {
			l.metrics.trouble("source", err)
			l.clock.Sleep(ctx, firstPause)
		}
		return
	}
	runs := make([]run, 0, len(fetched))
	for i := range fetched {
		f := &fetched[i]
		t := l.owned[f.Partition]
		switch {
		case t == nil || t.Halted != "" || t.mustVerify:
			// Read before we knew: nobody's any more.
		case f.Err != nil:
			l.setMustVerify(t, true)
			t.probe = nil // its answer may be from before
			t.pause.failed()
			l.metrics.trouble("source", f.Err)
			l.log.WarnContext(ctx, "reading stopped", "partition", f.Partition, "offset", t.NextOffset, "err", f.Err)
		case f.From != t.NextOffset:
			l.source.Seek(f.Partition, t.NextOffset)
		case f.Next > f.From:
			l.heard(t, f.HighWatermark)
			r := receive(t, f)
			l.metrics.received.Add(float64(len(r.records)))
			switch {
			case r.next > r.from:
				runs = append(runs, r)
			case r.lacking != nil:
				l.halt(ctx, t, r.lacking.Error())
			}
		}
	}
	for _, part := range divide(runs, l.limits.Transactions-l.running, l.limits.Beside) {
		l.begin(ctx, part)
	}
}

// receive reads what was fetched, each record under what holds where it lies.
func receive(t *tenure, f *Fetched) run {
	r := run{tenure: t, from: f.From, next: f.Next}
	if r.records, r.lacking = ReceiveAll(f.Messages, t.regime); r.lacking != nil {
		r.next = f.Messages[len(r.records)].Offset
	}
	return r
}

// decide decides and commits runs of several partitions in one transaction, beside the decide stage. When it returns, each run
// is committed, or noted in tx for that stage, or ctx has ended. Broker and database troubles are waited out: they are never a
// record's fault.
func (l *lane) decide(ctx context.Context, tx *transaction, runs []run) {
	for len(runs) > 0 && ctx.Err() == nil {
		batches, err := l.try(ctx, runs)
		switch {
		case err == nil:
			for i := range runs {
				l.done(ctx, tx, runs[i], batches[i])
			}
			return
		case errors.Is(err, ErrConflict), errors.Is(err, ErrData):
			l.refused(ctx, tx, runs, err)
			return
		}
		fenced := errors.Is(err, ErrFenced)
		if !fenced {
			l.failed(ctx, runs, err)
		}
		before := len(runs)
		runs = l.settle(ctx, tx, runs)
		for i := range runs {
			if runs[i].pause == nil {
				runs[i].pause = newBackoff(l.clock)
			}
			if !fenced || len(runs) == before { // the rows say otherwise by now; do not argue in a tight loop
				runs[i].pause.failed()
			}
		}
		if !tx.inPieces {
			tx.tryAgain(runs, !fenced)
			return
		}
		for i := range runs {
			l.clock.Sleep(ctx, runs[i].pause.at.Sub(l.clock.Now()))
		}
	}
}

// failed notes that the database does not let runs get on.
func (l *lane) failed(ctx context.Context, runs []run, err error) {
	for i := range runs {
		l.fails(runs[i].tenure.Partition, err)
	}
	l.metrics.trouble("record", err)
	if ctx.Err() == nil {
		l.log.WarnContext(ctx, "batch is not committed, or unknown to be", "err", err)
	}
}

// try decides and commits runs once.
func (l *lane) try(ctx context.Context, runs []run) ([]Batch, error) {
	batches, err := l.batches(ctx, runs)
	if err == nil {
		for i := range runs {
			runs[i].sent = &batches[i]
		}
		began := l.clock.Now()
		err = l.record.Commit(context.WithoutCancel(ctx), batches) // a stop must not leave it unknown
		l.metrics.commit(l.clock.Now().Sub(began), batches)
	}
	return batches, err
}

// batches looks up what the runs touch and decides them. With an error nothing has been sent to be committed.
func (l *lane) batches(ctx context.Context, runs []run) ([]Batch, error) {
	total := 0
	for i := range runs {
		total += len(runs[i].records)
	}
	fences := make([]Fence, len(runs))
	refs := make([]names.Ref, 0, total)
	requests := make([]Request, 0, total)
	for i := range runs {
		t := runs[i].tenure
		fences[i] = t.Fence
		for j := range runs[i].records {
			r := &runs[i].records[j]
			if _, refused := runs[i].refused[r.Offset]; refused || unanswerable(r.err) || r.activation != nil {
				continue // it is dead whatever is known, and it may be the question that the database refuses; or it asks for no name
			}
			requests = append(requests, Request{t.Partition, r.Request.ID})
			if id := r.aboutClaim(); id != uuid.Nil {
				requests = append(requests, Request{t.Partition, id})
			}
			if r.named || r.Ref.Space == claims.Signup {
				refs = append(refs, r.Ref)
			}
		}
	}
	known, err := l.record.Look(ctx, fences, refs, requests)
	if err != nil {
		return nil, fmt.Errorf("look up %d records: %w", total, err)
	}
	batches := make([]Batch, len(runs))
	for i := range runs {
		batches[i] = l.batch(&runs[i], known)
	}
	return batches, nil
}

func (l *lane) batch(r *run, known Known) Batch {
	t := r.tenure
	d := Decide(Ledger{
		Partition: t.Partition, LogEpoch: t.LogEpoch, LogTime: t.LogTime, Rules: t.regime.Rules, InForce: t.InForce, Known: known, Refused: r.refused,
	}, r.records)
	b := Batch{
		Fence: t.Fence, Next: r.next, LogTime: d.LogTime, LastOffset: t.LastOffset, LastHash: t.LastHash,
		PublishedThrough: l.acked(t), Rows: d.Rows, Changes: d.Changes,
		InForce: d.InForce, Activated: d.Activated,
	}
	if n := len(r.records); n > 0 {
		last := &r.records[n-1]
		b.LastOffset, b.LastHash = last.Offset, last.Message.Record.Hash()
	}
	return b
}

// done takes note of a committed batch. Its outcomes do not wait for what else the transaction, or the decide stage, is at.
func (l *lane) done(ctx context.Context, tx *transaction, r run, b Batch) {
	t := r.tenure
	l.mu.Lock()
	t.NextOffset, t.LogTime, t.LastOffset, t.LastHash = b.Next, b.LogTime, b.LastOffset, b.LastHash
	t.saved = max(t.saved, b.PublishedThrough)
	t.queue = append(t.queue, pending{b.Fence, b.Rows, b.Next})
	t.queued += len(b.Rows)
	t.oldest = time.Time{}
	if erases(b.Rows) {
		t.erasures++
	}
	if b.InForce != nil {
		t.InForce = b.InForce
		t.regime, _ = NewRegime(l.rules, b.InForce) // records were received under it: nothing is lacking
	}
	l.mu.Unlock()
	l.metrics.decided(b, l.rules.Keys)
	signal(l.committed)
	for _, p := range b.Activated {
		l.log.InfoContext(ctx, "a policy holds from here on", "partition", b.Partition, "space", p.Space, "version", p.Version)
	}
	l.warn(&r, &b)
	if r.lacking != nil { // everything before it is decided
		tx.halt(t, r.lacking.Error())
	}
}

// settle finds out from the rows what became of runs whose commit was refused, or whose answer was lost. It returns those
// that are to be tried again: ours, and unchanged. A row that is ours and has advanced was committed; of any other the
// partition is lost. The commit in question need not be the last attempt: one that seemed not to have happened may arrive
// while the names are looked up again.
func (l *lane) settle(ctx context.Context, tx *transaction, runs []run) []run {
	partitions := make([]int32, len(runs))
	for i := range runs {
		partitions[i] = runs[i].tenure.Partition
	}
	pause := newBackoff(l.clock)
	rows, err := l.record.Standings(ctx, partitions)
	for err != nil {
		if ctx.Err() != nil {
			return nil // the next owner re-reads the rows
		}
		l.failed(ctx, runs, err)
		l.clock.Sleep(ctx, pause.step())
		rows, err = l.record.Standings(ctx, partitions)
	}
	standing := make(map[int32]Standing, len(rows))
	for _, row := range rows {
		standing[row.Partition] = row
	}
	again := runs[:0:0]
	for i := range runs {
		t := runs[i].tenure
		now := standing[t.Partition]
		ours := now.WriterID == t.WriterID && now.WriterEpoch == t.WriterEpoch && now.LogEpoch == t.LogEpoch && now.Halted == ""
		switch {
		case ours && now.NextOffset == t.NextOffset:
			again = append(again, runs[i])
		case ours && runs[i].sent != nil && now.NextOffset == runs[i].sent.Next:
			l.done(ctx, tx, runs[i], *runs[i].sent)
		default:
			tx.lose(t)
		}
	}
	return again
}

// refused sees to what no further attempt would commit: names that were changed behind the log, or data that the database
// refuses. Whose they are shows when each run is tried alone.
func (l *lane) refused(ctx context.Context, tx *transaction, runs []run, err error) {
	switch {
	case len(runs) > 1:
		tx.tryAgain(runs, true)
	case errors.Is(err, ErrConflict):
		tx.halt(runs[0].tenure, err.Error())
	default:
		l.bisect(ctx, tx, runs[0], err)
	}
}

// bisect finds the one record whose data the database refuses, and leaves it dead. Everything before and behind it is
// decided as usual.
func (l *lane) bisect(ctx context.Context, tx *transaction, r run, err error) {
	switch n := len(r.records); {
	case n > 1:
		tx.inPieces = true
		middle := r.records[n/2].Offset
		l.decide(ctx, tx, []run{{tenure: r.tenure, from: r.from, next: middle, records: r.records[:n/2], refused: r.refused}})
		if r.tenure.NextOffset != middle {
			return // lost, halted, or stopping
		}
		// What the first half has made to hold is known by now, and it may be less than it asked for: a record that is
		// refused activates nothing.
		rest := receive(r.tenure, &Fetched{From: middle, Next: r.next, Messages: messages(r.records[n/2:])})
		rest.refused = r.refused
		if rest.lacking == nil {
			rest.lacking = r.lacking
		}
		l.decide(ctx, tx, []run{rest})
	case n == 1 && r.refused == nil:
		l.log.ErrorContext(ctx, "the database refuses a record: it goes to the dead letters",
			"partition", r.tenure.Partition, "offset", r.records[0].Offset, "err", err)
		r.refused, r.sent = map[int64]string{r.records[0].Offset: err.Error()}, nil
		l.decide(ctx, tx, []run{r})
	default:
		// Not even the bare row can be written: this is no record's fault.
		tx.halt(r.tenure, "the database refuses a dead letter's row: "+err.Error())
	}
}

func messages(records []Received) []Message {
	all := make([]Message, len(records))
	for i := range records {
		all[i] = records[i].Message
	}
	return all
}
