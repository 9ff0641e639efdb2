package names_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/dibs-hq/dibs/names"
)

// space is a policy for tests, with room for names of one character.
func space(t testing.TB, p names.Precis) *names.Policy {
	t.Helper()
	if p.Tables == "" {
		p.Tables = names.TablesLatest
	}
	text, _ := json.Marshal(p)
	form, ok := made.Load(string(text))
	if !ok {
		var err error
		if form, err = p.Form(); err != nil {
			t.Fatal(err)
		}
		made.Store(string(text), form)
	}
	return &names.Policy{Space: "test", Version: 1, MinLength: 1, MaxLength: 32, Form: form.(*names.Form)}
}

// made are the forms that tests have asked for, by their JSON.
var made sync.Map

// The forms that the tests go through.
var (
	plain      = names.Precis{}
	protected  = names.Precis{Confusables: names.ConfusablesAsTyped}
	shownLower = names.Precis{Confusables: names.ConfusablesLowerCase}
	widest     = names.Precis{Characters: names.CharactersAll, Scripts: []string{names.AnyScript}, Confusables: names.ConfusablesAsTyped}
	widestLow  = names.Precis{Characters: names.CharactersAll, Scripts: []string{names.AnyScript}, Confusables: names.ConfusablesLowerCase}
	latinCyrl  = names.Precis{Scripts: []string{"Latn", "Cyrl"}, Confusables: names.ConfusablesAsTyped}
	rare       = names.Precis{Characters: names.CharactersAll, Confusables: names.ConfusablesAsTyped}
	greekCyrl  = names.Precis{Scripts: []string{"Grek", "Cyrl"}, Confusables: names.ConfusablesAsTyped}
	mixedCyrl  = names.Precis{Scripts: []string{"Latn+Cyrl"}, Confusables: names.ConfusablesAsTyped}
	asciiAlike = names.Precis{Characters: names.CharactersASCII, Confusables: names.ConfusablesAsTyped}
	forms      = map[string]names.Precis{
		"plain": plain, "protected": protected, "shown in lower case": shownLower, "widest": widest, "widest in lower case": widestLow,
		"Latin or Cyrillic": latinCyrl, "Latin with Cyrillic": mixedCyrl, "Greek or Cyrillic": greekCyrl, "rare ones": rare, "ASCII": asciiAlike,
	}
)

func TestFormRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spec   names.Precis
		want   string
		tables bool
	}{
		"no tables":        {names.Precis{}, `it has no ""`, true},
		"other tables":     {names.Precis{Tables: "unicode-99.0.0/confusables-99.0.0/1"}, `it has no "unicode-99.0.0/confusables-99.0.0/1", but ` + string(names.TablesUnicode15), true},
		"characters":       {names.Precis{Tables: names.TablesLatest, Characters: "latin"}, `characters "latin": recommended, all or ascii`, false},
		"confusables":      {names.Precis{Tables: names.TablesLatest, Confusables: "yes"}, `confusables "yes": allowed, as_typed or lower_case`, false},
		"a script's name":  {names.Precis{Tables: names.TablesLatest, Scripts: []string{"Cyrillic"}}, `scripts: there is no script "Cyrillic"`, false},
		"no script":        {names.Precis{Tables: names.TablesLatest, Scripts: []string{""}}, `scripts: there is no script ""`, false},
		"half a mix":       {names.Precis{Tables: names.TablesLatest, Scripts: []string{"Latn+"}}, `scripts: there is no script ""`, false},
		"common":           {names.Precis{Tables: names.TablesLatest, Scripts: []string{"Zyyy"}}, `scripts: there is no script "Zyyy"`, false},
		"any and another":  {names.Precis{Tables: names.TablesLatest, Scripts: []string{"Latn", "*"}}, `scripts: * stands alone`, false},
		"scripts of ASCII": {names.Precis{Tables: names.TablesLatest, Characters: names.CharactersASCII, Scripts: []string{"Latn"}}, `scripts Latn: with the characters ascii`, false},
	} {
		form, err := c.spec.Form()
		if form != nil || err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, names.ErrTables) != c.tables {
			t.Errorf("%s: %v, %v; want %q", name, form, err, c.want)
		}
	}
}

func TestFormKeepsItsSpec(t *testing.T) {
	spec := names.Precis{Tables: names.TablesLatest, Characters: names.CharactersAll, Scripts: []string{"Latn", "Latn+Cyrl"}, Confusables: names.ConfusablesAsTyped}
	want := names.Precis{Tables: names.TablesLatest, Characters: names.CharactersAll, Scripts: []string{"Latn", "Latn+Cyrl"}, Confusables: names.ConfusablesAsTyped}
	form, err := spec.Form()
	if err != nil {
		t.Fatal(err)
	}
	spec.Scripts[0] = "Grek"
	form.Spec().Scripts[1] = "Grek"
	if got := form.Spec(); !reflect.DeepEqual(got, want) {
		t.Errorf("made of %+v, it says %+v", want, got)
	}
	text, err := json.Marshal(form.Spec())
	if err != nil {
		t.Fatal(err)
	}
	var back names.Precis
	decode := json.NewDecoder(bytes.NewReader(text))
	decode.DisallowUnknownFields()
	if err := decode.Decode(&back); err != nil || !reflect.DeepEqual(back, want) {
		t.Errorf("%s came back as %+v, %v", text, back, err)
	}
}

// A later version of the tables is another name, and the first goes on to give the keys it gave.
func TestTwoVersionsOfTables(t *testing.T) {
	const later names.Tables = "unicode-15.0.0/confusables-test/1"
	before := space(t, protected)
	key := func(p *names.Policy, name string) names.Key {
		t.Helper()
		k, err := p.Key(name)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		return k
	}
	first := key(before, "жук")
	if first == key(before, "хук") {
		t.Fatal("ж and х look alike already")
	}
	defer names.AddTables(later, 'ж', "х", "")()

	one, two := space(t, protected), space(t, names.Precis{Tables: later, Confusables: names.ConfusablesAsTyped})
	if got := key(one, "жук"); got != first {
		t.Errorf("with later tables in the build, a policy of the first gives жук the key %q, it was %q", got, first)
	}
	if got, want := key(two, "жук"), key(two, "хук"); got != want || got == first {
		t.Errorf("by the later tables жук has the key %q and хук %q; the first said %q", got, want, first)
	}
	if key(one, "алиса") != key(two, "алиса") {
		t.Error("the versions differ in a name that has no ж")
	}
	if names.Digest(later) == names.Digest(names.TablesLatest) {
		t.Error("the digest does not tell the versions apart")
	}
}

// Tables that changed under their name are refused, and so is every policy that names them.
func TestChangedTables(t *testing.T) {
	const changed names.Tables = "unicode-15.0.0/confusables-changed/1"
	defer names.AddTables(changed, 'ж', "х", names.Digest(names.TablesLatest))()
	for range 2 {
		form, err := names.Precis{Tables: changed}.Form()
		if form != nil || !errors.Is(err, names.ErrTables) || !strings.Contains(err.Error(), string(changed)+" gives other keys") {
			t.Errorf("%v, %v", form, err)
		}
	}
}
