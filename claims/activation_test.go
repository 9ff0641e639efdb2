package claims_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/cloudevents/eventtest"
	"github.com/dibs-hq/dibs/names"
)

// activation makes version 2 of the space username hold.
func activation() *claims.PolicyActivated {
	p := *names.Builtin()[names.Username]
	p.Version, p.UniqueAmong, p.Reserved = 2, names.AmongActive, map[names.Key]struct{}{"root": {}, "admin": {}}
	return &claims.PolicyActivated{Space: names.Username, Version: 2, Policy: &p, Rules: 1, Keys: []string{"k1", "k2"}, SignedOnly: true}
}

var activationKey = claims.SigningKey{ID: "k1", Secret: []byte("first secret")}

func activated(t *testing.T, a *claims.PolicyActivated) cloudevents.Record {
	t.Helper()
	r, err := a.Record("dibs/spaces", sentAt, activationKey)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestGoldenActivation: the file is the contract, as that of any request.
func TestGoldenActivation(t *testing.T) {
	path := filepath.Join("testdata", "policy_activated.json")
	r := activated(t, activation())
	eventtest.Check(t, path, r, *update)
	golden := eventtest.Read(t, path)
	read, err := claims.Read(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(read.Body, claims.Body(activation())) || read.Subject != "username/" || read.Principal != claims.Principal {
		t.Errorf("read %+v %+v", read, read.Body)
	}
	sum := sha256.Sum256(append([]byte("dibs/policy\x00"), golden.Value...))
	want := sum[:16]
	want[6], want[8] = want[6]&0x0f|0x80, want[8]&0x3f|0x80
	if string(read.ID[:]) != string(want) || !claims.OwnID(read.ID) || read.ID != claims.ActivationID(golden.Value) {
		t.Errorf("the id is %s", read.ID)
	}
	if string(golden.Key) != "username/" || string(golden.Key) != claims.SpaceKey(names.Username) {
		t.Errorf("the key is %q", golden.Key)
	}
	if keys := (claims.Keys{"k1": activationKey.Secret}); !keys.Signed(golden) {
		t.Error("the signature does not hold")
	}
	h := claims.HashOf(read.Body, names.Ref{}, "", nil)
	other := activation()
	other.SignedOnly = false
	if h == claims.HashOf(other, names.Ref{}, "", nil) || h != claims.HashOf(activation(), names.Ref{Space: "x"}, "y", nil) {
		t.Error("the hash is not that of what is said")
	}
}

func TestActivationRefused(t *testing.T) {
	good := string(activated(t, activation()).Value)
	change := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for value, want := range map[string]string{
		"":                                               "the value is not valid JSON in UTF-8, or repeats a field",
		"null":                                           "the value is not a JSON object",
		good + "{}":                                      "there is something behind the JSON object",
		good[:len(good)-1]:                               "the value is not valid JSON in UTF-8, or repeats a field",
		change(`"space":"username",`, ``):                "space is missing",
		change(`"username"`, `"User"`):                   "space is not spelt as one",
		change(`"username"`, `"signup"`):                 "space is that of sign-ups, which have no policy",
		change(`"username"`, `7`):                        "space is not a string",
		change(`"version":2`, `"version":0`):             "version must be 1 to 2147483647",
		change(`"version":2`, `"version":-1`):            "version must be 1 to 2147483647",
		change(`"version":2`, `"version":2.5`):           "version is not a whole number of 64 bits",
		change(`"version":2`, `"version":null`):          "version is missing",
		change(`"version":2`, `"version":2,"version":3`): "the value is not valid JSON in UTF-8, or repeats a field",
		change(`"rules":1`, `"rules":0`):                 "rules must be 1 or more",
		change(`["k1","k2"]`, `[]`):                      "keys must be 1 to 32 ids of keys",
		change(`["k1","k2"]`, `"k1"`):                    "keys is not a list of strings",
		change(`["k1","k2"]`, `["k1","k1"]`):             "keys must be ids of keys, each once",
		change(`["k1","k2"]`, `["k1",""]`):               "keys must be ids of keys, each once",
		change(`["k1","k2"]`, `["k1","\u0000"]`):         "keys contains NUL",
		change(`"all"}`, `"some"}`):                      `signatures must be "privileged" or "all"`,
		change(`,"signatures":"all"`, ``):                "signatures is missing",
		change(`"min_length":3`, `"min_length":0`):       "min_length must be 1 to 512",
		change(`"min_length":3,`, ``):                    "min_length is missing",
		change(`"min_length":3`, `"x":"\u0000"`):         "the value contains NUL",
		change(`"min_length":3`, `"unicode":"precis"`):   `unicode is not a JSON object`,
		change(`"policy":{`, `"policy":[{`):              "the value is not valid JSON in UTF-8, or repeats a field",
		strings.Repeat(" ", claims.MaxRecord) + good:     "the record is larger than 8192 bytes",
	} {
		r := activated(t, activation())
		r.Value = []byte(value)
		_, err := claims.Read(r)
		var unanswerable *claims.UnanswerableError
		if !errors.As(err, &unanswerable) || strings.TrimPrefix(err.Error(), "PolicyActivated: ") != want {
			t.Errorf("%.200q:\n  %v, want %s", value, err, want)
		}
	}
	// Of other ids than dibs' own it is nobody's.
	r := activated(t, activation())
	r.Headers = append([]cloudevents.Header(nil), r.Headers...)
	for i := range r.Headers {
		if r.Headers[i].Name == cloudevents.ID {
			r.Headers[i].Value = []byte(claimID.String())
		}
	}
	if _, err := claims.Read(r); err == nil || !strings.Contains(err.Error(), "version 8") {
		t.Errorf("under another id: %v", err)
	}
}

// TestActivationOfANewerDibs is read as far as it goes, so that who reads it can say what is lacking. What is not known
// beside the policy is passed over.
func TestActivationOfANewerDibs(t *testing.T) {
	r := activated(t, activation())
	text := string(r.Value)
	r.Value = []byte(strings.Replace(strings.Replace(text, `"rules":1`, fmt.Sprintf(`"rules":%d`, claims.Rules+1), 1), `"min_length":3`, `"min_runes":3`, 1))
	read, err := claims.Read(r)
	if err != nil {
		t.Fatal(err)
	}
	if a := read.Body.(*claims.PolicyActivated); a.Rules != claims.Rules+1 || a.Policy != nil || a.Version != 2 {
		t.Errorf("read %+v", a)
	}
	claims.HashOf(read.Body, names.Ref{}, "", nil) // does not panic
	r.Value = []byte(strings.Replace(text, `"rules":1`, `"rules":1,"note":{"by":"ada"}`, 1))
	if read, err := claims.Read(r); err != nil || !reflect.DeepEqual(read.Body, claims.Body(activation())) {
		t.Errorf("with an unknown field: %+v, %v", read.Body, err)
	}
}

// TestActivationReservedByLook needs rules that know it, as an older dibs knows no such field.
func TestActivationReservedByLook(t *testing.T) {
	a := activation()
	var err error
	if a.Policy.Form, err = (names.Precis{Tables: names.TablesLatest, Reserved: names.ReservedByLook}).Form(); err != nil {
		t.Fatal(err)
	}
	a.Policy.Reserved = a.Policy.ReservedKeys("root", "admin")
	a.Rules = 2
	if _, err := a.Record("dibs/spaces", sentAt, activationKey); err == nil {
		t.Error("it can be published under rules 2")
	}
	a.Rules = 3
	r := activated(t, a)
	if read, err := claims.Read(r); err != nil || !read.Body.(*claims.PolicyActivated).Policy.SameAs(a.Policy) {
		t.Errorf("%s is read as %+v, %v", r.Value, read, err)
	}
	r.Value = []byte(strings.Replace(string(r.Value), `"rules":3`, `"rules":2`, 1))
	if _, err := claims.Read(r); err == nil || !strings.Contains(err.Error(), "rules must be 3 or more") {
		t.Errorf("under rules 2: %v", err)
	}
}

// TestActivationBeyondASCII needs rules that know it: a dibs that does not must stop there, not pass over it. One that
// lacks the tables can say so.
func TestActivationBeyondASCII(t *testing.T) {
	a := activation()
	var err error
	if a.Policy.Form, err = (names.Precis{Tables: names.TablesLatest, Confusables: names.ConfusablesAsTyped}).Form(); err != nil {
		t.Fatal(err)
	}
	a.Policy.Reserved = a.Policy.ReservedKeys("root", "admin")
	if _, err := a.Record("dibs/spaces", sentAt, activationKey); err == nil {
		t.Error("it can be published under rules 1")
	}
	a.Rules = 2
	r := activated(t, a)
	bare := *a.Policy
	bare.Reserved = nil
	golden := *a
	golden.Policy = &bare
	eventtest.Check(t, "testdata/policy_activated_unicode.json", activated(t, &golden), *update)
	read, err := claims.Read(r)
	if err != nil {
		t.Fatal(err)
	}
	if got := read.Body.(*claims.PolicyActivated); got.Policy == nil || got.Lacking != nil || !got.Policy.SameAs(a.Policy) {
		t.Errorf("read %+v", got)
	}
	text := string(r.Value)
	r.Value = []byte(strings.Replace(text, `"rules":2`, `"rules":1`, 1))
	if _, err := claims.Read(r); err == nil || !strings.Contains(err.Error(), "rules must be 2 or more") {
		t.Errorf("under rules 1: %v", err)
	}
	r.Value = []byte(strings.Replace(text, "unicode-15.0.0", "unicode-99.0.0", 1))
	if read, err = claims.Read(r); err != nil {
		t.Fatal(err)
	}
	if got := read.Body.(*claims.PolicyActivated); got.Policy != nil || !errors.Is(got.Lacking, names.ErrTables) {
		t.Errorf("with tables of another build: %+v", got)
	}
}

func TestActivationIsChecked(t *testing.T) {
	for name, change := range map[string]func(a *claims.PolicyActivated){
		"no policy":             func(a *claims.PolicyActivated) { a.Policy = nil },
		"another version":       func(a *claims.PolicyActivated) { a.Version = 3 },
		"another space":         func(a *claims.PolicyActivated) { a.Space = "handle" },
		"a policy that is none": func(a *claims.PolicyActivated) { a.Policy.MinLength = 0 },
		"no keys":               func(a *claims.PolicyActivated) { a.Keys = nil },
		"no rules":              func(a *claims.PolicyActivated) { a.Rules = 0 },
		"too many words": func(a *claims.PolicyActivated) {
			a.Policy.Reserved = make(map[names.Key]struct{})
			for i := range 2_000 {
				a.Policy.Reserved[names.Key("word"+strings.Repeat("x", i%20)+"."+string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676)))] = struct{}{}
			}
		},
	} {
		a := activation()
		change(a)
		if _, err := a.Record("dibs/spaces", sentAt, activationKey); err == nil {
			t.Errorf("%s: it can be published", name)
		}
	}
}

