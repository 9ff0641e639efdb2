package main

import (
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/spf13/cobra"
)

func newKeys() *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "API keys"}
	var spec auth.KeySpec
	var expires time.Duration
	make := &cobra.Command{
		Use: "new ID", Short: "Make a key: the secret, shown once, and its entry for api.keys_file",
		Args: exactArgs(1, "an id for the key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec.ID = args[0]
			if spec.Principal == "" {
				spec.Principal = spec.ID
			}
			if expires > 0 {
				spec.Expires = time.Now().Add(expires)
			}
			token, entry, err := auth.NewKey(spec)
			if err != nil {
				return usage("%v", err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "The caller sends this, and it cannot be shown again:\n\n  Authorization: Bearer %s\n\nThis goes into the list \"keys\" of api.keys_file:\n\n", token)
			fmt.Fprint(cmd.OutOrStdout(), entry)
			return nil
		},
	}
	f := make.Flags()
	f.StringVar(&spec.Principal, "principal", "", "who the caller is; stays the same when the key is replaced (default the id)")
	f.StringSliceVar(&spec.Scopes, "scopes", []string{"claim", "read"}, "what it may do: claim, read, lookup, admin")
	f.StringSliceVar(&spec.Spaces, "spaces", []string{"*"}, "spaces it may use; * for all")
	f.StringSliceVar(&spec.Owners, "owners", []string{"*"}, "owners it may act for, by prefix; * for all")
	f.DurationVar(&expires, "expires-in", 0, "how long it works; for ever if not said")
	cmd.AddCommand(make)
	return cmd
}
