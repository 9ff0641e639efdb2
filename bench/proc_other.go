//go:build !linux

package bench

import "time"

// Elsewhere than on Linux nothing is seen of processes.

func precisely(d time.Duration)                 { time.Sleep(d) }
func forgetPeak()                               {}
func peak(string) int64                         { return 0 }
func ownCPU() (own, children time.Duration)     { return 0, 0 }
func serverCPU(int, bool) (time.Duration, bool) { return 0, false }
func written(int) (int64, bool)                 { return 0, false }
func listener(int) (pid int, command []string)  { return 0, nil }
func processor() (model string, memory int64)   { return "", 0 }
func kernel() string                            { return "" }
