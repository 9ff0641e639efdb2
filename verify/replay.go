package verify

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// replay decides every record again that was decided, and compares what is stored with what it gives.
func (c *checking) replay(ctx context.Context) error {
	if to := min(c.standing.NextOffset, c.end); c.from < to {
		err := c.claims.Read(ctx, c.partition, c.from, to, func(records []processor.Message, next int64) error {
			for {
				n := min(batch, len(records))
				behind := next
				if n < len(records) {
					behind = records[n].Offset
				}
				if err := c.batch(ctx, records[:n], behind); err != nil {
					return err
				}
				if records = records[n:]; len(records) == 0 {
					return nil
				}
			}
		})
		if err != nil {
			return err
		}
	}
	if c.strange > 0 {
		c.found.note("partition %d: %d requests are signed with a key that is not among ours: if the processors had it, they differ", c.partition, c.strange)
	}
	return c.behind(ctx)
}

// behind looks at what is left when all is replayed: rows that no record stands behind, and the partition's row.
func (c *checking) behind(ctx context.Context) error {
	for {
		row, err := c.peek(ctx)
		if err != nil {
			return err
		}
		if row == nil {
			break
		}
		c.pending = c.pending[1:]
		if row.LogEpoch == c.standing.LogEpoch && row.Offset >= c.end && row.Offset < c.standing.NextOffset {
			c.counts.Trusted++ // the log ends before it, which is said
			continue
		}
		c.extra(row)
	}
	s, is := &c.standing, &c.state
	if c.end < s.NextOffset {
		return nil
	}
	if is.lastOffset >= 0 || c.from == 0 && s.LogEpoch == 1 { // else it lies in what is trusted
		if s.LastOffset != is.lastOffset {
			c.partitionsDiffer("last_record_offset", fmt.Sprint(is.lastOffset), fmt.Sprint(s.LastOffset))
		}
		if s.LastHash != is.lastHash {
			c.partitionsDiffer("last_record_hash", fmt.Sprint(is.lastHash), fmt.Sprint(s.LastHash))
		}
	}
	if !s.InForce.Equal(is.regime.InForce) {
		c.partitionsDiffer("policies", spellInForce(is.regime.InForce), spellInForce(s.InForce))
	}
	if later := is.timeUnsure && s.LogTime.After(is.logTime); !later && !s.LogTime.Equal(is.logTime) {
		c.partitionsDiffer("log_time", spell(is.logTime), spell(s.LogTime))
	}
	return nil
}

func spellInForce(f *processor.InForce) string {
	if f == nil {
		return "none"
	}
	return string(f.JSON())
}

