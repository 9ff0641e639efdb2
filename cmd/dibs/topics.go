package main

import (
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/app"
	"github.com/dibs-hq/dibs/kafka"
	"github.com/spf13/cobra"
)

func newTopics() *cobra.Command {
	cmd := &cobra.Command{Use: "topics", Short: "Make the topics, or check their settings"}
	create := withSettings(&cobra.Command{
		Use: "create", Short: "Make claims, registrations and claims.dlq with the settings that dibs relies on",
		Long: `Make the topics claims, registrations and claims.dlq, with the settings that dibs relies on. Topics that exist are left
as they are; dibs topics check says what is wrong with them.

The number of partitions cannot be changed later: names are routed by it. 12 is enough for most; take 48 where growth is
likely.`,
		Args: exactArgs(0, "no arguments"),
	}, "kafka")
	partitions := create.Flags().Int("partitions", 12, "partitions of each topic; cannot be changed later")
	replication := create.Flags().Int("replication-factor", 0, "copies of each record (default 3, or as many as there are brokers)")
	bound := create.Flags().Duration("clock-bound", kafka.MaxClockBound, "how far ahead a producer's clock may run; reservations hold at least twice as long")
	create.RunE = func(cmd *cobra.Command, _ []string) error {
		if *bound < time.Millisecond || *bound > kafka.MaxClockBound {
			return usage("--clock-bound is %s: 1ms to %s", *bound, kafka.MaxClockBound)
		}
		return withKafka(cmd, func(client *kafka.Client) error {
			report, err := client.CreateTopics(cmd.Context(), kafka.TopicsConfig{Partitions: *partitions, ReplicationFactor: *replication, ClockBound: *bound})
			if err != nil {
				return err
			}
			for _, t := range report.Topics {
				verb := "created"
				if t.Existed {
					verb = "left as it is"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %d partitions, replication factor %d\n", t.Topic, verb, t.Partitions, t.ReplicationFactor)
			}
			for _, note := range report.Notes {
				fmt.Fprintf(cmd.OutOrStdout(), "note: %s\n", note)
			}
			return nil
		})
	}
	check := withSettings(&cobra.Command{
		Use: "check", Short: "Compare the live settings with those that dibs relies on; exit 1 where a promise would break",
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withKafka(cmd, func(client *kafka.Client) error {
				findings, err := client.CheckTopics(cmd.Context(), kafka.CheckConfig{})
				if err != nil {
					return err
				}
				broken := false
				for _, f := range findings {
					fmt.Fprintln(cmd.OutOrStdout(), f)
					broken = broken || f.Severity == kafka.Error
				}
				if broken {
					return &exitError{exitFailure, "the topics cannot be used as they are"}
				}
				if len(findings) == 0 {
					fmt.Fprintln(cmd.OutOrStdout(), "ok")
				}
				return nil
			})
		},
	}, "kafka")
	cmd.AddCommand(create, check)
	return cmd
}

func withKafka(cmd *cobra.Command, f func(*kafka.Client) error) error {
	settings, err := load(cmd, nil)
	if err != nil {
		return err
	}
	client, err := kafka.New(app.KafkaConfig(settings.Config.Kafka), logger(cmd, settings.Log), nil)
	if err != nil {
		return usage("%v", err)
	}
	defer client.Close()
	return f(client)
}
