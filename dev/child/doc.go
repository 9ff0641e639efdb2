// Package child runs a part of our own program in a second process that never outlives the first.
//
// The parent starts its own executable again with a role; [Main], called first thing in main (and in TestMain of a
// test binary), sees the role and runs it instead of the program. The child's standard input is a pipe that only the
// parent holds: when the parent ends, cleanly or by kill -9, the kernel closes the pipe, and the child stops what it
// runs and goes. Nothing else is needed for that: no pid file, no signal, no process group of the parent.
//
// The child gets its task as the first line of that pipe (so no password shows in a process list), one-word commands
// as later lines, and answers in JSON lines on standard output. It stands in a process group of its own, so that
// Ctrl-C reaches the parent alone, which then stops its children in the order it wants.
package child
