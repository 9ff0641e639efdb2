package processor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/processor"
)

// topicLog is one log of a partition of claims. A topic that is created again gets another one.
type topicLog struct {
	partition  int32
	epoch      int64 // the log epoch under which it is, or would be, read
	start, end int64
	records    []processor.Message // data records; what is missing in between are markers
	lost       bool                // it is not the log that was read before: the partition must halt
	staleIn    int                 // answers in a row that showed less of it than there is
	before     *topicLog           // the log that this one took the place of
}

// givenUp is a log that was lost, and up to where it had been decided.
type givenUp struct {
	*topicLog
	next int64
}

func (t *topicLog) append(r cloudevents.Record) int64 {
	// The very same record at the very same offset of another log is what the identity check cannot tell: it is against
	// accident. Late copies would make it happen here.
	for t.before != nil && t.before.holds(t.end, r) {
		t.end++
	}
	offset := t.end
	t.records = append(t.records, processor.Message{Offset: offset, Record: r})
	t.end++
	return offset
}

// holds reports whether the record, or a copy of it, is at this offset.
func (t *topicLog) holds(offset int64, r cloudevents.Record) bool {
	i := t.at(offset)
	return i < len(t.records) && t.records[i].Offset == offset && t.records[i].Hash() == r.Hash()
}

// at is the index of the first record at or behind an offset.
func (t *topicLog) at(offset int64) int {
	i, _ := slices.BinarySearchFunc(t.records, offset, func(m processor.Message, o int64) int { return int(m.Offset - o) })
	return i
}

var errBroker = errors.New("the broker did not answer")

// source is a processor.Source over the logs.
type source struct {
	w        *world
	proc     *process
	sessions []*session
}

// session is the reading of one partition, ahead of what was asked for.
type session struct {
	partition int32
	log       *topicLog
	from      int64 // of what is buffered
	next      int64 // where to read on
	buffer    []processor.Message
	err       error
	over      bool // err was handed out
}

func (s *source) session(p int32) *session {
	for _, e := range s.sessions {
		if e.partition == p {
			return e
		}
	}
	return nil
}

func (s *source) Seek(p int32, offset int64) {
	s.Drop(p)
	s.sessions = append(s.sessions, &session{partition: p, log: s.w.claims[p], from: offset, next: offset})
	s.w.say("%s reads %d from %d", s.proc, p, offset)
}

func (s *source) Drop(p int32) {
	s.sessions = slices.DeleteFunc(s.sessions, func(e *session) bool { return e.partition == p })
}

// interrupt ends a session, with or without what was read ahead.
func (s *source) interrupt(e *session, err error) {
	if e.err != nil {
		return
	}
	s.w.sometimes("reading interrupted")
	if s.w.r.IntN(2) == 0 {
		e.buffer, e.next = nil, e.from
	}
	e.err = fmt.Errorf("partition %d: %w", e.partition, err)
}

// readAhead fills a session's buffer from the log.
func (s *source) readAhead(e *session) {
	w := s.w
	if e.err != nil {
		return
	}
	if w.chance(w.rates.interrupt) {
		s.interrupt(e, processor.ErrInterrupted)
		return
	}
	if e.next < e.log.start || e.next > e.log.end {
		w.sometimes("reading out of the log")
		e.err = fmt.Errorf("partition %d, offset %d of %d to %d: %w", e.partition, e.next, e.log.start, e.log.end, processor.ErrOutOfLog)
		return
	}
	if e.next == e.log.end {
		return
	}
	most := 1 + w.r.IntN(2*w.rates.batch)
	for i := e.log.at(e.next); i < len(e.log.records) && most > 0; i++ {
		e.buffer = append(e.buffer, e.log.records[i])
		e.next = e.log.records[i].Offset + 1
		most--
	}
	if most > 0 && e.next < e.log.end && w.r.IntN(2) == 0 { // markers at the end, seen or not
		w.sometimes("gap at the end of what was read")
		e.next = e.log.end
	}
}

