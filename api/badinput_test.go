package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestBadBody(t *testing.T) {
	long := strings.Repeat("x", 300)
	inTime(t, func(t *testing.T, w *world) {
		for _, test := range []struct {
			name, body string
			status     int
			reason     string
			fields     string
		}{
			{"nothing", " ", 400, "bad_request", "body"},
			{"not JSON", `name=Alice`, 400, "bad_request", "body"},
			{"cut off", `{"name":"Alice"`, 400, "bad_request", "body"},
			{"cut off in a value", `{"name":"Ali`, 400, "bad_request", "name"},
			{"single quotes", `{'name':'Alice'}`, 400, "bad_request", "body"},
			{"a comma too many", `{"name":"Alice","owner":"u",}`, 400, "bad_request", "body"},
			{"NaN", `{"name":"Alice","owner":"u","expected_version":NaN}`, 400, "bad_request", "expected_version"},
			{"a list", `[` + alice + `]`, 400, "bad_request", "body"},
			{"a string", `"Alice"`, 400, "bad_request", "body"},
			{"null", `null`, 400, "bad_request", "body"},
			{"two objects", alice + alice, 400, "bad_request", "body"},
			{"something behind", alice + ` x`, 400, "bad_request", "body"},
			{"a byte order mark", "\xef\xbb\xbf" + alice, 400, "bad_request", "body"},
			{"UTF-16", "\xff\xfe{\x00}\x00", 400, "bad_request", "body"},

			{"unknown field", `{"name":"Alice","owner":"u","colour":"red"}`, 400, "bad_request", "colour"},
			{"a field of a later version", `{"name":"Alice","owner":"u","colour":{}}`, 400, "bad_request", "colour"},
			{"replaces with a field too many", `{"name":"Alice","owner":"u","replaces":{"name":"Bob","owner":"v"}}`, 400, "bad_request", "replaces.owner"},
			{"replaces that is a string", `{"name":"Alice","owner":"u","replaces":"Bob"}`, 400, "bad_request", "replaces"},
			{"a ttl that is a string", `{"name":"Alice","owner":"u","mode":"reserve","ttl_seconds":"60"}`, 400, "bad_request", "ttl_seconds"},
			{"a ttl that is a fraction", `{"name":"Alice","owner":"u","mode":"reserve","ttl_seconds":0.5}`, 400, "bad_request", "ttl_seconds"},
			{"a ttl beyond 64 bits", `{"name":"Alice","owner":"u","mode":"reserve","ttl_seconds":9223372036854775808}`, 400, "bad_request", "ttl_seconds"},
			{"another case", `{"name":"Alice","Owner":"u"}`, 400, "bad_request", "Owner"},
			{"both cases", `{"name":"Alice","owner":"u","OWNER":"v"}`, 400, "bad_request", "OWNER"},
			{"a name with a long s", `{"name":"Alice","owner":"u","\u017fpace":"email"}`, 400, "bad_request", "\u017fpace"},
			{"a field twice", `{"name":"Alice","owner":"u","name":"Bob"}`, 400, "bad_request", "name"},
			{"a field twice, spelt otherwise", `{"name":"Alice","owner":"u","na\u006de":"Bob"}`, 400, "bad_request", "name"},
			{"a key of metadata twice", `{"name":"Alice","owner":"u","metadata":{"a":"1","a":"2"}}`, 400, "bad_request", "metadata.a"},

			{"a name that is a number", `{"name":1,"owner":"u"}`, 400, "bad_request", "name"},
			{"an owner that is a list", `{"name":"Alice","owner":["u"]}`, 400, "bad_request", "owner"},
			{"an owner that is null", `{"name":"Alice","owner":null}`, 400, "bad_request", "owner"},
			{"a mode that is null", `{"name":"Alice","owner":"u","mode":null}`, 400, "bad_request", "mode"},
			{"a mode that is true", `{"name":"Alice","owner":"u","mode":true}`, 400, "bad_request", "mode"},
			{"a version that is a string", `{"name":"Alice","owner":"u","expected_version":"1"}`, 400, "bad_request", "expected_version"},
			{"a version that is a fraction", `{"name":"Alice","owner":"u","expected_version":1.5}`, 400, "bad_request", "expected_version"},
			{"a version that is 1.0", `{"name":"Alice","owner":"u","expected_version":1.0}`, 400, "bad_request", "expected_version"},
			{"a version beyond 64 bits", `{"name":"Alice","owner":"u","expected_version":9223372036854775808}`, 400, "bad_request", "expected_version"},
			{"metadata that is a list", `{"name":"Alice","owner":"u","metadata":[]}`, 400, "bad_request", "metadata"},
			{"metadata that is a string", `{"name":"Alice","owner":"u","metadata":"x"}`, 400, "bad_request", "metadata"},
			{"metadata with a number", `{"name":"Alice","owner":"u","metadata":{"a":1}}`, 400, "bad_request", "metadata.a"},
			{"metadata with null", `{"name":"Alice","owner":"u","metadata":{"a":null}}`, 400, "bad_request", "metadata.a"},
			{"metadata in metadata", `{"name":"Alice","owner":"u","metadata":{"a":{"b":"c"}}}`, 400, "bad_request", "metadata.a"},
			{"a claim_id that is a number", `{"name":"Alice","owner":"u","claim_id":4}`, 400, "bad_request", "claim_id"},

			{"invalid UTF-8", "{\"name\":\"Ali\xffce\",\"owner\":\"u\"}", 400, "bad_request", "name"},
			{"invalid UTF-8 in a field's name", "{\"na\xffme\":\"Alice\",\"owner\":\"u\"}", 400, "bad_request", "body"},
			{"half a surrogate pair", `{"name":"Alice","owner":"u","metadata":{"a":"\ud800"}}`, 400, "bad_request", "metadata.a"},
			{"NUL", `{"name":"Al\u0000ice","owner":"u"}`, 400, "bad_request", "name"},
			{"NUL in the owner", `{"name":"Alice","owner":"u\u0000"}`, 400, "bad_request", "owner"},
			{"NUL in metadata", `{"name":"Alice","owner":"u","metadata":{"a":"\u0000"}}`, 400, "bad_request", "metadata.a"},
			{"NUL in a key of metadata", `{"name":"Alice","owner":"u","metadata":{"\u0000":"a"}}`, 400, "bad_request", "metadata.\ufffd"},
			{"a raw NUL", "{\"name\":\"Al\x00ice\",\"owner\":\"u\"}", 400, "bad_request", "name"},

			{"no name", `{"owner":"u"}`, 422, "invalid_name", "name"},
			{"no owner", `{"name":"Alice"}`, 422, "invalid_request", "owner"},
			{"nothing in it", `{}`, 422, "invalid_request", "name owner"},
			{"an empty name", `{"name":"","owner":"u"}`, 422, "invalid_name", "name"},
			{"a short name", `{"name":"ab","owner":"u"}`, 422, "invalid_name", "name"},
			{"a long name", `{"name":"` + long + `","owner":"u"}`, 422, "invalid_name", "name"},
			{"a name with spaces", `{"name":"Al ice","owner":"u"}`, 422, "invalid_name", "name"},
			{"a name with umlauts", `{"name":"Älice","owner":"u"}`, 422, "invalid_name", "name"},
			{"a name with a slash", `{"name":"a/b/c","owner":"u"}`, 422, "invalid_name", "name"},
			{"a name that begins with a dot", `{"name":".alice","owner":"u"}`, 422, "invalid_name", "name"},
			{"a reserved name", `{"name":"PostMaster","owner":"u"}`, 422, "reserved_word", "name"},
			{"an unknown space", `{"name":"Alice","owner":"u","space":"pets"}`, 422, "unknown_space", "space"},
			{"an empty space", `{"name":"Alice","owner":"u","space":""}`, 422, "unknown_space", "space"},
			{"no space at all", `{"name":"Alice","owner":"u","space":"../x"}`, 422, "unknown_space", "space"},
			{"an empty owner", `{"name":"Alice","owner":""}`, 422, "invalid_request", "owner"},
			{"a long owner", `{"name":"Alice","owner":"` + long + `"}`, 422, "invalid_request", "owner"},
			{"an owner with umlauts", `{"name":"Alice","owner":"ü"}`, 422, "invalid_request", "owner"},
			{"an owner in two lines", `{"name":"Alice","owner":"a\nb"}`, 422, "invalid_request", "owner"},
			{"another mode", `{"name":"Alice","owner":"u","mode":"lease"}`, 422, "invalid_request", "mode"},
			{"a ttl without a reservation", `{"name":"Alice","owner":"u","ttl_seconds":60}`, 422, "invalid_request", "ttl_seconds"},
			{"a ttl of 0", `{"name":"Alice","owner":"u","mode":"reserve","ttl_seconds":0}`, 422, "invalid_request", "ttl_seconds"},
			{"a negative ttl", `{"name":"Alice","owner":"u","mode":"reserve","ttl_seconds":-1}`, 422, "invalid_request", "ttl_seconds"},
			{"a ttl longer than the space's", `{"name":"Alice","owner":"u","mode":"reserve","ttl_seconds":604801}`, 422, "invalid_request", "ttl_seconds"},
			{"a huge ttl", `{"name":"Alice","owner":"u","mode":"reserve","ttl_seconds":9223372036854775807}`, 422, "invalid_request", "ttl_seconds"},
			{"replaces nothing", `{"name":"Alice","owner":"u","replaces":{}}`, 422, "invalid_request", "replaces.name"},
			{"replaces no name", `{"name":"Alice","owner":"u","replaces":{"name":"a","version":0}}`, 422, "invalid_request", "replaces.version replaces.name"},
			{"replaces itself while reserved", `{"name":"Alice","owner":"u","mode":"reserve","replaces":{"name":"ALICE"}}`, 422, "invalid_request", "replaces.name"},
			{"another on_timeout", `{"name":"Alice","owner":"u","on_timeout":"retry"}`, 422, "invalid_request", "on_timeout"},
			{"an empty mode", `{"name":"Alice","owner":"u","mode":""}`, 422, "invalid_request", "mode"},
			{"a negative version", `{"name":"Alice","owner":"u","expected_version":-1}`, 422, "invalid_request", "expected_version"},
			{"another on_conflict", `{"name":"Alice","owner":"u","on_conflict":"replace"}`, 422, "invalid_request", "on_conflict"},
			{"on_conflict of a rename", `{"name":"Alicia","owner":"u","on_conflict":"return_existing","replaces":{"name":"Alice","version":1}}`, 422, "invalid_request", "on_conflict"},
			{"an empty on_conflict", `{"name":"Alice","owner":"u","on_conflict":""}`, 422, "invalid_request", "on_conflict"},
			{"much metadata", `{"name":"Alice","owner":"u","metadata":{"a":"` + strings.Repeat("x", 1020) + `"}}`, 422, "invalid_request", "metadata"},
			{"all wrong at once", `{"name":"a","owner":"","mode":"x","expected_version":-1,"metadata":{"a":"` + strings.Repeat("x", 1020) + `"}}`,
				422, "invalid_request", "name mode owner expected_version metadata"},
		} {
			a := w.claim(test.body)
			if a.status != test.status || a.body["reason"] != test.reason {
				t.Errorf("%s: %d %v, want %d %s\n%s", test.name, a.status, a.body["reason"], test.status, test.reason, a.text)
				continue
			}
			a.names(strings.Fields(test.fields)...)
		}
		w.published(0)

		// What looks odd and is right.
		w.claim(`{"name":"Al\u0069ce","owner":"`+strings.Repeat("x", 255)+`"}`).is(201, "").has("name", "Alice")
		w.claim(" \r\n\t{ \"owner\" : \"~ !\", \"name\" : \"bob\" }\n").is(201, "")
		w.claim(`{"name":"carol","owner":"u","metadata":{"a":"`+strings.Repeat("x", 1016)+`"}}`).is(201, "")
		w.claim(`{"name":"dave","owner":"u","metadata":{"Name":"ü\u2028\ud83d\ude00","":""}}`).is(201, "")
		w.published(4)
	})
}

