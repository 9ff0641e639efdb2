package processor_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/processor"
)

// outputs are the topics that processors write, besides claims.
type outputs struct {
	w             *world
	registrations [][]cloudevents.Record // by partition
	letters       []placed
	refused       map[string]bool          // of the questions, by printOf
	refusedAt     map[string]time.Duration // when last, by id
	there         map[string]bool          // everything that is on a topic, by printOf
	byRequest     map[string][]cloudevents.Record
}

type placed struct {
	partition int32
	cloudevents.Record
}

// printOf tells outputs apart: all of them but the time that the writer stamps.
func printOf(o *processor.Output) string {
	b := make([]byte, 0, 512)
	put := func(part []byte) { b = append(binary.AppendUvarint(append(b, ' '), uint64(len(part))), part...) }
	b = append(b, byte(o.Topic), byte(o.Partition))
	put(o.Key)
	put(o.Value)
	for _, h := range o.Headers {
		put([]byte(h.Name))
		put(h.Value)
	}
	if !o.Time.IsZero() {
		b = binary.AppendVarint(b, o.Time.UnixMilli())
	}
	return string(b)
}

// append puts an output on its topic.
func (x *outputs) append(o processor.Output, proc *process, stamp int64) {
	w := x.w
	print := printOf(&o)
	if isQuestion(&o) {
		w.questions++
		x.checkQuestion(&o, proc)
	} else if !w.db.committed[print] {
		w.violated("promise 4: published before its decision was committed: %q", print)
	}
	if x.there == nil {
		x.there, x.byRequest = make(map[string]bool), make(map[string][]cloudevents.Record)
	}
	if x.there[print] {
		w.sometimes("an output is on its topic twice")
	}
	x.there[print] = true
	switch o.Topic {
	case processor.ToRegistrations:
		x.registrations[o.Partition] = append(x.registrations[o.Partition], o.Record)
		if id := requestIDOf(o.Value); id != "" {
			x.byRequest[id] = append(x.byRequest[id], o.Record)
		}
	case processor.ToClaims:
		r := o.Record
		if r.Time.IsZero() {
			r.Time = epoch.Add(msec(stamp))
		}
		offset := w.claims[o.Partition].append(r)
		w.say("%s writes claims %d@%d: %s", proc, o.Partition, offset, shortened(r.Value))
	case processor.ToDeadLetters:
		x.letters = append(x.letters, placed{o.Partition, o.Record})
	}
}

// isQuestion reports whether an output is one of a sweeper's: no row stands behind it, and it has a time of its own.
func isQuestion(o *processor.Output) bool { return o.Topic == processor.ToClaims && !o.Time.IsZero() }

// refuses reports whether the topic claims refuses a question for its time: it is old, or the clock that it was read from
// is far off. What is refused stays so.
func (x *outputs) refuses(o *processor.Output) bool {
	print := printOf(o)
	refused, known := x.refused[print]
	if !known {
		rate := x.w.rates.refuse
		if x.w.lingering {
			rate = 0.1
		}
		refused = x.w.r.Float64() < rate && (x.w.lingering || !x.w.calm)
		x.refused[print] = refused
	}
	if refused {
		id, _ := o.Header(cloudevents.ID)
		x.refusedAt[string(id)] = x.w.now
	}
	return refused || x.w.clock().Sub(o.Time) > clockBehind
}

// publisher is a processor.Publisher.
type publisher process

func (p *publisher) Publish(ctx context.Context, all []processor.Output) error {
	w, proc, x := p.w, (*process)(p), p.w.outputs
	w.turn()
	refused := false
	for i := range all {
		o := all[i]
		late := isQuestion(&o) && x.refuses(&o)
		for !refusedOutput(&o) && !late {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			stamp := (w.now + proc.skew).Milliseconds()
			luck := w.r.Float64()
			if w.calm {
				luck = 1
			}
			f := w.rates.publish
			switch {
			case luck < f: // never arrived
				w.sometimes("publish lost, tried again")
				w.turn()
				continue
			case luck < 2*f: // no answer; it arrives some time
				w.sometimes("publish unknown, arrives later, tried again")
				w.limbo = append(w.limbo, func() { w.outputs.append(o, proc, stamp) })
				w.turn()
				continue
			case luck < 3*f: // arrived, no answer
				w.sometimes("publish arrived, answer lost, tried again")
				w.outputs.append(o, proc, stamp)
				w.turn()
				continue
			}
			w.outputs.append(o, proc, stamp)
			break
		}
		if late {
			w.sometimes("a question refused by its topic")
		}
		refused = refused || late || refusedOutput(&o)
		if w.chance(w.rates.betweenOutputs) {
			w.turn()
		}
	}
	w.turn()
	if refused {
		w.sometimes("an output refused by its topic")
		return fmt.Errorf("one of %d outputs: %w", len(all), processor.ErrRefused)
	}
	if w.chance(w.rates.publish) {
		return errBroker
	}
	w.say("%s published %d outputs", proc, len(all))
	return nil
}
