package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/dibs-hq/dibs/client"
	"github.com/spf13/cobra"
)

func newClaim() *cobra.Command {
	cmd := outputFlag(&cobra.Command{
		Use: "claim NAME --owner ID", Short: "Claim a name over HTTP, and wait for the outcome",
		Long: `Claim a name over HTTP, and wait for the outcome. What fails on the way is tried again, as the same claim; where nobody
listens at the address from the beginning, only a few times.

The API key comes from DIBS_API_KEY, or from the file that DIBS_API_KEY_FILE names. Exit code 0: accepted, 3: rejected,
4: not decided in time (it may still be), 5: the API is out of reach.`,
		Args: exactArgs(1, "a name"),
	})
	f := cmd.Flags()
	address := f.String("url", "http://127.0.0.1:8080", "where the API is")
	owner := f.String("owner", "", "who is to have the name")
	space := f.String("space", "username", "the space of the name")
	key := f.String("idempotency-key", "", "makes a repeated claim the same claim")
	existing := f.Bool("return-existing", false, "accept a name that the owner holds already")
	version := f.Int64("expected-version", -1, "version that the name must have; 0: never held, or free")
	wait := f.Duration("wait", 30*time.Second, "how long to wait for the outcome")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		asJSON, err := wantsJSON(cmd)
		if err != nil {
			return err
		}
		if *owner == "" {
			return usage("--owner is needed: who is to have the name?")
		}
		secret, err := apiKey()
		if err != nil {
			return err
		}
		c, err := client.New(*address, client.WithKey(secret), client.WithTimeout(*wait), client.WithDialTries(dialTries))
		if err != nil {
			return usage("%v", err)
		}
		claim := client.Claim{Space: *space, Name: args[0], Owner: *owner, ReturnExisting: *existing, IdempotencyKey: *key}
		if cmd.Flags().Changed("expected-version") {
			claim.ExpectedVersion = version
		}
		result, err := c.Claim(cmd.Context(), claim)
		return claimed(cmd, *address, result, err, asJSON)
	}
	return cmd
}

// dialTries is how often an address is tried at which nobody listens: with the pauses in between, for half a second.
const dialTries = 3

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

// claimed tells what became of the claim, in words and by the exit code.
func claimed(cmd *cobra.Command, address string, r client.Result, err error, asJSON bool) error {
	switch {
	case err == nil:
	case errors.Is(err, client.ErrUndecided):
		return &exitError{exitUndecided, err.Error()}
	case errors.Is(err, client.ErrUnreachable):
		return &exitError{exitUnreachable, unreachable(address, err)}
	default:
		return err
	}
	out := cmd.OutOrStdout()
	switch {
	case asJSON:
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return err
		}
	case r.State == client.Accepted:
		fmt.Fprintf(out, "accepted: %s has %s/%s, version %d (claim %s)\n", r.Owner, r.Space, r.Key, r.Version, r.ID)
	default:
		fmt.Fprintf(out, "rejected: %s: %s (claim %s)\n", r.Reason, r.Detail, r.ID)
	}
	if r.State == client.Rejected {
		return &exitError{code: exitRejected}
	}
	return nil
}

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
