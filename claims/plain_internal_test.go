package claims

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// What we write of four fields is read the short way: else nobody would notice that none is.
func TestReadPlainOfOurs(t *testing.T) {
	claim := UsernameClaimed{Space: "username", Spelling: "alice", Owner: "user:1", Mode: ModeRegister}
	if got := readPlain(claim.AppendJSON(nil)); !reflect.DeepEqual(got, &claim) {
		t.Errorf("%s is read as %+v", claim.AppendJSON(nil), got)
	}
}

// What is read the short way, the long way reads alike: the same for whatever is one byte off.
func TestReadPlain(t *testing.T) {
	const claim = `{"space":"username","name":"alice","owner":"user:1","mode":"register"}`
	check := func(t interface{ Fatalf(string, ...any) }, value []byte) bool {
		got := readPlain(value)
		if got == nil {
			return false
		}
		if want, err := decodeBody(TypeUsernameClaimed, value); err != nil || !reflect.DeepEqual(want, Body(got)) {
			t.Fatalf("%s: %+v, want %+v, %v", value, got, want, err)
		}
		return true
	}
	for _, value := range []string{claim,
		`{"space":"","name":"","owner":"","mode":""}`,
		`{"space":"handle","name":"<a&b>","owner":"{}","mode":"reserve"}`,
	} {
		if !check(t, []byte(value)) {
			t.Fatalf("%s is not read the short way", value)
		}
	}
	for _, value := range []string{"", "{}", claim + " ", claim + "}", claim[:len(claim)-1], claim[:len(claim)-2],
		`{"space":"username","name":"al\u0069ce","owner":"user:1","mode":"register"}`,
		`{"space":"username","name":"ålice","owner":"user:1","mode":"register"}`,
		"{\"space\":\"username\",\"name\":\"a\tb\",\"owner\":\"user:1\",\"mode\":\"register\"}",
		`{"name":"alice","space":"username","owner":"user:1","mode":"register"}`,
		`{"space":"username","key":"alice","owner":"user:1","mode":"register"}`,
		`{"space":"username","name":"alice","owner":"user:1","mode":"register","ttl_seconds":5}`,
	} {
		if check(t, []byte(value)) {
			t.Fatalf("%s is read the short way", value)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		value := []byte(claim)
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			at := rapid.IntRange(0, len(value)-1).Draw(t, "at")
			switch rapid.SampledFrom([]string{"set", "drop", "add"}).Draw(t, "how") {
			case "set":
				value[at] = rapid.Byte().Draw(t, "byte")
			case "drop":
				value = append(value[:at], value[at+1:]...)
			case "add":
				value = append(value[:at+1], value[at:]...)
			}
		}
		check(t, value)
	})
}
