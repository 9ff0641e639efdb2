package names_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/names/uts39"
	"pgregory.net/rapid"
)

// claim claims a name in a space where held says who has which key, and returns why it was refused: as no name, as
// taken, as confusable, or "".
func claim(p *names.Policy, held map[names.Key]string, name string) string {
	key, err := p.Key(name)
	if err != nil {
		return "invalid"
	}
	holder, taken := held[key]
	if !taken {
		held[key] = name
		return ""
	}
	if p.Same(holder, name) {
		return "taken"
	}
	return "confusable"
}

// Every character of UTS 39's list that looks like ASCII is claimed with what it looks like, in both orders, alone and in
// a word: never are both held.
func TestConfusableWithASCII(t *testing.T) {
	table := uts39.Unicode15()
	for form, spec := range map[string]names.Precis{"widest": widest, "protected": protected, "Latin or Cyrillic": latinCyrl, "ASCII": asciiAlike} {
		p := space(t, spec)
		pairs, misses := 0, 0
		outcomes := make(map[string]int)
		table.Prototypes(func(c rune, like string) {
			if !ascii(like) {
				return
			}
			pairs++
			for _, around := range [][2]string{{"", ""}, {"a", "b"}, {"ab", ""}, {"1", "9"}, {string(c), string(c)}} {
				one := around[0] + string(c) + around[1]
				other := strings.ReplaceAll(around[0]+"\x00"+around[1], string(c), like)
				other = strings.ReplaceAll(other, "\x00", like)
				for _, pair := range [][2]string{{one, other}, {other, one}} {
					held := make(map[names.Key]string)
					first, second := claim(p, held, pair[0]), claim(p, held, pair[1])
					if first == "" && second == "" {
						misses++
						t.Errorf("%s: %+q and %+q are both held", form, pair[0], pair[1])
					}
					outcomes[first+"/"+second]++
				}
			}
		})
		t.Logf("%s: %d characters look like ASCII, %d misses; first/second claim: %v", form, pairs, misses, outcomes)
		if pairs != 1868 {
			t.Errorf("%d characters look like ASCII; the list of UTS 39 17.0.0 has 1868", pairs)
		}
		if form == "widest" && outcomes["/confusable"] < 4000 {
			t.Errorf("%s: only %d were told as confusable", form, outcomes["/confusable"])
		}
	}
}

// The rest of the list. Its entries for 19 characters that can be taken apart are never reached by UTS 39's own
// algorithm, which takes them apart first; most of them the eye does not confirm.
func TestConfusableWithAll(t *testing.T) {
	p, table := space(t, widest), uts39.Unicode15()
	both := make(map[rune]bool)
	table.Prototypes(func(c rune, like string) {
		held := make(map[names.Key]string)
		if claim(p, held, string(c)) == "" && claim(p, held, like) == "" {
			both[c] = true
			if table.Skeleton(string(c)) == table.Skeleton(like) {
				t.Errorf("%U and %+q are both held, and have one skeleton", c, like)
			}
		}
	})
	for _, c := range "\u00f6\u0146\u0150\u0163\u01f5\u021b\u0226\u0227\u0419\u045d\u0624\u0626\u1e43\u1f7d\u1ff6\ufb2f\ufb30\ufb39\ufb49" {
		if !both[c] {
			t.Errorf("%U is no exception any more", c)
		}
		delete(both, c)
	}
	if len(both) > 0 {
		t.Errorf("held beside what they look like: %U", slices.Sorted(maps.Keys(both)))
	}
}

// As before, for all characters there are: whatever UTS 39 says looks alike as it is typed is never held twice.
func TestNoTwoCharactersLookAlike(t *testing.T) {
	table := uts39.Unicode15()
	for form, spec := range map[string]names.Precis{"widest": widest, "protected": protected, "Latin or Cyrillic": latinCyrl, "Latin with Cyrillic": mixedCyrl, "Greek or Cyrillic": greekCyrl, "rare ones": rare} {
		p := space(t, spec)
		holder := make(map[string]rune) // by what it looks like
		keys := make(map[string]names.Key)
		valid := 0
		table.EachAssigned(func(c rune) {
			key, err := p.Key(string(c))
			if err != nil {
				return
			}
			valid++
			looks := table.Skeleton(string(c))
			if other, ok := keys[looks]; ok && other != key {
				t.Errorf("%s: %c %U and %c %U look alike and have the keys %q and %q", form, c, c, holder[looks], holder[looks], key, other)
			}
			keys[looks], holder[looks] = key, c
		})
		t.Logf("%s: %d characters are names, with %d looks", form, valid, len(keys))
	}
}

