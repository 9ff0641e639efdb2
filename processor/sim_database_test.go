package processor_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/processor/memory"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

var errLost = errors.New("the database connection was lost")

// database is the record in memory behind a network that loses answers, and behind a server that fails over.
type database struct {
	w         *world
	mem       *memory.Record
	flights   []*flight
	server    int                   // counts fail-overs: what was under way before one is gone
	committed map[string]bool       // every output whose row was ever committed
	rows      map[position][]string // what each position publishes, for the check of published_through
	owner     map[int32]uuid.UUID   // whose take-over was the last
	unsettled map[*fiber][]processor.Batch
	trapped   bool // the next name that changes was changed behind the log, and who halts for that finds a fail-over
}

// position is where a record of claims is.
type position struct {
	partition int32
	epoch     int64
	offset    int64
}

// flight is a transaction that the server still works on although its client has given up: it holds its rows' locks.
type flight struct {
	partitions []int32
	land       func() error
	what       string
}

func newDatabase(w *world) *database {
	d := &database{
		w: w, mem: memory.New(), committed: make(map[string]bool), rows: make(map[position][]string),
		owner: make(map[int32]uuid.UUID), unsettled: make(map[*fiber][]processor.Batch),
	}
	d.mem.Refuse = func(row processor.Row) error {
		if row.Kind == processor.KindPolicy && w.clients.unstorablePolicies[row.RequestID] {
			return errors.New("invalid byte sequence")
		}
		return unstorableRow(row)
	}
	return d
}

// dbConn is the database as a processor.Record, for one process since its start.
type dbConn struct {
	*database
	deciding map[int32]bool // partitions that are being taken over, or were looked up and are not committed
}

// one checks that partitions are in no transaction of the process: they have one writer.
func (c *dbConn) one(what string, partitions ...int32) {
	for _, p := range partitions {
		if c.deciding[p] {
			c.w.violated("one writer: %s of partition %d, which is in a transaction of the process", what, p)
		}
		if lane := c.w.running.proc.lane; what != "look-up" && lane != nil && lane.Busy(p) {
			c.w.violated("one writer: %s of partition %d, which is to be in a transaction again", what, p)
		}
	}
}

func (d *database) locked(partitions []int32) bool {
	return slices.ContainsFunc(d.flights, func(f *flight) bool {
		return slices.ContainsFunc(f.partitions, func(p int32) bool { return slices.Contains(partitions, p) })
	})
}

// read is a call that changes nothing.
func (d *database) read(ctx context.Context, do func() error) error {
	w := d.w
	w.turn()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if w.chance(w.rates.readLost) {
		w.turn()
		return errLost
	}
	err := do()
	w.turn()
	return err
}

// write is a transaction: done, or done without an answer, or never begun, or under way for longer than its client
// waits, or begun only after its client has given up. lost is told when the client cannot know.
func (d *database) write(what string, partitions []int32, do func() error, lost func(landed bool)) error {
	w := d.w
	w.turn()
	if d.locked(partitions) {
		w.sometimes("waited for a row lock")
		until := w.now + 5*time.Second
		w.pause(wait{until, func() bool { return !d.locked(partitions) }})
		if d.locked(partitions) {
			return errLost
		}
	}
	f := w.rates.writeLost
	x := w.r.Float64()
	if w.calm {
		x = 1
	}
	switch {
	case x < f:
		err := do()
		w.say("%s: its answer is lost, it was %v", what, err)
		w.turn()
		lost(err == nil)
		return errLost
	case x < 2*f:
		w.say("%s: never reached the server", what)
		w.turn()
		lost(false)
		return errLost
	case x < 3*f:
		w.say("%s: in flight", what)
		d.flights = append(d.flights, &flight{partitions, do, what})
		w.turn()
		lost(false)
		return errLost
	case x < 4*f:
		w.say("%s: delayed on its way", what)
		server := d.server
		w.limbo = append(w.limbo, func() {
			if server == d.server && !d.locked(partitions) {
				err := do()
				w.say("%s: arrived late: %v", what, err)
				if errors.Is(err, processor.ErrFenced) {
					w.sometimes("a late transaction was fenced")
				}
			}
		})
		w.turn()
		lost(false)
		return errLost
	}
	err := do()
	w.turn()
	return err
}

