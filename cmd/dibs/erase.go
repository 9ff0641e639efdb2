package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/client"
	"github.com/spf13/cobra"
)

func newAdminErase() *cobra.Command {
	var by client.By
	cmd := outputFlag(&cobra.Command{
		Use: "erase OWNER --actor WHO --reason WHY", Short: "Erase what is recorded of an owner",
		Long: `Erase what is recorded of an owner: the names that the owner has are free then, or nobody's for the cool-down of their space,
and no row in Postgres names the owner, or these names because of the owner. It waits until nothing is left, and says what the
topics keep until when. Broken off, it is gone on with by the same command.

It takes an API key with the scope admin that is limited to no owners and no spaces, and an API and processors with
security.erasure_secret_file. Actor and reason are kept: no personal data belongs there. Exit code 4: it is not done within
--wait; 5: the API is out of reach.`,
		Args: exactArgs(1, "an owner"),
	})
	connect := connecting(cmd, "how long to wait until nothing is left")
	cmd.Flags().StringVar(&by.Actor, "actor", "", "who does it")
	cmd.Flags().StringVar(&by.Reason, "reason", "", "why")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if by.Actor == "" || by.Reason == "" {
			return usage("%s needs --actor and --reason", cmd.CommandPath())
		}
		return read(cmd, connect, func(c *client.Client, tell func(v any, text string) error) error {
			wait, err := cmd.Flags().GetDuration("wait")
			if err != nil {
				return err
			}
			until := time.Now().Add(wait)
			e, err := c.AdminErase(cmd.Context(), args[0], by)
			for err == nil && !e.Done && time.Now().Before(until) {
				select {
				case <-time.After(time.Second):
					e, err = c.AdminErasure(cmd.Context(), e.ID)
				case <-cmd.Context().Done():
					return cmd.Context().Err()
				}
			}
			if err != nil {
				return err
			}
			if err := tell(e, erasureText(e)); err != nil || e.Done {
				return err
			}
			return &exitError{exitUndecided, ""}
		})
	}
	return cmd
}

// erasureText says how far an erasure is.
func erasureText(e client.Erasure) string {
	var b strings.Builder
	if e.Done {
		fmt.Fprintf(&b, "%s is erased: %d requests (%d about sign-ups), %d rows of the history and %d records wiped",
			e.Owner, e.Wiped, e.Signups, e.Decisions, e.Records)
	} else {
		fmt.Fprintf(&b, "%s is not erased yet: %d names found, %d requests not wiped behind, %d wiped; run it again to go on", e.Owner, e.Found, e.Pending, e.Wiped)
		if !e.Searched {
			b.WriteString("\nthe search through all decisions takes too long: docs/erasure.md has an index that ends that")
		}
	}
	for _, r := range e.Remains {
		if r.Until.IsZero() {
			fmt.Fprintf(&b, "\n  %s: %s", r.Topic, r.Detail)
		} else {
			fmt.Fprintf(&b, "\n  %s keeps what names the owner until %s", r.Topic, r.Until.Format(time.RFC3339))
		}
	}
	return b.String()
}
