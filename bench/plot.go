package bench

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"text/template"
	"time"
)

// WriteSVG draws the report: claims per second, and latencies, by how many wait; of one load, by percentile. Of the
// plotting libraries the usual one brings fonts, LaTeX and PDF into a program that draws nothing else.
func (r *Report) WriteSVG(w io.Writer) error {
	var panels []panel
	if rates := r.rates(); len(rates.series) > 0 {
		panels = append(panels, rates)
	}
	if r.Config.Backlog == 0 && len(r.Tables) > 0 {
		if len(r.Tables) == 1 {
			panels = append(panels, r.percentiles())
		} else {
			panels = append(panels,
				r.latencies("latency, median", func(f *Figures) time.Duration { return f.P50 }),
				r.latencies("latency, 99th percentile", func(f *Figures) time.Duration { return f.P99 }))
		}
	}
	page := svg{Width: width, Height: headRoom, Title: "no run has ended"}
	if len(r.Tables) > 0 {
		page.Title = r.Config.title(r.Tables[0].Waiting)
		if len(r.Tables) > 1 {
			page.Title = r.Config.common()
		}
	}
	for _, p := range panels {
		page.add(&p)
	}
	for i, name := range r.peers() {
		page.Legend = append(page.Legend, label{X: plotLeft, Y: page.Height + 16 + i*lineHeight, Text: name, Colour: colour(i)})
	}
	page.Height += 16 + len(page.Legend)*lineHeight
	return svgTemplate.Execute(w, page)
}

// peers are those of all tables, in order.
func (r *Report) peers() []string {
	var all []string
	seen := make(map[string]bool)
	for _, t := range r.Tables {
		for _, p := range t.Results {
			if !seen[p.Peer] {
				seen[p.Peer], all = true, append(all, p.Peer)
			}
		}
	}
	return all
}

// panel is one diagram, its values by category, in lines or, with one category, in bars.
type panel struct {
	title      string
	categories []string
	axis       string
	series     []series
	logarithms bool
	text       func(float64) string
}

// series is a peer's values: NaN where there is none.
type series struct {
	peer   int
	values []float64
	// low and high are the ends of the spread; nil for none.
	low, high []float64
}

// over makes a panel of a figure by table.
func (r *Report) over(title string, get func(*Result) Spread) panel {
	p := panel{title: title, axis: "waiting"}
	for _, t := range r.Tables {
		p.categories = append(p.categories, strconv.Itoa(t.Waiting))
	}
	if len(r.Tables) == 1 {
		p.categories, p.axis = []string{""}, ""
	}
	for i, name := range r.peers() {
		s := series{peer: i}
		for _, t := range r.Tables {
			v := Spread{math.NaN(), math.NaN(), math.NaN()}
			for j := range t.Results {
				if t.Results[j].Peer == name {
					v = get(&t.Results[j])
				}
			}
			s.values, s.low, s.high = append(s.values, v.Median), append(s.low, v.Lowest), append(s.high, v.Highest)
		}
		p.series = append(p.series, s)
	}
	return p
}

func (r *Report) rates() panel {
	p := r.over("claims per second", func(x *Result) Spread { return Spread{x.Median.PerSecond, x.Lowest, x.Highest} })
	p.text = thousands
	return p
}

func (r *Report) latencies(title string, get func(*Figures) time.Duration) panel {
	p := r.over(title, func(x *Result) Spread {
		return of(x.Runs, func(f Figures) float64 { return float64(get(&f)) })
	})
	p.logarithms, p.text = true, durationText
	return p
}

// percentiles is the latency of the one table.
func (r *Report) percentiles() panel {
	p := panel{title: "latency", axis: "percentile", categories: []string{"50", "90", "99", "99.9", "max"}, logarithms: true, text: durationText}
	for i := range r.Tables[0].Results {
		m := &r.Tables[0].Results[i].Median
		s := series{peer: i}
		for _, d := range []time.Duration{m.P50, m.P90, m.P99, m.P999, m.Max} {
			s.values = append(s.values, float64(d))
		}
		p.series = append(p.series, s)
	}
	return p
}

// What a page measures.
const (
	width       = 760
	headRoom    = 40
	panelHeight = 230
	panelRoom   = 60
	plotLeft    = 80
	plotWidth   = width - plotLeft - 20
	lineHeight  = 18
)

type svg struct {
	Width, Height int
	Title         string
	Lines         []line
	Spreads       []line
	Bars          []bar
	Paths         []path
	Dots          []label
	Labels        []label
	Legend        []label
}

type line struct {
	X1, Y1, X2, Y2 string
	Colour         string
}

type bar struct{ X, Y, Width, Height, Colour string }

type path struct{ Points, Colour string }

type label struct {
	X, Y   int
	Text   string
	Anchor string
	Colour string
}

