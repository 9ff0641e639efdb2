package names_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/names"
	"pgregory.net/rapid"
)

var policy = names.Builtin()[names.Username]

func TestBuiltin(t *testing.T) {
	policies := names.Builtin()
	if len(policies) != 1 || policy.Space != names.Username || policy.Version != 1 {
		t.Errorf("the policies from the start are %+v, want version 1 of the space username", policies)
	}
	if policy.TTL != 15*time.Minute || policy.LongestTTL != 7*24*time.Hour || policy.CoolDown != 0 || !policy.PreviousMayReturn || policy.UniqueAmong != names.AmongAll {
		t.Errorf("the life of a name in the space username is %+v", policy)
	}
}

const (
	charset = "may have the letters a to z, digits and . _ - only; character "
	edges   = "must start and end with a letter or a digit"
	short   = "is too short: at least 3 characters"
	long    = "is too long: at most 32 characters"
)

func TestCanonical(t *testing.T) {
	for name, want := range map[string]string{
		"alice": "alice", "Alice": "alice", "ALICE": "alice", "aLiCe": "alice",
		"a.b": "a.b", "a_b": "a_b", "a-b": "a-b", "a..b": "a..b", "A._-Z": "a._-z",
		"000": "000", "0-9": "0-9", "abc": "abc", "azAZ09": "azaz09",
		strings.Repeat("x", 32): strings.Repeat("x", 32),
		strings.Repeat("X", 32): strings.Repeat("x", 32),
		"admin":                 "admin", // reserved is another question
	} {
		if key, err := policy.Canonical(name); err != nil || string(key) != want {
			t.Errorf("%q: %q, %v; want %q", name, key, err, want)
		}
	}
}

func TestCanonicalRefuses(t *testing.T) {
	for name, want := range map[string]string{
		"":                          "is empty",
		"a":                         short,
		"ab":                        short,
		strings.Repeat("x", 33):     long,
		strings.Repeat("x", 1<<20):  long,
		"-ab":                       edges,
		"ab-":                       edges,
		".ab":                       edges,
		"ab_":                       edges,
		"...":                       edges,
		"with space":                charset + "5 is something else",
		" alice":                    charset + "1 is something else",
		"alice ":                    charset + "6 is something else",
		"me@example.org":            charset + "3 is something else",
		"a/b":                       charset + "2 is something else",
		"naïve":                     charset + "3 is something else",
		"раураl":                    charset + "1 is something else",
		"ᴀdmin":                     charset + "1 is something else",
		"user\u200bname":            charset + "5 is something else",
		"名前名前":                      charset + "1 is something else",
		"ab名前名x":                    charset + "3 is something else",
		"ab\U0001f600c":             charset + "3 is something else",
		"\U0001f600\U0001f600\x00a": charset + "1 is something else",
		"abc\x00":                   charset + "4 is something else",
		"abc\n":                     charset + "4 is something else",
		"abc\xff":                   charset + "4 is something else",
		"é\xffabc":                  charset + "1 is something else",
		"abc{":                      charset + "4 is something else", // the neighbours of a range
		"abc`":                      charset + "4 is something else",
		"abc@":                      charset + "4 is something else",
		"abc[":                      charset + "4 is something else",
		"abc/":                      charset + "4 is something else",
		"abc:":                      charset + "4 is something else",
		"K\u212aK":                  charset + "2 is something else", // the Kelvin sign folds to k
		"\u0130stanbul":             charset + "1 is something else",
	} {
		key, err := policy.Canonical(name)
		var invalid *names.InvalidError
		if !errors.As(err, &invalid) || key != "" {
			t.Errorf("%.40q: key %q, error %v; want an InvalidError", name, key, err)
			continue
		}
		if invalid.Detail != want || err.Error() != want {
			t.Errorf("%.40q: %q, want %q", name, invalid.Detail, want)
		}
	}
}

