package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// refuseUnknown makes a command that there is not a usage error, below every command that has some. By itself cobra shows
// the help of the one above it and is content, and so would be a script that has mistyped one.
func refuseUnknown(cmd *cobra.Command) {
	if !cmd.HasSubCommands() {
		return
	}
	for _, sub := range cmd.Commands() {
		refuseUnknown(sub)
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return nil
	}
	if !cmd.Runnable() { // cobra looks at the arguments of what can be run only
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
}

// flagError is a flag that there is not: it may well be one of the command that there is not either.
func flagError(cmd *cobra.Command, err error) error {
	if args := cmd.Flags().Args(); cmd.HasSubCommands() && len(args) > 0 {
		return unknownCommand(cmd, args[0])
	}
	return usage("%v; see %s --help", err, cmd.CommandPath())
}

func unknownCommand(cmd *cobra.Command, name string) error {
	meant := ""
	for distance := 1; distance <= 2 && meant == ""; distance++ {
		cmd.SuggestionsMinimumDistance = min(distance, len(name)/2)
		if all := cmd.SuggestionsFor(name); len(all) > 0 {
			meant = fmt.Sprintf(": did you mean %s?", strings.Join(all, " or "))
		}
	}
	if meant == "" {
		meant = "; see " + cmd.CommandPath() + " --help"
	}
	return usage("unknown command %q%s", name, meant)
}

// newHelp is cobra's, but for what it says of a command that there is not.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use: "help [command]", Short: "Help about any command",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			switch {
			case err != nil:
				return usage("%v", err)
			case about.HasSubCommands() && len(rest) > 0:
				return unknownCommand(about, rest[0])
			}
			about.InitDefaultHelpFlag() // so that it is shown
			return about.Help()
		},
	}
}
