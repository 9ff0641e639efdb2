package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/bench"
	"github.com/dibs-hq/dibs/bench/peers"
	"github.com/dibs-hq/dibs/importer"
	"github.com/dibs-hq/dibs/names"
	"github.com/spf13/cobra"
)

func newBench() *cobra.Command {
	cmd := outputFlag(withSettings(&cobra.Command{
		Use: "bench", Short: "Measure claims per second and how long they wait, beside what people would pick instead",
		Long: `Measure claims per second and how long each waits, beside INSERT … ON CONFLICT over a pool of 64 connections to the same
Postgres and, with --peers, beside other ways to do it. All get the same names; runs are interleaved; medians are reported,
and ratios to --base, round by round. The first run of each is not counted.

In a closed loop (the default) --waiting claims wait at once. With --rate claims are due at that rate, whatever becomes of
those before them, and each waits from when it was due. With --backlog that many claims, which came while no processor ran,
are worked off; with --rate, too, as many a second go on coming until it has caught up, as after an outage.

With --processors N so many processes decide, and this one only claims; with --kill one of them is killed in the middle of
each run. Several numbers of processors, or of --partitions, are compared with each other. Each run of these has topics
and tables of its own.

With --grow N it compares dibs on tables that have N names and their decisions already with dibs on empty ones. --grow-schema
keeps the filled schema under that name for the next time, for filling takes long.

It makes topics and schemas of its own on the servers of the settings, bench-…, and removes them at the end. Ctrl-C ends it
the same way, and the runs that had ended are reported.`,
		Example: `  dibs bench --waiting 1,16,64,256,1024,4096 --plot bench.svg
  dibs bench --through process,kafka,http --waiting 256,1024 --runs 5
  dibs bench --rate 5000 --waiting 4096 --run 60s
  dibs bench --names signups.csv --peers -o json
  dibs bench --names zipf --exponent 1.2 --universe 1000000
  dibs bench --backlog 1000000 --runs 5
  dibs bench --backlog 600000 --rate 1000
  dibs bench --processors 1,2,4 --partitions 12,64 --only dibs
  dibs bench --processors 2 --kill --rate 1000 --run 20s --only dibs
  dibs bench --grow 50000000 --grow-schema big --fill-only; dibs bench --grow 50000000 --grow-schema big`,
		Args: exactArgs(0, "no arguments"),
	}, "kafka", "postgres", "processor"))
	b := newBenching(cmd)
	profile := profileFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		asJSON, err := wantsJSON(cmd)
		if err != nil {
			return err
		}
		if err := b.check(); err != nil {
			return err
		}
		settings, err := load(cmd, map[string]any{"log.level": "warn"})
		if err != nil {
			return err
		}
		b.settings = settings.Config
		stop, err := profile()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		run := b.run
		if b.grown.names > 0 {
			run = b.runGrown
		}
		report, err := run(cmd.Context())
		if report == nil || len(report.Tables) == 0 {
			return brokenBench(cmd.Context(), err)
		}
		if err != nil {
			report.BrokenOff = err.Error()
		}
		return errors.Join(b.write(report, asJSON), brokenBench(cmd.Context(), err))
	}
	return cmd
}