// The rule once more, in another way: what a Java or Python producer would write from the documentation.
var rule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,30}[A-Za-z0-9]$`)

// checkCanonical holds for every name there is.
func checkCanonical(t interface {
	Helper()
	Fatalf(string, ...any)
}, name string) {
	t.Helper()
	key, err := policy.Canonical(name)
	if valid := rule.MatchString(name); valid != (err == nil) {
		t.Fatalf("%q: %v, and the rule says %v", name, err, valid)
	}
	if err != nil {
		if key != "" {
			t.Fatalf("%q is refused with the key %q", name, key)
		}
		return
	}
	if string(key) != strings.ToLower(name) {
		t.Fatalf("%q has the key %q", name, key)
	}
	if again, err := policy.Canonical(string(key)); err != nil || again != key {
		t.Fatalf("%q has the key %q, and that has %q, %v", name, key, again, err)
	}
}

func TestCanonicalProperties(t *testing.T) {
	valid := rapid.StringMatching(rule.String())
	t.Run("any text", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) { checkCanonical(t, rapid.String().Draw(t, "name")) })
	})
	t.Run("near the rule", func(t *testing.T) {
		near := rapid.StringMatching(`[A-Za-z0-9._ -]{0,34}`)
		rapid.Check(t, func(t *rapid.T) { checkCanonical(t, near.Draw(t, "name")) })
	})
	t.Run("case does not matter", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			name := valid.Draw(t, "name")
			key, err := policy.Canonical(name)
			if err != nil {
				t.Fatal(err)
			}
			variant := []byte(name)
			for i, upper := range rapid.SliceOfN(rapid.Bool(), len(name), len(name)).Draw(t, "upper") {
				if upper {
					variant[i] = strings.ToUpper(name[i : i+1])[0]
				} else {
					variant[i] = strings.ToLower(name[i : i+1])[0]
				}
			}
			if got, err := policy.Canonical(string(variant)); err != nil || got != key {
				t.Fatalf("%q has the key %q, its variant %q has %q, %v", name, key, variant, got, err)
			}
		})
	})
	t.Run("nothing else is folded", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			a, b := valid.Draw(t, "a"), valid.Draw(t, "b")
			x, _ := policy.Canonical(a)
			y, _ := policy.Canonical(b)
			if (x == y) != strings.EqualFold(a, b) {
				t.Fatalf("%q and %q have the keys %q and %q", a, b, x, y)
			}
		})
	})
}

func FuzzCanonical(f *testing.F) {
	for _, name := range []string{"", "alice", "ALICE", "a.b-c_d", "-dash", "me@example.org", "naïve", "user\u200bname", "ᴀdmin", "\xff\xfe", strings.Repeat("x", 70)} {
		f.Add(name)
	}
	for _, row := range signups(f) {
		f.Add(row[0])
	}
	f.Fuzz(func(t *testing.T, name string) { checkCanonical(t, name) })
}

func TestReserved(t *testing.T) {
	for _, key := range []names.Key{
		"info", "marketing", "sales", "support", "abuse", "noc", "security", "postmaster", "hostmaster", "usenet", "news",
		"webmaster", "www", "uucp", "ftp", // RFC 2142
		"root", "admin", "system", "null", "undefined",
	} {
		if !policy.IsReserved(key) {
			t.Errorf("%q is not reserved", key)
		}
		if canonical, err := policy.Canonical(string(key)); err != nil || canonical != key {
			t.Errorf("the reserved %q is no canonical form: %q, %v", key, canonical, err)
		}
	}
	if len(policy.Reserved) != 20 {
		t.Errorf("%d words are reserved, 20 are agreed", len(policy.Reserved))
	}
	for _, key := range []names.Key{"alice", "admin1", "administrator", "rootroot", "Admin", ""} {
		if policy.IsReserved(key) {
			t.Errorf("%q is reserved", key)
		}
	}
}

// signups is a part of a real stream of sign-ups, with every wrong kind that came along.
func signups(t testing.TB) [][]string {
	t.Helper()
	text, err := os.ReadFile("testdata/signups.csv")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows[1:]
}

func TestSignups(t *testing.T) {
	refused, reserved, valid := make(map[string]int), make(map[string]int), make(map[names.Key]int)
	for _, row := range signups(t) {
		checkCanonical(t, row[0])
		key, err := policy.Canonical(row[0])
		switch {
		case err != nil:
			refused[row[0]]++
		case policy.IsReserved(key):
			reserved[row[0]]++
		default:
			valid[key]++
		}
	}
	for _, name := range []string{
		"", "a", "ty", "jo", "wm", "ma", "An", "Ma", "Al", "bo", "-dash", "with space", "me@example.org",
		"naïve", "раураl", "ᴀdmin", "user\u200bname", strings.Repeat("x", 70),
	} {
		if refused[name] == 0 {
			t.Errorf("%q was not refused", name)
		}
		delete(refused, name)
	}
	if len(refused) > 0 {
		t.Errorf("refused as well: %v", refused)
	}
	for _, name := range []string{"root", "admin", "support", "null"} {
		if reserved[name] == 0 {
			t.Errorf("%q was not reserved", name)
		}
		delete(reserved, name)
	}
	if len(reserved) > 0 {
		t.Errorf("reserved as well: %v", reserved)
	}
	if want := 245; len(valid) != want {
		t.Errorf("%d distinct valid keys, want %d", len(valid), want)
	}
}

func BenchmarkCanonical(b *testing.B) {
	for name, typed := range map[string]string{"lower": "raymond.richardson96", "mixed": "Raymond.Richardson96"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := policy.Canonical(typed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
