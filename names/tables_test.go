package names_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/text/secure/precis"
)

// linkedUnicode says to a test that runs itself again which tables of x/text it must find.
const linkedUnicode = "DIBS_TEST_NAMES_UNICODE"

// The tables that have a name give the keys they gave when they were named, whatever x/text is linked.
func TestTablesStillHold(t *testing.T) {
	if want := os.Getenv(linkedUnicode); want != "" && precis.UnicodeVersion != want {
		t.Fatalf("x/text has the tables of Unicode %s, want %s", precis.UnicodeVersion, want)
	}
	space(t, protected)
}

// x/text carries two sets of tables, and Go's version chooses: 15.0.0 up to Go 1.26, 17.0.0 from 1.27 on. Whichever of
// them this build has, the other gives the same keys.
func TestTheOtherUnicode(t *testing.T) {
	if testing.Short() || os.Getenv(linkedUnicode) != "" {
		t.Skip("compiles x/text once more")
	}
	other := map[string]string{"15.0.0": "17.0.0", "17.0.0": "15.0.0"}[precis.UnicodeVersion]
	if other == "" {
		t.Fatalf("x/text has the tables of Unicode %s: which are the others?", precis.UnicodeVersion)
	}
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	copyText(t, strings.TrimSpace(goTool(t, "list", "-m", "-f", "{{.Dir}}", "golang.org/x/text")), text, other)
	root := filepath.Dir(strings.TrimSpace(goTool(t, "env", "GOMOD")))
	for _, file := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		if file == "go.mod" {
			content = append(content, "\nreplace golang.org/x/text => "+text+"\n"...)
		}
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(linkedUnicode, other)
	out := goTool(t, "test", "-count=1", "-v", "-modfile="+filepath.Join(dir, "go.mod"), "-run", "^(TestTablesStillHold|TestRFC8265|TestUnicodeCanonical|TestUnicodeCanonicalRefuses)$", ".")
	if strings.Count(out, "--- PASS") != 4 {
		t.Errorf("with Unicode %s:\n%s", other, out)
	}
}

// copyText copies what is compiled of x/text, with the tables of one version under no condition, and no others.
func copyText(t *testing.T, from, to, version string) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		at, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, at), 0o700)
		}
		if strings.HasSuffix(at, "_test.go") || !strings.HasSuffix(at, ".go") && !strings.HasPrefix(at, "go.") {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if base := filepath.Base(at); strings.HasPrefix(base, "tables1") {
			if base != "tables"+version+".go" {
				return nil
			}
			found++
			before, after, _ := strings.Cut(string(content), "//go:build ")
			_, after, _ = strings.Cut(after, "\n")
			content = []byte(before + after)
		}
		return os.WriteFile(filepath.Join(to, at), content, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 4 {
		t.Fatalf("x/text has %d tables of Unicode %s", found, version)
	}
}

func goTool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
