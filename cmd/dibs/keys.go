package main

import (
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/names"
	"github.com/spf13/cobra"
)

func newKeys() *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "API keys, keys that requests are signed with, and peppers of private spaces"}
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
	cmd.AddCommand(make, newRequestKey(), newPepper(), newErasureSecret())
	return cmd
}

func newRequestKey() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use: "request FILE", Short: "Make a security.request_keys_file: the key that privileged requests are signed with",
		Long: `Make a file with a new key. A file that is there is left as it is.

Every process of a deployment needs the same file. To replace a key, put the new one first on every process and keep the
old one behind it for as long as requests signed with it may be on the topic claims.`,
		Args: exactArgs(1, "the file to make"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := auth.MakeRequestKeys(args[0], id); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s is made: give it to every process as security.request_keys_file (DIBS_SECURITY_REQUEST_KEYS_FILE)\n", args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&id, "id", "k1", "id of the key, which signatures name")
	return cmd
}

func newPepper() *cobra.Command {
	var space string
	cmd := &cobra.Command{
		Use: "pepper FILE", Short: "Make a security.peppers_file: the secret that the keys of a private space are made with",
		Long: `Make a file with a new pepper, version 1 of a space. A file that is there is left as it is: with - in place of FILE the
entry is printed, for the list "peppers" of such a file.

Every API, and whoever imports or applies spaces, needs the same file; a processor needs none. Keep a copy where it cannot
be lost: without it nobody can say any more which key a value has.`,
		Args: exactArgs(1, "the file to make"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "-" {
				entry, err := auth.NewPepper(names.Space(space), 1)
				if err != nil {
					return err
				}
				fmt.Fprint(cmd.OutOrStdout(), entry)
				return nil
			}
			if err := auth.MakePeppers(args[0], names.Space(space)); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s is made: give it to every API as security.peppers_file (DIBS_SECURITY_PEPPERS_FILE)\n", args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&space, "space", "email", "the space")
	return cmd
}

func newErasureSecret() *cobra.Command {
	return &cobra.Command{
		Use: "erasure FILE", Short: "Make a security.erasure_secret_file: the secret that erased names are kept under",
		Long: `Make a file with a new secret. A file that is there is left as it is.

Every process of a deployment needs the same file, for ever: it cannot be changed once something was erased. Keep it apart
from the database and its backups: with both, names that were erased can be found by trying them out.`,
		Args: exactArgs(1, "the file to make"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := auth.MakeErasureSecret(args[0]); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s is made: give it to every process as security.erasure_secret_file (DIBS_SECURITY_ERASURE_SECRET_FILE)\n", args[0])
			return nil
		},
	}
}
