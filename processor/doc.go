// Package processor decides who gets a name: one writer per partition of the topic claims, in the order of the log.
//
// It promises that a request has one outcome, that an outcome depends on the log alone, that nothing is published before
// it is committed and everything committed is published, and that a writer that lost its partition changes nothing. It
// needs a Source that reads the log from a given offset, a Record that refuses a batch whose fence has moved, and a
// Publisher that says what was acknowledged. It never reads a clock to decide, never skips a record, never gives up on a
// broker or a database that is away.
//
// Decide is the rule, pure. The lane is a processor's pipeline over the partitions it owns. One goroutine, the decide stage,
// says what is done with each; beside it transactions look up, decide and commit, a partition in one of them at most; one
// goroutine per partition publishes. Leaders are probed, partitions acquired, cursors written down and what has expired is
// looked for beside it too, what fails together is tried apart, and a partition whose outputs are not acknowledged is set
// aside: none holds up the others.
package processor
