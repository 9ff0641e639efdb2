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
}

// decideNext takes what has arrived, decides and commits it. What is committed is queued for the publish stage.
func (l *lane) decideNext(ctx context.Context) {
	if len(l.owned) == 0 {
		l.await(ctx)
		return
	}
	fetched, err := l.source.Poll(ctx, l.limits.Batch, l.pollWait())
	if err != nil {
		if ctx.Err() == nil {
			l.metrics.trouble("source", err)
			l.clock.Sleep(ctx, firstPause)
		}
		return
	}
	runs := make([]run, 0, len(fetched))
	var lacking []run
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
			if r.next > r.from {
				runs = append(runs, r)
			}
			if r.lacking != nil {
				lacking = append(lacking, r)
			}
		}
	}
	if len(runs)+len(lacking) == 0 {
		l.saveCursors(ctx, false)
		return
	}
	l.decide(ctx, runs)
	for i := range lacking {
		l.haltLacking(ctx, &lacking[i])
	}
}

// haltLacking halts a partition at a record that asks for what this process has not got, once everything before it is
// decided.
func (l *lane) haltLacking(ctx context.Context, r *run) {
	if t := r.tenure; r.lacking != nil && l.owned[t.Partition] == t && t.Halted == "" && t.NextOffset == r.next {
		l.halt(ctx, t, r.lacking.Error())
	}
}

// await waits for an assignment, or a while.
func (l *lane) await(ctx context.Context) {
	l.clock.Sleep(ctx, firstPause)
	select {
	case <-l.wake:
	default:
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

// decide decides and commits runs of several partitions in one transaction. It returns when each run is committed, or its
// partition is lost or halted, or ctx has ended. Broker and database troubles are waited out: they are never a record's
// fault.
func (l *lane) decide(ctx context.Context, runs []run) {
	defer l.at("deciding")()
	defer l.works(wholeLane)
	l.inHand(runs)
	pause := newBackoff(l.clock)
	for len(runs) > 0 && ctx.Err() == nil {
		batches, err := l.batches(ctx, runs)
		if err == nil {
			for i := range runs {
				runs[i].sent = &batches[i]
			}
			began := l.clock.Now()
			err = l.record.Commit(context.WithoutCancel(ctx), batches) // a stop must not leave it unknown
			l.metrics.commit(l.clock.Now().Sub(began), batches)
		}
		switch {
		case err == nil:
			for i := range runs {
				l.done(runs[i], batches[i])
				for _, p := range batches[i].Activated {
					l.log.InfoContext(ctx, "a policy holds from here on", "partition", batches[i].Partition, "space", p.Space, "version", p.Version)
				}
			}
			return
		case errors.Is(err, ErrConflict):
			l.conflict(ctx, runs, err)
			return
		case errors.Is(err, ErrData):
			l.bisect(ctx, runs, err)
			return
		}
		if !errors.Is(err, ErrFenced) {
			l.fails(wholeLane, err)
			l.metrics.trouble("record", err)
			if ctx.Err() != nil {
				return
			}
			l.log.WarnContext(ctx, "batch is not committed, or unknown to be", "err", err)
			l.clock.Sleep(ctx, pause.step())
		}
		before := len(runs)
		if runs = l.settle(ctx, runs); errors.Is(err, ErrFenced) && len(runs) == before {
			l.clock.Sleep(ctx, pause.step()) // the rows say otherwise by now; do not argue in a tight loop
		}
	}
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

// done takes note of a committed batch.
func (l *lane) done(r run, b Batch) {
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
	l.warn(r, b)
	signal(l.committed)
}

// settle finds out from the rows what became of runs whose commit was refused, or whose answer was lost. It returns those
// that are to be tried again: ours, and unchanged. A row that is ours and has advanced was committed; of any other the
// partition is lost. The commit in question need not be the last attempt: one that seemed not to have happened may arrive
// while the names are looked up again.
func (l *lane) settle(ctx context.Context, runs []run) []run {
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
		l.fails(wholeLane, err)
		l.metrics.trouble("record", err)
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
			l.done(runs[i], *runs[i].sent)
		default:
			l.lose(ctx, t.Partition)
		}
	}
	return again
}

// conflict halts the partition whose names were changed behind the log. Which one it is shows when each is tried alone.
func (l *lane) conflict(ctx context.Context, runs []run, err error) {
	if len(runs) == 1 {
		l.halt(ctx, runs[0].tenure, err.Error())
		return
	}
	for i := range runs {
		l.decide(ctx, runs[i:i+1])
	}
}

// bisect finds the one record whose data the database refuses, and leaves it dead. Everything before and behind it is
// decided as usual.
func (l *lane) bisect(ctx context.Context, runs []run, err error) {
	if len(runs) > 1 {
		for i := range runs {
			l.decide(ctx, runs[i:i+1])
		}
		return
	}
	r := runs[0]
	switch n := len(r.records); {
	case n > 1:
		middle := r.records[n/2].Offset
		first := run{tenure: r.tenure, from: r.from, next: middle, records: r.records[:n/2], refused: r.refused}
		l.decide(ctx, []run{first})
		if l.owned[r.tenure.Partition] != r.tenure || r.tenure.NextOffset != middle || r.tenure.Halted != "" {
			return // lost, or stopping
		}
		// What the first half has made to hold is known by now, and it may be less than it asked for: a record that is
		// refused activates nothing.
		rest := receive(r.tenure, &Fetched{From: middle, Next: r.next, Messages: messages(r.records[n/2:])})
		rest.refused = r.refused
		l.decide(ctx, []run{rest})
		l.haltLacking(ctx, &rest)
	case n == 1 && r.refused == nil:
		l.log.ErrorContext(ctx, "the database refuses a record: it goes to the dead letters",
			"partition", r.tenure.Partition, "offset", r.records[0].Offset, "err", err)
		r.refused, r.sent = map[int64]string{r.records[0].Offset: err.Error()}, nil
		l.decide(ctx, []run{r})
	default:
		// Not even the bare row can be written: this is no record's fault.
		l.halt(ctx, r.tenure, "the database refuses a dead letter's row: "+err.Error())
	}
}

func messages(records []Received) []Message {
	all := make([]Message, len(records))
	for i := range records {
		all[i] = records[i].Message
	}
	return all
}
