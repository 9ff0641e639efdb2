package names_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/names"
	"pgregory.net/rapid"
)

const builtinJSON = `{"min_length":3,"max_length":32,"reserved":["abuse","admin","ftp","hostmaster","info","marketing","news","noc","null","postmaster","root","sales","security","support","system","undefined","usenet","uucp","webmaster","www"],"ttl_seconds":900,"shortest_ttl_seconds":0,"longest_ttl_seconds":604800,"cool_down_seconds":0,"previous_may_return":true,"unique_among":"all"}`

func TestPolicyJSON(t *testing.T) {
	if got := string(policy.AppendJSON(nil)); got != builtinJSON {
		t.Errorf("the built-in policy is\n%s, want\n%s", got, builtinJSON)
	}
	p, err := names.ReadPolicy("invoice-number", 7, []byte(builtinJSON))
	if err != nil {
		t.Fatal(err)
	}
	if p.Space != "invoice-number" || p.Version != 7 || !p.IsReserved("root") || p.TTL != 15*time.Minute || string(p.AppendJSON(nil)) != builtinJSON {
		t.Errorf("read back as %+v", p)
	}
}

// TestPolicyJSONRoundTrip: what is written is read back, whatever it says.
func TestPolicyJSONRoundTrip(t *testing.T) {
	seconds := func(least, most int64) *rapid.Generator[time.Duration] {
		return rapid.Map(rapid.Int64Range(least, most), func(n int64) time.Duration { return time.Duration(n) * time.Second })
	}
	const longest = int64(names.MaxDuration / time.Second)
	rapid.Check(t, func(t *rapid.T) {
		p := names.Policy{Space: "x-1", Version: rapid.IntRange(1, names.MaxVersion).Draw(t, "version"), Reserved: map[names.Key]struct{}{}}
		p.MinLength = rapid.IntRange(1, names.MaxKey).Draw(t, "min")
		p.MaxLength = rapid.IntRange(p.MinLength, names.MaxKey).Draw(t, "max")
		for _, word := range rapid.SliceOf(rapid.StringMatching(`[a-z0-9]([a-z0-9._-]{0,8}[a-z0-9])?`)).Draw(t, "reserved") {
			p.Reserved[names.Key(word)] = struct{}{}
		}
		p.TTL = seconds(1, longest).Draw(t, "ttl")
		p.ShortestTTL = seconds(0, int64(p.TTL/time.Second)).Draw(t, "shortest")
		p.LongestTTL = seconds(int64(p.TTL/time.Second), longest).Draw(t, "longest")
		p.CoolDown = seconds(0, longest).Draw(t, "cool-down")
		p.PreviousMayReturn = rapid.Bool().Draw(t, "return")
		p.UniqueAmong = rapid.SampledFrom([]names.Among{names.AmongAll, names.AmongActive}).Draw(t, "among")
		text := p.AppendJSON(nil)
		read, err := names.ReadPolicy(p.Space, p.Version, text)
		if err != nil || !read.SameAs(&p) || read.Version != p.Version {
			t.Fatalf("%s is read as %+v, %v", text, read, err)
		}
	})
}

