package app_test

import (
	"encoding/csv"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// signups is a file of sign-ups, and what must become of it.
type signups struct {
	file string
	rows int
	// keys are the names that are there to be had; the others are counted by why they are not.
	keys              map[string]bool
	invalid, reserved int
}

func (s *signups) taken() int { return s.rows - len(s.keys) - s.invalid - s.reserved }

var (
	validName     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,30}[A-Za-z0-9]$`)
	reservedNames = strings.Fields("info marketing sales support abuse noc security postmaster hostmaster usenet news webmaster www uucp ftp" +
		" root admin system null undefined")
)

// count reads the file and sorts its rows.
func (s *signups) count(t testing.TB) {
	t.Helper()
	f, err := os.Open(s.file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	s.keys = make(map[string]bool)
	in := csv.NewReader(f)
	if _, err := in.Read(); err != nil {
		t.Fatal(err)
	}
	for {
		row, err := in.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		s.rows++
		switch key := strings.ToLower(row[0]); {
		case !validName.MatchString(row[0]):
			s.invalid++
		case slices.Contains(reservedNames, key):
			s.reserved++
		default:
			s.keys[key] = true
		}
	}
}

// givenSignups are those of the file that DIBS_TEST_SIGNUPS names; the copy can have its companions beside it.
func givenSignups(t testing.TB, path string) *signups {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return writeSignups(t, text)
}

func writeSignups(t testing.TB, text []byte) *signups {
	t.Helper()
	s := &signups{file: filepath.Join(t.TempDir(), "signups.csv")}
	if err := os.WriteFile(s.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s.count(t)
	return s
}

// makeSignups makes a file as people fill it: few names that many want, a long tail that one wants, the same name in
// other letters, reserved words, and what is no name at all.
func makeSignups(t testing.TB, seed uint64, n int) *signups {
	t.Helper()
	t.Logf("%d sign-ups of seed %d", n, seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	given := strings.Fields("james robert john mary michael david william richard charles joseph thomas barbara patricia elizabeth susan linda")
	family := strings.Fields("Smith Norton Beaumont Airington Easton Liefer Burr Cordero Bobadilla Kot Uhl Jackson Williams Laprade Richardson")
	wrong := []string{"Al", "jo", "раураl", "a", "user\u200bname", "ᴀdmin", "", "me@example.org", "with space", "-dash", "naïve", strings.Repeat("x", 70)}
	popular := rand.NewZipf(chance, 1.3, 1, uint64(len(given)-1))
	name := func() string {
		first, last := given[popular.Uint64()], family[chance.IntN(len(family))]
		switch p := chance.Float64(); {
		case p < 0.02:
			return wrong[chance.IntN(len(wrong))]
		case p < 0.03:
			return reservedNames[chance.IntN(len(reservedNames))]
		case p < 0.13:
			return first
		case p < 0.16:
			return "dot..dot"
		case p < 0.3:
			return first + "." + strings.ToLower(last)
		case p < 0.4:
			return strings.ToUpper(first[:1]) + last
		case p < 0.7:
			return first + strconv.Itoa(chance.IntN(n))
		}
		return fmt.Sprintf("%s_%s%d", first, strings.ToLower(last), chance.IntN(n))
	}
	var b strings.Builder
	b.WriteString("username,owner_id\n")
	for i := range n {
		v := name()
		switch chance.IntN(12) {
		case 0:
			v = strings.ToUpper(v)
		case 1, 2, 3:
			if v != "" && v[0] < 0x80 {
				v = strings.ToUpper(v[:1]) + v[1:]
			}
		}
		fmt.Fprintf(&b, "%s,owner-%d-%07d\n", v, seed, i)
	}
	return writeSignups(t, []byte(b.String()))
}