func TestKeysThatHold(t *testing.T) {
	keys := claims.Keys{"k1": []byte("a"), "k2": []byte("b"), "k3": []byte("c")}
	some, lacking := keys.Only([]string{"k3", "k2", "k9"})
	if len(some) != 2 || string(some["k2"]) != "b" || !reflect.DeepEqual(lacking, []string{"k9"}) {
		t.Errorf("only %v, lacking %v", some, lacking)
	}
	wanted := claims.SigningKey{ID: "k1", Secret: keys["k1"]}
	if got := keys.Signing(wanted); got.ID != "k1" {
		t.Errorf("signs with %s", got.ID)
	}
	for _, c := range []struct {
		keys claims.Keys
		held [][]string
		want string
	}{
		{keys, nil, "k1"},
		{keys, [][]string{nil, nil}, "k1"},
		{keys, [][]string{{"k2", "k1"}, nil, {"k2", "k1"}}, "k2"},
		{keys, [][]string{{"k2", "k1"}, {"k1"}}, "k1"}, // on its way
		{keys, [][]string{{"k1"}, {"k2", "k1"}}, "k1"},
		{keys, [][]string{{"k9", "k3"}}, "k3"}, // k9 is not ours
		{keys, [][]string{{"k2"}, {"k3"}}, "k1"},
		{claims.Keys{}, [][]string{{"k2"}}, "k1"},
	} {
		if got := c.keys.Signing(wanted, c.held...); got.ID != c.want || got.ID != "k1" && string(got.Secret) != string(keys[c.want]) {
			t.Errorf("%v hold: signs with %s, want %s", c.held, got.ID, c.want)
		}
	}
}

