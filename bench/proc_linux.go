package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// precisely sleeps without the runtime's timers: these are late by up to a millisecond while a process is idle, which is
// when a claim takes little more than that. A signal may end it early.
func precisely(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil)
}

// forgetPeak makes peak begin anew; where that is not allowed it is the process's from its start.
func forgetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// peak is the most memory that a process has had: that of an id, or "self".
func peak(process string) int64 { return kilobytes("/proc/"+process+"/status", "VmHWM:") }

// kilobytes reads a line such as "VmHWM:   1234 kB".
func kilobytes(file, label string) int64 {
	text, _ := os.ReadFile(file)
	_, rest, _ := strings.Cut(string(text), label)
	rest, _, _ = strings.Cut(rest, "kB")
	n, _ := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
	return n << 10
}

// tick is the unit of times in /proc: USER_HZ is 100 on all that Go runs on.
const tick = 10 * time.Millisecond

// process is a line of /proc.
type process struct {
	parent   int
	cpu      time.Duration
	children time.Duration // of those that have ended
}

func readProcess(pid int) (process, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, false
	}
	// The command, in parentheses, may have anything in it.
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < 15 {
		return process{}, false
	}
	number := func(i int) int {
		n, _ := strconv.Atoi(f[i])
		return n
	}
	return process{
		parent: number(1), cpu: time.Duration(number(11)+number(12)) * tick, children: time.Duration(number(13)+number(14)) * tick,
	}, true
}

func processes() map[int]process {
	all := make(map[int]process)
	for _, pid := range pids() {
		if p, ok := readProcess(pid); ok {
			all[pid] = p
		}
	}
	return all
}

func pids() []int {
	entries, _ := os.ReadDir("/proc")
	var all []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

// ownCPU is what this process has used, and what all those have that descend from it.
func ownCPU() (own, children time.Duration) {
	used := func(who int) time.Duration {
		var r syscall.Rusage
		if syscall.Getrusage(who, &r) != nil {
			return 0
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	children = used(syscall.RUSAGE_CHILDREN)
	all, self := processes(), os.Getpid()
	for pid, p := range all {
		for up := p.parent; pid != self && up > 1; up = all[up].parent {
			if up == self {
				children += p.cpu + p.children
				break
			}
		}
	}
	return used(syscall.RUSAGE_SELF), children
}

// serverCPU is what a process has used, and with a family what its children have: a Postgres has one for each connection.
func serverCPU(pid int, family bool) (time.Duration, bool) {
	p, ok := readProcess(pid)
	if !ok || !family {
		return p.cpu, ok
	}
	sum := p.cpu + p.children
	for _, child := range processes() {
		if child.parent == pid {
			sum += child.cpu
		}
	}
	return sum, true
}

// written is how much a process has had written to disks.
func written(pid int) (int64, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, false
	}
	_, rest, _ := strings.Cut(string(text), "\nwrite_bytes:")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	return n, err == nil
}

// listener finds the process that listens on a port here, and its command line; 0 where it cannot be seen.
func listener(port int) (pid int, command []string) {
	sockets := make(map[string]bool)
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, _ := os.ReadFile(file)
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			const listening = "0A"
			if len(f) > 9 && f[3] == listening && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				sockets["socket:["+f[9]+"]"] = true
			}
		}
	}
	for _, pid := range pids() {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		files, _ := os.ReadDir(dir)
		for _, f := range files {
			if to, err := os.Readlink(filepath.Join(dir, f.Name())); err == nil && sockets[to] {
				text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				return pid, strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
			}
		}
	}
	return 0, nil
}

func processor() (model string, memory int64) {
	text, _ := os.ReadFile("/proc/cpuinfo")
	if _, rest, ok := strings.Cut(string(text), "model name"); ok {
		model, _, _ = strings.Cut(rest, "\n")
		model = strings.TrimSpace(strings.TrimLeft(model, "\t :"))
	}
	return model, kilobytes("/proc/meminfo", "MemTotal:")
}

func kernel() string {
	text, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(text))
}
