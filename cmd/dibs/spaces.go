package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dibs-hq/dibs/app"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/spf13/cobra"
)

func newSpaces() *cobra.Command {
	cmd := outputFlag(withSettings(&cobra.Command{
		Use: "spaces", Short: "Which policies hold where; change them",
		Long: `List the spaces, the version of the policy that holds for each, and in which partitions; then the keys that signatures
may be made with.

A policy holds in a partition from a record of its log on: dibs spaces apply puts it there.`,
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
				return printSpaces(cmd, d.Policies, rows, asJSON)
			})
		},
	}, "kafka", "postgres"))
	cmd.AddCommand(newSpacesApply(), newSpacesCheck())
	return cmd
}

// heldPolicy is a version of a space's policy, and where it holds.
type heldPolicy struct {
	Space      names.Space     `json:"space"`
	Version    int             `json:"version"`
	Partitions []int32         `json:"partitions"`
	Policy     json.RawMessage `json:"policy"`
}

// heldKeys are the keys that hold, and where.
type heldKeys struct {
	Keys       []string `json:"keys"` // null: all of the file
	Signatures string   `json:"signatures"`
	Unreadable string   `json:"unreadable,omitempty"` // why it is not known what holds
	Partitions []int32  `json:"partitions"`
}

// where groups what holds by partition.
func where(start names.Policies, rows []processor.Standing) (policies []heldPolicy, keys []heldKeys) {
	for _, row := range rows {
		all, k := row.InForce.Over(start), heldKeys{Signatures: config.SignPrivileged}
		if f := row.InForce; f != nil {
			if k.Keys = f.Keys; f.SignedOnly {
				k.Signatures = config.SignAll
			}
			if k.Unreadable = f.Unreadable; k.Unreadable != "" {
				all, k.Signatures = nil, ""
			}
		}
		for _, p := range all {
			i := slices.IndexFunc(policies, func(h heldPolicy) bool { return h.Space == p.Space && h.Version == p.Version })
			if i < 0 {
				i = len(policies)
				policies = append(policies, heldPolicy{Space: p.Space, Version: p.Version, Policy: p.AppendJSON(nil)})
			}
			policies[i].Partitions = append(policies[i].Partitions, row.Partition)
		}
		i := slices.IndexFunc(keys, func(h heldKeys) bool {
			return slices.Equal(h.Keys, k.Keys) && h.Signatures == k.Signatures && h.Unreadable == k.Unreadable
		})
		if i < 0 {
			i = len(keys)
			keys = append(keys, k)
		}
		keys[i].Partitions = append(keys[i].Partitions, row.Partition)
	}
	slices.SortFunc(policies, func(a, b heldPolicy) int {
		if c := strings.Compare(string(a.Space), string(b.Space)); c != 0 {
			return c
		}
		return a.Version - b.Version
	})
	return policies, keys
}

func printSpaces(cmd *cobra.Command, start names.Policies, rows []processor.Standing, asJSON bool) error {
	policies, keys := where(start, rows)
	out := cmd.OutOrStdout()
	if asJSON {
		encoder := json.NewEncoder(out)
		for _, p := range policies {
			if err := encoder.Encode(p); err != nil {
				return err
			}
		}
		for _, k := range keys {
			if err := encoder.Encode(k); err != nil {
				return err
			}
		}
		return nil
	}
	if len(rows) == 0 {
		fmt.Fprintln(out, "no processor has run yet: the built-in policy of the space username holds")
		return nil
	}
	tw := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "SPACE\tVERSION\tPARTITIONS")
	for _, p := range policies {
		fmt.Fprintf(tw, "%s\t%d\t%s\n", p.Space, p.Version, ranges(p.Partitions))
	}
	fmt.Fprintln(tw, "\nSIGNED WITH\tMUST BE\tPARTITIONS")
	for _, k := range keys {
		ids := strings.Join(k.Keys, ", ")
		switch {
		case k.Unreadable != "":
			ids = k.Unreadable
		case k.Keys == nil:
			ids = "any key of the file"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", ids, k.Signatures, ranges(k.Partitions))
	}
	return tw.Flush()
}

