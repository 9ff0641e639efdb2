package app_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var updateDocs = flag.Bool("update", false, "write what commands say into the pages of docs, where that is not what they say")

// page is a page of docs with commands to play: in blocks that are marked <!-- play: NAME -->, lines that begin with "$ "
// are commands, and what follows is what they say. "…" in it stands for anything in a line, or, alone, for any lines.
type page struct {
	t          *testing.T
	path, text string
	dir        string            // where commands are run
	env        []string          // of commands, with dibs on the PATH
	here       *strings.Replacer // from what the page says to what it is here
	played     int
}

// open opens a page, whose commands are run in a folder of the test's own.
func (d *deployment) open(t *testing.T, path string, here ...string) *page {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &page{t: t, path: path, text: string(text), dir: t.TempDir(), here: strings.NewReplacer(here...)}
	bin := t.TempDir()
	if err := os.Symlink(program, filepath.Join(bin, "dibs")); err != nil {
		t.Fatal(err)
	}
	p.env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "DIBS_") }), d.env("docs")...)
	p.env = append(p.env, "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "PGOPTIONS=-c search_path="+d.database.Schema)
	return p
}

// play runs the commands of a block, one after another, and compares what they say.
func (p *page) play(block string) {
	p.t.Helper()
	begin := "<!-- play: " + block + " -->\n```console\n"
	before, rest, ok := strings.Cut(p.text, begin)
	is, after, closed := strings.Cut(rest, "```\n")
	if !ok || !closed {
		p.t.Fatalf("%s has no block %q to play", p.path, block)
	}
	p.played++
	var now strings.Builder
	right := true
	for _, step := range strings.Split("\n"+is, "\n$ ")[1:] {
		command, want, _ := strings.Cut(strings.TrimSuffix(step, "\n"), "\n")
		said := p.run(command)
		if !says(want, said) {
			right = false
			if want = said; !*updateDocs {
				p.t.Errorf("%s, $ %s\n%s\nwhere it should say\n%s", p.path, command, said, strings.TrimPrefix(step, command+"\n"))
			}
		}
		fmt.Fprintf(&now, "$ %s\n", command)
		if want != "" {
			fmt.Fprintf(&now, "%s\n", want)
		}
	}
	if right || !*updateDocs {
		return
	}
	p.text = before + begin + now.String() + "```\n" + after
	if err := os.WriteFile(p.path, []byte(p.text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// playWith plays a block whose commands need a program, and says so where that is not here.
func (p *page) playWith(program, block string) {
	p.t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		p.played++
		p.t.Logf("SKIPPED, NOT TESTED: what %s says in %s: %v", program, p.path, err)
		return
	}
	p.play(block)
}

// run runs a command as the page has it, and returns what a terminal would show, without the log.
func (p *page) run(command string) string {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), "sh", "-c", p.here.Replace(command))
	cmd.Dir, cmd.Env, cmd.WaitDelay = p.dir, p.env, 10*time.Second
	out, err := cmd.CombinedOutput()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		p.t.Fatalf("%s: %v", command, err)
	}
	var lines []string
	for line := range strings.SplitSeq(strings.TrimRight(string(out), "\n"), "\n") {
		if !strings.HasPrefix(line, `{"time":`) {
			lines = append(lines, strings.TrimRight(line, " "))
		}
	}
	return strings.Join(lines, "\n")
}

// says reports whether a command has said what a page says it does.
func says(want, said string) bool {
	if want == "" {
		return said == ""
	}
	var pattern strings.Builder
	for line := range strings.SplitSeq(want, "\n") {
		if line == "…" {
			pattern.WriteString(`(?:.*\n)*`)
			continue
		}
		parts := strings.Split(strings.TrimRight(line, " "), "…")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		pattern.WriteString(strings.Join(parts, `.*`) + `\n`)
	}
	return regexp.MustCompile(`^` + pattern.String() + `$`).MatchString(said + "\n")
}

// block is the first block of code in that language, with what it is here.
func (p *page) block(language string) string {
	p.t.Helper()
	_, rest, ok := strings.Cut(p.text, "```"+language+"\n")
	code, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		p.t.Fatalf("%s has no code in %s", p.path, language)
	}
	return p.here.Replace(code)
}

// done fails the test where a block of commands of the page was not played.
func (p *page) done() {
	p.t.Helper()
	if strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
		return // it is a part of a test that runs
	}
	if n := strings.Count(p.text, "```console\n"); n != p.played {
		p.t.Errorf("%s has %d blocks of commands, and %d were played", p.path, n, p.played)
	}
}

// needs skips what needs a program that is not here.
func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("SKIPPED, NOT TESTED: needs %s: %v", program, err)
	}
}