// newBenching adds the flags of what is to be measured.
func newBenching(cmd *cobra.Command) *benching {
	b, f := &benching{cmd: cmd}, cmd.Flags()
	f.IntSliceVar(&b.cfg.Waiting, "waiting", []int{1024}, "claims that wait at once; several: a table for each")
	f.Float64Var(&b.cfg.Rate, "rate", 0, "claims due per second, in an open loop; --waiting bounds how many wait at once")
	f.IntVar(&b.cfg.Backlog, "backlog", 0, "work off that many claims, in place of a load; with --rate, while others come")
	f.StringSliceVar(&b.through, "through", []string{"process"}, "the ways into dibs: process (in this process), kafka (publish and read the outcomes), http")
	f.IntVar(&b.cfg.Runs, "runs", 3, "interleaved runs of each")
	f.DurationVar(&b.cfg.Warmup, "warmup", 3*time.Second, "before each run, not measured")
	f.DurationVar(&b.cfg.Run, "run", 10*time.Second, "length of each run")
	f.StringVar(&b.names, "names", "unique", "unique: new names; zipf: some names more often than others; or a file of names, as dibs import reads it")
	f.Float64Var(&b.cfg.Names.Taken, "taken", 0.2, "part of the names that are taken, 0 to 1, with --names unique")
	f.Float64Var(&b.exponent, "exponent", 1.1, "of Zipf's law, more than 1, with --names zipf")
	f.IntVar(&b.universe, "universe", 1_000_000, "names to choose from, with --names zipf")
	f.IntSliceVar(&b.partitions, "partitions", []int{12}, "partitions of the topics; several: compare them (the others have the first)")
	f.IntSliceVar(&b.processors, "processors", nil, "processes that decide; 0: this one; several: compare them (default 0, and 1 with --backlog)")
	f.BoolVar(&b.kill, "kill", false, "kill -9 one of --processors in the middle of each run: the longest wait is the take-over")
	f.BoolVar(&b.peers, "peers", false, "measure other ways to do it, too: those that can run here")
	f.StringArrayVar(&b.only, "only", nil, "measure those only whose name has this in it; may be given several times")
	f.StringVar(&b.cfg.Base, "base", "", "whom to compare the others with, by its name or a part of it (default the direct INSERT)")
	f.Int64Var(&b.grown.names, "grow", 0, "compare tables that have so many names with empty ones, in place of dibs with others")
	f.StringVar(&b.grown.schema, "grow-schema", "", "the schema that is filled, and kept; one that is filled already is used as it is")
	f.BoolVar(&b.grown.only, "fill-only", false, "fill --grow-schema and measure nothing")
	f.StringVar(&b.plot, "plot", "", "draw the results into this file, .svg")
	return b
}

// brokenBench is the error of a benchmark that did not get to its end.
func brokenBench(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return &exitError{exitFailure, "broken off; only the runs that had ended are reported"}
	}
	return err
}

