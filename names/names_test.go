package names_test

import (
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/names"
	"pgregory.net/rapid"
)

func TestSpaceValid(t *testing.T) {
	for space, want := range map[names.Space]bool{
		names.Username: true, "a": true, "invoice-number": true, "a0": true, "a-": true,
		names.Space(strings.Repeat("a", 32)): true,
		names.Space(strings.Repeat("a", 33)): false,
		"":                                   false, "0a": false, "-a": false, "A": false, "aB": false, "a_b": false, "a b": false, "a/b": false,
		"ä": false, "aä": false, "a\x00": false, "a{": false, "a`": false, "a:": false, "{": false, "`": false,
	} {
		if got := space.Valid(); got != want {
			t.Errorf("%q: %v, want %v", space, got, want)
		}
	}
}

func TestParseRef(t *testing.T) {
	for recordKey, want := range map[string]names.Ref{
		"username/alice":                 {Space: "username", Key: "alice"},
		"username/a/b":                   {Space: "username", Key: "a/b"},
		"username//":                     {Space: "username", Key: "/"},
		"username/Ä":                     {Space: "username", Key: "Ä"},
		"":                               {Key: ""},
		"alice":                          {Key: "alice"},
		"/alice":                         {Key: "/alice"},
		"username/":                      {Key: "username/"},
		"User/alice":                     {Key: "User/alice"},
		strings.Repeat("a", 33) + "/bob": {Key: names.Key(strings.Repeat("a", 33) + "/bob")},
	} {
		if got := names.ParseRef(recordKey); got != want {
			t.Errorf("%q: %+v, want %+v", recordKey, got, want)
		}
	}
}

func TestRecordKeyIsTheInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		recordKey := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z/]{0,6}`)).Draw(t, "record key")
		if got := names.ParseRef(recordKey).RecordKey(); got != recordKey {
			t.Fatalf("%q came back as %q", recordKey, got)
		}
		ref := names.Ref{
			Space: names.Space(rapid.StringMatching(`[a-z][a-z0-9-]{0,31}`).Draw(t, "space")),
			Key:   names.Key(rapid.StringN(1, -1, names.MaxKey).Draw(t, "key")),
		}
		if got := names.ParseRef(ref.RecordKey()); got != ref || ref.RecordKey() != ref.String() {
			t.Fatalf("%+v came back as %+v", ref, got)
		}
	})
}
