package names_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/names"
)

// What is kept of an erased name is found again with the secret, is its own form, and says nothing without it.
func TestEraser(t *testing.T) {
	e, other := names.NewEraser([]byte("one secret")), names.NewEraser([]byte("another"))
	alice := names.Ref{Space: names.Username, Key: "alice"}
	form := e.Ref(alice)
	seen := map[string]string{}
	for what, text := range map[string]string{
		"the form": string(form.Key), "of another name": string(e.Ref(names.Ref{Space: names.Username, Key: "alicf"}).Key),
		"in another space": string(e.Ref(names.Ref{Space: "handle", Key: "alice"}).Key), "of parts that join alike": string(e.Ref(names.Ref{Space: "usernamea", Key: "lice"}).Key),
		"of an owner": e.Owner("alice"), "under another secret": string(other.Ref(alice).Key),
	} {
		if was, twice := seen[text]; twice {
			t.Errorf("%s is that %s", what, was)
		}
		if seen[text] = what; strings.Contains(text, "alic") || len(text) != 7+64 {
			t.Errorf("%s is %q", what, text)
		}
	}
	if form.Space != alice.Space || !form.Key.Erased() || alice.Key.Erased() || e.Ref(form) != form || e.Owner(e.Owner("u")) != e.Owner("u") {
		t.Errorf("the form is %+v", form)
	}
	for _, key := range []names.Key{"erased", "erased name", names.Key("erased " + strings.Repeat("g", 64)), names.Key(strings.ToUpper(string(form.Key)))} {
		if key.Erased() || e.Ref(names.Ref{Space: names.Username, Key: key}).Key == key {
			t.Errorf("%q is taken for a form", key)
		}
	}
	if want := names.Key("erased e3b1cf4b0e1d3c2932ef2cb8c46d66c2e817e6bc6d2dbb7be3a1ec3db7addb15"); form.Key != want || e.Ref(alice).Key != want {
		t.Errorf("the form is %s, want %s, which is in databases", form.Key, want)
	}
	if bytes.Equal(e.Check(), other.Check()) || bytes.Equal(e.Derive("a"), e.Derive("b")) || len(e.Derive("a")) != 32 || len(e.Check()) != 8 {
		t.Error("checks or derived keys are the same")
	}
}