// check refuses what contradicts itself before anything is connected to, and reads the names.
func (b *benching) check() error {
	changed := b.cmd.Flags().Changed
	cfg := &b.cfg
	switch {
	case changed("processors"):
	case cfg.Backlog > 0:
		b.processors = []int{1} // which has made no claims: its memory is told
	default:
		b.processors = []int{0}
	}
	if b.kill && !changed("run") {
		cfg.Run = killRun
	}
	if cfg.Backlog > 0 {
		for _, flag := range []string{"waiting", "run", "warmup", "through", "kill"} {
			if changed(flag) {
				return usage("--%s does not go with --backlog: a backlog is worked off as fast as it can be", flag)
			}
		}
	}
	if b.grown.names > 0 {
		for _, flag := range []string{"backlog", "through", "peers", "processors", "kill"} {
			if changed(flag) {
				return usage("--%s does not go with --grow: dibs is compared with itself, in process", flag)
			}
		}
	}
	if err := b.grown.validate(); err != nil {
		return err
	}
	switch {
	case len(cfg.Waiting) == 0 || slices.Min(cfg.Waiting) < 1 || slices.Max(cfg.Waiting) > maxBenchWaiting:
		return usage("--waiting is %v: at least 1 and at most %d claims", cfg.Waiting, maxBenchWaiting)
	case cfg.Backlog < 0:
		return usage("--backlog is %d: how many claims", cfg.Backlog)
	case changed("rate") && !(cfg.Rate > 0 && cfg.Rate <= maxBenchRate):
		return usage("--rate is %v: more than 0 and at most %.0f claims per second", cfg.Rate, float64(maxBenchRate))
	case cfg.Runs < 1:
		return usage("--runs is %d: at least 1", cfg.Runs)
	case cfg.Run < time.Millisecond:
		return usage("--run is %s: at least 1ms", cfg.Run)
	case cfg.Warmup < 0:
		return usage("--warmup is %s: 0 or more", cfg.Warmup)
	case len(b.partitions) == 0 || slices.Min(b.partitions) < 1 || slices.Max(b.partitions) > 1000:
		return usage("--partitions is %v: 1 to 1000", b.partitions)
	case b.grown.names > 0 && len(b.partitions) > 1:
		return usage("--partitions is %v: one number with --grow", b.partitions)
	case len(b.processors) == 0 || slices.Min(b.processors) < 0 || slices.Max(b.processors) > maxBenchProcessors:
		return usage("--processors is %v: 0 to %d", b.processors, maxBenchProcessors)
	case b.kill && (slices.Min(b.processors) < 2 || slices.Max(b.processors) > slices.Min(b.partitions)):
		return usage("--kill goes with --processors of 2 or more, and no more of them than --partitions: one has to be left, and the one that is killed has to have something")
	case twice(b.processors) || twice(b.partitions):
		return usage("--processors and --partitions have each number once: %v and %v", b.processors, b.partitions)
	case b.kill && cfg.Run < killRun:
		return usage("--run is %s: at least %s with --kill, so that the other has taken over by its end", cfg.Run, killRun)
	case len(b.through) == 0:
		return usage("--through is empty: process, kafka, http, or several of them")
	}
	for i, way := range b.through {
		if ways[way] == nil {
			return usage("--through is %q: process, kafka, http, or several of them", way)
		}
		if slices.Contains(b.through[:i], way) {
			return usage("--through has %s twice", way)
		}
	}
	if b.plot != "" {
		if filepath.Ext(b.plot) != ".svg" {
			return usage("--plot is %q: a file that ends in .svg", b.plot)
		}
		if _, err := os.Stat(filepath.Dir(b.plot)); err != nil {
			return usage("--plot: %v", err)
		}
	}
	return b.checkNames()
}

// twice reports whether a number is there twice.
func twice(numbers []int) bool {
	sorted := slices.Sorted(slices.Values(numbers))
	return len(slices.Compact(sorted)) < len(numbers)
}

const (
	maxBenchWaiting = 100_000
	maxBenchRate    = 1_000_000
	// Each has up to postgres.max_conns connections, and uses a few of them.
	maxBenchProcessors = 16
	// killRun is twice what it takes until another processor has the partitions of one that was killed, and more.
	killRun = 20 * time.Second
)

// checkNames makes what --names and its companions say.
func (b *benching) checkNames() error {
	goesWith := map[string]string{"taken": "unique", "exponent": "zipf", "universe": "zipf"}
	for _, flag := range []string{"taken", "exponent", "universe"} {
		if with := goesWith[flag]; b.names != with && b.cmd.Flags().Changed(flag) {
			return usage("--%s goes with --names %s", flag, with)
		}
	}
	n := &b.cfg.Names
	if b.names != "unique" {
		n.Taken = 0
	}
	switch b.names {
	case "unique":
		if !(n.Taken >= 0 && n.Taken <= 1) {
			return usage("--taken is %v: 0 to 1", n.Taken)
		}
	case "zipf":
		if !(b.exponent > 1 && b.exponent <= 10) {
			return usage("--exponent is %v: more than 1 and at most 10", b.exponent)
		}
		if b.universe < 1 {
			return usage("--universe is %d: at least 1", b.universe)
		}
		n.Universe, n.Exponent = b.universe, b.exponent
	default:
		return b.readNames()
	}
	return nil
}

