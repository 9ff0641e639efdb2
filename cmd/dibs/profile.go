package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/pprof"

	"github.com/spf13/cobra"
)

// profileFlag adds --cpuprofile. The function starts the profile and returns what ends it.
func profileFlag(cmd *cobra.Command) func() (func() error, error) {
	path := cmd.Flags().String("cpuprofile", "", "write a CPU profile to this file")
	return func() (func() error, error) {
		if *path == "" {
			return func() error { return nil }, nil
		}
		f, err := os.Create(*path)
		if err != nil {
			return nil, usage("--cpuprofile: %v", err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return nil, errors.Join(fmt.Errorf("--cpuprofile: %w", err), f.Close())
		}
		return func() error {
			pprof.StopCPUProfile()
			return f.Close()
		}, nil
	}
}
