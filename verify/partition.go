package verify

import (
	"context"
	"fmt"

	"github.com/dibs-hq/dibs/processor"
	"github.com/google/uuid"
)

// checking is the verification of one partition. One goroutine does it.
type checking struct {
	*Verifier
	partition int32
	snapshot  Snapshot
	standing  processor.Standing
	state     state
	counts    Counts

	// What is there of registrations. published is its end as of a moment before the snapshot: whatever lies below was
	// committed before it, and is in it.
	oldest, published, newest int64

	// from is where the replay begins; below, and in earlier logs, rows are trusted.
	from    int64
	end     int64 // of the log
	pending []Stored
	drained bool
	outputs *outputs
	wire    []byte
	strange int64 // requests signed with a key that we do not have

	// forgotten is before which position rows are deleted; nil where none is. trusted has the offsets behind it that were not
	// decided again.
	forgotten *Position
	trusted   map[int64]struct{}
}

const (
	// batch is how many records are replayed at once, and page how many rows are read.
	batch = 4096
	page  = 4096
)

func (c *checking) run(ctx context.Context) error {
	if err := c.fix(ctx); err != nil {
		return err
	}
	if err := c.begin(ctx); err != nil {
		return err
	}
	if err := c.trust(ctx); err != nil {
		return err
	}
	c.outputs = newOutputs(c.standing.LogEpoch, c.from, c.standing.NextOffset)
	if err := c.replay(ctx); err != nil {
		return err
	}
	if err := c.names(ctx); err != nil {
		return err
	}
	return c.topic(ctx)
}

// fix chooses the moment that is compared, and finds out what of the log is there.
func (c *checking) fix(ctx context.Context) (err error) {
	if c.oldest, c.published, err = bounds(ctx, c.registrations, c.partition); err != nil {
		return err
	}
	if c.snapshot, err = c.record.Snapshot(ctx, c.partition); err != nil {
		return err
	}
	standing, there := c.snapshot.Standing()
	if !there { // nobody has ever owned it: nothing is decided
		standing = processor.Standing{Fence: processor.Fence{Partition: c.partition, LogEpoch: 1}, LastOffset: -1}
	}
	c.standing = standing
	c.state.logEpoch = standing.LogEpoch
	// What was acknowledged before the snapshot is below its end now.
	if c.oldest, c.newest, err = bounds(ctx, c.registrations, c.partition); err != nil {
		return err
	}
	var start int64
	if start, c.end, err = bounds(ctx, c.claims, c.partition); err != nil {
		return err
	}
	c.from = max(start, c.snapshot.Began())
	if standing.Halted != "" {
		return c.halted(ctx, start)
	}
	if c.from > standing.NextOffset {
		c.found.note("partition %d: the log starts at offset %d, and %d is next: records are lost that were never decided", c.partition, start, standing.NextOffset)
		c.from = standing.NextOffset
	}
	if c.end < standing.NextOffset {
		c.partitionsDiffer("next_offset", fmt.Sprintf("at most %d, where the log ends", c.end), fmt.Sprint(standing.NextOffset))
	}
	return nil
}

// halted finds out whether the log of a halted partition is the one that was decided. Another one says nothing.
func (c *checking) halted(ctx context.Context, start int64) error {
	s := &c.standing
	same := start <= s.NextOffset && c.end >= s.NextOffset
	if same && s.LastOffset >= start {
		last, there, err := c.claims.At(ctx, c.partition, s.LastOffset)
		if err != nil {
			return err
		}
		same = there && last.Hash() == s.LastHash
	}
	if same {
		c.found.note("partition %d is halted (%s); its log is the one that was decided", c.partition, s.Halted)
		return nil
	}
	c.found.note("partition %d is halted (%s), and its log is not the one that was decided: what is stored of it is taken on trust", c.partition, s.Halted)
	c.from = s.NextOffset
	return nil
}

// trust folds what cannot be replayed. What a policy was that held before the log starts no row says, only what holds in the
// end: where there was one, the rows before the last one are trusted too.
func (c *checking) trust(ctx context.Context) error {
	policies := false
	for {
		row, err := c.peek(ctx)
		if err != nil {
			return err
		}
		if row == nil || !row.before(Position{c.standing.LogEpoch, c.from}) {
			break
		}
		if row.Kind == processor.KindPolicy && !policies {
			policies = true
			if err := c.behindPolicies(ctx); err != nil {
				return err
			}
		}
		c.pending = c.pending[1:]
		c.counts.Trusted++
		read, err := c.snapshot.Row(*row)
		if err != nil {
			c.differ(row.Position, row.Seq, row.RequestID, inDecisions, Field{"row", "one that can be read", err.Error()})
			continue
		}
		c.state.fold(&read)
	}
	c.state.timeUnsure = c.counts.Trusted > 0 || c.from > 0 || c.standing.LogEpoch > 1
	if c.counts.Trusted > 0 {
		c.found.note("partition %d: %d rows below offset %d of log %d are taken on trust: they are not on claims any more, or lie before a policy that came since", c.partition, c.counts.Trusted, c.from, c.standing.LogEpoch)
	}
	return nil
}

// behindPolicies moves the start of the replay behind the last policy, for which there is only what holds now.
func (c *checking) behindPolicies(ctx context.Context) (err error) {
	last, err := c.snapshot.LastPolicy(ctx)
	if err != nil {
		return err
	}
	if last.LogEpoch == c.standing.LogEpoch {
		c.from = max(c.from, last.Offset+1)
	}
	c.state.regime, err = processor.NewRegime(c.state.base, c.standing.InForce)
	return err
}

// peek returns the next stored row, or nil at the end.
func (c *checking) peek(ctx context.Context) (*Stored, error) {
	if len(c.pending) == 0 && !c.drained {
		var err error
		if c.pending, err = c.snapshot.Rows(ctx, page); err != nil {
			return nil, err
		}
		c.drained = len(c.pending) == 0
	}
	if len(c.pending) == 0 {
		return nil, nil
	}
	return &c.pending[0], nil
}

// through takes the stored rows before a position.
func (c *checking) through(ctx context.Context, to Position) (rows []Stored, err error) {
	for {
		row, err := c.peek(ctx)
		if err != nil || row == nil || !row.before(to) {
			return rows, err
		}
		n := 0
		for n < len(c.pending) && c.pending[n].before(to) {
			n++
		}
		if rows == nil {
			rows = c.pending[:n:n]
		} else {
			rows = append(rows, c.pending[:n]...)
		}
		c.pending = c.pending[n:]
	}
}

func (p Position) before(o Position) bool {
	return p.LogEpoch < o.LogEpoch || p.LogEpoch == o.LogEpoch && p.Offset < o.Offset
}

// differ takes note of a difference about a record.
func (c *checking) differ(at Position, seq int, request uuid.UUID, where string, f Field) {
	d := Difference{
		Partition: c.partition, LogEpoch: at.LogEpoch, Offset: at.Offset, Seq: seq, Where: where,
		Field: f.Name, Expected: f.Expected, Found: f.Found,
	}
	if request != uuid.Nil {
		d.RequestID = &request
	}
	c.found.differ(d)
}

func (c *checking) partitionsDiffer(field, expected, found string) {
	c.differ(Position{c.standing.LogEpoch, -1}, 0, uuid.Nil, inPartitions, Field{field, expected, found})
}
