package claims_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// edited is a minimal claim with one header set, or taken away where the value is nil.
func edited(name string, value []byte) cloudevents.Record {
	r := minimal().Record(event(), alice)
	r.Headers = slices.DeleteFunc(slices.Clone(r.Headers), func(h cloudevents.Header) bool { return h.Name == name })
	if value != nil {
		r.Headers = append(r.Headers, cloudevents.Header{Name: name, Value: value})
	}
	return r
}

// What nobody can be told the outcome of.
func TestReadUnanswerable(t *testing.T) {
	for name, test := range map[string]struct {
		record cloudevents.Record
		detail string
		id     uuid.UUID
	}{
		"nothing at all":          {cloudevents.Record{}, "ce_id is not a UUID", uuid.Nil},
		"garbage":                 {cloudevents.Record{Key: []byte{0xff}, Value: []byte{0, 1, 2}}, "ce_id is not a UUID", uuid.Nil},
		"plain JSON":              {cloudevents.Record{Key: []byte("username/alice"), Value: minimal().AppendJSON(nil)}, "ce_id is not a UUID", uuid.Nil},
		"structured":              {edited("content-type", []byte("application/cloudevents+json")), "structured mode", claimID},
		"no specversion":          {edited("ce_specversion", nil), "ce_specversion is not 1.0", claimID},
		"specversion 0.3":         {edited("ce_specversion", []byte("0.3")), "ce_specversion is not 1.0", claimID},
		"no id":                   {edited("ce_id", nil), "ce_id is not a UUID", uuid.Nil},
		"id a word":               {edited("ce_id", []byte("alice")), "ce_id is not a UUID", uuid.Nil},
		"id in braces":            {edited("ce_id", []byte("{"+claimID.String()+"}")), "ce_id is not a UUID", uuid.Nil},
		"id with a space":         {edited("ce_id", []byte(claimID.String()+" ")), "ce_id is not a UUID", uuid.Nil},
		"no type":                 {edited("ce_type", nil), "ce_type is missing", claimID},
		"unknown type":            {edited("ce_type", []byte("dibs.Wished.v1")), `ce_type "dibs.Wished.v1" is unknown`, claimID},
		"unknown major version":   {edited("ce_type", []byte("dibs.UsernameClaimed.v2")), `ce_type "dibs.UsernameClaimed.v2" is unknown`, claimID},
		"type in another case":    {edited("ce_type", []byte("dibs.usernameclaimed.v1")), `ce_type "dibs.usernameclaimed.v1" is unknown`, claimID},
		"an outcome":              {edited("ce_type", []byte("dibs.Accepted.v1")), `ce_type "dibs.Accepted.v1" is unknown`, claimID},
		"a long type, cut":        {edited("ce_type", []byte(strings.Repeat("x", 9000))), `ce_type "` + strings.Repeat("x", 64) + `" is unknown`, claimID},
		"a type that is no text":  {edited("ce_type", []byte{0xff, 0, '\n'}), `ce_type "\xff\x00\n" is unknown`, claimID},
		"id nil":                  {edited("ce_id", []byte(uuid.Nil.String())), "version 4, 5 or 7", uuid.Nil},
		"id of another variant":   {edited("ce_id", []byte("6f0c3a52-8f4e-4c1d-1b7a-2f6d1e5c4b3a")), "version 4, 5 or 7", uuid.MustParse("6f0c3a52-8f4e-4c1d-1b7a-2f6d1e5c4b3a")},
		"id all ones":             {edited("ce_id", []byte(uuid.Max.String())), "version 4, 5 or 7", uuid.Max},
		"unreadable, bad id too":  {func() cloudevents.Record { r := edited("ce_id", nil); r.Value = nil; return r }(), "ce_id is not a UUID", uuid.Nil},
		"unreadable, unknown too": {func() cloudevents.Record { r := edited("ce_type", []byte("x")); r.Value = nil; return r }(), "is unknown", claimID},
	} {
		t.Run(name, func(t *testing.T) {
			read, err := claims.Read(test.record)
			var unanswerable *claims.UnanswerableError
			if !errors.As(err, &unanswerable) || !strings.Contains(err.Error(), test.detail) {
				t.Fatalf("%v, want an UnanswerableError: %s", err, test.detail)
			}
			if read.Body != nil || read.ID != test.id {
				t.Errorf("body %v, id %s; want none, %s", read.Body, read.ID, test.id)
			}
		})
	}
}