// land ends a transaction in flight: it is committed, or not.
func (d *database) land() {
	if len(d.flights) == 0 {
		return
	}
	f := d.flights[0]
	d.flights = d.flights[1:]
	if d.w.r.IntN(2) == 0 && !d.w.calm {
		d.w.say("%s: died in flight", f.what)
		d.w.sometimes("a transaction in flight died")
		return
	}
	err := f.land()
	d.w.say("%s: landed: %v", f.what, err)
	if err == nil {
		d.w.sometimes("a transaction in flight landed")
	}
}

// failOverBehind may fail over when the answer to a look-up is out: what was read need not be true any more. The worst
// is a fail-over that makes a fence stand again that did not when the names were read.
func (d *database) failOverBehind(fences []processor.Fence) {
	i := slices.IndexFunc(fences, func(f processor.Fence) bool {
		s, _ := d.mem.Standing(f.Partition)
		return s.Fence != f
	})
	switch {
	case i < 0 && d.w.chance(d.w.rates.failOverAt):
		d.failOver(1 + d.w.r.IntN(4))
	case i >= 0 && d.w.chance(30*d.w.rates.failOverAt):
		for range 30 {
			d.failOver(1)
			if s, _ := d.mem.Standing(fences[i].Partition); s.Fence == fences[i] {
				d.w.sometimes("fail-over to where a look-up should have been")
				return
			}
		}
	}
}

// failOverUnder fails over to where a fence does not stand yet, if that was not too long ago.
func (d *database) failOverUnder(f processor.Fence) {
	for range 30 {
		d.failOver(1)
		if s, _ := d.mem.Standing(f.Partition); s.Fence != f {
			d.w.sometimes("fail-over under a halt")
			return
		}
	}
}

// checkLacking looks at a partition that was halted because a process lacks the late key: the next record asks for it,
// and everything before that is decided. Or it holds already: a process that has it has gone on.
func (d *database) checkLacking(at processor.Fence) {
	if d.lateKeyHolds(at.Partition) {
		d.w.sometimes("halted: a key is lacking that holds already")
		return
	}
	for _, t := range d.w.logs(at.Partition) {
		if t.epoch != at.LogEpoch {
			continue
		}
		if i := t.at(at.NextOffset); i < len(t.records) && t.records[i].Offset == at.NextOffset {
			q, _ := claims.Read(t.records[i].Record)
			if a, ok := q.Body.(*claims.PolicyActivated); ok && slices.Contains(a.Keys, lateKey) {
				return
			}
		}
	}
	d.w.violated("halted: partition %d lacks a key at offset %d, where no record asks for it", at.Partition, at.NextOffset)
}

// lateKeyHolds reports whether a partition's row says that requests may be signed with the late key.
func (d *database) lateKeyHolds(p int32) bool {
	row, _ := d.mem.Standing(p)
	return row.InForce != nil && slices.Contains(row.InForce.Keys, lateKey)
}

// failOver loses the last n transactions and everything under way.
func (d *database) failOver(n int) {
	before := d.mem.All()
	d.flights, d.server = nil, d.server+1
	n = d.mem.Lose(n)
	d.w.say("fail-over, %d transactions lost", n)
	d.w.sometimes("fail-over")
	for _, was := range before {
		is, ok := d.mem.Standing(was.Partition)
		if is.InForce != was.InForce {
			d.w.sometimes("fail-over undid an activation")
		}
		if is.WriterEpoch != was.WriterEpoch {
			d.w.sometimes("fail-over undid a take-over")
		}
		if is.NextOffset != was.NextOffset {
			d.w.sometimes("fail-over undid a commit")
		}
		if ok {
			d.owner[was.Partition] = is.WriterID
		} else {
			delete(d.owner, was.Partition)
		}
	}
}