func TestBadHeaders(t *testing.T) {
	long := strings.Repeat("x", 256)
	inTime(t, func(t *testing.T, w *world) {
		for _, test := range []struct {
			header string
			status int
			field  string
		}{
			{"Content-Type: text/plain", 415, "Content-Type"},
			{"Content-Type: application/x-www-form-urlencoded", 415, "Content-Type"},
			{"Content-Type: application/json; charset=latin1", 415, "Content-Type"},
			{"Content-Type: application/json;;", 415, "Content-Type"},
			{"Content-Type: application/problem+json", 415, "Content-Type"},
			{"Content-Type: ", 415, "Content-Type"},
			{"Content-Encoding: gzip", 415, "Content-Encoding"},
			{"Prefer: wait", 400, "Prefer"},
			{"Prefer: wait=", 400, "Prefer"},
			{"Prefer: wait=soon", 400, "Prefer"},
			{"Prefer: wait=-1", 400, "Prefer"},
			{"Prefer: wait=+1", 400, "Prefer"},
			{"Prefer: wait=1.5", 400, "Prefer"},
			{"Prefer: wait=99999999999", 400, "Prefer"},
			{"Prefer: wait=1 2", 400, "Prefer"},
			{"Prefer: wait=1 respond-async", 400, "Prefer"},
			{"Prefer: =1", 400, "Prefer"},
			{`Prefer: wait="1`, 400, "Prefer"},
			{"Prefer: respond-async; =", 400, "Prefer"},
			{"Prefer: \x7f", 400, "Prefer"},
			{"Idempotency-Key: " + long, 400, "Idempotency-Key"},
			{"Idempotency-Key: a\tb", 400, "Idempotency-Key"},
			{"Idempotency-Key: \xc3\xbc", 400, "Idempotency-Key"},
			{"If-Match: x", 400, "If-Match"},
			{"If-None-Match: x", 400, "If-None-Match"},
		} {
			name, value, _ := strings.Cut(test.header, ": ")
			headers := []string{name + ": "} // not the usual one
			if value != "" {
				headers = append(headers, test.header)
			}
			reason := map[int]string{400: "bad_request", 415: "unsupported_media_type"}[test.status]
			a := w.claim(alice, headers...)
			if a.status != test.status || a.body["reason"] != reason {
				t.Errorf("%s: %d %v, want %d %s", test.header, a.status, a.body["reason"], test.status, reason)
				continue
			}
			a.names(test.field)
		}
		for _, name := range []string{"Idempotency-Key", "If-Match", "If-None-Match"} {
			w.claim(alice, name+": 1", name+": 2").is(400, "bad_request").names(name)
		}
		w.published(0)
		w.claim(alice, "Content-Type: ", `Content-Type: APPLICATION/JSON; charset="UTF-8"`, "Idempotency-Key: "+long[:255], "Prefer: ").is(201, "")
	})
}

