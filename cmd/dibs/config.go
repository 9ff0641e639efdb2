package main

import (
	"fmt"

	"github.com/dibs-hq/dibs/app"
	"github.com/spf13/cobra"
)

func newConfig() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Show and check the settings"}
	show := withSettings(&cobra.Command{
		Use: "print", Short: "Print every setting, secrets masked", Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := load(cmd, nil)
			if err != nil {
				return err
			}
			source, err := cmd.Flags().GetBool("show-source")
			if err != nil {
				return err
			}
			return l.Print(cmd.OutOrStdout(), source)
		},
	}, allSections...)
	show.Flags().Bool("show-source", false, "say where each value comes from")
	check := withSettings(&cobra.Command{
		Use: "check", Short: "Say what is wrong with the settings and the files of secrets that they name, without connecting to anything", Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := load(cmd, nil)
			if err != nil {
				return err
			}
			if err := app.CheckFiles(settings.Config); err != nil {
				return usage("%v", err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), "ok")
			return nil
		},
	}, allSections...)
	cmd.AddCommand(show, check)
	return cmd
}

var allSections = []string{"kafka", "postgres", "api", "ops", "security", "processor"}
