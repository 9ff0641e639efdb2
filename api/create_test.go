package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// bodies are those of claims, right and wrong.
var bodies = []string{
	`{"name":"alice","owner":"u-17"}`, ` { "owner" : "u-17" ,` + "\r\n\t" + `"name" : "alice" } `, `{"name":"Zoë","owner":"u-17","space":"names"}`,
	`{"name":"a","owner":"u","space":"s","mode":"reserve","ttl_seconds":600,"expected_version":0,"on_conflict":"return_existing","on_timeout":"withdraw","claim_id":"6f0c3a52-8f4e-4c1d-9b7a-2f6d1e5c4b3a"}`,
	`{"name":"a","owner":"u","metadata":{"a":"b"}}`, `{"owner":"u","fields":{"a":"b"}}`, `{"name":"a","owner":"u","replaces":{"name":"b","version":3}}`,
	`{"name":"al\u0069ce","owner":"u-17"}`, `{"na\u006de":"alice","owner":"u-17"}`, `{"name":"","owner":""}`, `{}`, `{"ttl_seconds":1}`,
	`{"ttl_seconds":-1}`, `{"ttl_seconds":01}`, `{"ttl_seconds":1.0}`, `{"ttl_seconds":1e2}`, `{"ttl_seconds":999999999999999999}`, `{"ttl_seconds":9223372036854775807}`,
	`{"ttl_seconds":9223372036854775808}`, `{"ttl_seconds":"1"}`, `{"ttl_seconds":1 }`, `{"ttl_seconds":1x}`, `{"ttl_seconds":}`, `{"ttl_seconds":`, `{"ttl_seconds":1`,
	"{\"ttl_seconds\":\"\xff\"5}", "{\"name\":\"\xff\"}", "{\"n\xff\":\"\"}", "{\"name\":\"a\x00\"}", "{\"name\":\"a\nb\"}", "{\"name\":\"a\x7fb\"}", `{"name":"\ud800"}`,
	`{"name":7}`, `{"name":null}`, `{"name":true}`, `{"name":["a"]}`, `{"name":"a","name":"b"}`, `{"Name":"a"}`, `{"nick":"a"}`, `{"":"a"}`, `{"name":"a",}`, `{,}`, `{"name"}`,
	`{"name":"a"`, `{"name":"a`, `{"name":`, `{"name`, `{`, ``, ` `, `null`, `[]`, `"name"`, `{} {}`, `{"name":"a"}x`, `{"name":"a"}}`, "\ufeff{}", `{"name" "a"}`, `{"name":"a" "owner":"b"}`,
	`{"mode":"x","on_conflict":"","on_timeout":"never"}`, `{"expected_version":0,"expected_version":0}`,
}

// What is read the short way reads the same the long way, and is right there.
func TestReadPlain(t *testing.T) {
	plain := 0
	for _, body := range bodies {
		if samePlain(t, []byte(body)) {
			plain++
		}
	}
	if plain != 10 {
		t.Errorf("%d of the bodies are plain, want 10", plain)
	}
}

func FuzzReadPlain(f *testing.F) {
	for _, body := range bodies {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, data []byte) { samePlain(t, data) })
}

// Bodies that are put together of what matters.
func TestReadPlainRapid(t *testing.T) {
	pieces := []string{`{`, `}`, `,`, `:`, ` `, `"name"`, `"owner"`, `"mode"`, `"ttl_seconds"`, `"metadata"`, `"a"`, `"ä"`, "\"\xff\"", `"\n"`, `0`, `17`, `-`, `.`, `null`, `{"name":"a"`, `,"owner":"b"`, `,"ttl_seconds":5`}
	rapid.Check(t, func(r *rapid.T) {
		samePlain(t, []byte(strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 8).Draw(r, "pieces"), "")))
	})
}