// take hands out some of what a session has.
func (s *source) take(e *session, most int) (processor.Fetched, bool) {
	w := s.w
	f := processor.Fetched{Partition: e.partition, From: e.from, Next: e.from, HighWatermark: e.log.end}
	n := min(len(e.buffer), most)
	if n > 1 && !w.calm {
		n = 1 + w.r.IntN(n)
	}
	switch {
	case e.over:
		return f, false
	case n > 0:
		f.Messages = slices.Clone(e.buffer[:n])
		e.buffer = e.buffer[n:]
		f.Next = f.Messages[n-1].Offset + 1
		if len(e.buffer) == 0 {
			f.Next = e.next
		}
	case e.next > e.from:
		if len(e.buffer) > 0 {
			return f, false // there was no room for it
		}
		w.sometimes("read nothing but a gap")
		f.Next = e.next
	case e.err != nil:
		e.over = true
		f.Err = e.err
		return f, true
	default:
		return f, false
	}
	e.from = f.Next
	return f, true
}

func (s *source) Poll(ctx context.Context, b processor.Beside, most int, patience time.Duration) ([]processor.Fetched, error) {
	w := s.w
	deadline := w.now + patience
	for {
		w.turn()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if w.chance(w.rates.brokerTrouble) {
			return nil, errBroker
		}
		if len(b.Until) > 0 {
			<-b.Until
			return nil, nil
		}
		var all []processor.Fetched
		left, there := most, 0
		order := w.r.Perm(len(s.sessions))
		for _, i := range order {
			e := s.sessions[i]
			s.readAhead(e)
			if !b.Passes(e.partition) {
				there += len(e.buffer)
			}
		}
		for _, i := range order {
			if b.Least > 1 && there < b.Least {
				break
			}
			e := s.sessions[i]
			if b.Passes(e.partition) {
				continue
			}
			if f, ok := s.take(e, left); ok {
				all = append(all, f)
				left -= len(f.Messages)
				w.say("%s polls %d: [%d, %d) %d records, err %v", s.proc, f.Partition, f.From, f.Next, len(f.Messages), f.Err)
			}
		}
		if len(all) > 0 || w.now >= deadline {
			return all, nil
		}
		w.pause(wait{deadline, func() bool { return ctx.Err() != nil || len(b.Until) > 0 || s.arrived(b) }})
	}
}

// arrived reports whether there is what is worth it, or may be.
func (s *source) arrived(b processor.Beside) bool {
	there, any := 0, false
	for _, e := range s.sessions {
		if e.over || b.Passes(e.partition) {
			continue
		}
		there += len(e.buffer)
		if e.err == nil {
			there += len(e.log.records) - e.log.at(e.next)
		}
		any = any || e.err != nil || e.next != e.log.end
	}
	return any && b.Least <= 1 || there >= max(b.Least, 1)
}

func (s *source) Bounds(ctx context.Context, p int32) (start, end int64, err error) {
	w := s.w
	w.turn()
	if err := s.trouble(ctx); err != nil {
		return 0, 0, err
	}
	t := w.claims[p]
	start, end = t.start, t.end
	if t.staleIn < 2 && end > start && w.chance(w.rates.stale) {
		t.staleIn++
		end -= 1 + w.r.Int64N(end-start)
		w.sometimes("a leader showed less than its whole log")
	} else {
		t.staleIn = 0
	}
	w.say("%s asks for bounds of %d: [%d, %d)", s.proc, p, start, end)
	w.turn()
	return start, end, nil
}

func (s *source) At(ctx context.Context, p int32, offset int64) (cloudevents.Record, bool, error) {
	w := s.w
	w.turn()
	if err := s.trouble(ctx); err != nil {
		return cloudevents.Record{}, false, err
	}
	t := w.claims[p]
	var record cloudevents.Record
	i := t.at(offset)
	there := offset >= t.start && i < len(t.records) && t.records[i].Offset == offset
	if there {
		record = t.records[i].Record
	}
	if w.chance(w.rates.loseLogAt) { // just when it was found to be the one that was read
		w.loseLog(p)
	}
	w.turn()
	return record, there, nil
}

// trouble is what becomes of a question to a broker. A deadline is of the real clock, which has no part in this.
func (s *source) trouble(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	if s.w.chance(s.w.rates.brokerTrouble) {
		return errBroker
	}
	return nil
}