// The same for words, in the letters of several scripts with capitals anywhere.
func TestNoTwoWordsLookAlike(t *testing.T) {
	table := uts39.Unicode15()
	letters := [][]rune{
		[]rune("aceopxyijlmnhkrtbvzсÐĐđðʃɅß1055"), []rune("асеорхуіјлмнһкгтьвзӡибАСЕОРХУІЈЛМНҺКГТЬВЗӠИБфФЫЮҢң"), []rune("ανοηκγτβρσμφλΑΝΟΗΚΓΤΒΡΣΜΦΛΥυΧχΕεΖζ"),
		[]rune("սոռւզցհկպնՍՈՌՒԶՑՀԿՊՆՓփԻի"),
	}
	for form, spec := range map[string]names.Precis{"widest": widest, "protected": protected, "Latin or Cyrillic": latinCyrl, "Latin with Cyrillic": mixedCyrl, "Greek or Cyrillic": greekCyrl, "rare ones": rare} {
		p := space(t, spec)
		keys, holder := make(map[string]names.Key), make(map[string]string)
		random := rand.New(rand.NewPCG(7, 7))
		refused, alike := 0, 0
		for range 60_000 {
			script, name := letters[random.IntN(len(letters))], ""
			for range 1 + random.IntN(4) {
				c := script[random.IntN(len(script))]
				if random.IntN(3) == 0 {
					c = unicode.ToUpper(c)
				}
				name += string(c)
			}
			key, err := p.Key(name)
			if err != nil {
				refused++
				continue
			}
			looks := table.Skeleton(name)
			if other, ok := keys[looks]; ok && other != key {
				t.Fatalf("%s: %q and %q look alike and have the keys %q and %q", form, name, holder[looks], key, other)
			} else if ok && holder[looks] != name {
				alike++
			}
			keys[looks], holder[looks] = key, name
		}
		t.Logf("%s: %d of 60000 words refused, %d had the looks of another, and its key", form, refused, alike)
		if alike < 1000 {
			t.Errorf("%s: %d words looked like another, too few to say anything", form, alike)
		}
	}
}

// And for words of those characters, in all scripts, that share their looks with others.
func TestNoTwoWordsOfAnyScriptLookAlike(t *testing.T) {
	table := uts39.Unicode15()
	shared := make(map[string]int)
	table.EachAssigned(func(c rune) { shared[table.Skeleton(string(c))]++ })
	for form, spec := range map[string]names.Precis{"rare ones": rare, "protected": protected, "Latin or Cyrillic": latinCyrl, "Greek or Cyrillic": greekCyrl, "Latin with Cyrillic": mixedCyrl} {
		p := space(t, spec)
		var anywhere []rune
		by := make(map[string][]rune)
		table.EachAssigned(func(c rune) {
			_, err := p.Canonical(string(c))
			switch of := table.ScriptsOf(c); {
			case shared[table.Skeleton(string(c))] < 2 || err != nil && !strings.Contains(err.Error(), "capital"):
			case of.Every():
				anywhere = append(anywhere, c)
			default:
				by[of.String()] = append(by[of.String()], c)
			}
		})
		var scripts [][]rune
		for _, script := range slices.Sorted(maps.Keys(by)) {
			scripts = append(scripts, by[script])
		}
		random := rand.New(rand.NewPCG(8, 8))
		keys, holder := make(map[string]names.Key), make(map[string]string)
		for range *unicodeStrings {
			script, name := scripts[random.IntN(len(scripts))], ""
			for range 2 + random.IntN(2) {
				from := script
				if random.IntN(12) == 0 {
					from = anywhere
				}
				name += string(from[random.IntN(len(from))])
			}
			key, err := p.Key(name)
			if err != nil {
				continue
			}
			looks := table.Skeleton(name)
			if other, ok := keys[looks]; ok && other != key {
				t.Fatalf("%s: %q and %q look alike and have the keys %q and %q", form, name, holder[looks], key, other)
			}
			keys[looks], holder[looks] = key, name
		}
	}
}

