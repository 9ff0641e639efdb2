package cloudevents_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

var id = uuid.MustParse("6f0c3a52-8f4e-4c1d-9b7a-2f6d1e5c4b3a")

func headers(pairs ...string) []cloudevents.Header {
	var h []cloudevents.Header
	for i := 0; i < len(pairs); i += 2 {
		h = append(h, cloudevents.Header{Name: pairs[i], Value: []byte(pairs[i+1])})
	}
	return h
}

func valid(more ...string) []cloudevents.Header {
	return append(headers(more...), headers(
		"content-type", "application/json", "ce_specversion", "1.0", "ce_id", id.String(),
		"ce_type", "dibs.UsernameClaimed.v1", "ce_source", "somebody")...)
}

func TestReadEvent(t *testing.T) {
	least := cloudevents.Event{ID: id, Type: "dibs.UsernameClaimed.v1", Source: "somebody"}
	with := func(change func(*cloudevents.Event)) cloudevents.Event {
		e := least
		change(&e)
		return e
	}
	for name, test := range map[string]struct {
		headers []cloudevents.Header
		want    cloudevents.Event
		err     error
	}{
		"nothing but what must be": {headers: valid(), want: least},
		"everything": {
			headers: valid("ce_subject", "username/alice", "ce_dibsprincipal", "gateway", "ce_time", "2026-11-21T11:00:00.5+01:00", "traceparent", "00-1-2-00"),
			want: with(func(e *cloudevents.Event) {
				e.Subject, e.Principal = "username/alice", "gateway"
				e.Time = time.Date(2026, 11, 21, 10, 0, 0, 5e8, time.UTC)
			}),
		},
		"a time that is none is nobody's trouble": {headers: valid("ce_time", "yesterday"), want: least},
		"no content type": {headers: headers("ce_specversion", "1.0", "ce_id", id.String(), "ce_type", "a", "ce_source", "b"),
			want: cloudevents.Event{ID: id, Type: "a", Source: "b"}},
		"no source":                  {headers: headers("ce_specversion", "1.0", "ce_id", id.String(), "ce_type", "a"), want: cloudevents.Event{ID: id, Type: "a"}},
		"the first of a name counts": {headers: valid("ce_source", "first", "ce_time", "never", "ce_time", "2026-11-21T10:00:00Z"), want: with(func(e *cloudevents.Event) { e.Source = "first" })},
		"an id in capitals is the same id": {headers: headers("ce_specversion", "1.0", "ce_id", strings.ToUpper(id.String()), "ce_type", "a"),
			want: cloudevents.Event{ID: id, Type: "a"}},
		"header names are as they are": {headers: append(headers("CE_ID", uuid.Nil.String()), valid()...), want: least},

		"no headers":                    {err: cloudevents.ErrID},
		"structured":                    {headers: headers("content-type", "application/cloudevents+json"), err: cloudevents.ErrStructured},
		"structured, in other letters":  {headers: headers("content-type", "Application/CloudEvents+JSON; charset=utf-8"), err: cloudevents.ErrStructured},
		"structured, a batch":           {headers: headers("content-type", "application/cloudevents-batch+json"), err: cloudevents.ErrStructured},
		"structured, with an id beside": {headers: valid("content-type", "application/cloudevents+json"), want: least, err: cloudevents.ErrStructured},
		"no specversion":                {headers: headers("ce_id", id.String(), "ce_type", "a"), want: cloudevents.Event{ID: id, Type: "a"}, err: cloudevents.ErrSpecVersion},
		"specversion 0.3":               {headers: valid("ce_specversion", "0.3"), want: least, err: cloudevents.ErrSpecVersion},
		"specversion 1":                 {headers: valid("ce_specversion", "1"), want: least, err: cloudevents.ErrSpecVersion},
		"no type":                       {headers: headers("ce_specversion", "1.0", "ce_id", id.String()), want: cloudevents.Event{ID: id}, err: cloudevents.ErrType},
		"no id":                         {headers: headers("ce_specversion", "1.0", "ce_type", "a"), want: cloudevents.Event{Type: "a"}, err: cloudevents.ErrID},
		"id empty":                      {headers: headers("ce_id", ""), err: cloudevents.ErrID},
		"id a number":                   {headers: headers("ce_id", "4711"), err: cloudevents.ErrID},
		"id in braces":                  {headers: headers("ce_id", "{"+id.String()+"}"), err: cloudevents.ErrID},
		"id as URN":                     {headers: headers("ce_id", "urn:uuid:"+id.String()), err: cloudevents.ErrID},
		"id without hyphens":            {headers: headers("ce_id", strings.ReplaceAll(id.String(), "-", "")), err: cloudevents.ErrID},
		"id with a wrong digit":         {headers: headers("ce_id", "g"+id.String()[1:]), err: cloudevents.ErrID},
		"id with hyphens elsewhere":     {headers: headers("ce_id", "6f0c3a528-f4e-4c1d-9b7a-2f6d1e5c4b3a"), err: cloudevents.ErrID},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := cloudevents.ReadEvent(cloudevents.Record{Headers: test.headers})
			if !errors.Is(err, test.err) || test.err == nil && err != nil {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if errors.Is(err, cloudevents.ErrID) {
				if got.ID != uuid.Nil {
					t.Errorf("an id that is none came back as %s", got.ID)
				}
				return
			}
			if !got.Time.Equal(test.want.Time) {
				t.Errorf("time %v, want %v", got.Time, test.want.Time)
			}
			got.Time = test.want.Time
			if got != test.want {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func drawEvent(t *rapid.T) cloudevents.Event {
	text := rapid.StringMatching(`[ -~]{0,40}`)
	e := cloudevents.Event{
		Type: rapid.StringMatching(`[ -~]{1,40}`).Draw(t, "type"), Source: text.Draw(t, "source"),
		Subject: text.Draw(t, "subject"), Principal: text.Draw(t, "principal"),
	}
	copy(e.ID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	if ms := rapid.Int64Range(0, 4102444800000).Draw(t, "ms"); ms > 0 {
		e.Time = time.UnixMilli(ms).UTC()
	}
	return e
}

func TestHeadersReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawEvent(t)
		h := want.Headers(2)
		got, err := cloudevents.ReadEvent(cloudevents.Record{Headers: h})
		if err != nil || got != want {
			t.Fatalf("got  %+v, %v\nwant %+v", got, err, want)
		}
		if !reflect.DeepEqual(h, want.Headers(0)) {
			t.Fatal("two encodings differ")
		}
		// Values share memory: appending to one must not reach the next.
		for i := range h {
			_ = append(h[i].Value, "overwritten"...)
		}
		if !reflect.DeepEqual(h, want.Headers(0)) {
			t.Fatal("appending to one value changed another")
		}
	})
}

func TestAppendUUID(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var id uuid.UUID
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		if got := cloudevents.AppendUUID([]byte("id="), id); string(got) != "id="+id.String() {
			t.Fatalf("%s, want %s", got, id)
		}
	})
}