// add draws a panel below the others.
func (page *svg) add(p *panel) {
	top := page.Height + 24
	page.Height += panelHeight + panelRoom
	page.Labels = append(page.Labels, label{X: plotLeft, Y: top - 8, Text: p.title, Anchor: "start", Colour: "#222"})
	s := p.scale()
	y := func(v float64) float64 { return float64(top) + panelHeight*(1-s.at(v)) }
	for _, v := range s.ticks {
		page.Lines = append(page.Lines, line{point(plotLeft), point(y(v)), point(plotLeft + plotWidth), point(y(v)), "#ddd"})
		page.Labels = append(page.Labels, label{X: plotLeft - 8, Y: int(y(v)) + 4, Text: p.text(v), Anchor: "end", Colour: "#555"})
	}
	step := float64(plotWidth) / float64(len(p.categories))
	middle := func(i int) float64 { return plotLeft + step*(float64(i)+.5) }
	for i, c := range p.categories {
		page.Labels = append(page.Labels, label{X: int(middle(i)), Y: top + panelHeight + 16, Text: c, Anchor: "middle", Colour: "#555"})
	}
	page.Labels = append(page.Labels, label{X: plotLeft - 8, Y: top + panelHeight + 16, Text: p.axis, Anchor: "end", Colour: "#555"})
	for n, one := range p.series {
		points := ""
		for i, v := range one.values {
			if math.IsNaN(v) || p.logarithms && v <= 0 {
				continue
			}
			x := middle(i)
			if len(p.categories) == 1 {
				wide := min(step/float64(len(p.series)), 90)
				x += (float64(n) - float64(len(p.series)-1)/2) * wide
				page.Bars = append(page.Bars, bar{point(x - wide*.4), point(y(v)), point(wide * .8), point(float64(top+panelHeight) - y(v)), colour(one.peer)})
			} else {
				points += point(x) + "," + point(y(v)) + " "
				page.Dots = append(page.Dots, label{X: int(x), Y: int(y(v)), Text: p.text(v), Colour: colour(one.peer)})
			}
			if one.low != nil && one.low[i] > 0 {
				ends := "#222"
				if len(p.categories) > 1 {
					ends = colour(one.peer)
				}
				page.Spreads = append(page.Spreads, line{point(x), point(y(one.low[i])), point(x), point(y(one.high[i])), ends})
			}
		}
		if points != "" {
			page.Paths = append(page.Paths, path{points, colour(one.peer)})
		}
	}
}

func point[N int | float64](v N) string { return strconv.FormatFloat(float64(v), 'f', 1, 64) }

// scale is the height of values, 0 to 1, and where lines are drawn.
type scale struct {
	from, to   float64
	logarithms bool
	ticks      []float64
}

func (s scale) at(v float64) float64 {
	if s.logarithms {
		return math.Log(v/s.from) / math.Log(s.to/s.from)
	}
	return (v - s.from) / (s.to - s.from)
}

func (p *panel) scale() scale {
	low, high := math.Inf(1), 0.0
	for _, s := range p.series {
		for _, values := range [][]float64{s.values, s.low, s.high} {
			for _, v := range values {
				if v > 0 {
					low, high = min(low, v), max(high, v)
				}
			}
		}
	}
	if high == 0 {
		low, high = 1, 1
	}
	s := scale{to: high * 1.05, logarithms: p.logarithms}
	if p.logarithms {
		s.from = math.Pow(10, math.Floor(math.Log10(low)))
		s.to = max(math.Pow(10, math.Ceil(math.Log10(high))), 10*s.from)
		for v := s.from; v <= s.to*1.01; v *= 10 {
			s.ticks = append(s.ticks, v)
		}
		return s
	}
	unit := math.Pow(10, math.Floor(math.Log10(high)))
	for _, part := range []float64{1, .5, .2} {
		if high/(unit*part) >= 3 {
			unit *= part
			break
		}
	}
	for v := 0.0; v <= s.to; v += unit {
		s.ticks = append(s.ticks, v)
	}
	return s
}

func thousands(v float64) string {
	if v >= 10_000 {
		return fmt.Sprintf("%gk", math.Round(v/100)/10)
	}
	return fmt.Sprintf("%g", math.Round(v*10)/10)
}

func durationText(v float64) string { return round(time.Duration(v)).String() }

// colours are told apart by those who do not see all of them, too.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a6d00"}

func colour(i int) string { return colours[i%len(colours)] }

var svgTemplate = template.Must(template.New("plot").Parse(`<svg xmlns="http://www.w3.org/2000/svg" width="{{.Width}}" height="{{.Height}}" viewBox="0 0 {{.Width}} {{.Height}}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
<text x="20" y="24" fill="#222" font-weight="bold">{{html .Title}}</text>
{{range .Lines}}<line x1="{{.X1}}" y1="{{.Y1}}" x2="{{.X2}}" y2="{{.Y2}}" stroke="{{.Colour}}"/>
{{end}}{{range .Bars}}<rect x="{{.X}}" y="{{.Y}}" width="{{.Width}}" height="{{.Height}}" fill="{{.Colour}}"/>
{{end}}{{range .Spreads}}<line x1="{{.X1}}" y1="{{.Y1}}" x2="{{.X2}}" y2="{{.Y2}}" stroke="{{.Colour}}"/>
{{end}}{{range .Paths}}<polyline points="{{.Points}}" fill="none" stroke="{{.Colour}}" stroke-width="2"/>
{{end}}{{range .Dots}}<circle cx="{{.X}}" cy="{{.Y}}" r="3" fill="{{.Colour}}"><title>{{html .Text}}</title></circle>
{{end}}{{range .Labels}}<text x="{{.X}}" y="{{.Y}}" text-anchor="{{.Anchor}}" fill="{{.Colour}}">{{html .Text}}</text>
{{end}}{{range .Legend}}<rect x="{{.X}}" y="{{.Y}}" width="12" height="12" fill="{{.Colour}}"/><text x="{{.X}}" y="{{.Y}}" dx="18" dy="11" fill="#222">{{html .Text}}</text>
{{end}}</svg>
`))
