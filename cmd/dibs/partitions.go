package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dibs-hq/dibs/app"
	"github.com/dibs-hq/dibs/processor"
	"github.com/spf13/cobra"
)

func newPartitions() *cobra.Command {
	cmd := outputFlag(withSettings(&cobra.Command{
		Use: "partitions", Short: "How far each partition is; resume one that is halted",
		Long: `List the partitions: the log they are in, the next offset to decide, through which offset outcomes are published, who
writes, and why a partition is halted. The processor at ops.addr is asked as well: it knows which of its partitions are
stuck, since when, and because of what. To ask another one: --ops-addr.

A partition halts when its log is not the one that was read: re-created, truncated, or cut by retention. Nothing is
skipped until somebody decides so: dibs partitions resume.`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := wantsJSON(cmd)
			if err != nil {
				return err
			}
			settings, err := load(cmd, nil)
			if err != nil {
				return err
			}
			return app.WithRecord(cmd.Context(), settings.Config, logger(cmd, settings.Log), func(d *app.Deployment) error {
				rows, err := d.Record.All(cmd.Context())
				if err != nil {
					return err
				}
				return printPartitions(cmd, rows, askProcessor(cmd, settings.Config.Ops.Addr), asJSON)
			})
		},
	}, "kafka", "postgres", "ops"))
	cmd.AddCommand(newResume())
	return cmd
}

// askProcessor asks how partitions are doing that the tables cannot tell of. Where nobody answers, it says so.
func askProcessor(cmd *cobra.Command, addr string) map[int32]app.PartitionStatus {
	if strings.HasSuffix(addr, ":0") {
		return nil // nobody can be asked there
	}
	known, err := app.AskPartitions(cmd.Context(), addr)
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "whether a partition is stuck is not known: %v (another one: --ops-addr)\n", err)
	}
	return known
}

func printPartitions(cmd *cobra.Command, rows []processor.Standing, known map[int32]app.PartitionStatus, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(cmd.OutOrStdout())
		for _, r := range rows {
			row := map[string]any{
				"partition": r.Partition, "log_epoch": r.LogEpoch, "next_offset": r.NextOffset, "published_through": r.PublishedThrough,
				"writer_epoch": r.WriterEpoch, "writer_id": r.WriterID, "log_time": r.LogTime, "halted": r.Halted,
			}
			if s, ok := known[r.Partition]; ok {
				row["state"] = s.State
				if s.StuckBecause != "" {
					row["stuck_since"], row["stuck_because"] = s.StuckSince, s.StuckBecause
				}
			}
			if err := encoder.Encode(row); err != nil {
				return err
			}
		}
		return nil
	}
	tw := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "PARTITION\tLOG\tNEXT\tPUBLISHED\tEPOCH\tWRITER\tSTATE")
	for _, r := range rows {
		state := "ok"
		switch s := known[r.Partition]; {
		case r.Halted != "":
			state = "HALTED: " + r.Halted
		case s.StuckBecause != "":
			state = fmt.Sprintf("STUCK since %s: %s", s.StuckSince.Format(time.RFC3339), oneLine(s.StuckBecause))
		case s.State != "" && s.State != "running":
			state = s.State
		}
		fmt.Fprintf(tw, "%d\t%d\t%d\t%d\t%d\t%.8s\t%s\n", r.Partition, r.LogEpoch, r.NextOffset, r.PublishedThrough, r.WriterEpoch, r.WriterID, state)
	}
	return tw.Flush()
}

func newResume() *cobra.Command {
	cmd := withSettings(&cobra.Command{
		Use: "resume PARTITION --actor WHO --reason WHY [--accept-gap]", Short: "Let a halted partition go on",
		Long: `Let a halted partition go on where it was, because the log has been put right. It halts again if it has not.

With --accept-gap it goes on at the first offset of the log there is now. What lies between the last offset decided and
that one is given up: claims in the gap, acknowledged or not, are never decided.

Who decided so, and why, is kept.`,
		Args: exactArgs(1, "a partition"),
	}, "kafka", "postgres")
	accept := cmd.Flags().Bool("accept-gap", false, "go on at the start of the log there is now; what lies in the gap is never decided")
	actor := cmd.Flags().String("actor", "", "who decides this")
	reason := cmd.Flags().String("reason", "", "why")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		n, err := strconv.ParseInt(args[0], 10, 32)
		if err != nil || n < 0 {
			return usage("%q is no partition", args[0])
		}
		if *actor == "" || *reason == "" {
			return usage("--actor and --reason are needed: who decides this, and why")
		}
		settings, err := load(cmd, nil)
		if err != nil {
			return err
		}
		return app.WithRecord(cmd.Context(), settings.Config, logger(cmd, settings.Log), func(d *app.Deployment) error {
			resume := d.Record.Resume
			if *accept {
				resume = d.AcceptGap
			}
			s, err := resume(cmd.Context(), int32(n), *actor, *reason)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "partition %d goes on at offset %d, in log %d\n", s.Partition, s.NextOffset, s.LogEpoch)
			return nil
		})
	}
	return cmd
}
