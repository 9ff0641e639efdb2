package producers_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const page = "../producers.md"

var update = flag.Bool("update", false, "write the programs' sections into producers.md, where they are not what is there")

var (
	// section is a part of a program that the page shows.
	section = regexp.MustCompile(`(?ms)^ *(?://|#) <(\w+)>\n(.*?)^ *(?://|#) </(\w+)>\n`)
	// shown is a place of the page for one.
	shown = regexp.MustCompile("(?s)<!-- (\\w+/[\\w.]+): (\\w+) -->\n```(\\w+)\n(.*?)```\n")
)

var languages = map[string]string{".java": "java", ".py": "python", ".js": "js"}

// TestDocsAreThePrograms: the page shows the sections of the programs as they are, and no code in their languages that is
// in none of them.
func TestDocsAreThePrograms(t *testing.T) {
	sections := make(map[string]string)
	for suffix := range languages {
		files, err := filepath.Glob("*/*" + suffix)
		if err != nil || len(files) != 1 {
			t.Fatalf("%s: %v, %v", suffix, files, err)
		}
		for _, m := range section.FindAllStringSubmatch(read(t, files[0]), -1) {
			if m[1] != m[3] {
				t.Errorf("%s: <%s> ends as </%s>", files[0], m[1], m[3])
			}
			sections[filepath.ToSlash(files[0])+": "+m[1]] = dedent(m[2])
		}
	}
	text := read(t, page)
	seen := make(map[string]bool)
	now := shown.ReplaceAllStringFunc(text, func(place string) string {
		m := shown.FindStringSubmatch(place)
		name := m[1] + ": " + m[2]
		code, ok := sections[name]
		if !ok {
			t.Errorf("producers.md shows %s, which there is not", name)
			return place
		}
		if want := languages[filepath.Ext(m[1])]; m[3] != want {
			t.Errorf("producers.md has %s as %s, not as %s", name, m[3], want)
		}
		seen[name] = true
		return strings.TrimSuffix(place, m[4]+"```\n") + code + "```\n"
	})
	for name := range sections {
		if !seen[name] {
			t.Errorf("producers.md does not show %s", name)
		}
	}
	for _, language := range languages {
		if blocks := strings.Count(text, "```"+language+"\n"); blocks != len(shown.FindAllString(text, -1))-others(text, language) {
			t.Errorf("producers.md has code in %s that is not of a program", language)
		}
	}
	if now == text {
		return
	}
	if !*update {
		t.Error("producers.md does not show the programs as they are: go test ./docs/producers -update writes it")
		return
	}
	if err := os.WriteFile(page, []byte(now), 0o644); err != nil {
		t.Fatal(err)
	}
}

// others counts the places for code in other languages.
func others(text, language string) (n int) {
	for _, m := range shown.FindAllStringSubmatch(text, -1) {
		if m[3] != language {
			n++
		}
	}
	return n
}

// dedent removes the indentation that all lines have.
func dedent(code string) string {
	least := len(code)
	for line := range strings.Lines(code) {
		if text := strings.TrimLeft(line, " "); text != "\n" {
			least = min(least, len(line)-len(text))
		}
	}
	var b strings.Builder
	for line := range strings.Lines(code) {
		b.WriteString(line[min(least, len(line)-1):])
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// TestShownVectors: what the page shows of the vectors file is in it.
func TestShownVectors(t *testing.T) {
	vectors, n := read(t, "vectors.jsonl"), 0
	for line := range strings.Lines(read(t, page)) {
		if !strings.HasPrefix(line, `{"space":`) || !strings.Contains(line, `"record_key"`) {
			continue
		}
		n++
		parts := strings.Split(line, "…")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		if !regexp.MustCompile(`(?m)^` + strings.Join(parts, `[0-9a-f]+`)).MatchString(vectors) {
			t.Errorf("not in the file: %s", line)
		}
	}
	if n < 2 {
		t.Errorf("%d vectors are shown", n)
	}
}

// TestLinksOfThePage: what the page leads to is there.
func TestLinksOfThePage(t *testing.T) {
	for _, m := range regexp.MustCompile(`\]\(([^)#]+)\)`).FindAllStringSubmatch(read(t, page), -1) {
		if strings.Contains(m[1], "://") {
			continue
		}
		if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
			t.Errorf("producers.md leads to %s: %v", m[1], err)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
