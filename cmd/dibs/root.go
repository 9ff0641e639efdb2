package main

import (
	"log/slog"
	"os"
	"strings"

	"github.com/dibs-hq/dibs/config"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "dibs",
		Short:         "Settles who gets a unique name, on your Kafka and Postgres",
		Long:          "dibs settles who gets a unique name, when many ask at once, in a system built on Kafka.\n\nTo try it, with nothing installed: dibs dev",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().String("config", "", "YAML file of settings (or DIBS_CONFIG)")
	config.AddFlags(root.PersistentFlags(), "log")
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(
		newDev(), newServe(), newAPI(), newProcessor(),
		newMigrate(), newTopics(), newPartitions(), newSpaces(), newVerify(), newKeys(),
		newClaim(), newSignup(), newConfirm(), newExtend(), newWithdraw(), newRelease(), newRename(), newTransfer(),
		newDeactivate(), newReactivate(), newNames(), newHistory(), newLookup(), newAdmin(), newWatch(),
		newImport(), newVectors(), newBench(), newConfig(), newVersion(),
	)
	root.SetHelpCommand(newHelp())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	refuseUnknown(root)
	return root
}

// withSettings gives a command the flags of the sections it uses.
func withSettings(cmd *cobra.Command, sections ...string) *cobra.Command {
	config.AddFlags(cmd.Flags(), sections...)
	return cmd
}

// load reads the settings of a command. change overrides defaults.
func load(cmd *cobra.Command, change map[string]any) (*config.Loaded, error) {
	file, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, err
	}
	if file == "" {
		file = os.Getenv("DIBS_CONFIG")
	}
	l, err := config.Load(cmd.Flags(), os.Environ(), file, change)
	if err != nil {
		return nil, &exitError{exitUsage, err.Error()}
	}
	return l, nil
}

// logger writes to standard error: text on a terminal, JSON where a machine reads it.
func logger(cmd *cobra.Command, cfg config.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level = slog.LevelInfo // config has checked it
	}
	options := &slog.HandlerOptions{Level: level}
	w := cmd.ErrOrStderr()
	if cfg.Format == "text" || cfg.Format == "auto" && isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colourful reports whether colour and progress bars belong on w.
func colourful(w any) bool { return isTerminal(w) && os.Getenv("NO_COLOR") == "" }

// outputFlag adds -o.
func outputFlag(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringP("output", "o", "text", "text or json")
	return cmd
}

// wantsJSON reads -o.
func wantsJSON(cmd *cobra.Command) (bool, error) {
	switch o, _ := cmd.Flags().GetString("output"); strings.ToLower(o) {
	case "text":
		return false, nil
	case "json":
		return true, nil
	default:
		return false, usage("--output is %q: use text or json", o)
	}
}
