package processor_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
)

// TestLifeIsDocumented: the table of docs/life.md is that of the code. -update writes it anew.
func TestLifeIsDocumented(t *testing.T) {
	const path, begin, end = "../docs/life.md", "<!-- table -->\n", "<!-- /table -->"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	is, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the table", path)
	}
	states := func(all []registrations.State) string {
		var words []string
		for _, s := range all {
			words = append(words, string(s))
		}
		return strings.Join(words, ", ")
	}
	var b strings.Builder
	b.WriteString("| request | from | to | outcome | who |\n|---|---|---|---|---|\n")
	for _, m := range processor.Life {
		request := claims.ShortType(m.Request)
		if request == "" {
			request = "UsernameClaimed"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | `%s` | %s |\n", request, states(m.From), states(m.To), m.Outcome, m.By)
	}
	if is == b.String() {
		return
	}
	if !*updateScripts {
		t.Fatalf("%s is not up to date: go test ./processor -run TestLifeIsDocumented -update", path)
	}
	if err := os.WriteFile(path, []byte(before+begin+b.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