// An empty header is given, not left out.
func TestEmptyHeaders(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		ask := func(name string) *answer {
			t.Helper()
			r, a := newRequest(t, http.MethodPost, "/v1/claims", alice), (*answer)(nil)
			r.Header[name] = []string{""}
			a = w.do(r, alice)
			return a
		}
		ask("Idempotency-Key").is(400, "bad_request").names("Idempotency-Key")
		ask("If-Match").is(400, "bad_request").names("If-Match")
		ask("If-None-Match").is(400, "bad_request").names("If-None-Match")
		w.published(0)
		ask("Prefer").is(201, "")
	})
}

func TestBadParameters(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		const id = "/v1/claims/8b7e3d7a-13a1-4ab0-9d3c-3b0c5ad4b3f2"
		for path, field := range map[string]string{
			"/v1/claims/17": "id",
			"/v1/claims/8b7e3d7a13a14ab09d3c3b0c5ad4b3f2":     "id",
			"/v1/claims/%7B8b7e3d7a-13a1-4ab0-9d3c-3b0c5ad4b": "id",
			"/v1/claims/%00":                   "id",
			id + "?at=":                        "at",
			id + "?at=1":                       "at",
			id + "?at=1-1":                     "at",
			id + "?at=1-1-1-1":                 "at",
			id + "?at=4-1-1":                   "at", // there are 4 partitions
			id + "?at=1-0-1":                   "at",
			id + "?at=-1-1-1":                  "at",
			id + "?at=1-1--1":                  "at",
			id + "?at=%2B1-1-1":                "at",
			id + "?at=1-1-9223372036854775808": "at",
			id + "?at=x-y-z":                   "at",
			id + "?at=1-1-1&at=1-1-2":          "at",
			id + "?at=%zz":                     "at",
		} {
			a := w.get(path)
			if a.status != 400 {
				t.Errorf("%s: %d\n%s", path, a.status, a.text)
				continue
			}
			a.is(400, "bad_request").names(field)
		}
		w.get(id, "Prefer: wait=x").is(400, "bad_request").names("Prefer")
		w.get(id+"?at=1-3-0").is(200, "").has("state", "pending")

		w.get("/v1/names/pets/alice").is(404, "unknown_space").names("space")
		w.get("/v1/names/%FF/alice").is(404, "unknown_space").names("space")
		for _, name := range []string{"ab", "%FF%FE%FD", "al%00ice", "a%2Fb%2Fc", "%2541lice", "al%20ice", "100%25", strings.Repeat("x", 33), "%2e%2e", "%2e%2e%2e"} {
			w.get("/v1/names/username/"+name).is(422, "invalid_name").names("name")
		}
	})
}