// What the policy lets one choose among names of ASCII.
func TestLookAlikesInASCII(t *testing.T) {
	for _, c := range []struct {
		a, b               string
		asTyped, lowerCase string
	}{
		{"alice", "Alice", "taken", "taken"},
		{"paypal", "paypa1", "confusable", "confusable"},
		{"paypal", "paypaI", "confusable", ""}, // in lower case: paypai
		{"paypal", "PayPaI", "confusable", ""},
		{"ian", "lan", "confusable", ""},
		{"mike", "rnike", "confusable", "confusable"},
		{"MIKE", "rnike", "confusable", "confusable"}, // M looks like no rn, but is m
		{"bob", "b0b", "confusable", ""},              // 0 looks like O, not like o
		{"a|b", "alb", "confusable", "confusable"},
		{"o'neil", "o`neil", "confusable", "confusable"},
		{"cl", "d", "", ""}, {"vv", "w", "", ""}, {"5am", "sam", "", ""}, {"a.b", "a_b", "", ""}, {"a-b", "a--b", "", ""}, // UTS 39 has none of these
	} {
		for form, want := range map[string]string{"plain": map[bool]string{true: "taken"}[c.asTyped == "taken"], "protected": c.asTyped, "shown in lower case": c.lowerCase} {
			p := space(t, forms[form])
			held := make(map[names.Key]string)
			if first := claim(p, held, c.a); first != "" {
				t.Fatalf("%s: %q is %s", form, c.a, first)
			}
			if got := claim(p, held, c.b); got != want {
				t.Errorf("%s: after %q, %q is %q, want %q", form, c.a, c.b, got, want)
			}
		}
	}
}

// Fonts show a dot that is set upon a letter with a dot in place of that: i̇ is not to be told from i.
func TestDotUponADot(t *testing.T) {
	table := uts39.Unicode15()
	for name, spec := range map[string]names.Precis{"as typed": rare, "lower case": {Characters: names.CharactersAll, Confusables: names.ConfusablesLowerCase}} {
		p := space(t, spec)
		p.Reserved = p.ReservedKeys("admin")
		for _, pair := range [][2]string{
			{"admin", "admi\u0307n"}, {"jim", "j\u0307im"}, {"istanbul", "İstanbul"}, {"istanbul", "ı\u0307stanbul"},
			{"vįs", "vi\u0328\u0307s"}, {"jidai", "ji\u0307dal\u0307"}, {"si", "sl\u0307"}, {"зіма", "зі\u0307ма"}, {"ji", "ȷ\u0307ı\u0307"},
		} {
			one, _ := p.HeldKey(pair[0])
			other, _ := p.HeldKey(pair[1])
			if one != other || one == "" {
				t.Errorf("%s: %+q has the key %+q, and %+q has %+q", name, pair[0], one, pair[1], other)
			}
		}
		if key, err := p.Key("Admi\u0307n"); err != nil || !p.IsReserved(key) {
			t.Errorf("%s: Admi\u0307n is not reserved: %+q, %v", name, key, err)
		}
		if one, _ := p.Key("ż"); one != "z\u0307" { // on other letters it can be seen
			t.Errorf("%s: ż has the key %+q", name, one)
		}
		dotted := 0
		table.EachAssigned(func(c rune) {
			if !unicode.Is(unicode.Soft_Dotted, c) {
				return
			}
			one, err := p.Key(string(c))
			if err != nil {
				return
			}
			dotted++
			if other, err := p.Key(string(c) + "\u0307"); err != nil || one != other {
				t.Errorf("%s: %+q has the key %+q, with a dot upon it %+q, %v", name, c, one, other, err)
			}
		})
		if dotted < 5 {
			t.Errorf("%s: %d letters have a dot", name, dotted)
		}
	}
}