func TestPolicyJSONRefuses(t *testing.T) {
	change := func(old, new string) string { return strings.Replace(builtinJSON, old, new, 1) }
	for text, want := range map[string]string{
		``:                               "policy is not a JSON object",
		`null`:                           "policy is not a JSON object",
		`[]`:                             "policy is not a JSON object",
		`{}`:                             "min_length is missing",
		builtinJSON[1:]:                  "policy is not a JSON object",
		builtinJSON[:len(builtinJSON)-1]: "policy is not valid JSON in UTF-8, or repeats a field",
		builtinJSON + "x":                "policy has something behind it",
		change(`"all"}`, `"all","unicodes":"precis"}`):                   `policy has the unknown field "unicodes"`,
		change(`"min_length":3`, `"min_length":0`):                       "min_length must be 1 to 512",
		change(`"min_length":3`, `"min_length":-3`):                      "min_length must be a whole number from 0 to 2147483647",
		change(`"min_length":3`, `"min_length":3.5`):                     "min_length must be a whole number from 0 to 2147483647",
		change(`"min_length":3`, `"min_length":"3"`):                     "min_length is not a number",
		change(`"min_length":3`, `"min_length":null`):                    "min_length is not a number",
		change(`"min_length":3`, `"min_length":9e99`):                    "min_length must be a whole number from 0 to 2147483647",
		change(`"min_length":3,`, ``):                                    "min_length is missing",
		change(`"min_length":3`, `"max_length":3`):                       "policy is not valid JSON in UTF-8, or repeats a field",
		change(`"max_length":32`, `"max_length":2`):                      "max_length must be min_length (3) to 512",
		change(`"max_length":32`, `"max_length":513`):                    "max_length must be min_length (3) to 512",
		change(`"admin"`, `"Admin"`):                                     `reserved has "Admin", which is no key of a name: write it as it is compared, in lower case`,
		change(`"admin"`, `"ad\u0000min"`):                               `reserved has "ad\x00min", which is no key of a name: write it as it is compared, in lower case`,
		change(`"admin"`, `"root"`):                                      `reserved has "root" twice`,
		change(`"admin"`, `7`):                                           "reserved is not a string",
		change(`"reserved":[`, `"reserved":{"a":[`):                      "reserved is not a list of strings",
		change(`"ttl_seconds":900`, `"ttl_seconds":0`):                   "ttl must be at least a second",
		change(`"ttl_seconds":900`, `"ttl_seconds":1e6`):                 "ttl_seconds must be a whole number from 0 to 316224000",
		change(`"ttl_seconds":900`, `"ttl_seconds":99999999`):            "ttl is more than longest_ttl",
		change(`"cool_down_seconds":0`, `"cool_down_seconds":316224001`): "cool_down_seconds must be a whole number from 0 to 316224000",
		change(`"shortest_ttl_seconds":0`, `"shortest_ttl_seconds":901`): "ttl is less than shortest_ttl",
		change(`true`, `1`):                                              "previous_may_return is not true or false",
		change(`true`, `nope`):                                           "policy is not valid JSON in UTF-8, or repeats a field",
		change(`"all"`, `"me"`):                                          `unique_among must be "all" or "active"`,
	} {
		_, err := names.ReadPolicy("username", 2, []byte(text))
		var wrong *names.PolicyError
		if !errors.As(err, &wrong) || err.Error() != want {
			t.Errorf("%s\n  %v, want %s", text, err, want)
		}
	}
	for version, space := range map[int]names.Space{0: "username", names.MaxVersion + 1: "username", 1: "No-Space"} {
		if _, err := names.ReadPolicy(space, version, []byte(builtinJSON)); err == nil {
			t.Errorf("version %d of space %q is a policy", version, space)
		}
	}
}

func FuzzReadPolicy(f *testing.F) {
	f.Add([]byte(builtinJSON))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := names.ReadPolicy("username", 2, text)
		if err != nil {
			return
		}
		again, err := names.ReadPolicy("username", 2, p.AppendJSON(nil))
		if err != nil || !again.SameAs(p) {
			t.Errorf("%s is %s, which is not read back: %v", text, p.AppendJSON(nil), err)
		}
	})
}

// TestKeyOfAnEarlierPolicy: a name keeps its key when it could not be claimed any more.
func TestKeyOfAnEarlierPolicy(t *testing.T) {
	for name, want := range map[string]names.Key{
		"a": "a", "AB": "ab", "alice": "alice", "Alice": "alice", strings.Repeat("X", 40): names.Key(strings.Repeat("x", 40)),
		strings.Repeat("x", names.MaxKey): names.Key(strings.Repeat("x", names.MaxKey)),
	} {
		if key, err := policy.HeldKey(name); err != nil || key != want {
			t.Errorf("%q: %q, %v", name, key, err)
		}
	}
	for _, name := range []string{"", ".", "a.", "-a", "ä", "a b", "a\x00b", strings.Repeat("x", names.MaxKey+1)} {
		if key, err := policy.HeldKey(name); err == nil {
			t.Errorf("%q has the key %q", name, key)
		}
	}
	rapid.Check(t, func(t *rapid.T) { // where there is a canonical form, it is the key
		name := rapid.StringMatching(`[a-zA-Z0-9._-]{0,40}`).Draw(t, "name")
		key, err := policy.HeldKey(name)
		if canonical, refused := policy.Canonical(name); refused == nil && (err != nil || key != canonical) {
			t.Fatalf("%q: key %q, %v; canonical %q", name, key, err, canonical)
		}
		if err == nil {
			if again, err := policy.HeldKey(string(key)); err != nil || again != key {
				t.Fatalf("the key %q has the key %q, %v", key, again, err)
			}
		}
	})
}