// Version 8 reads as well: whether such an id is dibs' own shows in its signature, which is not checked here.
func TestReadID(t *testing.T) {
	for version := byte(0); version < 16; version++ {
		id := claimID
		id[6] = id[6]&0x0f | version<<4
		_, err := claims.Read(edited("ce_id", []byte(id.String())))
		if want := version == 4 || version == 5 || version == 7 || version == 8; want != (err == nil) {
			t.Errorf("version %d: %v", version, err)
		}
	}
	if read, err := claims.Read(edited("ce_id", []byte(strings.ToUpper(claimID.String())))); err != nil || read.ID != claimID {
		t.Errorf("in capitals: %v, %v; it is the same id", read.ID, err)
	}
}

// What can be left out of the headers.
func TestReadWithoutHeader(t *testing.T) {
	for _, name := range []string{"content-type", "ce_source", "ce_time", "ce_subject", "ce_dibsprincipal"} {
		read, err := claims.Read(edited(name, nil))
		if err != nil || !reflect.DeepEqual(read.Body, claims.Body(minimal())) {
			t.Errorf("without %s: %+v, %v", name, read.Body, err)
		}
	}
}

const (
	notJSON = "the value is not valid JSON in UTF-8, or repeats a field"
	nul     = "the value contains NUL"
)

