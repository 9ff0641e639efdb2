package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/app"
	"github.com/dibs-hq/dibs/importer"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

func newImport() *cobra.Command {
	cmd := withSettings(&cobra.Command{
		Use:   "import FILE",
		Short: "Claim the names of a file (CSV or NDJSON) through Kafka",
		Long: `Claim the names of a file, through Kafka, and read the outcomes.

The columns (or fields) are name or username, owner or owner_id, and perhaps space, registered_at, request_id and
metadata.*. In a private space the key of a row is made with security.peppers_file, and of fields.* where it has several
fields. The id of a row is its request_id, else derived from space, name and owner: the same file imports to the same
ids, and importing it twice changes nothing. Of two rows with one name the first one claims first.

Progress is kept in FILE.resume, so that an import that was broken off goes on where it was; rejected rows are listed in
FILE.rejects.csv. --dry-run claims nothing and lists what would be rejected.

What fails on the way is tried again. It ends where that leads nowhere: with exit code 1 where rows wait on a partition
that is halted, with 5 where no outcome has come for --patience. The same command then goes on where it was.`,
		Args: exactArgs(1, "a file"),
	}, "kafka", "postgres", "security")
	dryRun := cmd.Flags().Bool("dry-run", false, "claim nothing; list what would collide, in the file and with names that are held")
	waiting := cmd.Flags().Int("waiting", 2048, "rows that wait for their outcome at once")
	patience := cmd.Flags().Duration("patience", 5*time.Minute, "how long to go on while no outcome comes")
	rejects := cmd.Flags().String("rejects", "", "where to list rejected rows (default FILE.rejects.csv)")
	resume := cmd.Flags().String("resume", "", "where to keep progress (default FILE.resume)")
	outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		im := importing{cmd: cmd, file: args[0], rejects: *rejects, resume: *resume, dryRun: *dryRun}
		if im.rejects == "" {
			im.rejects = im.file + ".rejects.csv"
		}
		if im.resume == "" {
			im.resume = im.file + ".resume"
		}
		if *waiting < 1 || *waiting > 20_000 {
			return usage("--waiting is %d: 1 to 20000", *waiting)
		}
		if *patience < time.Second {
			return usage("--patience is %s: at least 1s", *patience)
		}
		var err error
		if im.json, err = wantsJSON(cmd); err != nil {
			return err
		}
		return im.run(cmd.Context(), importer.Config{Waiting: *waiting, Patience: *patience})
	}
	return cmd
}

// importing is one run of the command.
type importing struct {
	cmd                   *cobra.Command
	file, rejects, resume string
	json, dryRun          bool

	total    int
	progress importer.Progress
	begun    time.Time
	rows     int // done in this run
	accepted int
	reasons  map[string]int
	ahead    map[int]bool // done behind a row that is not
	saved    time.Time
	told     time.Time
	out      *csv.Writer
	bar      *progressbar.ProgressBar
	fault    error // of the rejects or the resume file
}

func (im *importing) run(ctx context.Context, cfg importer.Config) (err error) {
	settings, err := load(im.cmd, nil)
	if err != nil {
		return err
	}
	f, err := os.Open(im.file)
	if err != nil {
		return usage("%v", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	if err := im.prepare(f); err != nil {
		return err
	}
	rows, err := importer.NewReader(f, im.file)
	if err != nil {
		return usage("%s: %v", im.file, err)
	}
	list, err := im.openRejects()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, list.Close()) }()

	log := logger(im.cmd, settings.Log)
	im.begun, im.reasons, im.ahead = time.Now(), make(map[string]int), make(map[int]bool)
	if im.dryRun {
		err = app.WithRecord(ctx, settings.Config, log, func(d *app.Deployment) error {
			held, err := d.Held(ctx)
			if err != nil {
				return err
			}
			return importer.DryRun(ctx, rows, held.Policies, d.Peppers, d.Record, im.done)
		})
	} else {
		err = app.WithClaims(ctx, settings.Config, log, cfg.Waiting, func(ctx context.Context, d *app.Deployment) error {
			held, err := d.Held(ctx) // what changes meanwhile, the log says
			if err != nil {
				return err
			}
			cfg.Policies, cfg.Peppers, cfg.Partitions, cfg.Log = held.Policies, d.Peppers, d.Contract.Partitions, log
			cfg.Sign = d.Signer(func() api.Holding { return held })
			return importer.New(cfg, d.Claims, d.Waiter, d.Record).Run(ctx, rows, im.progress.Rows, im.done)
		})
	}
	im.out.Flush()
	if err = errors.Join(err, im.fault, im.out.Error()); err == nil && !im.dryRun {
		err = os.Remove(im.resume)
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	} else if !im.dryRun {
		err = errors.Join(err, im.progress.Save(im.resume))
	}
	if im.bar != nil {
		_ = im.bar.Exit() // a bar that cannot be drawn is no failure
		fmt.Fprintln(im.cmd.ErrOrStderr())
	}
	im.summary(err)
	if err != nil && ctx.Err() != nil {
		return &exitError{exitUndecided, brokenOff(im.progress.Rows)}
	}
	return ended(err, im.progress.Rows)
}

func brokenOff(row int) string {
	return fmt.Sprintf("broken off after row %d; the same command goes on from there", row)
}

// ended says what to do where an import has ended by itself after a row.
func ended(err error, row int) error {
	var halted *importer.HaltedError
	switch {
	case errors.As(err, &halted):
		return &exitError{exitFailure, fmt.Sprintf("%v: see dibs partitions, put its log right, and let it go on with dibs partitions resume %d; %s",
			err, halted.Partition, brokenOff(row))}
	case errors.Is(err, importer.ErrSilent):
		return &exitError{exitUnreachable, fmt.Sprintf("%v: Kafka, Postgres or the processor is away; %s", err, brokenOff(row))}
	}
	return err
}

