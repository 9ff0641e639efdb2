package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/client"
	"github.com/spf13/cobra"
)

// newConfirm is the command confirm.
func newConfirm() *cobra.Command {
	return newAsking(asking{
		use: "confirm CLAIM --owner ID", short: "Confirm a reservation: the name is its owner's for good",
		long: "Confirm a reservation, by the id of the claim that made it, before it expires. A name that the claim replaces is\n" +
			"released then.",
		args: exactArgs(1, "the id of a claim"), who: "who has reserved the name",
		do: func(ctx context.Context, c *client.Client, a *asked) (client.Result, error) {
			return c.Confirm(ctx, a.args[0], a.owner, a.options()...)
		},
		tell: func(r client.Result, _ *asked) string {
			return fmt.Sprintf("%s has %s", r.Owner, called(r.Space, r.Key, r.Name))
		},
	})
}

func newExtend() *cobra.Command {
	var ttl time.Duration
	cmd := newAsking(asking{
		use: "extend CLAIM --owner ID --ttl DURATION", short: "Let a reservation hold for longer",
		long: "Let a reservation, by the id of the claim that made it, hold for --ttl from now, if that is longer than it does: all\n" +
			"in all no longer than the space allows.",
		args: exactArgs(1, "the id of a claim"), who: "who has reserved the name",
		do: func(ctx context.Context, c *client.Client, a *asked) (client.Result, error) {
			if ttl < time.Second {
				return client.Result{}, usage("--ttl is needed: for how long? At least 1s")
			}
			return c.Extend(ctx, a.args[0], a.owner, ttl, a.options()...)
		},
		tell: func(r client.Result, _ *asked) string {
			return fmt.Sprintf("%s has %s until %s", r.Owner, called(r.Space, r.Key, r.Name), r.ExpiresAt.Format(time.RFC3339))
		},
	})
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "for how long from now, such as 10m")
	return cmd
}

func newWithdraw() *cobra.Command {
	var name string
	cmd := newAsking(asking{
		use: "withdraw CLAIM --owner ID", short: "Undo a claim, also one that is not decided yet",
		long: "Undo a claim: the name that it got is free, unless something has been done with it since. A claim that is not decided\n" +
			"yet is withdrawn by its name as well: whenever it is decided, it is rejected.",
		args: exactArgs(1, "the id of a claim"), space: true, who: "who has claimed the name",
		do: func(ctx context.Context, c *client.Client, a *asked) (client.Result, error) {
			options := a.options()
			switch {
			case name != "":
				options = append(options, client.Undecided(a.space, name))
			case a.changed("space"):
				return client.Result{}, usage("--space goes with --name")
			}
			return c.Withdraw(ctx, a.args[0], a.owner, options...)
		},
		tell: func(r client.Result, a *asked) string {
			return fmt.Sprintf("claim %s of %s is withdrawn", a.args[0], called(r.Space, r.Key, r.Name))
		},
	})
	cmd.Flags().StringVar(&name, "name", "", "the name that was claimed, where that may not be decided yet")
	return cmd
}

func newRelease() *cobra.Command {
	return newAsking(asking{
		use: "release NAME --owner ID", short: "Give a name up",
		long: "Give a name up. It is free then, or nobody's for the cool-down of its space.",
		args: exactArgs(1, "a name"), space: true, named: true, version: true, who: "who has the name",
		do: func(ctx context.Context, c *client.Client, a *asked) (client.Result, error) {
			return c.Release(ctx, a.space, a.args[0], a.owner, a.options()...)
		},
		tell: func(r client.Result, a *asked) string {
			if !r.ExpiresAt.IsZero() {
				return fmt.Sprintf("%s has released %s, which cools down until %s", a.owner, called(r.Space, r.Key, r.Name), r.ExpiresAt.Format(time.RFC3339))
			}
			return fmt.Sprintf("%s has released %s", a.owner, called(r.Space, r.Key, r.Name))
		},
	})
}

func newRename() *cobra.Command {
	return newAsking(asking{
		use: "rename NAME TO --owner ID", short: "Get another name in place of one",
		long: "Get another name in place of one: there is no moment with neither. The old name is released when the new one is the\n" +
			"owner's; if it is rejected, nothing has changed. To reserve the new name first: dibs claim --reserve --replaces.",
		args: exactArgs(2, "a name and the new one"), claims: true, space: true, named: true, version: true, who: "who has the name",
		do: func(ctx context.Context, c *client.Client, a *asked) (client.Result, error) {
			return c.Rename(ctx, a.space, a.args[0], a.owner, a.args[1], a.options()...)
		},
		tell: func(r client.Result, a *asked) string {
			return fmt.Sprintf("%s has %s in place of %s", r.Owner, called(r.Space, r.Key, r.Name), a.args[0])
		},
	})
}

func newTransfer() *cobra.Command {
	return newAsking(asking{
		use: "transfer NAME NEW_OWNER --owner ID", short: "Hand a name to another owner",
		long: "Hand a name to another owner, without ever freeing it.",
		args: exactArgs(2, "a name and the new owner"), space: true, named: true, version: true, who: "who has the name",
		do: func(ctx context.Context, c *client.Client, a *asked) (client.Result, error) {
			return c.Transfer(ctx, a.space, a.args[0], a.owner, a.args[1], a.options()...)
		},
		tell: func(r client.Result, a *asked) string {
			return fmt.Sprintf("%s has %s, which was %s's", r.Owner, called(r.Space, r.Key, r.Name), a.owner)
		},
	})
}

func newDeactivate() *cobra.Command {
	return newAsking(asking{
		use: "deactivate NAME --owner ID", short: "Say that the owner of a name is not active any more",
		long: "Say that the owner of a name is not active any more. Where names are unique among active users only, it is free then;\n" +
			"elsewhere it stays the owner's. To take it back: dibs reactivate.",
		args: exactArgs(1, "a name"), space: true, named: true, version: true, who: "who has the name",
		do: func(ctx context.Context, c *client.Client, a *asked) (client.Result, error) {
			return c.Deactivate(ctx, a.space, a.args[0], a.owner, a.options()...)
		},
		tell: func(r client.Result, a *asked) string {
			return fmt.Sprintf("%s is not active any more as %s", a.owner, called(r.Space, r.Key, r.Name))
		},
	})
}

func newReactivate() *cobra.Command {
	return newAsking(asking{
		use: "reactivate NAME --owner ID", short: "Take a deactivation back",
		long: "Take a deactivation back. Where somebody else has got the name meanwhile, it is rejected as taken.",
		args: exactArgs(1, "a name"), space: true, named: true, version: true, who: "who had the name",
		do: func(ctx context.Context, c *client.Client, a *asked) (client.Result, error) {
			return c.Reactivate(ctx, a.space, a.args[0], a.owner, a.options()...)
		},
		tell: func(r client.Result, _ *asked) string {
			return fmt.Sprintf("%s has %s", r.Owner, called(r.Space, r.Key, r.Name))
		},
	})
}
