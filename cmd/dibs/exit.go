package main

import (
	"errors"
	"fmt"
	"net"

	"github.com/dibs-hq/dibs/app"
	"github.com/spf13/cobra"
)

// Exit codes that scripts rely on.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitRejected    = 3
	exitUndecided   = 4
	exitUnreachable = 5
	exitDifferent   = 6
)

// exitError carries an exit code. Its text may be empty where everything is said.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Sprintf(format, args...)}
}

func exitCode(err error) int {
	var e *exitError
	switch {
	case errors.As(err, &e):
		return e.code
	case errors.Is(err, app.ErrUnreachable), errors.As(err, new(*net.OpError)):
		return exitUnreachable
	}
	return exitFailure
}

// exactArgs is cobra's, as a usage error.
func exactArgs(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usage("%s takes %s; see %s --help", cmd.CommandPath(), what, cmd.CommandPath())
		}
		return nil
	}
}