func samePlain(t *testing.T, data []byte) bool {
	t.Helper()
	var short, long ClaimRequest
	if !short.readPlain(slices.Clone(data)) {
		return false
	}
	if err := checkJSON(data, &long); err != nil {
		t.Errorf("%q is plain, and wrong: %v", data, err)
	} else if !reflect.DeepEqual(short, long) {
		t.Errorf("%q reads %+v, want %+v", data, short, long)
	}
	return true
}

// A claim is written as encoding/json writes it, whatever is in it.
func TestAppendClaim(t *testing.T) {
	texts := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "u-17", "<a&b>", "\"\\\n", "\xff", "\u2028", "\x7f", "Zoë", "6f0c3a52-8f4e-4c1d-9b7a-2f6d1e5c4b3a"}))
	moments := rapid.Custom(func(r *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(0, 1<<34).Draw(r, "s"), rapid.Int64Range(0, 999).Draw(r, "ms")*1e6).UTC()
	})
	rapid.Check(t, func(r *rapid.T) {
		var c Claim
		v := reflect.ValueOf(&c).Elem()
		for i := range v.NumField() { // whatever fields there are
			fill(r, v.Field(i), texts, moments)
		}
		var want bytes.Buffer
		if err := json.NewEncoder(&want).Encode(c); err != nil {
			r.Fatal(err)
		}
		got, err := appendClaim(nil, &c)
		if err != nil || !bytes.Equal(got, want.Bytes()) {
			r.Fatalf("%v\n%s, want\n%s", err, got, want.Bytes())
		}
	})
	never := time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err := appendClaim(nil, &Claim{DecidedAt: &never}); err == nil {
		t.Error("a time that cannot be written is")
	}
}

// fill sets a field of a claim, or leaves it out.
func fill(r *rapid.T, v reflect.Value, texts *rapid.Generator[string], moments *rapid.Generator[time.Time]) {
	switch v.Kind() {
	case reflect.Pointer:
		if rapid.Bool().Draw(r, "there") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem(), texts, moments)
		}
	case reflect.String:
		v.SetString(texts.Draw(r, "text"))
	case reflect.Int64, reflect.Int32:
		v.SetInt(int64(rapid.Int32().Draw(r, "number")))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(moments.Draw(r, "moment")))
			return
		}
		for i := range v.NumField() {
			fill(r, v.Field(i), texts, moments)
		}
	default:
		r.Fatalf("a field of an unexpected kind: %s", v.Type())
	}
}

// Every header of the document has its place, and its name where it is given twice.
func TestCreateParams(t *testing.T) {
	kind := reflect.TypeFor[CreateClaimParams]()
	for i := range kind.NumField() {
		name, _, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
		h := make(http.Header)
		h.Set(name, "said")
		p, err := createParams(h)
		if err != nil {
			t.Fatal(err)
		}
		for j := range kind.NumField() {
			got := reflect.ValueOf(p).Field(j)
			if i == j && (got.IsNil() || got.Elem().String() != "said") || i != j && !got.IsNil() {
				t.Errorf("with a header %s, %s is %v", name, kind.Field(j).Name, got)
			}
		}
		h.Add(name, "again")
		var many *TooManyValuesForParamError
		if _, err := createParams(h); !errors.As(err, &many) || many.ParamName != name || many.Count != 2 {
			t.Errorf("two headers %s: %v", name, err)
		}
	}
}

// What a server reads short of the mux is its route, and nothing else is.
func TestCreateRoute(t *testing.T) {
	s := newTestServer(t)
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodConnect} {
		for _, path := range []string{"/v1/claims", "/v1/claims/", "/v1//claims", "/v1/claims/" + uuid.NewString(), "/v1/%63laims", "/"} {
			r, err := http.NewRequest(method, "http://localhost"+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, pattern := s.mux.Handler(r)
			if plainly := pattern == createPattern && r.URL.EscapedPath() == "/v1/claims"; isCreate(r) != plainly {
				t.Errorf("%s %s: %v, the mux says %q", method, path, isCreate(r), pattern)
			}
		}
	}
}
