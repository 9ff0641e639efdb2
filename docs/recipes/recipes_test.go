package recipes_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs are the pages that these tests read.
var docs = []string{"../recipes.md", "../adopt.md", "../do-you-need-it.md"}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// code is all that the package has, by file.
func code(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, f := range files {
		if !strings.HasSuffix(f, "_test.go") {
			all[f] = read(t, f)
		}
	}
	return all
}

// TestDocsAreTheCode: each block of Go in the docs is a part of a file as it is, and all that the package has is shown.
func TestDocsAreTheCode(t *testing.T) {
	shown := ""
	for _, doc := range docs {
		for i, block := range strings.Split(read(t, doc), "```go\n")[1:] {
			block, _, closed := strings.Cut(block, "```")
			if !closed {
				t.Fatalf("%s: block %d has no end", doc, i+1)
			}
			shown += block
			found := false
			for _, text := range code(t) {
				found = found || strings.Contains(text, block)
			}
			if !found {
				t.Errorf("%s: block %d is not what is in docs/recipes:\n%s", doc, i+1, block)
			}
		}
	}
	for name, text := range code(t) {
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			begin := d.Pos()
			switch d := d.(type) {
			case *ast.GenDecl:
				if d.Tok == token.IMPORT {
					continue
				}
				if d.Doc != nil {
					begin = d.Doc.Pos()
				}
			case *ast.FuncDecl:
				if d.Doc != nil {
					begin = d.Doc.Pos()
				}
			}
			if part := text[begin-file.FileStart : d.End()-file.FileStart]; !strings.Contains(shown, part) {
				t.Errorf("%s: nobody is shown\n%s", name, part)
			}
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	letters = regexp.MustCompile(`[^a-z0-9 -]`)
)

// TestLinksLeadSomewhere: to a file that is there, and to a heading that it has.
func TestLinksLeadSomewhere(t *testing.T) {
	for _, doc := range docs {
		for _, m := range link.FindAllStringSubmatch(read(t, doc), -1) {
			path, at, _ := strings.Cut(m[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			to := filepath.Join(filepath.Dir(doc), path)
			if path == "" {
				to = doc
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %v", doc, err)
				continue
			}
			var anchors []string
			if at != "" {
				for _, h := range heading.FindAllStringSubmatch(read(t, to), -1) {
					anchors = append(anchors, strings.ReplaceAll(letters.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-"))
				}
				if !slices.Contains(anchors, at) {
					t.Errorf("%s: %s has no heading #%s", doc, path, at)
				}
			}
		}
	}
}
