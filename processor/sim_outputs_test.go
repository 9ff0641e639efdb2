package processor_test

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/processor"
)

// outputs are the topics that processors write, besides claims.
type outputs struct {
	w             *world
	registrations [][]cloudevents.Record // by partition
	letters       []placed
	there         map[string]bool // everything that is on a topic, by printOf
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
func (x *outputs) append(o processor.Output, stamp int64) {
	w := x.w
	print := printOf(&o)
	if !w.db.committed[print] {
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
		r.Time = epoch.Add(msec(stamp))
		offset := w.claims[o.Partition].append(r)
		w.say("forwarded to %d@%d", o.Partition, offset)
	case processor.ToDeadLetters:
		x.letters = append(x.letters, placed{o.Partition, o.Record})
	}
}

// publisher is a processor.Publisher.
type publisher process

func (p *publisher) Publish(ctx context.Context, all []processor.Output) error {
	w, proc := p.w, (*process)(p)
	w.turn()
	refused := false
	for i := range all {
		o := all[i]
		for !refusedOutput(&o) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			stamp := (w.now + proc.skew).Milliseconds()
			x := w.r.Float64()
			if w.calm {
				x = 1
			}
			f := w.rates.publish
			switch {
			case x < f: // never arrived
				w.sometimes("publish lost, tried again")
				w.turn()
				continue
			case x < 2*f: // no answer; it arrives some time
				w.sometimes("publish unknown, arrives later, tried again")
				w.limbo = append(w.limbo, func() { w.outputs.append(o, stamp) })
				w.turn()
				continue
			case x < 3*f: // arrived, no answer
				w.sometimes("publish arrived, answer lost, tried again")
				w.outputs.append(o, stamp)
				w.turn()
				continue
			}
			w.outputs.append(o, stamp)
			break
		}
		refused = refused || refusedOutput(&o)
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
