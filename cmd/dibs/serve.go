package main

import (
	"github.com/dibs-hq/dibs/app"
	"github.com/spf13/cobra"
)

func newServe() *cobra.Command {
	return serving("serve", "Run the HTTP API and a processor in one process", true, true, "kafka", "postgres", "api", "ops", "security", "processor")
}

func newAPI() *cobra.Command {
	return serving("api", "Run the HTTP API", true, false, "kafka", "postgres", "api", "ops", "security")
}

func newProcessor() *cobra.Command {
	return serving("processor", "Run a processor: it decides the claims of the partitions it is given", false, true, "kafka", "postgres", "ops", "security", "processor")
}

func serving(name, short string, api, processor bool, sections ...string) *cobra.Command {
	return withSettings(&cobra.Command{
		Use: name, Short: short, Args: exactArgs(0, "no arguments"),
		Long: short + ".\n\nIt needs the tables (dibs migrate up) and the topics (dibs topics create), and refuses to start on settings that would break a promise. SIGTERM and Ctrl-C stop it cleanly.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := load(cmd, nil)
			if err != nil {
				return err
			}
			log := logger(cmd, settings.Log)
			v, revision := build()
			return app.Run(cmd.Context(), app.Options{
				Config: settings.Config, API: api, Processor: processor, Log: log, Version: v, Revision: revision,
				OnReady: func(apiAddr, opsAddr string) {
					log.InfoContext(cmd.Context(), "ready", "version", v, "api", apiAddr, "ops", opsAddr)
				},
			})
		},
	}, sections...)
}
