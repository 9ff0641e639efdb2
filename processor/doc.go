// Package processor decides who gets a name: one writer per partition of the topic claims, in the order of the log.
//
// It promises that a request has one outcome, that an outcome depends on the log alone, that nothing is published before
// it is committed and everything committed is published, and that a writer that lost its partition changes nothing. It
// needs a Source that reads the log from a given offset, a Record that refuses a batch whose fence has moved, and a
// Publisher that says what was acknowledged. It never reads a clock to decide, never skips a record, never gives up on a
// broker or a database that is away.
//
// Decide is the rule, pure. A lane is one pipeline (fetch, decide, commit; publish) over the partitions it owns; the
// Processor deals the partitions it is assigned out to lanes. One goroutine decides for all of a lane's partitions; one per
// partition publishes, leaders are probed beside it, as what has expired is looked for, and a partition whose outputs are not
// acknowledged is set aside, so that none holds up the others.
package processor
