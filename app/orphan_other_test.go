//go:build !linux

package app_test

import "syscall"

// dieWithUs is for Linux. Elsewhere a process outlives a test binary that is killed.
func dieWithUs(*syscall.SysProcAttr) {}
