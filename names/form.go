package names

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dibs-hq/dibs/names/uts39"
)

// Characters says what a name may be written with, before its scripts are asked for.
type Characters string

// The characters that a name may have. PRECIS stands for the username of RFC 8265: letters and digits of all languages,
// the marks that belong to them, and the punctuation of ASCII.
const (
	CharactersRecommended Characters = "recommended" // ASCII's, and those of PRECIS that UTS 39 recommends for identifiers
	CharactersAll         Characters = "all"         // all of PRECIS: also phonetic, historic and rare ones
	CharactersASCII       Characters = "ascii"       // as without a Form: letters, digits and . _ - of ASCII
)

// Confusables says what becomes of a name that looks like another.
type Confusables string

// What can become of look-alikes.
const (
	// ConfusablesAllowed lets each have its holder.
	ConfusablesAllowed Confusables = "allowed"
	// ConfusablesAsTyped lets one of them have a holder, for names that are shown as they were typed: I looks like l and 1,
	// O like 0, and so i, l and 1 are one letter, and o and 0.
	ConfusablesAsTyped Confusables = "as_typed"
	// ConfusablesLowerCase lets one of them have a holder, for names that are shown in their canonical form only: i and l
	// are two letters, o and 0 too; l and 1 are still one, and m and rn.
	ConfusablesLowerCase Confusables = "lower_case"
)

// ReservedBy says how names are compared with reserved words where look-alikes are allowed. Where they are not, it is by what
// they look like in any case.
type ReservedBy string

// The ways to compare with reserved words.
const (
	ReservedByForm ReservedBy = ""     // by their canonical form: so did policies that were applied by rules 2
	ReservedByLook ReservedBy = "look" // by what that looks like: nobody gets Adm1n beside a reserved admin
)

// AnyScript is the one entry of Precis.Scripts that asks for nothing.
const AnyScript = "*"

// Precis is what a policy says of names beyond ASCII. It is plain data, to be written into a record.
type Precis struct {
	// Tables are the tables that the keys are made with. They belong to the policy: a build that makes other keys refuses it.
	Tables Tables `json:"tables"`
	// Characters defaults to CharactersRecommended.
	Characters Characters `json:"characters,omitempty"`
	// Scripts lists what a name may be written in, as codes of ISO 15924: each entry is one script, or several that one name
	// may mix, such as "Latn+Cyrl". Defaults to UTS 39's "highly restrictive": any one script, and Latin beside Japanese
	// (Jpan), Chinese (Hanb) or Korean (Kore).
	Scripts []string `json:"scripts,omitempty"`
	// Confusables defaults to ConfusablesAllowed.
	Confusables Confusables `json:"confusables,omitempty"`
	// Reserved says more only where look-alikes are allowed. It comes with rules 3.
	Reserved ReservedBy `json:"reserved,omitempty"`
}

// Form is a Precis that this build can follow. It is read-only.
type Form struct {
	spec        Precis
	tables      *tables
	chars       Characters
	confusables Confusables
	any         bool            // any mix of scripts
	restrictive bool            // any script alone, besides the mixes
	mixes       []uts39.Scripts // a name has to lie in one of them
	scripts     uts39.Scripts   // all of them together
	looks       map[rune][]look // see checkSpelling; by their first letter
	doubles     map[rune]bool   // see hasDouble
}

// latinBeside are the mixes of UTS 39's restriction level "highly restrictive".
var latinBeside = []string{"Latn+Jpan", "Latn+Hanb", "Latn+Kore"}

// Form checks a Precis and makes it ready. The error wraps ErrTables if it asks for what another build has; any other is
// the fault of who wrote the policy. The first form of a process takes a third of a second: its tables are checked.
func (p Precis) Form() (*Form, error) {
	f := &Form{spec: p, chars: p.Characters, confusables: p.Confusables}
	f.spec.Scripts = slices.Clone(p.Scripts)
	switch f.chars {
	case "":
		f.chars = CharactersRecommended
	case CharactersRecommended, CharactersAll, CharactersASCII:
	default:
		return nil, fmt.Errorf("characters %q: %s, %s or %s", f.chars, CharactersRecommended, CharactersAll, CharactersASCII)
	}
	switch f.confusables {
	case "":
		f.confusables = ConfusablesAllowed
	case ConfusablesAllowed, ConfusablesAsTyped, ConfusablesLowerCase:
	default:
		return nil, fmt.Errorf("confusables %q: %s, %s or %s", f.confusables, ConfusablesAllowed, ConfusablesAsTyped, ConfusablesLowerCase)
	}
	switch {
	case p.Reserved != ReservedByForm && p.Reserved != ReservedByLook:
		return nil, fmt.Errorf("reserved %q: %s, or left out", p.Reserved, ReservedByLook)
	case p.Reserved != ReservedByForm && f.confusables != ConfusablesAllowed:
		return nil, fmt.Errorf("reserved: with the confusables %s it is by what names look like in any case", f.confusables)
	}
	if err := f.readScripts(p.Scripts); err != nil {
		return nil, err
	}
	var err error
	if f.tables, err = tablesOf(p.Tables); err != nil {
		return nil, err
	}
	if f.confusables == ConfusablesAsTyped && f.chars != CharactersASCII && !f.any {
		// They follow from tables and characters alone, and take longer to find than all the rest.
		kept := &f.tables.looks[map[Characters]int{CharactersAll: 1}[f.chars]]
		kept.find.Do(func() {
			f.findLooks()
			kept.looks, kept.doubles = f.looks, f.doubles
		})
		f.looks, f.doubles = kept.looks, kept.doubles
	}
	return f, nil
}

func (f *Form) readScripts(entries []string) error {
	if len(entries) > 0 && f.chars == CharactersASCII {
		return fmt.Errorf("scripts %s: with the characters %s there is only one", strings.Join(entries, ", "), CharactersASCII)
	}
	if f.restrictive = len(entries) == 0; f.restrictive {
		entries = latinBeside
	}
	for _, entry := range entries {
		if entry == AnyScript {
			if len(entries) > 1 {
				return fmt.Errorf("scripts: %s stands alone", AnyScript)
			}
			f.any = true
			return nil
		}
		mix, err := uts39.ParseScripts(entry)
		if err != nil {
			return fmt.Errorf("scripts: %w", err)
		}
		f.mixes = append(f.mixes, mix)
		f.scripts = f.scripts.Union(mix)
	}
	return nil
}

// Spec returns what the form was made of.
func (f *Form) Spec() Precis {
	spec := f.spec
	spec.Scripts = slices.Clone(spec.Scripts)
	return spec
}
