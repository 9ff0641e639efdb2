package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Write writes results as a table; ratios are to the last peer, the one to be compared with.
func Write(w io.Writer, cfg Config, results []Result) error {
	fmt.Fprintf(w, "%d waiting, %.0f %% of the names taken, medians of %d interleaved runs of %s behind %s of warm-up\n\n",
		cfg.Waiting, 100*cfg.Taken, cfg.Runs, cfg.Run, cfg.Warmup)
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "\tclaims/s\tlowest\thighest\tp50\tp90\tp99\tratio\t")
	base := results[len(results)-1].Median.PerSecond
	for _, r := range results {
		m := r.Median
		fmt.Fprintf(tw, "%s\t%.0f\t%.0f\t%.0f\t%s\t%s\t%s\t%.2f\t\n", r.Peer, m.PerSecond, r.Lowest, r.Most,
			round(m.P50), round(m.P90), round(m.P99), m.PerSecond/base)
	}
	return tw.Flush()
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