// TestMayMoveKeys: what changes only who may claim what moves no key.
func TestMayMoveKeys(t *testing.T) {
	t.Cleanup(names.AddTables("other", 'q', "g", ""))
	form := func(spec names.Precis) *names.Policy {
		p := *policy
		if spec.Tables == "" {
			spec.Tables = names.TablesLatest
		}
		var err error
		if p.Form, err = spec.Form(); err != nil {
			t.Fatal(err)
		}
		return &p
	}
	short := *policy
	short.Version, short.MinLength, short.MaxLength, short.Reserved = 2, 10, 12, nil
	precis, wide := form(names.Precis{}), form(names.Precis{Characters: names.CharactersAll, Scripts: []string{"*"}})
	other := form(names.Precis{Tables: "other"})
	alike, otherAlike := form(names.Precis{Confusables: names.ConfusablesAsTyped}), form(names.Precis{Tables: "other", Confusables: names.ConfusablesAsTyped})
	lower := form(names.Precis{Confusables: names.ConfusablesLowerCase})
	ascii := form(names.Precis{Characters: names.CharactersASCII})
	asciiAlike := form(names.Precis{Characters: names.CharactersASCII, Confusables: names.ConfusablesAsTyped})
	for _, c := range []struct {
		name     string
		from, to *names.Policy
		there    bool
		back     bool
	}{
		{"its length", policy, &short, false, false},
		{"ASCII, said otherwise", policy, ascii, false, false},
		{"to other languages", policy, precis, false, true},
		{"more characters and scripts", precis, wide, false, false},
		{"other tables", precis, other, true, true},
		{"other tables of ASCII", ascii, other, false, true},
		{"look-alikes", policy, asciiAlike, true, true},
		{"look-alikes of all", precis, alike, true, true},
		{"as typed or not", alike, lower, true, true},
		{"other tables of look-alikes", alike, otherAlike, true, true},
		{"look-alikes to other languages", asciiAlike, alike, false, true},
	} {
		if there, back := c.from.MayMoveKeys(c.to), c.to.MayMoveKeys(c.from); there != c.there || back != c.back {
			t.Errorf("%s: %t, and back %t", c.name, there, back)
		}
	}
}