func spell(t time.Time) string {
	if t.IsZero() {
		return "none"
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// batch replays records, and compares the rows of all offsets below next.
func (c *checking) batch(ctx context.Context, records []processor.Message, next int64) error {
	stored, err := c.through(ctx, Position{c.standing.LogEpoch, next})
	if err != nil {
		return err
	}
	var rows []processor.Row
	if len(records) > 0 {
		c.learn(records, stored)
		refused := c.refused(stored)
		received, err := c.state.receive(records, refused, c.signed)
		if err != nil {
			return err
		}
		c.learnOwners(received, stored)
		if rows, stored, err = c.decide(ctx, received, stored, refused); err != nil {
			return err
		}
	}
	for i := range rows {
		c.outputs.expect(&rows[i])
	}
	n := int64(len(records))
	c.counts.Records += n
	c.done.Add(n)
	c.records.Add(n)
	return c.compare(rows, stored)
}

// signed makes sure that a signature can be checked, where there is one and it matters.
func (c *checking) signed(r *processor.Received) error {
	signature, ok := r.Header(claims.Signature)
	if !ok || !r.MustBeSigned() {
		return nil
	}
	if len(c.state.base.Keys) == 0 {
		return fmt.Errorf("offset %d: %w", r.Offset, ErrKeys)
	}
	id, _, _ := bytes.Cut(signature, []byte{':'})
	if _, known := c.state.base.Keys[string(id)]; !known {
		c.strange++
	}
	return nil
}

// refused reads from the stored rows which records the database could not store. Only it can know.
func (c *checking) refused(stored []Stored) map[int64]string {
	var refused map[int64]string
	for i := range stored {
		if stored[i].Kind != processor.KindDead {
			continue
		}
		row, err := c.snapshot.Row(stored[i])
		if err != nil {
			continue // it will differ
		}
		if why, ok := processor.RefusedBecause(row.Detail); ok {
			if refused == nil {
				refused = make(map[int64]string)
			}
			refused[row.Offset] = why
			c.counts.Trusted++
		}
	}
	return refused
}

// learn takes from the stored rows what folding the trusted ones could not tell: the log time, from the first row that says
// it, and what a reservation replaces, from its confirmation.
func (c *checking) learn(records []processor.Message, stored []Stored) {
	for i := 0; i < len(stored) && (c.state.timeUnsure || len(c.state.unsure) > 0); i++ {
		row, err := c.snapshot.Row(stored[i])
		if err != nil || row.Kind != processor.KindOutcome && row.Kind != processor.KindFact {
			continue
		}
		o := &row.Outcome
		if c.state.timeUnsure {
			c.state.timeUnsure = false
			at := c.state.logTime
			for k := 0; k < len(records) && records[k].Offset <= row.Offset; k++ {
				if records[k].Time.After(at) {
					at = records[k].Time
				}
			}
			if o.LogTime.After(at) {
				c.state.logTime = o.LogTime
			}
		}
		if claim, ok := c.state.unsure[o.Ref]; ok && o.Type == registrations.Confirmed && o.ClaimID == claim {
			if h := c.state.holdings[o.Ref]; row.FollowUp != nil && h.ClaimID == claim && h.State == registrations.Reserved {
				h.Replaces, h.ReplacesVersion = row.FollowUp.Ref.Key, row.FollowUp.Version
				c.state.holdings[o.Ref] = h
			}
			delete(c.state.unsure, o.Ref)
		}
	}
}

// learnOwners takes from requests to erase whose the names were of which only wiped rows are left: it was, where the stored row
// says that something changed.
func (c *checking) learnOwners(received []processor.Received, stored []Stored) {
	if !c.state.formsFolded {
		return
	}
	c.state.reveal(received)
	changed := make(map[int64]bool)
	for i := range stored {
		if row, err := c.snapshot.Row(stored[i]); err == nil && row.Kind == processor.KindOutcome && row.Outcome.Type == registrations.Erased {
			changed[row.Offset] = row.Outcome.State != ""
		}
	}
	for i := range received {
		b, is := received[i].Request.Body.(*claims.ErasureRequested)
		h, there := c.state.holdings[received[i].Ref]
		if !is || !there || !changed[received[i].Offset] {
			continue
		}
		switch {
		case h.Held() && h.Owner == "":
			h.Owner = b.Owner
		case h.State == registrations.Cooling && h.Previous == "" && !h.Erased:
			h.Previous = b.Owner
		}
		c.state.holdings[received[i].Ref] = h
	}
}

// decided looks up the outcomes of requests that were decided before these records. Where a stored row is the outcome of
// a request it is the only one of its partition (a unique index sees to it), so there is none before it.
func (c *checking) decided(ctx context.Context, received []processor.Received, stored []Stored) (map[processor.Request]registrations.Outcome, error) {
	var ids []uuid.UUID
	k := 0
	for i := range received {
		r := &received[i]
		for k < len(stored) && stored[k].Offset < r.Offset {
			k++
		}
		decidedHere := false
		for n := k; n < len(stored) && stored[n].Offset == r.Offset; n++ {
			decidedHere = decidedHere || stored[n].Kind == processor.KindOutcome && stored[n].RequestID == r.Request.ID
		}
		if !decidedHere && r.Request.ID != uuid.Nil {
			ids = append(ids, r.Request.ID)
		}
		if id := r.AboutClaim(); id != uuid.Nil {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	before, err := c.snapshot.Decided(ctx, ids, Position{c.standing.LogEpoch, received[0].Offset})
	if err != nil {
		return nil, err
	}
	known := make(map[processor.Request]registrations.Outcome, len(before))
	for _, o := range before {
		known[processor.Request{Partition: c.partition, ID: o.RequestID}] = o
	}
	return known, nil
}

// compare sets the rows that the replay gives against those that are stored, both in order.
func (c *checking) compare(rows []processor.Row, stored []Stored) error {
	for len(rows) > 0 || len(stored) > 0 {
		order := 0
		switch {
		case len(rows) == 0:
			order = 1
		case len(stored) == 0:
			order = -1
		default:
			order = cmp.Or(cmp.Compare(rows[0].Offset, stored[0].Offset), cmp.Compare(rows[0].Seq, stored[0].Seq))
		}
		switch {
		case order < 0:
			c.missing(&rows[0])
			rows = rows[1:]
		case order > 0:
			c.extra(&stored[0])
			stored = stored[1:]
		default:
			if err := c.same(&rows[0], &stored[0]); err != nil {
				return err
			}
			rows, stored = rows[1:], stored[1:]
		}
		c.counts.Rows++
	}
	return nil
}

func (c *checking) same(row *processor.Row, stored *Stored) error {
	if stored.Erased {
		if c.state.base.Eraser == nil {
			return ErrSecret
		}
		c.counts.Erased++
	}
	wire, err := c.snapshot.AppendRow(c.wire[:0], c.standing.LogEpoch, row, stored.Erased)
	c.wire = wire[:0]
	if err != nil {
		return fmt.Errorf("offset %d: what would be stored: %w", row.Offset, err)
	}
	if string(wire) == string(stored.Bytes) {
		return nil
	}
	for _, f := range c.snapshot.RowDiff(wire, stored.Bytes) {
		c.differ(stored.Position, row.Seq, row.RequestID, inDecisions, f)
	}
	return nil
}

func (c *checking) missing(row *processor.Row) {
	c.differ(Position{c.standing.LogEpoch, row.Offset}, row.Seq, row.RequestID, inDecisions, Field{"row", describe(row), "nothing"})
}

func (c *checking) extra(stored *Stored) {
	found := "a row"
	if row, err := c.snapshot.Row(*stored); err == nil {
		found = describe(&row)
	}
	c.differ(stored.Position, stored.Seq, stored.RequestID, inDecisions, Field{"row", "nothing", found})
}

// describe says what a row is.
func describe(row *processor.Row) string {
	switch row.Kind {
	case processor.KindOutcome, processor.KindFact:
		text := fmt.Sprintf("%s %s of %s", row.Kind, row.Outcome.Type, row.Outcome.Ref)
		if row.Outcome.Reason != "" {
			text += fmt.Sprintf(" (%s)", row.Outcome.Reason)
		}
		return text
	case processor.KindDead:
		return "dead: " + row.Detail
	}
	return string(row.Kind)
}
