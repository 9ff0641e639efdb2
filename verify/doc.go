// Package verify says whether what a deployment has stored and published is what its log says: it replays claims through
// the processor's own Receive and Decide, and compares.
//
// It promises to name every row of decisions, every name, every row of partitions and every record of registrations that
// is not, byte for byte, what the replay gives, beside a deployment that goes on working, and to write nothing. What lies
// before the start of the log (retention has taken it, or it is of an earlier log) cannot be replayed: those rows are
// folded and taken on trust, and counted as such.
//
// It needs a Record that fixes one moment of the database (Snapshot), and a Log for each of the two topics. A rule that is
// wrong in Decide is wrong here too: the independent judge is dibstest/checker.
//
// In memory it holds, of the partitions that it is at, every name (some 330 bytes each) and eight bytes for each record of
// the log.
package verify