func TestNoSuchAddress(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		for _, path := range []string{"/", "/v1", "/v1/", "/v1/claims/", "/v2/claims", "/v1/claims/a/b", "//v1/claims", "/v1/../v1/claims",
			"/v1/names/username", "/v1/names/username/", "/v1/names/username/..", "/v1/names//alice", "/problems/", "/metrics", "/debug/pprof/"} {
			w.get(path).is(404, "not_found").has("type", "/problems/not_found")
		}
		for _, test := range []struct{ method, path, allow string }{
			{"GET", "/v1/claims", "POST"},
			{"PUT", "/v1/claims", "POST"},
			{"DELETE", "/v1/claims/8b7e3d7a-13a1-4ab0-9d3c-3b0c5ad4b3f2", "GET, HEAD"},
			{"POST", "/v1/names/username/alice", "GET, HEAD"},
			{"OPTIONS", "/v1/names/username/alice", "GET, HEAD"},
			{"POST", "/openapi.yaml", "GET, HEAD"},
			{"PATCH", "/problems/taken", "GET, HEAD"},
		} {
			w.ask(test.method, test.path, "").is(405, "method_not_allowed").heads("Allow", test.allow)
		}
		w.get("/problems/nothing").is(404, "not_found")
	})
}

// A body of exactly the limit is read, one byte more is not.
func TestBodyAtTheLimit(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		fill := func(n int) string { return alice[:len(alice)-1] + strings.Repeat(" ", n-len(alice)) + "}" }
		w.claim(fill(4097)).is(413, "too_large")
		w.claim(fill(1<<20)).is(413, "too_large")
		r := newRequest(t, http.MethodPost, "/v1/claims", fill(4097))
		r.ContentLength = -1 // its length is not said beforehand
		w.do(r, fill(4097)).is(413, "too_large")
		w.published(0)
		w.claim(fill(4096)).is(201, "")
	})
}

