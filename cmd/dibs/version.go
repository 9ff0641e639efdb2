package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker in releases.
var version = ""

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, revision := build()
			fmt.Fprintf(cmd.OutOrStdout(), "dibs %s (%s, %s)\n", v, revision, runtime.Version())
			return nil
		},
	}
}

// build says which version this is, and of which commit.
func build() (v, revision string) {
	v, revision = version, "unknown revision"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v, revision
	}
	if v == "" {
		v = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	return v, revision
}