func TestSpelling(t *testing.T) {
	for _, c := range []struct {
		form, name string
		key        string // or the beginning of what is wrong with it
	}{
		{"protected", "Виктор", "ʙᴎĸᴛop"}, // bᴎĸᴛop can be written in no one script
		{"Latin or Cyrillic", "Виктор", "ʙᴎĸᴛop"},
		{"protected", "Νίκος", "vl\u0301ĸoς"},
		{"protected", "スーパー", "ス-八\u030a-"},
		{"protected", "νονο", "vovo"},
		{"protected", "ΝΟΝΟ", "may not have U+039D (character 1) as a capital letter: with it the name looks like \"nono\", and in small letters like another; write ν"},
		{"protected", "ТОМ", "may not have U+0422 (character 1) as a capital letter: with it the name looks like \"torn\", and in small letters like another; write т"},
		{"protected", "Тор", "may not have U+0422 (character 1) as a capital letter: with it the name looks like \"top\""},
		{"protected", "тор", "ᴛop"},
		{"protected", "РОСА", "poca"},
		{"protected", "Марта", "may not have U+041C"}, // Greek Μαρτα looks the same
		{"Latin or Cyrillic", "Марта", "ʍapᴛa"},       // but here nobody writes Greek
		{"Latin or Cyrillic", "Тор", "may not have U+0422"},
		{"Latin with Cyrillic", "Марта", "may not have U+041C"}, // Mapтa, with a Latin M
		{"Latin with Cyrillic", "марта", "ʍapᴛa"},
		{"Latin or Cyrillic", "Мт", "ʍᴛ"},
		{"Greek or Cyrillic", "Мт", "may not have U+041C"}, // Greek Μτ, by its capital only
		{"Greek or Cyrillic", "мт", "ʍᴛ"},
		{"Greek or Cyrillic", "иКӠ", "may not have U+041A"}, // as иКЗ
		{"Greek or Cyrillic", "иКЗ", "may not have U+041A"},
		{"Greek or Cyrillic", "иКз", "ᴎĸɜ"},
		{"rare ones", "𑣤𑢮", "may not have U+118AE"}, // 𑣤𑢦: in Warang Citi two capitals look alike
		{"rare ones", "𑣤𑢦", "may not have U+118A6"},
		{"rare ones", "𑢷𑢩", "may not have U+118B7"}, // as 𑢷𑣥
		{"plain", "ТОМ", "том"},
		{"shown in lower case", "ТОМ", "ᴛoʍ"},
	} {
		key, err := space(t, forms[c.form]).Key(c.name)
		if got := string(key) + detail(err); got != c.key && (err == nil || !strings.HasPrefix(got, c.key)) {
			t.Errorf("%s: %q: %q; want %q", c.form, c.name, got, c.key)
		}
	}
}

func TestSame(t *testing.T) {
	for form, spec := range forms {
		p := space(t, spec)
		p.MinLength = 3
		for _, c := range []struct {
			a, b string
			want bool
		}{
			{"alice", "ALICE", true}, {"al", "AL", true}, {"paypal", "paypa1", false}, {"a b", "A b", spec.Characters == names.CharactersASCII}, {"", "", true},
			{"Ａlice", "alice", spec.Characters != names.CharactersASCII}, {"caf\u00e9", "CAFE\u0301", spec.Characters != names.CharactersASCII},
		} {
			if got := p.Same(c.a, c.b); got != c.want {
				t.Errorf("%s: %q and %q are the same: %v", form, c.a, c.b, got)
			}
		}
	}
	if !policy.Same("Alice", "aLICE") || policy.Same("alice", "alicf") {
		t.Error("without a form, the same in lower case is the same")
	}
}

