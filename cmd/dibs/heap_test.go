package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

// goal is how large the heap becomes before it is collected.
func goal() uint64 {
	runtime.GC()
	s := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

func TestGarbageIsLeft(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	before := goal()
	stop := leaveGarbage()
	if with := goal(); with < before+leastHeap {
		t.Errorf("the heap is collected at %d bytes, and was at %d", with, before)
	}
	stop()
	if behind := goal(); behind > before+leastHeap/2 {
		t.Errorf("the heap is collected at %d bytes, and was at %d before", behind, before)
	}
	t.Setenv("GOGC", "50")
	stop = leaveGarbage()
	if with := goal(); with > before+leastHeap/2 {
		t.Errorf("with GOGC set the heap is collected at %d bytes, and was at %d", with, before)
	}
	stop()
}