// TestUnicodePolicyJSON: what is read is what was written, and each part of it must be there.
func TestUnicodePolicyJSON(t *testing.T) {
	p := *policy
	p.Version = 2
	var err error
	if p.Form, err = (names.Precis{Tables: names.TablesLatest, Scripts: []string{"Latn", "Cyrl"}, Confusables: names.ConfusablesAsTyped}).Form(); err != nil {
		t.Fatal(err)
	}
	p.Reserved = p.ReservedKeys("root", "Admin", "m")
	text := string(p.AppendJSON(nil))
	const said = `"unicode":{"tables":"unicode-15.0.0/confusables-17.0.0/1","characters":"recommended","scripts":["Latn","Cyrl"],"confusables":"as_typed"}}`
	if !strings.HasSuffix(text, ","+said) || !strings.Contains(text, `"reserved":["adrnln","rn","root"]`) {
		t.Errorf("it is %s", text)
	}
	read, err := names.ReadPolicy(p.Space, p.Version, []byte(text))
	if err != nil || !read.SameAs(&p) || !read.KeepsLookalikesApart() || policy.KeepsLookalikesApart() {
		t.Fatalf("read %s: %v", text, err)
	}
	if key, err := read.Key("Pаypal"); err == nil || key != "" { // with a Cyrillic а
		t.Errorf("mixed scripts have the key %q, %v", key, err)
	}
	for change, want := range map[string]string{
		`"tables":"unicode-15.0.0/confusables-17.0.0/1",`: "unicode.tables is missing",
		`"characters":"recommended",`:                     "unicode.characters is missing",
		`"scripts":["Latn","Cyrl"],`:                      "unicode.scripts is missing",
		`,"confusables":"as_typed"`:                       "unicode.confusables is missing",
		`"recommended"`:                                   "unicode.characters is not a string",
		`"Latn"`:                                          "unicode.scripts is not a string",
	} {
		to := ""
		if strings.HasSuffix(want, "string") {
			to = "1"
		}
		var wrong *names.PolicyError
		if _, err := names.ReadPolicy(p.Space, p.Version, []byte(strings.Replace(text, change, to, 1))); !errors.As(err, &wrong) || err.Error() != want {
			t.Errorf("without %s: %v, want %s", change, err, want)
		}
	}
	for with, want := range map[string]string{
		`"unicode":null}`: "unicode is not a JSON object",
		`"unicode":{"tables":"` + string(names.TablesLatest) + `","characters":"every","scripts":[],"confusables":"allowed"}}`: `unicode characters "every": recommended, all or ascii`,
		`"unicode":{"tables":"","characters":"","scripts":[],"confusables":"allowed"}}`:                                        "unicode leaves something to a default",
		`"unicode":{"more":1}}`: `unicode has the unknown field "more"`,
	} {
		if _, err := names.ReadPolicy(p.Space, p.Version, []byte(strings.Replace(text, said, with, 1))); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", with, err, want)
		}
	}
	if _, err := names.ReadPolicy(p.Space, p.Version, []byte(strings.Replace(text, "unicode-15.0.0", "unicode-99.0.0", 1))); !errors.Is(err, names.ErrTables) {
		t.Errorf("of another build: %v", err)
	}
	if p.Reserved = map[names.Key]struct{}{"admin": {}}; p.Validate() == nil {
		t.Error("a reserved word that is no key was let through")
	}
}

// TestHeldKey: a name that a policy forbids keeps the key that it had, and two with one key are told apart.
func TestHeldKey(t *testing.T) {
	p := *policy
	var err error
	if p.Form, err = (names.Precis{Tables: names.TablesLatest, Scripts: []string{"Latn"}, Confusables: names.ConfusablesAsTyped}).Form(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]names.Key{"I": "l", "Пётр": "пётр", "ab": "ab", "paypa1": "paypal"} {
		key, err := p.HeldKey(name)
		if err != nil || key != p.Skeleton(want) {
			t.Errorf("%q: %q, %v", name, key, err)
		}
		if short, refused := p.Key(name); refused == nil && short != key {
			t.Errorf("%q has the keys %q and %q", name, short, key)
		}
	}
	for _, name := range []string{"", "a b", "a\u200db", "\xff", "a\U0010ffffb", strings.Repeat("m", 400), strings.Repeat("x", 9000)} {
		if key, err := p.HeldKey(name); err == nil {
			t.Errorf("%q has the key %q", name, key)
		}
	}
	// The longest spelling of what has the most bytes, and what is too long to be looked at: a flood of marks takes long.
	wide := space(t, names.Precis{Characters: names.CharactersAll})
	wide.MaxLength = 256
	spelt := strings.Repeat("Ｕ\u0308\u0304", 256)
	if key, err := wide.HeldKey(spelt); err != nil || key != names.Key(strings.Repeat("ǖ", 256)) {
		t.Errorf("%d bytes have the key %q, %v", len(spelt), key, err)
	}
	if key, err := wide.Key(spelt); err != nil || len(key) != names.MaxKey {
		t.Errorf("%d bytes have the key %q, %v", len(spelt), key, err)
	}
	if _, err := wide.HeldKey("a" + strings.Repeat("\u0301", names.MaxKey*2)); err == nil || !strings.Contains(err.Error(), "at most 512 bytes") {
		t.Errorf("a flood of marks: %v", err)
	}
	if p.Same("PayPal", "paypa1") || !p.Same("PayPal", "paypal") {
		t.Error("paypa1 is paypal, or paypal is not")
	}
	for name, want := range map[string]string{"paypal": "", "PAYPAL": "", "Paypa1": "paypa1", "other1": ""} {
		if got := p.Asked(name, "paypal"); got != want {
			t.Errorf("%q asks for %q, want %q", name, got, want)
		}
		if policy.Asked(name, "paypal") != "" {
			t.Errorf("%q is told apart where keys are names", name)
		}
	}
}
