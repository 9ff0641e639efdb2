// Package bench measures how many names are claimed a second, and how long each claim waits, for dibs and for what people
// would pick instead, in one run on one machine.
//
// It promises that all peers get the same names in the same order, that runs are interleaved so that a noisy machine is
// noisy for all, and that what it reports are medians of runs behind a warm-up. In a closed loop a fixed number of claims
// wait at once. In an open loop claims are due at a rate, and each waits from when it was due: a peer that stalls is
// charged for all the claims that should have been made meanwhile.
//
// It writes nothing of its own anywhere; what peers do to their servers is theirs to undo.
package bench
