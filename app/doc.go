// Package app builds the parts of dibs and runs them, in whatever combination a command asks for; the tests of the whole
// system live here.
//
// It promises that parts start back to front (operations, topics, processor, HTTP) and stop front to back, so that
// nothing is accepted that cannot be answered and nobody who waits is left behind; and that a process refuses to start on
// a deployment that would break a promise, with an error that names the fix.
package app
