package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is all that is to be known of a measurement.
type Report struct {
	At      time.Time `json:"at"`
	Version string    `json:"version"`
	Machine *Machine  `json:"machine,omitempty"`
	Config  Config    `json:"config"`
	Tables  []Table   `json:"tables"`
	// Left says who was left out, and why.
	Left map[string]string `json:"left_out,omitempty"`
	// BrokenOff says why there are fewer runs than were asked for.
	BrokenOff string `json:"broken_off,omitempty"`
}

// WriteJSON writes everything.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// Write writes tables for people.
func (r *Report) Write(w io.Writer) error {
	if m := r.Machine; m != nil {
		fmt.Fprintf(w, "%s\n\n", m.line())
	}
	for i := range r.Tables {
		t := &r.Tables[i]
		fmt.Fprintf(w, "%s\n\n", r.Config.title(t.Waiting))
		who := []column{{"", func(p *Result) string { return p.Peer }}}
		if err := writeTable(w, t.Results, slices.Concat(who, speed, r.waits(t), used(t))); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	for _, who := range slices.Sorted(maps.Keys(r.Left)) {
		fmt.Fprintf(w, "left out: %s: %s\n", who, r.Left[who])
	}
	if r.BrokenOff != "" {
		fmt.Fprintf(w, "broken off: %s\n", r.BrokenOff)
	}
	return nil
}

// line is the machine in a few words.
func (m *Machine) line() string {
	words := []string{fmt.Sprintf("%d cores", m.Cores)}
	if m.Processor != "" {
		words[0] += " of " + m.Processor
	}
	for _, name := range slices.Sorted(maps.Keys(m.Servers)) {
		words = append(words, strings.TrimSpace(name+" "+m.Servers[name].Version))
	}
	return strings.Join(append(words, m.OS, m.Go), ", ")
}

// title says what a table is about.
func (cfg *Config) title(waiting int) string {
	load := fmt.Sprintf("%d waiting", waiting)
	switch {
	case cfg.Backlog > 0 && cfg.Rate > 0:
		load = fmt.Sprintf("a backlog of %d claims while %g a second go on coming", cfg.Backlog, cfg.Rate)
	case cfg.Backlog > 0:
		load = fmt.Sprintf("a backlog of %d claims", cfg.Backlog)
	case cfg.Rate > 0:
		load = fmt.Sprintf("%g claims due a second, at most %d of them waiting", cfg.Rate, waiting)
	}
	return load + ", " + cfg.common()
}

// common says what all tables have in common.
func (cfg *Config) common() string {
	what := fmt.Sprintf("%.0f %% of the names taken", 100*cfg.Names.Taken)
	switch {
	case cfg.Names.List != nil:
		what = "the names of " + cfg.Names.File
	case cfg.Names.Universe > 0:
		what = fmt.Sprintf("%d names by Zipf's law with exponent %g", cfg.Names.Universe, cfg.Names.Exponent)
	}
	what += ", medians of " + plural(cfg.Runs, "interleaved run")
	if cfg.Backlog > 0 {
		return what
	}
	return fmt.Sprintf("%s of %s behind %s of warm-up", what, cfg.Run, cfg.Warmup)
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// column is one of a table.
type column struct {
	name string
	text func(*Result) string
}

var speed = []column{
	{"claims/s", func(p *Result) string { return fmt.Sprintf("%.0f", p.Median.PerSecond) }},
	{"lowest", func(p *Result) string { return fmt.Sprintf("%.0f", p.Lowest) }},
	{"highest", func(p *Result) string { return fmt.Sprintf("%.0f", p.Highest) }},
	{"ratio", func(p *Result) string {
		if p.Ratios == nil {
			return "-"
		}
		s := p.Ratios.PerSecond
		return fmt.Sprintf("%.2f (%.2f-%.2f)", s.Median, s.Lowest, s.Highest)
	}},
}

// waits are the columns of how long it took.
func (r *Report) waits(t *Table) []column {
	duration := func(name string, get func(*Figures) time.Duration) column {
		return column{name, func(p *Result) string { return round(get(&p.Median)).String() }}
	}
	if r.Config.Backlog > 0 {
		columns := []column{
			duration("first after", func(f *Figures) time.Duration { return f.First }),
			duration("all after", func(f *Figures) time.Duration { return f.Took }),
			{"peak RSS", func(p *Result) string { return fmt.Sprintf("%.0f MB", float64(p.Median.PeakRSS)/1e6) }},
		}
		if r.Config.Rate > 0 {
			columns = append(columns,
				column{"arrivals", func(p *Result) string { return fmt.Sprint(p.Median.Arrivals) }},
				duration("their p50", func(f *Figures) time.Duration { return f.P50 }),
				duration("p99", func(f *Figures) time.Duration { return f.P99 }),
				duration("max", func(f *Figures) time.Duration { return f.Max }))
		}
		return columns
	}
	columns := []column{
		duration("p50", func(f *Figures) time.Duration { return f.P50 }),
		duration("p90", func(f *Figures) time.Duration { return f.P90 }),
		duration("p99", func(f *Figures) time.Duration { return f.P99 }),
		duration("p99.9", func(f *Figures) time.Duration { return f.P999 }),
		duration("max", func(f *Figures) time.Duration { return f.Max }),
		{"p99 ratio", func(p *Result) string {
			if p.Ratios == nil {
				return "-"
			}
			return fmt.Sprintf("%.2f", p.Ratios.P99.Median)
		}},
	}
	if slices.ContainsFunc(t.Results, func(p Result) bool { return p.Median.Unanswered > 0 }) {
		columns = append(columns, column{"unanswered", func(p *Result) string { return fmt.Sprint(p.Median.Unanswered) }})
	}
	return columns
}

// used are the columns of what a claim costs: of those who used anything.
func used(t *Table) []column {
	cpu, bytes := make(map[string]bool), make(map[string]bool)
	for _, p := range t.Results {
		for who, d := range p.Median.CPU {
			cpu[who] = cpu[who] || d >= time.Microsecond/2
		}
		for what := range p.Median.Bytes {
			bytes[what] = true
		}
	}
	micros := func(d time.Duration) string { return fmt.Sprintf("%.0fµs", float64(d)/1e3) }
	var columns []column
	if len(cpu) > 0 {
		columns = append(columns, column{"CPU/claim", func(p *Result) string {
			var sum time.Duration
			for _, d := range p.Median.CPU {
				sum += d
			}
			return micros(sum)
		}})
	}
	for _, who := range slices.Sorted(maps.Keys(cpu)) {
		if cpu[who] {
			columns = append(columns, column{who, func(p *Result) string { return micros(p.Median.CPU[who]) }})
		}
	}
	for _, what := range slices.Sorted(maps.Keys(bytes)) {
		columns = append(columns, column{what + "/claim", func(p *Result) string { return fmt.Sprintf("%.0fB", p.Median.Bytes[what]) }})
	}
	return columns
}

func writeTable(w io.Writer, results []Result, columns []column) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	line := func(text func(column) string) {
		for _, c := range columns {
			fmt.Fprintf(tw, "%s\t", text(c))
		}
		fmt.Fprintln(tw)
	}
	line(func(c column) string { return c.name })
	for i := range results {
		line(func(c column) string { return c.text(&results[i]) })
	}
	return tw.Flush()
}

// round leaves what can be read at a glance.
func round(d time.Duration) time.Duration {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond)
	case d < 100*time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}
