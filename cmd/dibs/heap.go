package main

import (
	"os"
	"runtime"
)

// leastHeap counts as in use, however little is: so much garbage more may lie about before it is collected. What a claim
// leaves behind is as much as what is alive of a whole process, so without it the collector runs all the time: it took a
// quarter of the processor time of a claim. A larger GOGC does the same, and with a backlog, where more is alive, it is
// several times that in memory.
const leastHeap = 96 << 20

// leaveGarbage makes the collector count leastHeap more than there is, until stop is called. Nobody writes to it, so it
// is address space and no memory. Who has set GOGC or GOMEMLIMIT has said what the collector is to do. All commands have it
// from start to end: what a benchmark compares dibs with, too.
func leaveGarbage() (stop func()) {
	for _, set := range []string{"GOGC", "GOMEMLIMIT"} {
		if os.Getenv(set) != "" {
			return func() {}
		}
	}
	least := make([]byte, leastHeap)
	return func() { runtime.KeepAlive(least) }
}