// ranges writes ascending numbers briefly: 0-3, 5.
func ranges(ns []int32) string {
	var b strings.Builder
	for i := 0; i < len(ns); {
		j := i
		for j+1 < len(ns) && ns[j+1] == ns[j]+1 {
			j++
		}
		if i > 0 {
			b.WriteString(", ")
		}
		if fmt.Fprint(&b, ns[i]); j > i {
			fmt.Fprintf(&b, "-%d", ns[j])
		}
		i = j + 1
	}
	return b.String()
}

func newSpacesApply() *cobra.Command {
	cmd := withSettings(&cobra.Command{
		Use: "apply FILE", Short: "Make the policies of a file hold, in every partition, through the log",
		Long: `Publish the policies of a file to every partition, signed, and wait until each has decided the record: from it on the
policy holds there, and the keys of security.request_keys_file and security.require_signatures with it.

A policy that holds already is left alone, so the same file can be applied again, also to go on with what was broken off.
A change must raise the version. To retire keys or to drop signatures asks for a flag. See dibs spaces check for whom it is about.

Exit codes: 0 it holds, 1 refused or not taken, 2 wrong file, 4 published and not decided everywhere in time, 5 Kafka or
Postgres out of reach.`,
		Args: exactArgs(1, "a file"),
	}, "kafka", "postgres", "security")
	dryRun := cmd.Flags().Bool("dry-run", false, "publish nothing; say what would be")
	retire := cmd.Flags().Bool("retire-keys", false, "keys that hold and are not in the file of request keys are not to hold any more")
	drop := cmd.Flags().Bool("drop-signatures", false, "where every request must be signed, it need not be any more")
	wait := cmd.Flags().Duration("wait", time.Minute, "how long to wait until every partition has it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		policies, err := readSpaces(args[0])
		if err != nil {
			return err
		}
		if *wait <= 0 {
			return usage("--wait is %s: more than 0", *wait)
		}
		settings, err := load(cmd, nil)
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		err = app.ApplySpaces(cmd.Context(), settings.Config, logger(cmd, settings.Log), policies, app.ApplyOptions{
			DryRun: *dryRun, RetireKeys: *retire, DropSignatures: *drop, Wait: *wait,
			Planned: func(p *app.SpacesPlan) { printPlan(cmd, p, *dryRun, *retire) },
			Progress: func(space names.Space, done, of int) {
				fmt.Fprintf(out, "%s: holds in %d of %d partitions\n", space, done, of)
			},
		})
		return spacesExit(err)
	}
	return cmd
}

func printPlan(cmd *cobra.Command, plan *app.SpacesPlan, dry, retire bool) {
	out := cmd.OutOrStdout()
	verb := "is published"
	if dry {
		verb = "would be published"
	}
	for _, c := range plan.Changes {
		switch {
		case len(c.Pending) == 0:
			fmt.Fprintf(out, "%s: version %d holds already\n", c.Policy.Space, c.Policy.Version)
		default:
			fmt.Fprintf(out, "%s: version %d %s to partitions %s, where at most version %d holds\n", c.Policy.Space, c.Policy.Version, verb, ranges(c.Pending), c.Before)
		}
	}
	if plan.Done() {
		return
	}
	fmt.Fprintf(out, "keys from then on: %s", strings.Join(plan.Keys, ", "))
	if len(plan.New) > 0 {
		fmt.Fprintf(out, ". New: %s. A processor that has not got one of them halts its partitions", strings.Join(plan.New, ", "))
	}
	if len(plan.Retired) > 0 {
		fmt.Fprintf(out, ". Not any more: %s", strings.Join(plan.Retired, ", "))
	}
	switch {
	case plan.SignedOnly:
		fmt.Fprintln(out, "\nsignatures from then on: all: every request must be signed")
	case plan.Dropped:
		fmt.Fprintln(out, "\nsignatures from then on: privileged: not every request must be signed any more")
	default:
		fmt.Fprintln(out, "\nsignatures from then on: privileged: what an actor or dibs itself asks must be signed")
	}
	if len(plan.Retired) > 0 && retire && !dry {
		fmt.Fprintf(out, "it is published in %s, when nobody signs with %s any more\n", app.SettleKeys, strings.Join(plan.Retired, ", "))
	}
}