// step does a change under fences, and checks that none of what must never go back did, and that nobody but the owner
// did it.
func (d *database) step(fences []processor.Fence, do func() error) error {
	before := d.mem.All()
	err := do()
	for _, was := range before {
		is, _ := d.mem.Standing(was.Partition)
		if is == was {
			continue
		}
		i := slices.IndexFunc(fences, func(f processor.Fence) bool { return f.Partition == was.Partition })
		if err != nil || i < 0 {
			d.w.violated("promise 7: a refused transaction changed partition %d: %+v to %+v", was.Partition, was, is)
		} else if owner := d.owner[was.Partition]; owner != fences[i].WriterID {
			d.w.violated("promise 7: writer %s changed partition %d, which %s had taken over", fences[i].WriterID, was.Partition, owner)
		}
		if is.WriterEpoch < was.WriterEpoch || is.LogTime.Before(was.LogTime) || is.LogEpoch == was.LogEpoch &&
			(is.NextOffset < was.NextOffset || is.PublishedThrough < was.PublishedThrough) {
			d.w.violated("inv 10: partition %d went back from %+v to %+v", was.Partition, was, is)
		}
		d.checkPublished(was, is)
	}
	return err
}

func (c *dbConn) Acquire(ctx context.Context, p int32, writer uuid.UUID) (processor.Standing, error) {
	d, what := c.database, c.w.running.name+" takes over"
	c.one("take-over", p)
	c.deciding[p] = true
	defer delete(c.deciding, p)
	var s processor.Standing
	err := d.write(what, []int32{p}, func() (err error) {
		s, err = d.mem.Acquire(ctx, p, writer)
		d.owner[p] = writer
		d.w.say("%s %d: epoch %d, next %d", what, p, s.WriterEpoch, s.NextOffset)
		return err
	}, func(bool) {})
	return s, err
}

func (c *dbConn) Standings(ctx context.Context, partitions []int32) ([]processor.Standing, error) {
	var all []processor.Standing
	fiber := c.w.running
	err := c.read(ctx, func() (err error) {
		all, err = c.mem.Standings(ctx, partitions)
		c.settled(fiber, all)
		return err
	})
	return all, err
}

// settled counts what a commit of unknown fate turned out to be.
func (d *database) settled(by *fiber, all []processor.Standing) {
	for _, b := range d.unsettled[by] {
		i := slices.IndexFunc(all, func(s processor.Standing) bool { return s.Partition == b.Partition })
		if i < 0 {
			d.w.sometimes("unknown commit settled: lost the partition")
			continue
		}
		switch s := all[i]; {
		case s.WriterID != b.WriterID:
			d.w.sometimes("unknown commit settled: lost the partition")
		case s.NextOffset == b.Next:
			d.w.sometimes("unknown commit settled: committed")
		case s.NextOffset == b.NextOffset:
			d.w.sometimes("unknown commit settled: unchanged")
		default:
			d.w.sometimes("unknown commit settled: moved elsewhere")
		}
	}
	delete(d.unsettled, by)
}

func (c *dbConn) Look(ctx context.Context, fences []processor.Fence, refs []names.Ref, requests []processor.Request) (processor.Known, error) {
	var known processor.Known
	for _, f := range fences {
		c.one("look-up", f.Partition)
		c.deciding[f.Partition] = true
	}
	err := c.read(ctx, func() (err error) {
		known, err = c.mem.Look(ctx, fences, refs, requests)
		return err
	})
	if err != nil {
		for _, f := range fences {
			delete(c.deciding, f.Partition)
		}
	}
	c.failOverBehind(fences)
	if errors.Is(err, processor.ErrFenced) {
		c.w.say("%s looks up: fenced", c.w.running.name)
		c.w.sometimes("look-up thrown away: fenced")
	}
	return known, err
}

