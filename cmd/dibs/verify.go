package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dibs-hq/dibs/app"
	"github.com/dibs-hq/dibs/verify"
	"github.com/spf13/cobra"
)

func newVerify() *cobra.Command {
	cmd := outputFlag(withSettings(&cobra.Command{
		Use: "verify", Short: "Replay the log, and compare what is stored and published with what it says",
		Long: `Replay the topic claims with the processor's own rules, and compare, byte for byte: every row of decisions, every name, how
far each partition is, and every outcome on registrations. It writes nothing and may run beside a deployment at work: of each
partition one moment is compared.

What lies before the start of the log, because retention has taken it or an operator has accepted a gap, cannot be
replayed: it is taken on trust, and said so.

Requests that count only with a signature need security.request_keys_file, with every key that they were ever signed with.

Exit codes: 0 no difference, 6 a difference, 5 Kafka or Postgres out of reach, 2 usage, 1 anything else; also where it was
broken off.`,
		Args: exactArgs(0, "no arguments"),
	}, "kafka", "postgres", "security"))
	partitions := cmd.Flags().Int32Slice("partition", nil, "only this partition; may be repeated")
	most := cmd.Flags().Int("max-differences", 20, "how many differences are listed; further ones are counted")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := wantsJSON(cmd)
		if err != nil {
			return err
		}
		if *most < 1 {
			return usage("--max-differences is %d: at least 1", *most)
		}
		for _, p := range *partitions {
			if p < 0 {
				return usage("%d is no partition", p)
			}
		}
		settings, err := load(cmd, nil)
		if err != nil {
			return err
		}
		began := time.Now()
		watched, watch := context.WithCancel(cmd.Context())
		defer watch()
		report, err := app.Verify(cmd.Context(), settings.Config, logger(cmd, settings.Log), app.VerifyOptions{
			Partitions: *partitions, MaxDifferences: *most,
			Watch: func(v *verify.Verifier) { go watchVerify(watched, cmd.ErrOrStderr(), v) },
		})
		watch()
		if report.Of > 0 { // else it has not begun
			if err := printVerify(cmd.OutOrStdout(), &report, time.Since(began), asJSON); err != nil {
				return err
			}
		}
		return verified(cmd.Context(), &report, err)
	}
	return cmd
}

// verified is the exit code of a run.
func verified(ctx context.Context, report *verify.Report, err error) error {
	switch {
	case ctx.Err() != nil:
		return &exitError{exitFailure, fmt.Sprintf("broken off: %d of %d partitions are verified", report.Partitions, report.Of)}
	case errors.Is(err, verify.ErrKeys):
		return usage("%v: set security.request_keys_file (DIBS_SECURITY_REQUEST_KEYS_FILE) to the file that the processors have", err)
	case errors.Is(err, verify.ErrSecret):
		return usage("%v: set it (DIBS_SECURITY_ERASURE_SECRET_FILE) to the file that the processors have", err)
	case errors.Is(err, verify.ErrPartition):
		return usage("%v", err)
	case err != nil:
		return err
	case report.Found > 0:
		return &exitError{exitDifferent, fmt.Sprintf("%d differences", report.Found)}
	}
	return nil
}

// watchVerify says how far a run is: once a second on a terminal, else now and then.
func watchVerify(ctx context.Context, w io.Writer, v *verify.Verifier) {
	every, end := 10*time.Second, "\n"
	if colourful(w) {
		every, end = time.Second, "\r"
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			if end == "\r" {
				fmt.Fprintf(w, "%79s\r", "")
			}
			return
		}
		p := v.Progress()
		took := time.Since(began)
		left := "?"
		if p.Done > 0 {
			left = (time.Duration(float64(took) * float64(max(0, p.Total-p.Done)) / float64(p.Done))).Round(time.Second).String()
		}
		fmt.Fprintf(w, "%-79s%s", fmt.Sprintf("%d of %d partitions, %d records replayed (%.0f/s), %d of %d read, %s left",
			p.Ended, p.Partitions, p.Replayed, float64(p.Replayed)/took.Seconds(), p.Done, p.Total, left), end)
	}
}

func printVerify(w io.Writer, r *verify.Report, took time.Duration, asJSON bool) error {
	if asJSON {
		if r.Differences == nil {
			r.Differences = []verify.Difference{}
		}
		return json.NewEncoder(w).Encode(struct {
			*verify.Report
			Seconds float64 `json:"seconds"`
		}{r, took.Seconds()})
	}
	for i := range r.Differences {
		fmt.Fprintln(w, r.Differences[i].String())
	}
	if n := r.Found - int64(len(r.Differences)); n > 0 {
		fmt.Fprintf(w, "and %d more\n", n)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
	fmt.Fprintf(w, "%d of %d partitions in %s (%.0f records/s)\n", r.Partitions, r.Of, took.Round(10*time.Millisecond), float64(r.Records)/took.Seconds())
	for _, line := range []struct {
		what   string
		n      int64
		always bool
	}{
		{"records replayed", r.Records, true},
		{"rows of decisions compared", r.Rows, true},
		{"names compared", r.Names, true},
		{"outcomes found on registrations", r.Outcomes, true},
		{"further copies of them", r.Duplicates, true},
		{"rows taken on trust", r.Trusted, true},
		{"outcomes compared with those", r.TrustedOutcomes, false},
		{"outcomes that retention has taken", r.Expired, false},
		{"outcomes still to be published", r.Unpublished, false},
		{"outcomes published meanwhile", r.Later, false},
		{"outcomes of what is not kept", r.Forgotten, false},
		{"erased rows", r.Erased, true},
		{"differences", r.Found, true},
	} {
		if line.always || line.n > 0 {
			fmt.Fprintf(w, "  %-34s %d\n", line.what, line.n)
		}
	}
	return nil
}