// readNames reads a file. Names that dibs would refuse are left out for everybody.
func (b *benching) readNames() error {
	f, err := os.Open(b.names)
	if err != nil {
		return usage("--names is unique, zipf, or a file: %v", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	rows, err := importer.NewReader(f, b.names)
	if err != nil {
		return usage("--names %s: %v", b.names, err)
	}
	n, policy, left := &b.cfg.Names, names.Builtin()[names.Username], 0
	for {
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.As(err, new(*importer.RowError)) {
			return usage("--names %s: %v", b.names, err)
		}
		key, invalid := policy.Key(row.Name)
		if err != nil || row.Space != names.Username || invalid != nil || policy.IsReserved(key) {
			left++
			continue
		}
		n.List = append(n.List, row.Name)
	}
	if len(n.List) == 0 {
		return usage("--names %s: none of its %d rows has a name that can be claimed", b.names, left)
	}
	if n.File = filepath.Base(b.names); left > 0 {
		fmt.Fprintf(b.cmd.ErrOrStderr(), "%s: %d rows have no name that can be claimed; they are left out\n", n.File, left)
	}
	return nil
}

// choose keeps those that --only names, and finds the base.
func (b *benching) choose(able []bench.Peer) ([]bench.Peer, error) {
	has := func(p bench.Peer, part string) bool { return contains(p.Name(), part) }
	all := make([]string, len(able))
	for i, p := range able {
		all[i] = fmt.Sprintf("%q", p.Name())
	}
	there := "there are " + strings.Join(all, ", ")
	if len(b.only) > 0 {
		for _, part := range b.only {
			if !slices.ContainsFunc(able, func(p bench.Peer) bool { return has(p, part) }) {
				return nil, usage("--only %q: nobody's name has that in it; %s", part, there)
			}
		}
		able = slices.DeleteFunc(slices.Clone(able), func(p bench.Peer) bool {
			return !slices.ContainsFunc(b.only, func(part string) bool { return has(p, part) })
		})
	}
	if b.cfg.Base == "" {
		b.cfg.Base = able[len(able)-1].Name()
		for _, p := range able {
			if p.Name() == peers.InsertName {
				b.cfg.Base = peers.InsertName
			}
		}
		return able, nil
	}
	var found []string
	for _, p := range able {
		if p.Name() == b.cfg.Base {
			return able, nil
		}
		if has(p, b.cfg.Base) {
			found = append(found, p.Name())
		}
	}
	if len(found) != 1 {
		return nil, usage("--base %q is the name, or a part of the name, of %d that are measured; %s", b.cfg.Base, len(found), there)
	}
	b.cfg.Base = found[0]
	return able, nil
}

// write writes the report where it was asked for.
func (b *benching) write(report *bench.Report, asJSON bool) error {
	w, write := b.cmd.OutOrStdout(), report.Write
	if asJSON {
		write = report.WriteJSON
	}
	if err := write(w); err != nil {
		return err
	}
	if b.plot == "" {
		return nil
	}
	f, err := os.Create(b.plot)
	if err != nil {
		return fmt.Errorf("--plot: %w", err)
	}
	return errors.Join(report.WriteSVG(f), f.Close())
}

// benchProgress says how runs go: on a terminal in a line that is drawn again and again, else in a line at the end of each.
type benchProgress struct {
	w     io.Writer
	drawn bool
}

func (p *benchProgress) tell(s bench.Status) {
	label := s.Peer
	if s.Waiting > 0 {
		label = fmt.Sprintf("%d waiting, %s", s.Waiting, label)
	}
	run := "the run that does not count"
	if s.Run > 0 {
		run = fmt.Sprintf("run %d of %d", s.Run, s.Of)
	}
	end := ""
	if s.Done != nil {
		end = "\n"
	}
	switch {
	case p.drawn:
		fmt.Fprintf(p.w, "\r\x1b[K%s, %s: %.0f claims/s%s", label, run, s.PerSecond, end)
	case s.Done != nil:
		fmt.Fprintf(p.w, "%s, %s: %.0f claims/s\n", label, run, s.PerSecond)
	}
}
