package processor_test

import (
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/names/uts39"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
)

// TestConfusablesAreDecided claims each character that UTS 39 says looks like ASCII beside what it looks like, in both
// orders, alone and in words, in spaces that keep look-alikes apart: the second is always refused.
func TestConfusablesAreDecided(t *testing.T) {
	for form, spec := range map[string]names.Precis{
		"anything":       {Characters: names.CharactersAll, Scripts: []string{names.AnyScript}, Confusables: names.ConfusablesAsTyped},
		"as by default":  {Confusables: names.ConfusablesAsTyped},
		"in lower case":  {Characters: names.CharactersAll, Scripts: []string{names.AnyScript}, Confusables: names.ConfusablesLowerCase},
		"Latin, Cyrl":    {Scripts: []string{"Latn", "Cyrl"}, Confusables: names.ConfusablesAsTyped},
		"nothing but it": {Characters: names.CharactersASCII, Confusables: names.ConfusablesAsTyped},
	} {
		spec.Tables = names.TablesLatest
		f, err := spec.Form()
		if err != nil {
			t.Fatal(err)
		}
		p := *names.Builtin()[names.Username]
		p.Space, p.MinLength, p.Reserved, p.Form = "handle", 1, nil, f
		ledger := processor.Ledger{LogEpoch: 1, Rules: processor.Rules{Partitions: 1, Policies: names.Builtin().With(&p)}}
		ask := func(id, name string) asking {
			return asking{id: id, name: name, owner: "u-" + id, key: "handle/x", more: func(c *claims.UsernameClaimed) { c.Space = "handle" }}
		}
		characters, pairs, both := 0, 0, 0 // both: those of which each is a name
		refused := make(map[registrations.Reason]int)
		uts39.Unicode15().Prototypes(func(c rune, like string) {
			if strings.ContainsFunc(like, func(c rune) bool { return c > '\x7f' }) {
				return
			}
			characters++
			for _, around := range [][2]string{{"", ""}, {"a", "b"}, {"1", "9"}} {
				one, other := around[0]+string(c)+around[1], around[0]+like+around[1]
				if one == other || spec.Confusables == names.ConfusablesLowerCase && (!shown(&p, one) || !shown(&p, other)) {
					continue
				}
				for _, pair := range [][2]string{{one, other}, {other, one}} {
					pairs++
					d := processor.Decide(ledger, receiveAll(ledger.Rules, 0, ask("first", pair[0]), ask("second", pair[1])))
					if len(d.Rows) != 2 || d.Rows[0].Kind != processor.KindOutcome || d.Rows[1].Kind != processor.KindOutcome {
						t.Fatalf("%s: %+q and %+q left %+v", form, pair[0], pair[1], d.Rows)
					}
					first, second := d.Rows[0].Outcome, d.Rows[1].Outcome
					if first.Type == registrations.Accepted && second.Type == registrations.Accepted {
						t.Errorf("%s: %+q and %+q are both accepted", form, pair[0], pair[1])
					}
					if first.Type == registrations.Accepted && second.Reason != registrations.InvalidName {
						both++
						refused[second.Reason]++
					}
				}
			}
		})
		t.Logf("%s: %d characters, %d pairs, of which both are names: %d, the second refused: %v", form, characters, pairs, both, refused)
		if characters != 1868 || refused[registrations.Confusable]+refused[registrations.Taken] != both {
			t.Errorf("%s: %d characters of 1868, %d pairs of names, refused: %v", form, characters, both, refused)
		}
		if form == "anything" && refused[registrations.Confusable] < 2000 {
			t.Errorf("%s: only %d were told as confusable", form, refused[registrations.Confusable])
		}
	}
}

// shown reports whether a name is shown as it was typed where names are shown in their canonical form.
func shown(p *names.Policy, name string) bool {
	canonical, err := p.Canonical(name)
	return err != nil || string(canonical) == name
}