// What has an id and a type, but cannot be read: the field that is named, and how the text begins.
func TestReadMalformed(t *testing.T) {
	must := `"space":"username","name":"Alice","owner":"u-17","mode":"register"`
	and := func(more string) string { return "{" + must + "," + more + "}" }
	without := func(field string) string {
		v := string(minimal().AppendJSON(nil))
		i := strings.Index(v, `"`+field+`":`)
		j := i + strings.IndexAny(v[i:], ",}")
		return strings.ReplaceAll(strings.ReplaceAll(v[:i]+strings.TrimPrefix(v[j:], ","), ",}", "}"), "{,", "{")
	}
	for value, want := range map[string]string{
		"":                           notJSON,
		" ":                          notJSON,
		"\x00\x01\xfe":               notJSON,
		"hello":                      notJSON,
		"{":                          notJSON,
		"{" + must:                   notJSON,
		"{" + must + ",}":            notJSON,
		"{" + must + `,"x"}`:         notJSON,
		"{" + must + `,"x":}`:        notJSON,
		"{" + must + `,"x",1}`:       notJSON,
		"{" + must + ",1:2}":         notJSON,
		"{" + must + ",{}}":          notJSON,
		"{" + must + ",null}":        notJSON,
		"{" + must + "]":             notJSON,
		"{" + must + `,"x":nul}`:     notJSON,
		"{" + must + `,"x":nope}`:    notJSON,
		"{" + must + `,'x':1}`:       notJSON,
		"{" + must + `,"x":01}`:      notJSON,
		"{" + must + `,"x":.5}`:      notJSON,
		"{" + must + `,"x":NaN}`:     notJSON,
		"{" + must + `,"x":[1,2}`:    notJSON,
		"{" + must + "/* no */}":     notJSON,
		"\xef\xbb\xbf{" + must + "}": notJSON, // a byte order mark
		"{" + must + "}x":            "there is something behind the JSON object",
		"{" + must + "}{}":           "there is something behind the JSON object",
		"{" + must + "},":            "there is something behind the JSON object",
		"{" + must + "}\x00":         "there is something behind the JSON object",
		"null":                       "the value is not a JSON object",
		"[]":                         "the value is not a JSON object",
		`"username/alice"`:           "the value is not a JSON object",
		"4711":                       "the value is not a JSON object",
		"true":                       "the value is not a JSON object",
		"{}":                         "space is missing",
		without("space"):             "space is missing",
		without("name"):              "name is missing",
		without("owner"):             "owner is missing",
		without("mode"):              "mode is missing",
		`{"space":null,"name":"Alice","owner":"u-17","mode":"register"}`:         "space is missing",
		`{"space":"username","name":null,"owner":"u-17","mode":"register"}`:      "name is missing",
		`{"space":"username","name":"Alice","owner":null,"mode":"register"}`:     "owner is missing",
		`{"space":"username","name":"Alice","owner":"u-17","mode":null}`:         "mode is missing",
		`{"space":"username","name":"Alice","Owner":"u-17","mode":"register"}`:   "owner is missing",
		`{"SPACE":"username","name":"Alice","owner":"u-17","mode":"register"}`:   "space is missing",
		`{"space":7,"name":"Alice","owner":"u-17","mode":"register"}`:            "space is not a string",
		`{"space":"username","name":7,"owner":"u-17","mode":"register"}`:         "name is not a string",
		`{"space":"username","name":["Alice"],"owner":"u-17","mode":"register"}`: "name is not a string",
		`{"space":"username","name":"Alice","owner":17,"mode":"register"}`:       "owner is not a string",
		`{"space":"username","name":"Alice","owner":{},"mode":"register"}`:       "owner is not a string",
		`{"space":"username","name":"Alice","owner":"u-17","mode":true}`:         "mode is not a string",

		// One field twice, spelt the same or not, wanted or not.
		and(`"owner":"u-18"`):               notJSON,
		and(`"owner":"u-17"`):               notJSON,
		and(`"own\u0065r":"u-18"`):          notJSON,
		and(`"x":1,"x":2`):                  notJSON,
		and(`"x":{"y":1,"y":1}`):            notJSON,
		and(`"metadata":{"a":"b","a":"c"}`): notJSON,

		and(`"ttl_seconds":"900"`):                      "ttl_seconds is not a number",
		and(`"ttl_seconds":true`):                       "ttl_seconds is not a number",
		and(`"ttl_seconds":[]`):                         "ttl_seconds is not a number",
		and(`"ttl_seconds":1.5`):                        "ttl_seconds is not a whole number of 64 bits",
		and(`"ttl_seconds":1.0`):                        "ttl_seconds is not a whole number of 64 bits",
		and(`"ttl_seconds":1e3`):                        "ttl_seconds is not a whole number of 64 bits",
		and(`"ttl_seconds":1e400`):                      "ttl_seconds is not a whole number of 64 bits",
		and(`"ttl_seconds":9223372036854775808`):        "ttl_seconds is not a whole number of 64 bits",
		and(`"ttl_seconds":-9223372036854775809`):       "ttl_seconds is not a whole number of 64 bits",
		and(`"ttl_seconds":-`):                          notJSON,
		and(`"ttl_seconds":12-`):                        notJSON,
		and(`"ttl_seconds":+1`):                         notJSON,
		and(`"ttl_seconds":0x10`):                       notJSON,
		and(`"expected_version":"1"`):                   "expected_version is not a number",
		and(`"expected_version":0.0`):                   "expected_version is not a whole number of 64 bits",
		and(`"on_conflict":1`):                          "on_conflict is not a string",
		and(`"deadline":1763719200`):                    "deadline is not a string",
		and(`"deadline":""`):                            "deadline is not an RFC 3339 time",
		and(`"deadline":"tomorrow"`):                    "deadline is not an RFC 3339 time",
		and(`"deadline":"2026-11-21"`):                  "deadline is not an RFC 3339 time",
		and(`"deadline":"2026-11-21T10:00:00"`):         "deadline is not an RFC 3339 time",
		and(`"deadline":"2026-11-21 10:00:00Z"`):        "deadline is not an RFC 3339 time",
		and(`"deadline":"2026-11-21T1:00:00Z"`):         "deadline is not an RFC 3339 time",
		and(`"deadline":"2026-11-21T10:00:00,5Z"`):      "deadline is not an RFC 3339 time",
		and(`"deadline":"2026-11-21T24:00:00Z"`):        "deadline is not an RFC 3339 time",
		and(`"deadline":"2026-02-29T10:00:00Z"`):        "deadline is not an RFC 3339 time",
		and(`"deadline":"2026-11-21T10:00:00+24:00"`):   "deadline is not an RFC 3339 time",
		and(`"deadline":"2026-11-21T10:00:00+10:60"`):   "deadline is not an RFC 3339 time",
		and(`"deadline":"0000-11-21T10:00:00Z"`):        "deadline is not an RFC 3339 time",
		and(`"deadline":"9999-12-31T23:59:59-01:00"`):   "deadline is not an RFC 3339 time",
		and(`"replaces":"old"`):                         "replaces is not a JSON object",
		and(`"replaces":[]`):                            "replaces is not a JSON object",
		and(`"replaces":{}`):                            "replaces needs name and version",
		and(`"replaces":{"name":"old"}`):                "replaces needs name and version",
		and(`"replaces":{"version":1}`):                 "replaces needs name and version",
		and(`"replaces":{"name":null,"version":1}`):     "replaces needs name and version",
		and(`"replaces":{"name":"old","version":null}`): "replaces needs name and version",
		and(`"replaces":{"name":1,"version":1}`):        "replaces.name is not a string",
		and(`"replaces":{"name":"old","version":"1"}`):  "replaces.version is not a number",
		and(`"replaces":{"name":"old","version":1.5}`):  "replaces.version is not a whole number of 64 bits",
		and(`"replaces":{"name":"old","version":1`):     notJSON,
		and(`"metadata":"a"`):                           "metadata is not a JSON object",
		and(`"metadata":[]`):                            "metadata is not a JSON object",
		and(`"metadata":{"a":1}`):                       "metadata is not a flat object of strings",
		and(`"metadata":{"a":{}}`):                      "metadata is not a flat object of strings",
		and(`"metadata":{"a":{"b":"c"}}`):               "metadata is not a flat object of strings",
		and(`"metadata":{"a":["b"]}`):                   "metadata is not a flat object of strings",
		and(`"metadata":{"a":true}`):                    "metadata is not a flat object of strings",

		// Text that cannot be stored, or is none.
		`{"space":"username","name":"Ali\u0000ce","owner":"u-17","mode":"register"}`: "name contains NUL",
		`{"space":"username","name":"Alice","owner":"\u0000","mode":"register"}`:     "owner contains NUL",
		`{"space":"user\u0000name","name":"Alice","owner":"u-17","mode":"register"}`: "space contains NUL",
		`{"space":"username","name":"Alice","owner":"u-17","mode":"\u0000"}`:         "mode contains NUL",
		and(`"metadata":{"a":"\u0000"}`):                                             "metadata contains NUL",
		and(`"metadata":{"\u0000":"a"}`):                                             "metadata contains NUL",
		and(`"replaces":{"name":"\u0000","version":1}`):                              "replaces.name contains NUL",
		and(`"\u0000":1`):           nul,
		and(`"x":"\u0000"`):         nul,
		and(`"x":{"y":["\u0000"]}`): nul,
		and(`"x":{"\u0000":1}`):     nul,
		and(`"x":"\\\u0000"`):       nul,
		and(`"x":"\\u0000\u0000"`):  nul,
		and(`"replaces":{"name":"old","version":1,"x":"\u0000"}`):                             nul,
		"{\"space\":\"username\",\"name\":\"Ali\x00ce\",\"owner\":\"u\",\"mode\":\"\"}":       notJSON,
		"{\"space\":\"username\",\"name\":\"Ali\xffce\",\"owner\":\"u\",\"mode\":\"\"}":       notJSON,
		"{\"space\":\"username\",\"name\":\"Ali\xed\xa0\x80\",\"owner\":\"u\",\"mode\":\"\"}": notJSON, // a surrogate in UTF-8
		"{\"space\":\"username\",\"name\":\"\xc0\x80\",\"owner\":\"u\",\"mode\":\"\"}":        notJSON, // an overlong NUL
		`{"space":"username","name":"Ali\ud83dce","owner":"u-17","mode":"register"}`:          notJSON, // half a surrogate pair
		`{"space":"username","name":"Ali\ude00\ud83d","owner":"u-17","mode":"register"}`:      notJSON,
		and("\"x\":\"\xff\""):                   notJSON,
		and("\"\xff\":1"):                       notJSON,
		and(`"x":"\ud83d"`):                     notJSON,
		and("\"x\":\"a\nb\""):                   notJSON,
		and(`"x":"\q"`):                         notJSON,
		and(`"x":"\u00"`):                       notJSON,
		and(`"x":` + strings.Repeat("[", 4000)): notJSON,
		and(`"metadata":` + strings.Repeat(`{"a":`, 900) + "1" + strings.Repeat("}", 900)): "metadata is not a flat object of strings",
		strings.Repeat("[", 3000) + strings.Repeat("]", 3000):                              "the value is not a JSON object",
	} {
		r := minimal().Record(event(), alice)
		r.Value = []byte(value)
		read, err := claims.Read(r)
		var malformed *claims.MalformedError
		if !errors.As(err, &malformed) || err.Error() != want {
			t.Errorf("%.120q: %v, want malformed: %s", value, err, want)
			continue
		}
		if malformed.Field != "" && !strings.HasPrefix(want, malformed.Field+" ") {
			t.Errorf("%.120q: the field is %q", value, malformed.Field)
		}
		if read.Body != nil || read.ID != claimID || read.Type != claims.TypeUsernameClaimed || read.Principal != "gateway" {
			t.Errorf("%.120q: the request is %+v", value, read)
		}
	}
}

