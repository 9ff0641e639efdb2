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
		change(`"all"}`, `"all","unicode":"precis"}`):                    `policy has the unknown field "unicode"`,
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
		if key, err := policy.Key(name); err != nil || key != want {
			t.Errorf("%q: %q, %v", name, key, err)
		}
	}
	for _, name := range []string{"", ".", "a.", "-a", "ä", "a b", "a\x00b", strings.Repeat("x", names.MaxKey+1)} {
		if key, err := policy.Key(name); err == nil {
			t.Errorf("%q has the key %q", name, key)
		}
	}
	rapid.Check(t, func(t *rapid.T) { // where there is a canonical form, it is the key
		name := rapid.StringMatching(`[a-zA-Z0-9._-]{0,40}`).Draw(t, "name")
		key, err := policy.Key(name)
		if canonical, refused := policy.Canonical(name); refused == nil && (err != nil || key != canonical) {
			t.Fatalf("%q: key %q, %v; canonical %q", name, key, err, canonical)
		}
		if err == nil {
			if again, err := policy.Key(string(key)); err != nil || again != key {
				t.Fatalf("the key %q has the key %q, %v", key, again, err)
			}
		}
	})
}

// TestMovesKeys: no change of a policy of today moves a key.
func TestMovesKeys(t *testing.T) {
	next := *policy
	next.Version, next.MinLength, next.MaxLength, next.Reserved = 2, 10, 12, nil
	if policy.MovesKeys(&next) || next.MovesKeys(policy) {
		t.Error("a change of length moves keys")
	}
	if policy.SameAs(&next) || !policy.SameAs(policy) {
		t.Error("a policy is the same as itself, and as no other")
	}
	all := names.Builtin()
	if with := all.With(&next); with.Version(names.Username) != 2 || all.Version(names.Username) != 1 || all.Version("other") != 0 {
		t.Error("With changes the policies that are in use")
	}
}
