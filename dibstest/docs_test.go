package dibstest_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Example)[A-Z]\w*)\(`)
	// named is a package in backquotes, or a test; what stands before a test on its line, in its cell, is its package.
	named = regexp.MustCompile("`([a-z][a-z/]*)`|\\b((?:Test|Example)[A-Z]\\w*)(?:/(\\w+))?")
)

// TestDocsNameTests: a test that the docs cite is there, in the package that they say; a scenario has its script.
func TestDocsNameTests(t *testing.T) {
	t.Parallel()
	in := make(map[string][]string) // the folders of each test
	var docs []string
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != "..":
			return filepath.SkipDir
		case strings.HasSuffix(path, ".md"):
			docs = append(docs, path)
		case strings.HasSuffix(path, "_test.go"):
			text, err := os.ReadFile(path)
			for _, found := range testFunc.FindAllStringSubmatch(string(text), -1) {
				folder, _ := filepath.Rel("..", filepath.Dir(path))
				in[found[1]] = append(in[found[1]], filepath.ToSlash(folder))
			}
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	folders := slices.Concat(slices.Collect(maps.Values(in))...)
	seen := 0
	for _, path := range docs {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for cell := range strings.FieldsFuncSeq(string(text), func(r rune) bool { return r == '\n' || r == '|' }) {
			folder := ""
			for _, found := range named.FindAllStringSubmatch(cell, -1) {
				if found[2] == "" {
					if slices.Contains(folders, found[1]) {
						folder = found[1]
					}
					continue
				}
				seen++
				if at := in[found[2]]; len(at) == 0 || folder != "" && !slices.Contains(at, folder) {
					t.Errorf("%s names %s of `%s`; it is in %q", path, found[2], folder, at)
				}
				if found[2] == "TestScenarios" && found[3] != "" {
					if _, err := os.Stat(filepath.Join("..", "processor", "testdata", found[3]+".txt")); err != nil {
						t.Errorf("%s names the scenario %s: %v", path, found[3], err)
					}
				}
			}
		}
	}
	if seen == 0 {
		t.Fatal("the docs name no test: this test tests nothing")
	}
}
