package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/dibs-hq/dibs/client"
	"github.com/spf13/cobra"
)

// asking is a command that asks the API for something on an owner's or an actor's behalf, and waits for the outcome.
type asking struct {
	use, short, long string
	args             cobra.PositionalArgs
	who              string // the owner is; empty for an actor's
	claims           bool   // what it asks for is a claim
	space            bool   // it is about a name, not about a claim
	named            bool   // the name, its first argument, is in the address
	version          bool   // that may have to have a version
	do               func(ctx context.Context, c *client.Client, a *asked) (client.Result, error)
	// tell says what an accepted request has done.
	tell func(r client.Result, a *asked) string
}

// asked is what a command was called with.
type asked struct {
	args              []string
	owner, space, key string
	by                client.By
	version           int64
	cmd               *cobra.Command
}

func (a *asked) changed(flag string) bool { return a.cmd.Flags().Changed(flag) }

// options are those of all requests beside a claim.
func (a *asked) options() []client.RequestOption {
	var options []client.RequestOption
	if a.key != "" {
		options = append(options, client.IdempotencyKey(a.key))
	}
	if a.changed("expected-version") {
		options = append(options, client.IfVersion(a.version))
	}
	return options
}

func newAsking(ask asking) *cobra.Command {
	cmd := outputFlag(&cobra.Command{Use: ask.use, Short: ask.short, Long: ask.long + aboutOutcome, Args: ask.args})
	f := cmd.Flags()
	a := asked{cmd: cmd}
	connect := connecting(cmd, "how long to wait for the outcome")
	if ask.who != "" {
		f.StringVar(&a.owner, "owner", "", ask.who)
	} else {
		f.StringVar(&a.by.Actor, "actor", "", "who does this: you")
		f.StringVar(&a.by.Reason, "reason", "", "why; the history of the name keeps it")
	}
	f.StringVar(&a.key, "idempotency-key", "", "makes a repeated request the same request")
	if ask.space {
		f.StringVar(&a.space, "space", "username", "the space of the name")
	}
	plain := false
	if ask.named {
		cmd.Long += aboutAddress
		f.BoolVar(&plain, "plain", false, plainUsage)
	}
	if ask.version {
		f.Int64Var(&a.version, "expected-version", 0, "version that the name must have")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		asJSON, err := wantsJSON(cmd)
		if err != nil {
			return err
		}
		switch {
		case ask.who != "" && a.owner == "":
			return usage("--owner is needed: %s?", ask.who)
		case ask.who == "" && (a.by.Actor == "" || a.by.Reason == ""):
			return usage("--actor and --reason are needed: who does this, and why?")
		}
		c, address, err := connect()
		if err != nil {
			return err
		}
		a.args = slices.Clone(args)
		if ask.named {
			a.args[0], err = inAddress(cmd.Context(), c, a.space, args[0], plain)
		}
		var result client.Result
		if err == nil {
			result, err = ask.do(cmd.Context(), c, &a)
		}
		if err != nil {
			var foreseen bool
			if result, foreseen = rejection(result, err); !foreseen {
				return asExit(address, err)
			}
		}
		return ask.tellOutcome(cmd, result, asJSON, func() string { return ask.tell(result, &a) })
	}
	return cmd
}

// foreseen are the reasons of the log that the API knows beforehand, of what is about a name or a claim. What is wrong
// with a request, or with the key, is no rejection: asking for another name does not help.
var foreseen = map[string]bool{
	"invalid_name": true, "reserved_word": true, "unknown_claim": true,
	"not_owner": true, "version_conflict": true, "wrong_state": true,
}

// rejection makes of a refusal with such a reason what the log would have made of the request: who asks need not know
// which of the two has answered. What was asked for before it is not decided by it.
func rejection(asked client.Result, err error) (client.Result, bool) {
	var p *client.Problem
	if !errors.As(err, &p) || !foreseen[p.Reason] || asked.State != "" {
		return asked, false
	}
	asked.ID, asked.RequestID = p.ClaimID, p.RequestID
	asked.State, asked.Reason, asked.Detail = client.Rejected, p.Reason, p.Detail
	for i, e := range p.Errors {
		if i == 0 {
			asked.Detail = e.Field + " " + e.Detail
		} else {
			asked.Detail += "; " + e.Field + " " + e.Detail
		}
	}
	return asked, true
}

// connecting gives a command the flags that say where the API is. The function makes a client of it.
func connecting(cmd *cobra.Command, waits string) func() (c *client.Client, address string, err error) {
	address := cmd.Flags().String("url", "http://127.0.0.1:8080", "where the API is")
	wait := cmd.Flags().Duration("wait", 30*time.Second, waits)
	return func() (*client.Client, string, error) {
		if *wait <= 0 {
			return nil, "", usage("--wait is %s: it must be more than 0", *wait)
		}
		secret, err := apiKey()
		if err != nil {
			return nil, "", err
		}
		c, err := client.New(*address, client.WithKey(secret), client.WithTimeout(*wait), client.WithDialTries(dialTries))
		if err != nil {
			return nil, "", usage("%v", err)
		}
		return c, *address, nil
	}
}

// asExit gives what the client says an exit code.
func asExit(address string, err error) error {
	switch {
	case errors.Is(err, client.ErrUndecided):
		return &exitError{exitUndecided, err.Error()}
	case errors.Is(err, client.ErrUnreachable):
		return &exitError{exitUnreachable, unreachable(address, err)}
	}
	return err
}

// dialTries is how often an address is tried at which nobody listens: with the pauses in between, for half a second.
const dialTries = 3

// unreachable says in few words why nobody was reached.
func unreachable(address string, err error) string {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "dial" {
		return err.Error()
	}
	cause := op.Err
	var call *os.SyscallError
	if errors.As(cause, &call) {
		cause = call.Err
	}
	if u, err := url.Parse(address); err == nil {
		address = u.Redacted()
	}
	return fmt.Sprintf("cannot reach %s: %v", address, cause)
}

// tellOutcome tells what became of a request, in words and by the exit code.
func (ask *asking) tellOutcome(cmd *cobra.Command, r client.Result, asJSON bool, accepted func() string) error {
	about := "nothing was published"
	switch id := cmp.Or(r.RequestID, r.ID); {
	case id != "" && ask.claims && id == cmp.Or(r.ID, id):
		about = "claim " + id
	case id != "":
		about = "request " + id
	}
	out := cmd.OutOrStdout()
	switch {
	case asJSON:
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return err
		}
	case r.State == client.Accepted:
		fmt.Fprintf(out, "accepted: %s, version %d (%s)\n", accepted(), r.Version, about)
		if f := r.FollowUp; f != nil && f.State == client.FollowUpRejected {
			fmt.Fprintf(out, "but %s/%s is not released: %s (request %s)\n", f.Space, f.Key, f.Reason, f.RequestID)
		}
	case r.State == client.Withdrawn:
		fmt.Fprintf(out, "withdrawn: it was not decided in time (%s)\n", about)
	default:
		text := r.Reason
		if r.Detail != "" {
			text += ": " + r.Detail
		}
		fmt.Fprintf(out, "rejected: %s (%s)\n", text, about)
	}
	if r.State != client.Accepted {
		return &exitError{code: exitRejected}
	}
	return nil
}