func TestReadAtTheLimits(t *testing.T) {
	padded := func(size int) cloudevents.Record {
		r := minimal().Record(event(), alice)
		r.Value = append(r.Value, strings.Repeat(" ", size-len(r.Key)-len(r.Value))...)
		return r
	}
	if _, err := claims.Read(padded(claims.MaxRecord)); err != nil {
		t.Errorf("8 KiB: %v", err)
	}
	var malformed *claims.MalformedError
	if read, err := claims.Read(padded(claims.MaxRecord + 1)); !errors.As(err, &malformed) || !strings.Contains(err.Error(), "8192") || read.Body != nil {
		t.Errorf("8 KiB + 1: %+v, %v", read.Body, err)
	}
	if _, err := claims.Read(padded(1 << 20)); !errors.As(err, &malformed) {
		t.Errorf("1 MiB: %v", err)
	}
	for value, want := range map[string]claims.UsernameClaimed{
		`"ttl_seconds":9223372036854775807`:                            {TTLSeconds: new(int64(1<<63 - 1))},
		`"ttl_seconds":-9223372036854775808`:                           {TTLSeconds: new(int64(-1 << 63))},
		`"expected_version":-0`:                                        {ExpectedVersion: new(int64(0))},
		`"expected_version":-1`:                                        {ExpectedVersion: new(int64(-1))}, // readable; Validate refuses it
		`"deadline":"2026-11-21T11:30:00.1239+01:30"`:                  {Deadline: time.Date(2026, 11, 21, 10, 0, 0, 123e6, time.UTC)},
		`"deadline":"2026-11-21T10:00:00-00:00"`:                       {Deadline: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)},
		`"deadline":"2026-11-21T10:00:00+23:59"`:                       {Deadline: time.Date(2026, 11, 20, 10, 1, 0, 0, time.UTC)},
		`"deadline":"9999-12-31T23:59:59.999Z"`:                        {Deadline: time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC)},
		`"x":` + strings.Repeat("[", 3000) + strings.Repeat("]", 3000): {},
		`"x":1e99999,"y":` + strings.Repeat("9", 4000):                 {},
		`"metadata":{"":"","\ud83d\ude00":"\u00fc"}`:                   {Metadata: map[string]string{"": "", "😀": "ü"}},
		`"replaces":{"x":0,"version":-1,"name":""}`:                    {Replaces: &claims.Replaces{Version: -1}},
	} {
		want.Space, want.Spelling, want.Owner, want.Mode = "username", "Alice", "u-17", claims.ModeRegister
		r := minimal().Record(event(), alice)
		r.Value = append(append(r.Value[:len(r.Value)-1], ","+value...), '}')
		read, err := claims.Read(r)
		if err != nil || !reflect.DeepEqual(read.Body, claims.Body(&want)) {
			t.Errorf("%.60s: %+v, %v", value, read.Body, err)
		}
	}
}

