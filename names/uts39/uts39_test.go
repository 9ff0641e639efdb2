package uts39_test

import (
	"testing"
	"unicode"

	"github.com/dibs-hq/dibs/names/uts39"
	"golang.org/x/text/unicode/norm"
)

func TestTables(t *testing.T) {
	table := uts39.Unicode15()
	n := 0
	table.Prototypes(func(c rune, like string) {
		n++
		if like == "" || like == string(c) {
			t.Errorf("%U looks like %+q", c, like)
		}
	})
	if n != 6565 { // "# total" of confusables.txt 17.0.0
		t.Errorf("%d characters look like others", n)
	}
	assigned, recommended := 0, 0
	table.EachAssigned(func(c rune) {
		assigned++
		if table.Recommended(c) {
			recommended++
		}
		if !unicode.In(c, unicode.C) && !unicode.IsGraphic(c) && !unicode.IsSpace(c) {
			t.Errorf("%U is assigned here, and not in package unicode", c)
		}
	})
	// Unicode 15.0.0 has 149,186 characters, and 65 control codes.
	if assigned != 149_186+65 {
		t.Errorf("%d characters are assigned", assigned)
	}
	if recommended < 30_000 || recommended > 40_000 {
		t.Errorf("%d characters are recommended", recommended)
	}
	if n := len(uts39.Codes()); n != 161+3 {
		t.Errorf("%d scripts", n)
	}
}

func TestSkeleton(t *testing.T) {
	table := uts39.Unicode15()
	for s, want := range map[string]string{
		"": "", "alice": "alice", "paypal": "paypal", "раураl": "paypal", "paypa1": "paypal", "scope": "scope", "ѕсоре": "scope",
		"MIKE": "MlKE", "mike": "rnike", "0": "O", "ο": "o", "O'": "O'", "ij": "ij", "ĳ": "ij", "é": "e\u0301", "e\u0301": "e\u0301",
		"ﬁ": "fi", "𝐚": "a", "ℌ": "H", "Å": "A\u030a", "가": "\u1100\u1161"[:3] + "\u1161", "ё": "e\u0308", "ё\u0338": "e\u0338\u0308",
	} {
		if got := table.Skeleton(s); got != want {
			t.Errorf("%q: %+q, want %+q", s, got, want)
		}
	}
	// Characters that are listed whole and can be taken apart are never looked up: the algorithm takes them apart first.
	table.Prototypes(func(c rune, like string) {
		if norm.NFD.String(string(c)) == string(c) {
			if got := table.Skeleton(string(c)); got != norm.NFD.String(like) {
				t.Errorf("%U has the skeleton %+q, listed is %+q", c, got, like)
			}
		}
	})
}

func TestScriptsOf(t *testing.T) {
	table := uts39.Unicode15()
	for c, want := range map[rune]string{
		'a': "Latn", 'ж': "Cyrl", 'α': "Grek", '1': "any", '.': "any", '\u0301': "any", '太': "Hanb+Hani+Jpan+Kore", 'か': "Hira+Jpan", 'ア': "Jpan+Kana",
		'한': "Hang+Kore", 'ㄅ': "Bopo+Hanb", 'ー': "Hira+Jpan+Kana", 'ͣ': "Latn", '\u0378': "", '\ue000': "", '\uffff': "", 0x10ffff: "", 0x16d40: "", -1: "",
	} {
		if got := table.ScriptsOf(c).String(); got != want {
			t.Errorf("%U: %s, want %s", c, got, want)
		}
		if table.Assigned(c) != (want != "") {
			t.Errorf("%U: assigned %v", c, table.Assigned(c))
		}
	}
	for c, want := range map[rune]bool{'a': true, '1': true, 'ß': true, 'ж': true, '太': true, 'ᴀ': false, 'Ꭰ': false, '@': false, 'ſ': false, '\u200d': false, 0x16d40: false} {
		if got := table.Recommended(c); got != want {
			t.Errorf("%U: recommended %v", c, got)
		}
	}
}

func TestParseScripts(t *testing.T) {
	for text, want := range map[string]string{"Latn": "Latn", "Latn+Cyrl": "Cyrl+Latn", "Jpan": "Jpan", "Jpan+Latn": "Jpan+Latn"} {
		if got, err := uts39.ParseScripts(text); err != nil || got.String() != want {
			t.Errorf("%q: %v, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "+", "Latn+", "latn", "Latin", "Zyyy", "Zinh", "Zzzz", "Latn Cyrl", "any"} {
		if got, err := uts39.ParseScripts(text); err == nil || !got.Empty() {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
