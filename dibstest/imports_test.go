package dibstest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/dibs-hq/dibs"

// mayImport says for a package which of ours it may depend on, however far down. The domain knows no technology; the
// adapters know the domain, and not each other. A package that is not there yet has no line to keep.
var mayImport = map[string][]string{
	"names":         {},
	"cloudevents":   {},
	"claims":        {"names", "cloudevents"},
	"registrations": {"names", "cloudevents", "claims"},
	"processor":     {"names", "cloudevents", "claims", "registrations"},
	"verify":        {"names", "cloudevents", "claims", "registrations", "processor"},
	"auth":          {"names", "cloudevents", "claims"},
	"api":           {"names", "cloudevents", "claims", "registrations", "auth"},
	"kafka":         {"names", "cloudevents", "claims", "registrations", "auth", "processor", "api", "verify"},
	"postgres":      {"names", "cloudevents", "claims", "registrations", "auth", "processor", "api", "verify"},
	"client":        {},
	"dev":           {},
	"dibstest":      {"dev"},
}

// onlyFor says who may import a technology by name. Whoever else needs it asks these for what it does.
var onlyFor = map[string][]string{
	"github.com/segmentio/kafka-go": {"kafka", "client/kafka", "dibstest", "bench/peers"},
	"github.com/jackc/pgx":          {"postgres", "dibstest", "bench"},
	"github.com/pressly/goose":      {"postgres"},
	"github.com/spf13/viper":        {"config"},
	"github.com/twmb/franz-go":      {"dev", "dibstest"},
	"github.com/fergusstrange":      {"dev"},
	"github.com/testcontainers":     {"dibstest"},
}

// domain packages are held to the same list however far down the technology is.
var domain = []string{"names", "cloudevents", "claims", "registrations", "processor", "verify", "api"}

type listedPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func TestWhoMayImportWhom(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, p := range listPackages(t) {
		at, ours := strings.CutPrefix(p.ImportPath, module+"/")
		if !ours {
			continue
		}
		seen++
		if allowed, ruled := mayImport[top(at)]; ruled {
			for _, dep := range p.Deps {
				dep, ours := strings.CutPrefix(dep, module+"/")
				if ours && top(dep) != top(at) && !under(dep, allowed) {
					t.Errorf("%s depends on %s; it may depend on %v only", at, dep, allowed)
				}
			}
		}
		imports := p.Imports
		if under(at, domain) {
			imports = p.Deps
		}
		for technology, users := range onlyFor {
			i := slices.IndexFunc(imports, func(path string) bool { return strings.HasPrefix(path, technology) })
			if i >= 0 && !under(at, users) {
				t.Errorf("%s depends on %s; only %v may", at, imports[i], users)
			}
		}
		if at == "cloudevents" {
			for _, path := range p.Imports {
				if strings.Contains(path, ".") && path != "github.com/google/uuid" {
					t.Errorf("%s imports %s; it may import the standard library and google/uuid only", at, path)
				}
			}
		}
	}
	if seen == 0 {
		t.Fatal("go list shows no package of ours: this test tests nothing")
	}
}

// under says whether path is one of the folders or lies in one.
func under(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(folder string) bool {
		return path == folder || strings.HasPrefix(path, folder+"/")
	})
}

func top(path string) string {
	first, _, _ := strings.Cut(path, "/")
	return first
}

// listPackages lists this module's packages with what they import, tests left out: a test may use any adapter.
func listPackages(t *testing.T) []listedPackage {
	t.Helper()
	// What another process reads is unknown to go test, which would call this test's result cached when an import has
	// changed. So look at every folder from here too.
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var packages []listedPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listedPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
