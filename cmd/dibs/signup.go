package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/client"
	"github.com/spf13/cobra"
)

func newSignup() *cobra.Command {
	var s client.SignUp
	var fields composites
	cmd := outputFlag(&cobra.Command{
		Use: "signup [SPACE/]NAME … --owner ID", Short: "Take several names at once over HTTP, or none",
		Long: "Take several names at once over HTTP, or none, and wait for the outcome. A name of another space than username is\n" +
			"written SPACE/NAME; of a space of several fields, --field SPACE/NAME=VALUE gives each of them, and all of one space are\n" +
			"one name. What fails on the way is tried again, as the same sign-up." + aboutOutcome,
		Args: cobra.ArbitraryArgs,
	})
	connect := connecting(cmd, "how long to wait for the outcome")
	f := cmd.Flags()
	f.StringVar(&s.Owner, "owner", "", "who is to have the names")
	f.Var(&fields, "field", "one of several fields that are unique together, for a name of that space; once for each")
	f.StringVar(&s.IdempotencyKey, "idempotency-key", "", "makes a repeated request the same request")
	f.DurationVar(&s.TTL, "ttl", 0, "how long the names may take to answer before it is given up (default: a minute)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		asJSON, err := wantsJSON(cmd)
		if err != nil {
			return err
		}
		switch {
		case len(args)+len(fields) == 0:
			return usage("%s takes names, or --field; see %s --help", cmd.CommandPath(), cmd.CommandPath())
		case s.Owner == "":
			return usage("--owner is needed: who is to have the names?")
		case cmd.Flags().Changed("ttl") && s.TTL < time.Second:
			return usage("--ttl is %s: at least 1s", s.TTL)
		}
		s.Names = nil
		for _, arg := range args {
			space, name, ok := strings.Cut(arg, "/")
			if !ok {
				space, name = "", arg
			}
			s.Names = append(s.Names, client.WantedName{Space: space, Name: name})
		}
		s.Names = append(s.Names, fields...)
		c, address, err := connect()
		if err != nil {
			return err
		}
		r, err := c.SignUp(cmd.Context(), s)
		if err != nil {
			known, foreseen := rejection(client.Result{State: r.State}, err)
			if !foreseen {
				return asExit(address, err)
			}
			r.State, r.Reason, r.Detail = known.State, known.Reason, known.Detail
		}
		return tellSignup(cmd, &r, asJSON)
	}
	return cmd
}

// tellSignup tells what became of a sign-up, in words and by the exit code.
func tellSignup(cmd *cobra.Command, r *client.SignUpResult, asJSON bool) error {
	out := cmd.OutOrStdout()
	switch {
	case asJSON:
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return err
		}
	case r.State == client.Accepted:
		var all []string
		for _, n := range r.Names {
			all = append(all, n.Space+"/"+n.Key)
		}
		fmt.Fprintf(out, "accepted: %s has %s (sign-up %s)\n", r.Owner, strings.Join(all, ", "), r.ID)
	default:
		text := r.Reason
		if r.Detail != "" {
			text += ": " + r.Detail
		}
		about := "nothing was published"
		if r.ID != "" {
			about = "sign-up " + r.ID
		}
		fmt.Fprintf(out, "rejected: %s (%s)\n", text, about)
	}
	if r.State != client.Accepted {
		return &exitError{code: exitRejected}
	}
	return nil
}