func TestReservedLookAlikes(t *testing.T) {
	for form, want := range map[string]map[string]bool{
		"plain":               {"admin": true, "ADMIN": true, "Ａdmin": true, "adm1n": false, "adrnin": false, "админ": true, "root": true, "r00t": false},
		"protected":           {"admin": true, "ADMIN": true, "Ａdmin": true, "adm1n": true, "adrnin": true, "админ": true, "root": true, "r00t": true, "ROOT": true, "roots": false, "οροο": false},
		"shown in lower case": {"admin": true, "ADMIN": true, "adm1n": false, "adrnin": true, "root": true, "r00t": false},
		"widest":              {"аdmin": true, "аdмin": false, "ᴀdmin": false, "rооt": true, "rοοt": true, "ROOТ": false},
		"ASCII":               {"admin": true, "adm1n": true, "Adrnln": true, "alice": false},
	} {
		p := space(t, forms[form])
		p.Reserved = p.ReservedKeys("admin", "root", "Админ", "h0st")
		if len(p.Reserved) != 4 {
			t.Errorf("%s: %d words are reserved", form, len(p.Reserved))
		}
		for name, reserved := range want {
			key, err := p.Key(name)
			if err == nil && p.IsReserved(key) != reserved || err != nil && reserved {
				t.Errorf("%s: %q: key %q, reserved %v, %v; want %v", form, name, key, p.IsReserved(key), err, reserved)
			}
		}
		for key := range p.Reserved { // 0 looks like O, which nobody can type where names are in lower case
			if after, err := p.KeyAfter(key, ""); err != nil || after != key {
				t.Errorf("%s: whoever holds %q, or blocked it, is to be found by %q, %v", form, key, after, err)
			}
		}
		if form != "ASCII" { // Админ is none of its names
			p.TTL, p.LongestTTL, p.UniqueAmong = time.Minute, time.Hour, names.AmongAll
			if read, err := names.ReadPolicy(p.Space, p.Version, p.AppendJSON(nil)); err != nil || !maps.Equal(read.Reserved, p.Reserved) {
				t.Errorf("%s: %s reads back as %v, %v", form, p.AppendJSON(nil), read, err)
			}
		}
	}
	byLook := space(t, names.Precis{Tables: names.TablesLatest, Characters: names.CharactersAll, Reserved: names.ReservedByLook})
	byLook.Reserved = byLook.ReservedKeys("admin", "root", "Админ")
	for name, reserved := range map[string]bool{"admin": true, "ADM1N": true, "Adrnln": true, "r00t": true, "админ": true, "roots": false, "alice": false} {
		key, err := byLook.Key(name)
		if err != nil || byLook.IsReserved(key) != reserved {
			t.Errorf("by its look: %q: key %q, reserved %v, %v; want %v", name, key, byLook.IsReserved(key), err, reserved)
		}
	}
	if other, err := byLook.Key("ADM1N"); err != nil || other != "adm1n" {
		t.Errorf("its key is %q, %v", other, err)
	}
	if got := policy.ReservedKeys("Root"); len(got) != 1 || !policy.IsReserved("root") {
		t.Errorf("without a form, Root reserves %v", got)
	}
}

// Whatever can be a name can be reserved, and nothing else can.
func TestCanReserve(t *testing.T) {
	for _, form := range []names.Precis{
		{Tables: names.TablesLatest, Characters: names.CharactersAll, Reserved: names.ReservedByLook},
		{Tables: names.TablesLatest, Characters: names.CharactersAll, Confusables: names.ConfusablesAsTyped},
	} {
		p := space(t, form)
		p.TTL, p.LongestTTL, p.UniqueAmong = time.Minute, time.Hour, names.AmongAll
		var words []string
		for r := rune(0); r <= utf8.MaxRune; r++ {
			if r > 0x3000 { // more of the same
				r += 96
			}
			if word := "a" + string(r); p.CanReserve(word) == nil {
				words = append(words, word)
			}
		}
		p.Reserved = p.ReservedKeys(words...)
		if err := p.Validate(); err != nil || len(words) < 3000 {
			t.Errorf("%d words: %v", len(words), err)
		}
		for _, word := range []string{"a b", "", "a\u200bb", "a\x00", "a\u202eb", "a\xff", "a\ue000"} {
			if err := p.CanReserve(word); err == nil {
				t.Errorf("%q can be reserved", word)
			}
			if p.Reserved = map[names.Key]struct{}{names.Key(word): {}}; form.Reserved == names.ReservedByLook && p.Validate() == nil {
				t.Errorf("a policy has %q", word)
			}
		}
	}
}

// Without a form, and with one that only compares, ASCII names keep the canonical form they always had.
func TestASCIIForm(t *testing.T) {
	alike := *policy
	alike.Form = space(t, asciiAlike).Form
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.StringMatching(rule.String()), rapid.String()).Draw(t, "name")
		want, wantErr := policy.Canonical(name)
		if got, err := alike.Canonical(name); got != want || detail(err) != detail(wantErr) {
			t.Fatalf("%q: %q, %v; before: %q, %v", name, got, err, want, wantErr)
		}
		if key, err := policy.Key(name); key != want || detail(err) != detail(wantErr) {
			t.Fatalf("%q has the key %q, %v", name, key, err)
		}
		if got, want := policy.Skeleton(want), want; got != want {
			t.Fatalf("%q has the skeleton %q", want, got)
		}
		if key, err := alike.Key(name); err == nil && len(key) <= alike.MaxLength {
			if back, err := alike.Key(string(key)); err != nil || back != key {
				t.Fatalf("%q has the key %q, and that has %q, %v", name, key, back, err)
			}
		}
	})
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