// spacesExit gives an error its exit code.
func spacesExit(err error) error {
	if errors.Is(err, app.ErrNotYet) {
		return &exitError{exitUndecided, err.Error()}
	}
	return err
}

func readSpaces(path string) ([]*names.Policy, error) {
	policies, err := config.ReadSpaces(path)
	if err != nil {
		return nil, &exitError{exitUsage, err.Error()}
	}
	for _, p := range policies {
		if p.Space == claims.Signup {
			return nil, usage("spaces: %s: spaces.%s is the space of sign-ups, which have no policy: call yours otherwise", path, p.Space)
		}
	}
	return policies, nil
}

func newSpacesCheck() *cobra.Command {
	cmd := outputFlag(withSettings(&cobra.Command{
		Use: "check FILE", Short: "Compare the policies of a file with what holds, and with the names that are held",
		Long: `Compare the policies of a file with what holds, and list the names that are held and that nobody could claim under them
any more. Who holds such a name keeps it: nothing but claims of it is refused.

A change of their form may not give names that are held, cooling or blocked another key: those are listed too, and the
file would not be applied.

Exit codes: 0 no held name is concerned, 1 the file would not be applied as it is, 2 wrong file, 3 names are concerned.`,
		Args: exactArgs(1, "a file"),
	}, "kafka", "postgres", "security"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		asJSON, err := wantsJSON(cmd)
		if err != nil {
			return err
		}
		policies, err := readSpaces(args[0])
		if err != nil {
			return err
		}
		settings, err := load(cmd, nil)
		if err != nil {
			return err
		}
		return app.WithRecord(cmd.Context(), settings.Config, logger(cmd, settings.Log), func(d *app.Deployment) error {
			return checkSpaces(cmd, d, policies, asJSON)
		})
	}
	return cmd
}

func checkSpaces(cmd *cobra.Command, d *app.Deployment, policies []*names.Policy, asJSON bool) error {
	out := cmd.OutOrStdout()
	encoder := json.NewEncoder(out)
	concerned := 0
	var fault error
	for _, p := range policies {
		count := 0
		change, err := d.CheckSpace(cmd.Context(), p, func(u app.Unfit) {
			count++
			if asJSON {
				_ = encoder.Encode(map[string]any{"space": u.Space, "key": u.Key, "name": u.Name, "owner": u.Owner, "state": u.State, "why": u.Why}) // standard output is gone: nobody to tell
				return
			}
			fmt.Fprintf(out, "%s  %s of %s: %s\n", called(string(u.Space), string(u.Key), u.Name), u.State, u.Owner, u.Why)
		})
		concerned += count
		switch {
		case err != nil && !errors.Is(err, app.ErrNotRaised) && !errors.Is(err, app.ErrMovesKeys):
			return err
		case err != nil:
			fault = errors.Join(fault, err)
		case asJSON:
		case len(change.Pending) == 0:
			fmt.Fprintf(out, "%s: version %d holds already\n", p.Space, p.Version)
		default:
			fmt.Fprintf(out, "%s: version %d would hold after at most version %d; %d held names are concerned\n", p.Space, p.Version, change.Before, count)
		}
	}
	if fault == nil && concerned > 0 {
		return &exitError{code: exitRejected}
	}
	return fault
}
