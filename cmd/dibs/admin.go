package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/client"
	"github.com/spf13/cobra"
)

const aboutAdmin = `

It takes an API key with the scope admin, and an API with security.request_keys_file. Actor and reason stay in the history of
the name: see dibs history.`

func newAdmin() *cobra.Command {
	cmd := &cobra.Command{Use: "admin", Short: "Release, hand over, block or unblock a name, whoever holds it; erase an owner"}
	cmd.AddCommand(newAdminRelease(), newAdminTransfer(), newAdminBlock(), newAdminUnblock(), newAdminErase())
	return cmd
}

func newAdminRelease() *cobra.Command {
	return newAsking(asking{
		use: "release NAME --actor WHO --reason WHY", short: "Take a name from whoever holds it",
		long: "Take a name from whoever holds it. It is free then, or nobody's for the cool-down of its space." + aboutAdmin,
		args: exactArgs(1, "a name"), space: true, named: true, version: true,
		do: func(ctx context.Context, c *client.Client, a *asked) (client.Result, error) {
			return c.AdminRelease(ctx, a.space, a.args[0], a.by, a.options()...)
		},
		tell: func(r client.Result, _ *asked) string {
			text := fmt.Sprintf("%s is released", called(r.Space, r.Key, r.Name))
			if r.Owner != "" {
				text += ", which was " + r.Owner + "'s"
			}
			if !r.ExpiresAt.IsZero() {
				text += ", and cools down until " + r.ExpiresAt.Format(time.RFC3339)
			}
			return text
		},
	})
}

func newAdminTransfer() *cobra.Command {
	return newAsking(asking{
		use: "transfer NAME NEW_OWNER --actor WHO --reason WHY", short: "Hand a name to another owner, whoever holds it",
		long: "Hand a name to another owner, whoever holds it, without ever freeing it." + aboutAdmin,
		args: exactArgs(2, "a name and the new owner"), space: true, named: true, version: true,
		do: func(ctx context.Context, c *client.Client, a *asked) (client.Result, error) {
			return c.AdminTransfer(ctx, a.space, a.args[0], a.args[1], a.by, a.options()...)
		},
		tell: func(r client.Result, _ *asked) string {
			return fmt.Sprintf("%s has %s", r.Owner, called(r.Space, r.Key, r.Name))
		},
	})
}

func newAdminBlock() *cobra.Command {
	return newAsking(asking{
		use: "block NAME --actor WHO --reason WHY", short: "Block a name: nobody can claim it",
		long: "Block a name: nobody can claim it until it is unblocked, and whoever holds it loses it." + aboutAdmin,
		args: exactArgs(1, "a name"), space: true, named: true,
		do: func(ctx context.Context, c *client.Client, a *asked) (client.Result, error) {
			return c.AdminBlock(ctx, a.space, a.args[0], a.by, a.options()...)
		},
		tell: func(r client.Result, _ *asked) string {
			return fmt.Sprintf("%s is blocked", called(r.Space, r.Key, r.Name))
		},
	})
}

func newAdminUnblock() *cobra.Command {
	return newAsking(asking{
		use: "unblock NAME --actor WHO --reason WHY", short: "Unblock a name: it is free",
		long: "Unblock a name: it is free." + aboutAdmin,
		args: exactArgs(1, "a name"), space: true, named: true,
		do: func(ctx context.Context, c *client.Client, a *asked) (client.Result, error) {
			return c.AdminUnblock(ctx, a.space, a.args[0], a.by, a.options()...)
		},
		tell: func(r client.Result, _ *asked) string {
			return fmt.Sprintf("%s is unblocked", called(r.Space, r.Key, r.Name))
		},
	})
}
