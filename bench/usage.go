package bench

import (
	"context"
	"time"
)

// Usage is what was used so far, by whoever used it. What cannot be seen is missing.
type Usage struct {
	// CPU is processor time: OwnCPU of this process, ChildrenCPU of those it has started, and of servers by their names.
	CPU map[string]time.Duration
	// Bytes are what was written: see Machine.
	Bytes map[string]int64
}

// Whose processor time it is, beside the servers'.
const (
	OwnCPU      = "dibs bench"
	ChildrenCPU = "its children"
)

// Meter reads what was used so far. What it cannot read it leaves out.
type Meter interface {
	Read(ctx context.Context) Usage
}

// since is what was used after a reading.
func (u Usage) since(before Usage) Usage {
	used := Usage{CPU: make(map[string]time.Duration), Bytes: make(map[string]int64)}
	for who, cpu := range u.CPU {
		if b, ok := before.CPU[who]; ok {
			used.CPU[who] = max(cpu-b, 0)
		}
	}
	for what, n := range u.Bytes {
		if b, ok := before.Bytes[what]; ok {
			used.Bytes[what] = max(n-b, 0)
		}
	}
	return used
}

// each is the part of one claim.
func (u Usage) each(claims float64) (cpu map[string]time.Duration, bytes map[string]float64) {
	if claims < 1 {
		return nil, nil
	}
	for who, d := range u.CPU {
		if cpu == nil {
			cpu = make(map[string]time.Duration)
		}
		cpu[who] = time.Duration(float64(d) / claims)
	}
	for what, n := range u.Bytes {
		if bytes == nil {
			bytes = make(map[string]float64)
		}
		bytes[what] = float64(int64(10*float64(n)/claims)) / 10
	}
	return cpu, bytes
}