func (c *dbConn) Due(ctx context.Context, partitions []int32, at time.Time, most int) ([]processor.Due, error) {
	var due []processor.Due
	err := c.read(ctx, func() (err error) {
		due, err = c.mem.Due(ctx, partitions, at, most)
		return err
	})
	return due, err
}

func (c *dbConn) Commit(ctx context.Context, batches []processor.Batch) error {
	d, fiber := c.database, c.w.running
	defer func() {
		for _, b := range batches {
			delete(c.deciding, b.Partition)
		}
	}()
	partitions, fences := make([]int32, len(batches)), make([]processor.Fence, len(batches))
	what := fiber.name + " commits"
	for i, b := range batches {
		partitions[i], fences[i] = b.Partition, b.Fence
		d.w.say("%s %d: [%d, %d) %d rows, epoch %d", what, b.Partition, b.NextOffset, b.Next, len(b.Rows), b.WriterEpoch)
	}
	if len(batches) > 1 {
		d.w.sometimes("several partitions in one transaction")
	}
	err := d.write(what, partitions, func() error {
		put := func() {}
		if d.trapped || d.w.chance(d.w.rates.tamper) {
			put = d.tamper(batches)
		}
		err := d.step(fences, func() error { return d.mem.Commit(ctx, batches) })
		put()
		if err == nil {
			d.wrote(batches)
		}
		return err
	}, func(bool) { d.unsettled[fiber] = batches })
	switch {
	case errors.Is(err, processor.ErrFenced):
		d.w.say("%s: fenced", what)
		d.w.sometimes("commit fenced")
	case errors.Is(err, processor.ErrData):
		d.w.sometimes("the database refused data")
	case errors.Is(err, processor.ErrConflict):
		d.w.sometimes("a name was changed behind the log")
	}
	return err
}

// tamper changes a name behind the log, for as long as one commit takes.
func (d *database) tamper(batches []processor.Batch) (put func()) {
	for _, b := range batches {
		for _, c := range b.Changes {
			h := c.Holding
			h.Version += 7
			d.w.say("somebody changes %s behind the log", c.Ref)
			return d.mem.Tamper(c.Ref, h)
		}
	}
	return func() {}
}

// wrote notes what committed rows publish, each writer for its own batches.
func (d *database) wrote(batches []processor.Batch) {
	for _, b := range batches {
		if b.InForce != nil {
			d.w.sometimes("a policy was activated")
			if len(b.Rows) > 1 {
				d.w.sometimes("a policy was activated in the middle of a batch")
			}
		}
		for _, row := range b.Rows {
			switch row.Kind {
			case processor.KindDuplicate:
				d.w.sometimes("duplicate")
			case processor.KindForwarded:
				d.w.sometimes("forwarded")
			case processor.KindDead:
				d.w.sometimes("dead")
			case processor.KindMark:
				d.w.sometimes("mark")
			case processor.KindPolicy:
				d.w.sometimes("policy")
			case processor.KindPending:
				d.w.sometimes("a sign-up is under way")
			case processor.KindSent:
				d.w.sometimes(strings.TrimSpace("sent " + row.Sent.Request))
			case processor.KindFact:
				d.w.sometimes("fact " + string(row.Outcome.Type))
			case processor.KindOutcome:
				d.w.sometimes(strings.TrimSpace("outcome " + string(row.Outcome.Type) + " " + string(row.Outcome.Reason)))
			}
			if row.FollowUp != nil {
				d.w.sometimes("a follow-up")
			}
			d.countPrivate(&row)
			d.checkRename(&row)
			at := position{b.Partition, b.LogEpoch, row.Offset}
			if row.Seq == 0 {
				d.rows[at] = nil
			}
			prints := d.rows[at]
			for _, o := range processor.OutputsOf(topicName, simRules, simSigning, b.Fence, []processor.Row{row}) {
				print := printOf(&o)
				d.committed[print] = true
				if !refusedLetter(&o) {
					prints = append(prints, print)
				}
			}
			d.rows[at] = prints
		}
	}
}

