package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/dibs-hq/dibs/client"
	"github.com/spf13/cobra"
)

const aboutOutcome = `

The API key comes from DIBS_API_KEY, or from the file that DIBS_API_KEY_FILE names. Exit code 0: accepted, 3: rejected, or
refused beforehand for what would be rejected, 4: not decided in time (it may still be), 5: the API is out of reach.`

func newClaim() *cobra.Command {
	var claim client.Claim
	var reserve bool
	var ttl time.Duration
	var replaces string
	var fields fieldsFlag
	version := int64(-1)
	cmd := newAsking(asking{
		use: "claim NAME | --field NAME=VALUE … --owner ID", short: "Claim a name over HTTP, and wait for the outcome",
		long: "Claim a name over HTTP, and wait for the outcome. What fails on the way is tried again, as the same claim. With\n" +
			"--reserve the name is held for a while, until it is confirmed: see dibs confirm. In a space of several fields, --field\n" +
			"gives each of them in place of a name.",
		args: func(cmd *cobra.Command, args []string) error {
			if (fields == nil) == (len(args) == 0) || len(args) > 1 {
				return usage("%s takes a name, or --field; see %[1]s --help", cmd.CommandPath())
			}
			return nil
		},
		claims: true, space: true, who: "who is to have the name",
		do: func(ctx context.Context, c *client.Client, a *asked) (client.Result, error) {
			claim.Space, claim.Fields, claim.Owner, claim.IdempotencyKey = a.space, fields, a.owner, a.key
			if len(a.args) > 0 {
				claim.Name = a.args[0]
			}
			if a.changed("expected-version") {
				claim.ExpectedVersion = &version
			}
			if replaces != "" {
				claim.Replaces = &client.Replaces{Name: replaces}
			}
			switch {
			case !reserve && a.changed("ttl"):
				return client.Result{}, usage("--ttl goes with --reserve")
			case reserve && a.changed("ttl") && ttl < time.Second:
				return client.Result{}, usage("--ttl is %s: at least 1s", ttl)
			case reserve:
				return c.Reserve(ctx, claim, ttl)
			}
			return c.Claim(ctx, claim)
		},
		tell: func(r client.Result, _ *asked) string {
			if !r.ExpiresAt.IsZero() {
				return fmt.Sprintf("%s has %s until %s", r.Owner, called(r.Space, r.Key, r.Name), r.ExpiresAt.Format(time.RFC3339))
			}
			return fmt.Sprintf("%s has %s", r.Owner, called(r.Space, r.Key, r.Name))
		},
	})
	f := cmd.Flags()
	f.BoolVar(&claim.ReturnExisting, "return-existing", false, "accept a name that the owner holds already")
	f.Int64Var(&version, "expected-version", -1, "version that the name must have; 0: never held, or free")
	f.Var(&fields, "field", "one of several fields that are unique together, in place of a name; once for each")
	f.BoolVar(&reserve, "reserve", false, "reserve it only: confirm it before it expires")
	f.DurationVar(&ttl, "ttl", 0, "with --reserve, for how long (default: as long as the space says)")
	f.StringVar(&replaces, "replaces", "", "the name that the owner gives up for it")
	f.BoolVar(&claim.WithdrawOnTimeout, "withdraw-on-timeout", false, "undo a claim that is not decided within --wait (at most 30s)")
	return cmd
}

// apiKey is a secret: it has no flag.
func apiKey() (string, error) {
	if key := os.Getenv("DIBS_API_KEY"); key != "" {
		return key, nil
	}
	path := os.Getenv("DIBS_API_KEY_FILE")
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", usage("DIBS_API_KEY_FILE: %v", err)
	}
	return trimNewline(string(b)), nil
}

func trimNewline(s string) string {
	for len(s) > 0 && (s[len(s)-1] == '\n' || s[len(s)-1] == '\r') {
		s = s[:len(s)-1]
	}
	return s
}