// A principal that could not be stored or shown is nobody's.
func TestReadPrincipal(t *testing.T) {
	for principal, ok := range map[string]bool{
		"": true, "gateway": true, "a b~": true, strings.Repeat("p", 255): true,
		strings.Repeat("p", 256): false, "ü": false, "a\x00": false, "a\n": false, "\xff": false, "\x7f": false,
	} {
		read, err := claims.Read(edited("ce_dibsprincipal", []byte(principal)))
		if ok {
			if err != nil || read.Principal != principal {
				t.Errorf("%.20q: %q, %v", principal, read.Principal, err)
			}
			continue
		}
		var malformed *claims.MalformedError
		if !errors.As(err, &malformed) || malformed.Field != "ce_dibsprincipal" || read.Principal != "" || read.Body != nil {
			t.Errorf("%.20q: principal %q, %v", principal, read.Principal, err)
		}
	}
}

// What we write is read as it was meant, whatever is in it.
func TestRecordReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawClaim(t)
		r := want.Record(event(), alice)
		if strings.Contains(string(r.Value), `\u0000`) || len(r.Key)+len(r.Value) > claims.MaxRecord {
			t.Skip("not for the topic")
		}
		read, err := claims.Read(r)
		if err != nil || !reflect.DeepEqual(read.Body, claims.Body(want)) {
			t.Fatalf("%s\ngot  %+v, %v\nwant %+v", r.Value, read.Body, err, want)
		}
	})
}

func TestReadAtOnce(t *testing.T) { // the decoders are pooled
	a, b := minimal().Record(event(), alice), full().Record(event(), alice)
	done := make(chan error)
	for range 4 {
		go func() {
			var err error
			for range 500 {
				x, errA := claims.Read(a)
				y, errB := claims.Read(b)
				if !reflect.DeepEqual(x.Body, claims.Body(minimal())) || !reflect.DeepEqual(y.Body, claims.Body(full())) {
					err = errors.Join(errors.New("a request is not what was sent"), errA, errB)
				}
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