// Nothing that is sent gets an answer other than a described one.
func FuzzCreateClaim(f *testing.F) {
	for _, body := range []string{alice, `{}`, `[]`, `{"name":1}`, `{"Name":"x"}`, "{\"name\":\"\xff\"}", `{"name":"Alice","owner":"u","metadata":{"a":"b"}}`,
		`{"name":"Alice","owner":"u","expected_version":0,"on_conflict":"return_existing","mode":"register"}`,
		`{"name":"Alice","owner":"u","mode":"reserve","ttl_seconds":60,"replaces":{"name":"bob","version":1},"on_timeout":"withdraw"}`} {
		f.Add(body, "wait=0", "k", `"1"`)
	}
	f.Add(alice, `a="\`, "\x00", "*")
	f.Add(alice, ";;,,", "", "W/\"")
	f.Fuzz(func(t *testing.T, body, prefer, key, match string) {
		w := newWorld(t)
		for w.claimer.Ready() != nil {
		}
		r := newRequest(t, http.MethodPost, "/v1/claims", body)
		r.Header["Prefer"], r.Header["Idempotency-Key"], r.Header["If-Match"] = []string{prefer}, []string{key}, []string{match}
		if a := w.do(r, body); a.status >= 500 {
			t.Errorf("%d for %q %q %q %q\n%s", a.status, body, prefer, key, match, a.text)
		}
	})
}

func TestFieldErrorsAreForPeople(t *testing.T) {
	inTime(t, func(t *testing.T, w *world) {
		for body, want := range map[string]string{
			`{"name":"Alice","Owner":"u"}`:                   "Owner is not a known field",
			`{"name":1,"owner":"u"}`:                         "name is not a string",
			`{"name":"a","owner":"u","expected_version":""}`: "expected_version is not a whole number",
			`{"name":"a","owner":"u","metadata":7}`:          "metadata is not an object",
			`{"name":"a","owner":"u","metadata":{"b":7}}`:    "metadata.b is not a string",
			`{"name":null}`:                                  "name is null: leave it out instead",
			`{"name":"a","name":"b"}`:                        "name is given twice",
			"{\"name\":\"\xff\"}":                            "name is not UTF-8",
			`{"name":"ab","owner":"u"}`:                      "name is too short: at least 3 characters",
			`{"name":"Älice","owner":"u"}`:                   "name may have the letters a to z, digits and . _ - only; character 1 is something else",
			`{"name":"root","owner":"u"}`:                    "name is reserved",
		} {
			e := w.claim(body).body["errors"].([]any)[0].(map[string]any)
			if got := fmt.Sprint(e["field"], " ", e["detail"]); got != want {
				t.Errorf("%s: %q, want %q", body, got, want)
			}
		}
	})
}
