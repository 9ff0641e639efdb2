package postgres

import "github.com/dibs-hq/dibs/processor"

// SetCopyFrom sets from how many rows on a batch is written by COPY.
func (r *Record) SetCopyFrom(rows int) { r.copyFrom = rows }

// Statements are the ones on every claim's path, by name.
func Statements() map[string]string {
	all := make(map[string]string)
	for _, s := range []*statement{
		lookNames, lookEither, lookRequests, due, ownedNames, historyFirst, history, sequel, standing, decided, unpublished, ownStanding,
		advance, changeNames, usualDecisions.insert, anyDecisions.insert, usualNames.insert, anyNames.insert, deadLetters.insert, publishedThrough,
		verifyRows, verifyDecided, verifyOutcomes, forgettable, oldestRows, repeated, forget, forgetLetters,
	} {
		all[s.name] = s.sql
	}
	return all
}

// AppendRaw and ReadRaw are how records are stored.
var (
	AppendRaw = appendRaw
	ReadRaw   = readRaw
)

// EncodeInOne and EncodeByCopy put batches into what is sent to Postgres, and send nothing.
func (r *Record) EncodeInOne(batches []processor.Batch) error {
	w, err := r.newWriting(batches)
	if err == nil {
		_ = w.rest([]step{r.advance(w), w.toDecisions.inserting(w.decisions)}, true)
	}
	return err
}

// EncodeByCopy is EncodeInOne for large batches.
func (r *Record) EncodeByCopy(batches []processor.Batch) error {
	w, err := r.newWriting(batches)
	if err == nil {
		_ = r.advance(w)
		_, _ = w.toDecisions.copying(w.decisions), w.toNames.copying(w.added)
	}
	return err
}