func TestAppendTime(t *testing.T) {
	for want, at := range map[string]time.Time{
		"2026-11-21T10:00:00.000Z": time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC),
		"2026-11-21T10:00:00.123Z": time.Date(2026, 11, 21, 10, 0, 0, 123e6, time.UTC),
		"2026-11-21T10:00:00.120Z": time.Date(2026, 11, 21, 10, 0, 0, 120999999, time.UTC),
		"2026-11-21T08:30:00.000Z": time.Date(2026, 11, 21, 10, 0, 0, 0, time.FixedZone("", 5400)),
	} {
		if got := cloudevents.AppendTime(nil, at); string(got) != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func FuzzReadEvent(f *testing.F) {
	f.Add("application/json", "1.0", id.String(), "dibs.UsernameClaimed.v1", "2026-11-21T10:00:00Z")
	f.Add("application/cloudevents+json", "1.0", "", "", "")
	f.Fuzz(func(t *testing.T, contentType, specVersion, id, kind, at string) {
		h := headers("content-type", contentType, "ce_specversion", specVersion, "ce_id", id, "ce_type", kind, "ce_time", at)
		e, err := cloudevents.ReadEvent(cloudevents.Record{Headers: h})
		if err != nil {
			return
		}
		if !strings.EqualFold(e.ID.String(), id) || e.Type != kind || specVersion != "1.0" {
			t.Errorf("read %+v from %q", e, h)
		}
		if bytes.Contains(bytes.ToLower([]byte(contentType)), []byte("application/cloudevents+json")) && strings.HasPrefix(strings.ToLower(contentType), "application/cloudevents") {
			t.Errorf("took %q for binary mode", contentType)
		}
	})
}
