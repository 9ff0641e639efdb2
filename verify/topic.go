package verify

import (
	"bytes"
	"context"
	"fmt"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// settling is how many records from its start on registrations may be out of order, where retention has cut it: copies of
// what was published before, and what was acknowledged late.
const settling = 10_000

// published is a record of registrations that is looked at twice.
type published struct {
	offset int64 // on registrations
	at     Position
	cloudevents.Record
}

// topic compares registrations with what the replay publishes, and with the trusted rows.
func (c *checking) topic(ctx context.Context) error {
	front := c.from // outcomes below it may have been taken by retention
	seen := 0
	var doubtful []published
	if c.oldest < c.newest {
		err := c.registrations.Read(ctx, c.partition, c.oldest, c.newest, func(records []processor.Message, _ int64) error {
			for i := range records {
				m := &records[i]
				partition, at, ok := whereDecided(m.Value)
				if !ok || partition != c.partition {
					c.stray(m)
					continue
				}
				if seen++; c.oldest > 0 && seen <= settling && at.LogEpoch == c.standing.LogEpoch {
					front = max(front, at.Offset)
				}
				switch {
				case c.forgotten != nil && at.before(*c.forgotten):
					c.counts.Forgotten++
				case !at.before(Position{c.standing.LogEpoch, c.standing.NextOffset}):
					if m.Offset < c.published {
						c.differ(at, 0, requestOf(m.Value), inRegistrations, Field{"record", "nothing: no decision is committed there", c.tell(m)})
					} else {
						c.counts.Later++
					}
				case c.replayed(at):
					expected, again := c.outputs.match(at.Offset, m.Record)
					switch {
					case !expected:
						doubtful = append(doubtful, published{m.Offset, at, m.Record})
					case again:
						c.counts.Duplicates++
					default:
						c.counts.Outcomes++
					}
				default:
					doubtful = append(doubtful, published{m.Offset, at, m.Record})
				}
				if len(doubtful) == page {
					if err := c.look(ctx, doubtful); err != nil {
						return err
					}
					doubtful = doubtful[:0]
				}
			}
			c.done.Add(int64(len(records)))
			// What is kept shares the memory of the whole answer.
			err := c.look(ctx, doubtful)
			doubtful = doubtful[:0]
			return err
		})
		if err != nil {
			return err
		}
	}
	return c.unpublished(ctx, front)
}

// replayed reports whether the replay says what a position publishes.
func (c *checking) replayed(at Position) bool {
	if _, trusted := c.trusted[at.Offset]; trusted && at.LogEpoch == c.standing.LogEpoch {
		return false
	}
	return c.outputs.covers(at) && at.Offset < c.end
}

// tell says what a record on registrations is.
func (c *checking) tell(m *processor.Message) string {
	return fmt.Sprintf("the record at offset %d: %.200s", m.Offset, m.Value)
}

// stray is about a record that says of no decision of this partition that it is its outcome.
func (c *checking) stray(m *processor.Message) {
	c.differ(Position{c.standing.LogEpoch, -1}, 0, requestOf(m.Value), inRegistrations,
		Field{"record", fmt.Sprintf("an outcome of partition %d", c.partition), c.tell(m)})
}

func requestOf(value []byte) uuid.UUID {
	id, _ := registrations.PeekRequestID(value)
	return id
}

// look compares records with the rows that are stored where they say that they were decided.
func (c *checking) look(ctx context.Context, all []published) error {
	if len(all) == 0 {
		return nil
	}
	positions := make([]Position, len(all))
	for i := range all {
		positions[i] = all[i].at
	}
	outcomes, err := c.snapshot.Outcomes(ctx, positions)
	if err != nil {
		return err
	}
	stored := make(map[Position][]registrations.Outcome, len(all))
	for _, o := range outcomes {
		if o.Type.Published() {
			at := Position{o.LogEpoch, o.Offset}
			stored[at] = append(stored[at], o)
		}
	}
	for i := range all {
		c.settle(&all[i], stored[all[i].at])
	}
	return nil
}

// settle compares one record with the outcomes that are stored of its position.
func (c *checking) settle(p *published, stored []registrations.Outcome) {
	at, request := p.at, requestOf(p.Value)
	if len(stored) == 0 {
		c.differ(at, 0, request, inRegistrations, Field{"record", "nothing: no decision there publishes one",
			c.tell(&processor.Message{Offset: p.offset, Record: p.Record})})
		return
	}
	id, _ := p.Header(cloudevents.ID)
	likely := &stored[0]
	for i := range stored {
		record := stored[i].Record()
		if stored[i].Erased && c.sameErased(p, &stored[i], record) {
			c.counts.Erased++
			return
		}
		if len(recordDiff(record, p.Record)) == 0 {
			if !c.replayed(at) {
				c.counts.TrustedOutcomes++
				return
			}
			c.differ(at, stored[i].Seq, stored[i].RequestID, inRegistrations,
				Field{"record", "what the replay gives", "what the row in decisions says, which is something else"})
			return
		}
		if was, _ := record.Header(cloudevents.ID); bytes.Equal(was, id) {
			likely = &stored[i]
		}
	}
	for _, f := range recordDiff(likely.Record(), p.Record) {
		c.differ(at, likely.Seq, likely.RequestID, inRegistrations, f)
	}
}

// sameErased reports whether a record says what a row does that is wiped: as it was published before, or was again behind it.
func (c *checking) sameErased(p *published, stored *registrations.Outcome, wiped cloudevents.Record) bool {
	if len(recordDiff(wiped, p.Record)) == 0 {
		return true
	}
	if c.state.base.Eraser == nil || c.replayed(p.at) { // the replay says what it was
		return false
	}
	was, err := registrations.Decode(p.Record)
	if err != nil || string(p.Key) != was.Ref.RecordKey() {
		return false
	}
	was.Ref, was.Name, was.Owner, was.Detail, was.Seq = c.state.base.Eraser.Ref(was.Ref), "", "", "", stored.Seq
	return len(recordDiff(wiped, was.Record())) == 0
}

// recordDiff says in what two records differ.
func recordDiff(expected, found cloudevents.Record) (diff []Field) {
	text := func(what string, a, b []byte) {
		if !bytes.Equal(a, b) {
			diff = append(diff, Field{what, fmt.Sprintf("%.600q", a), fmt.Sprintf("%.600q", b)})
		}
	}
	text("key", expected.Key, found.Key)
	text("value", expected.Value, found.Value)
	for i := range max(len(expected.Headers), len(found.Headers)) {
		switch {
		case i >= len(found.Headers):
			text("header "+expected.Headers[i].Name, expected.Headers[i].Value, nil)
		case i >= len(expected.Headers):
			diff = append(diff, Field{"header " + found.Headers[i].Name, "none", fmt.Sprintf("%q", found.Headers[i].Value)})
		case expected.Headers[i].Name != found.Headers[i].Name:
			diff = append(diff, Field{fmt.Sprintf("header %d", i), expected.Headers[i].Name, found.Headers[i].Name})
		default:
			text("header "+expected.Headers[i].Name, expected.Headers[i].Value, found.Headers[i].Value)
		}
	}
	if !expected.Time.Equal(found.Time) {
		diff = append(diff, Field{"timestamp", spell(expected.Time), spell(found.Time)})
	}
	return diff
}

// unpublished names what should be on registrations and is not.
func (c *checking) unpublished(ctx context.Context, front int64) error {
	through := c.standing.PublishedThrough
	var lost []Position
	c.outputs.missing(through, func(offset int64, n int) {
		switch {
		case c.oldest > 0 && offset < front:
			c.counts.Expired += int64(n)
		case len(lost) < c.cfg.MaxDifferences && !c.found.full():
			lost = append(lost, Position{c.standing.LogEpoch, offset})
			c.found.more(int64(n - 1))
		default:
			c.found.more(int64(n))
		}
	})
	c.counts.Unpublished += c.outputs.count(through)
	if c.counts.Expired > 0 {
		c.found.note("partition %d: %d outcomes below offset %d are not looked for: retention has taken that part of registrations", c.partition, c.counts.Expired, front)
	}
	if len(lost) == 0 {
		return nil
	}
	outcomes, err := c.snapshot.Outcomes(ctx, lost)
	if err != nil {
		return err
	}
	requests := make(map[Position]uuid.UUID, len(outcomes))
	for _, o := range outcomes {
		requests[Position{o.LogEpoch, o.Offset}] = o.RequestID
	}
	for _, at := range lost {
		c.differ(at, 0, requests[at], inRegistrations, Field{"record", "published: the partition is published through " + fmt.Sprint(through), "nothing"})
	}
	return nil
}