// TestActivationOfAPrivateSpace needs rules that know it, and a pepper.
func TestActivationOfAPrivateSpace(t *testing.T) {
	a := activation()
	p := *a.Policy
	p.Reserved, p.Private = nil, &names.Private{Form: names.FormEmail}
	a.Policy, a.Rules = &p, claims.Rules
	if _, err := a.Record("dibs/spaces", sentAt, activationKey); err == nil || !strings.Contains(err.Error(), "policy has no pepper") {
		t.Errorf("without a pepper: %v", err)
	}
	a.Policy = p.WithPepper(1, []byte("not a pepper that anybody has, no"))
	a.Rules = 1
	if _, err := a.Record("dibs/spaces", sentAt, activationKey); err == nil {
		t.Error("it can be published under rules 1")
	}
	a.Rules = 2
	r := activated(t, a)
	eventtest.Check(t, "testdata/policy_activated_private.json", r, *update)
	read, err := claims.Read(r)
	if err != nil {
		t.Fatal(err)
	}
	if got := read.Body.(*claims.PolicyActivated); got.Policy == nil || !got.Policy.SameAs(a.Policy) {
		t.Errorf("read %+v", got)
	}
	r.Value = []byte(strings.Replace(string(r.Value), `"rules":2`, `"rules":1`, 1))
	if _, err := claims.Read(r); err == nil || !strings.Contains(err.Error(), "rules must be 2 or more") {
		t.Errorf("under rules 1: %v", err)
	}
}