// countPrivate counts what becomes of the keys of a private space.
func (d *database) countPrivate(row *processor.Row) {
	o := &row.Outcome
	switch {
	case row.Kind == processor.KindForwarded && strings.HasPrefix(string(row.Raw.Key), string(spaceSecret)+"/h"):
		d.w.sometimes("private: forwarded")
	case row.Kind != processor.KindOutcome || o.Ref.Space != spaceSecret || !names.IsPrivateKey(string(o.Ref.Key)):
		return
	case o.Type == registrations.Rejected:
		d.w.sometimes("private: " + string(o.Reason))
	default:
		d.w.sometimes("private: " + string(o.Type))
	}
	if row.FollowUp != nil {
		d.w.sometimes("private: a follow-up")
	}
}

// checkPublished: below published_through everything is on its topic.
func (d *database) checkPublished(was, is processor.Standing) {
	if is.PublishedThrough > is.NextOffset {
		d.w.violated("inv 13: partition %d is published through %d, next is %d", is.Partition, is.PublishedThrough, is.NextOffset)
	}
	if is.LogEpoch != was.LogEpoch {
		return
	}
	for offset := was.PublishedThrough; offset < is.PublishedThrough; offset++ {
		for _, print := range d.rows[position{is.Partition, is.LogEpoch, offset}] {
			if !d.w.outputs.there[print] {
				d.w.violated("inv 13: partition %d is published through %d, and of offset %d is missing %q", is.Partition, is.PublishedThrough, offset, print)
			}
		}
	}
}

func (c *dbConn) Unpublished(ctx context.Context, at processor.Fence, from int64) ([]processor.Row, error) {
	var rows []processor.Row
	err := c.read(ctx, func() (err error) {
		rows, err = c.mem.Unpublished(ctx, at, from)
		return err
	})
	if len(rows) > 0 {
		c.w.sometimes("take-over publishes again")
	}
	return rows, err
}

func (c *dbConn) Published(ctx context.Context, cursors []processor.Cursor) error {
	partitions, fences := make([]int32, len(cursors)), make([]processor.Fence, len(cursors))
	for i := range cursors {
		partitions[i], fences[i] = cursors[i].Partition, cursors[i].Fence
	}
	c.w.sometimes("cursor saved when idle")
	return c.write(c.w.running.name+" saves cursors", partitions, func() error {
		return c.step(fences, func() error { return c.mem.Published(ctx, cursors) })
	}, func(bool) {})
}

func (c *dbConn) Wipe(ctx context.Context, partitions []int32) (int, error) {
	return c.mem.Wipe(ctx, partitions)
}

func (c *dbConn) Forget(ctx context.Context, at processor.Fence, keep time.Duration, most int) (processor.Forgotten, error) {
	return c.mem.Forget(ctx, at, keep, most)
}

func (c *dbConn) Halt(ctx context.Context, at processor.Fence, reason string) error {
	c.one("halt", at.Partition)
	if c.trapped || c.w.chance(30*c.w.rates.failOverAt) {
		c.trapped = false
		c.failOverUnder(at)
	}
	err := c.write(c.w.running.name+" halts", []int32{at.Partition}, func() error {
		err := c.step([]processor.Fence{at}, func() error { return c.mem.Halt(ctx, at, reason) })
		if err == nil && strings.Contains(reason, lateKey) {
			c.checkLacking(at)
		}
		c.w.say("halt of %d (%s): %v", at.Partition, reason, err)
		return err
	}, func(bool) {})
	if errors.Is(err, processor.ErrFenced) {
		c.w.sometimes("halt fenced")
	}
	return err
}