// prepare counts the rows, for the bar, and looks up what an earlier run has done.
func (im *importing) prepare(f *os.File) error {
	sum, err := importer.Fingerprint(f)
	if err != nil {
		return err
	}
	if im.progress, err = importer.LoadProgress(im.resume, im.file, sum); err != nil {
		return usage("%v", err)
	}
	if im.dryRun {
		im.progress.Rows = 0
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read %s: %w", im.file, err)
	}
	rows, err := importer.NewReader(f, im.file)
	if err != nil {
		return usage("%s: %v", im.file, err)
	}
	for {
		var broken *importer.RowError
		if _, err := rows.Next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil && !errors.As(err, &broken) {
			return fmt.Errorf("%s: %w", im.file, err)
		}
		im.total++
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read %s: %w", im.file, err)
	}
	w := im.cmd.ErrOrStderr()
	if im.progress.Rows > 0 {
		fmt.Fprintf(w, "going on behind row %d of %d\n", im.progress.Rows, im.total)
	}
	if colourful(w) {
		im.bar = progressbar.NewOptions(im.total-im.progress.Rows, progressbar.OptionSetWriter(w), progressbar.OptionShowCount(),
			progressbar.OptionShowIts(), progressbar.OptionSetItsString("rows"), progressbar.OptionSetDescription("importing"),
			progressbar.OptionThrottle(100*time.Millisecond))
	}
	return nil
}

var rejectsHeader = []string{"row", "space", "name", "owner", "request_id", "reason", "detail"}

// openRejects begins the list of rejected rows, or goes on with that of the run that is resumed.
func (im *importing) openRejects() (io.Closer, error) {
	if im.dryRun {
		im.out = csv.NewWriter(im.cmd.OutOrStdout())
		if im.json {
			im.out = csv.NewWriter(io.Discard)
		}
		return io.NopCloser(nil), im.out.Write(rejectsHeader)
	}
	mode := os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	if im.progress.Rows > 0 {
		mode = os.O_CREATE | os.O_WRONLY | os.O_APPEND
	}
	f, err := os.OpenFile(im.rejects, mode, 0o600)
	if err != nil {
		return nil, fmt.Errorf("list rejected rows: %w", err)
	}
	im.out = csv.NewWriter(f)
	if im.progress.Rows == 0 {
		if err := im.out.Write(rejectsHeader); err != nil {
			return nil, fmt.Errorf("list rejected rows: %w", err)
		}
	}
	return f, nil
}

// How often progress is written down, and said where there is no bar.
const (
	saveEvery = time.Second
	tellEvery = 5 * time.Second
)

// done takes note of a row. It is called by one goroutine at a time.
func (im *importing) done(r importer.Result) {
	im.rows++
	if r.Reason == "" {
		im.accepted++
	} else {
		im.reasons[r.Reason]++
		id := ""
		if r.ID != [16]byte{} {
			id = r.ID.String()
		}
		if err := im.out.Write([]string{strconv.Itoa(r.Number), string(r.Space), r.Name, r.Owner, id, r.Reason, r.Detail}); err != nil {
			im.fault = err
		}
	}
	if im.bar != nil {
		_ = im.bar.Add(1) // a bar that cannot be drawn is no failure
	}
	im.ahead[r.Number] = true
	for im.ahead[im.progress.Rows+1] {
		im.progress.Rows++
		delete(im.ahead, im.progress.Rows)
	}
	now := time.Now()
	if im.bar == nil && now.Sub(im.told) > tellEvery {
		if !im.told.IsZero() {
			fmt.Fprintf(im.cmd.ErrOrStderr(), "%d of %d rows\n", im.progress.Rows, im.total)
		}
		im.told = now
	}
	if !im.dryRun && now.Sub(im.saved) > saveEvery {
		im.out.Flush() // the rejects first: a row that is not done is rejected once more, not once less
		if err := im.progress.Save(im.resume); err != nil {
			im.fault = err
		}
		im.saved = now
	}
}

func (im *importing) summary(err error) {
	took := time.Since(im.begun)
	w := im.cmd.OutOrStdout()
	if im.json {
		_ = json.NewEncoder(w).Encode(map[string]any{ // standard output is gone: nobody to tell
			"file": im.file, "rows": im.total, "done": im.rows, "accepted": im.accepted, "rejected": im.reasons,
			"seconds": took.Seconds(), "complete": err == nil, "dry_run": im.dryRun,
		})
		return
	}
	if im.dryRun {
		w = im.cmd.ErrOrStderr() // the list of rejects is on standard output
	}
	verb := "accepted"
	if im.dryRun {
		verb = "would be accepted"
	}
	fmt.Fprintf(w, "%s: %d of %d rows in %s (%.0f rows/s)\n", im.file, im.rows, im.total, took.Round(10*time.Millisecond), float64(im.rows)/took.Seconds())
	fmt.Fprintf(w, "  %-20s %d\n", verb, im.accepted)
	rejected := make([]string, 0, len(im.reasons))
	for reason := range im.reasons {
		rejected = append(rejected, reason)
	}
	slices.Sort(rejected)
	for _, reason := range rejected {
		fmt.Fprintf(w, "  %-20s %d\n", reason, im.reasons[reason])
	}
	if !im.dryRun && len(rejected) > 0 {
		fmt.Fprintf(w, "rejected rows are listed in %s\n", im.rejects)
	}
}
