package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/dibs-hq/dibs/app"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/spf13/cobra"
)

func newMigrate() *cobra.Command {
	cmd := &cobra.Command{Use: "migrate", Short: "Make the tables, or bring them up to date"}
	config := func(cmd *cobra.Command) (postgres.Config, error) {
		settings, err := load(cmd, nil)
		if err != nil {
			return postgres.Config{}, err
		}
		if settings.Postgres.DSN == "" {
			return postgres.Config{}, usage("postgres.dsn is not set: set DIBS_POSTGRES_DSN, or DIBS_POSTGRES_DSN_FILE to a file that holds it")
		}
		return app.PostgresConfig(settings.Config, logger(cmd, settings.Log)), nil
	}
	up := withSettings(&cobra.Command{
		Use: "up", Short: "Apply what is missing; several may run at once", Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config(cmd)
			if err != nil {
				return err
			}
			applied, err := postgres.Migrate(cmd.Context(), cfg)
			for _, m := range applied {
				fmt.Fprintf(cmd.OutOrStdout(), "applied %s\n", m.Name)
			}
			if err == nil && len(applied) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "up to date")
			}
			return err
		},
	}, "postgres")
	status := withSettings(&cobra.Command{
		Use: "status", Short: "List the steps, and when each was applied", Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config(cmd)
			if err != nil {
				return err
			}
			all, err := postgres.Migrations(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			tw := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			for _, m := range all {
				at := "not applied"
				if !m.AppliedAt.IsZero() {
					at = m.AppliedAt.UTC().Format(time.RFC3339)
				}
				fmt.Fprintf(tw, "%s\t%s\n", m.Name, at)
			}
			return tw.Flush()
		},
	}, "postgres")
	show := withSettings(&cobra.Command{
		Use: "print", Short: "Print the SQL, for those who apply it themselves", Args: exactArgs(0, "no arguments"),
	}, "postgres")
	above := show.Flags().Int64("above", 0, "only the steps above this version")
	show.RunE = func(cmd *cobra.Command, _ []string) error {
		settings, err := load(cmd, nil)
		if err != nil {
			return err
		}
		text, err := postgres.MigrationSQL(app.PostgresConfig(settings.Config, logger(cmd, settings.Log)), *above)
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(cmd.OutOrStdout(), text)
		return err
	}
	cmd.AddCommand(up, status, show)
	return cmd
}
