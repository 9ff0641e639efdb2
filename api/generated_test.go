package api_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestGeneratedCodeIsFresh: what is generated from the document is what `make generate` would make of it now. It runs the
// very command of each go:generate line, on copies, with the generator of go.mod; no network is needed.
func TestGeneratedCodeIsFresh(t *testing.T) {
	t.Parallel()
	const root, document = "..", "api/openapi.yaml"
	generator := tool(t, "oapi-codegen")
	for folder, generated := range map[string]string{"api": "api.gen.go", "client/internal/wire": "wire.gen.go"} {
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			copies := t.TempDir()
			for _, file := range []string{"go.mod", document, folder + "/oapi-codegen.yaml"} {
				copyFile(t, filepath.Join(root, file), filepath.Join(copies, file))
			}
			cmd := exec.CommandContext(t.Context(), generator, generateArgs(t, filepath.Join(root, folder, "doc.go"), "oapi-codegen")...)
			cmd.Dir = filepath.Join(copies, folder)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			want, got := read(t, filepath.Join(cmd.Dir, generated)), read(t, filepath.Join(root, folder, generated))
			if !bytes.Equal(want, got) {
				t.Errorf("%s/%s is not what %s, oapi-codegen.yaml and the generator of go.mod make: run make generate%s",
					folder, generated, document, firstDifference(want, got))
			}
		})
	}
}

// tool returns where the binary of a tool of go.mod is, built if need be.
func tool(t *testing.T, name string) string {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-n", name)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go tool -n %s: %v\n%s", name, err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// generateArgs returns what the go:generate line of a file gives to a tool.
func generateArgs(t *testing.T, path, tool string) []string {
	t.Helper()
	for line := range strings.Lines(string(read(t, path))) {
		if args, ok := strings.CutPrefix(line, "//go:generate go tool "+tool+" "); ok {
			return strings.Fields(args)
		}
	}
	t.Fatalf("%s has no go:generate line for %s", path, tool)
	return nil
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, read(t, from), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// firstDifference shows where two files part.
func firstDifference(want, got []byte) string {
	w, g := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return "\nwant " + w[i] + "\ngot  " + g[i]
		}
	}
	return "\none is longer than the other"
}
