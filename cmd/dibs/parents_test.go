package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestUnknownCommands: wherever there are commands to choose from, one that there is not is a usage error that names it,
// whatever comes behind it; and what was meant, where that is clear.
func TestUnknownCommands(t *testing.T) {
	parents := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if !cmd.HasSubCommands() {
			return
		}
		parents++
		path := strings.Fields(cmd.CommandPath())[1:]
		unknown := func(want string, args ...string) {
			t.Helper()
			args = append(path[:len(path):len(path)], args...)
			code, stdout, stderr := dibs(t, args...)
			if code != exitUsage || stdout != "" || !strings.HasPrefix(stderr, "dibs: unknown command ") || !strings.Contains(stderr, want) {
				t.Errorf("dibs %s: exit %d, %q, %q; want exit %d and %q", strings.Join(args, " "), code, stdout, stderr, exitUsage, want)
			}
		}
		unknown(`"nonsense"; see `+cmd.CommandPath()+" --help\n", "nonsense")
		unknown(`"nonsense"`, "nonsense", "alice", "--actor=ada", "--reason=x")
		unknown(`"nonsense"`, "nonsense", "-x")
		for _, sub := range cmd.Commands() {
			if name := sub.Name(); len(name) > 3 && sub.IsAvailableCommand() {
				unknown("did you mean "+name, name[:2]+name[3:]) // relase
				unknown("did you mean "+name, name+"x", "alice", "--no-such-flag")
			}
			walk(sub)
		}
	}
	root := newRoot()
	walk(root)
	if parents < 9 {
		t.Errorf("only %d have commands", parents)
	}
	for _, args := range [][]string{{"help", "nonsense"}, {"help", "admin", "nonsense"}} {
		if code, stdout, stderr := dibs(t, args...); code != exitUsage || stdout != "" || !strings.Contains(stderr, `unknown command "nonsense"`) {
			t.Errorf("dibs %v: exit %d, %q, %q", args, code, stdout, stderr)
		}
	}
	for _, args := range [][]string{{}, {"help"}, {"admin"}, {"help", "admin", "release"}} {
		if code, stdout, stderr := dibs(t, args...); code != exitOK || stderr != "" || !strings.Contains(stdout, "Usage:") {
			t.Errorf("dibs %v: exit %d, %q, %q", args, code, stdout, stderr)
		}
	}
}
