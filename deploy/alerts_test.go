package deploy_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestAlertsAskForWhatThereIs: each metric that a rule asks for is one of the code's, and each rule has a test of its own.
func TestAlertsAskForWhatThereIs(t *testing.T) {
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	text, err := os.ReadFile("prometheus/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &rules); err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("prometheus/rules_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	code := source(t)
	seen := 0
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			for _, metric := range regexp.MustCompile(`dibs_\w+`).FindAllString(rule.Expr, -1) {
				seen++
				if !strings.Contains(code, `"`+metric+`"`) {
					t.Errorf("%s asks for %s, which nobody has", rule.Alert, metric)
				}
			}
			if !strings.Contains(string(tests), rule.Alert) {
				t.Errorf("%s has no test", rule.Alert)
			}
		}
	}
	if seen == 0 {
		t.Fatal("the rules ask for nothing: this test tests nothing")
	}
}

// source is all code of the project, tests left out.
func source(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// TestAlerts plays the rules' own tests.
func TestAlerts(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("SKIPPED, NOT TESTED: needs promtool, which comes with Prometheus")
	}
	for _, args := range [][]string{{"test", "rules", "rules_test.yml"}, {"check", "config", "prometheus.yml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = "prometheus"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
