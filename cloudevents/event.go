package cloudevents

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// The headers of the binary mode that dibs reads or writes.
const (
	ContentType = "content-type"
	SpecVersion = "ce_specversion"
	ID          = "ce_id"
	Type        = "ce_type"
	Source      = "ce_source"
	Time        = "ce_time"
	Subject     = "ce_subject"
	// Principal is our extension: the authenticated caller that a request came from.
	Principal = "ce_dibsprincipal"

	jsonType       = "application/json"
	structuredType = "application/cloudevents"
	version        = "1.0"
)

// Why a record is not an event that can be answered. Each is a reason for the dead letter topic.
var (
	// ErrStructured: the event is in structured mode; dibs reads the binary mode only.
	ErrStructured = errors.New("structured mode: send the binary mode, with ce_ headers and the data as the value")
	// ErrSpecVersion: ce_specversion is missing or is not 1.0.
	ErrSpecVersion = errors.New("ce_specversion is not 1.0")
	// ErrID: ce_id is missing or is no UUID in its 36-character form.
	ErrID = errors.New("ce_id is not a UUID")
	// ErrType: ce_type is missing.
	ErrType = errors.New("ce_type is missing")
)

// Event is the part of an event that is the same for every type.
type Event struct {
	ID        uuid.UUID
	Type      string
	Source    string
	Subject   string
	Principal string    // empty where nobody said
	Time      time.Time // zero where nobody said; for readers only, nothing is decided by it
}

// ReadEvent reads the headers of a record in binary mode. Where the id can be read it is set in the event, also beside
// an error.
func ReadEvent(r Record) (Event, error) {
	var e Event
	var specVersion, id []byte
	structured := false
	for i := len(r.Headers) - 1; i >= 0; i-- { // backwards: the first of a name counts
		switch v := r.Headers[i].Value; r.Headers[i].Name {
		case ContentType:
			structured = string(v) != jsonType && strings.HasPrefix(strings.ToLower(string(v)), structuredType)
		case SpecVersion:
			specVersion = v
		case ID:
			id = v
		case Type:
			e.Type = string(v)
		case Source:
			e.Source = string(v)
		case Subject:
			e.Subject = string(v)
		case Principal:
			e.Principal = string(v)
		case Time:
			e.Time, _ = time.Parse(time.RFC3339Nano, string(v))
		}
	}
	var err error
	if len(id) != uuidLength {
		err = ErrID
	} else if e.ID, err = uuid.ParseBytes(id); err != nil {
		err = ErrID
	}
	switch {
	case structured:
		return e, ErrStructured
	case err != nil:
		return e, err
	case string(specVersion) != version:
		return e, fmt.Errorf("%w: %.20q", ErrSpecVersion, specVersion)
	case e.Type == "":
		return e, ErrType
	}
	return e, nil
}

// Headers writes the event's headers, always in the same order, with room for extra more.
func (e Event) Headers(extra int) []Header {
	w := writer{
		headers: make([]Header, 0, 8+extra),
		text:    make([]byte, 0, uuidLength+len(e.Type)+len(e.Source)+len(timeLayout)+len(e.Subject)+len(e.Principal)),
	}
	w.headers = append(w.headers, Header{ContentType, jsonValue}, Header{SpecVersion, versionValue})
	w.add(ID, AppendUUID(w.text, e.ID))
	w.add(Type, append(w.text, e.Type...))
	w.add(Source, append(w.text, e.Source...))
	if !e.Time.IsZero() {
		w.add(Time, AppendTime(w.text, e.Time))
	}
	if e.Subject != "" {
		w.add(Subject, append(w.text, e.Subject...))
	}
	if e.Principal != "" {
		w.add(Principal, append(w.text, e.Principal...))
	}
	return w.headers
}

// The values that are the same in every record are shared by all of them.
var (
	jsonValue    = []byte(jsonType)
	versionValue = []byte(version)
)

// writer puts the values of all headers into one piece of memory.
type writer struct {
	headers []Header
	text    []byte
}

// add adds a header whose value was appended to the text. The value is capped, so that appending to it reaches no other.
func (w *writer) add(name string, text []byte) {
	w.headers = append(w.headers, Header{name, text[len(w.text):len(text):len(text)]})
	w.text = text
}

// timeLayout has milliseconds always, as Kafka's timestamps do: one spelling for one time.
const timeLayout = "2006-01-02T15:04:05.000Z"

// AppendTime appends a time in the one way dibs spells it: RFC 3339 in UTC with milliseconds.
func AppendTime(b []byte, t time.Time) []byte {
	// Not by timeLayout: time has a short way for its own layouts only, and this is on every claim's path three times.
	b = t.UTC().AppendFormat(b, time.RFC3339)
	ms := t.Nanosecond() / int(time.Millisecond)
	return append(b[:len(b)-1], '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}

const uuidLength = 36

// AppendUUID appends an id in its 36-character form.
func AppendUUID(b []byte, id uuid.UUID) []byte {
	b = append(hex.AppendEncode(b, id[:4]), '-')
	b = append(hex.AppendEncode(b, id[4:6]), '-')
	b = append(hex.AppendEncode(b, id[6:8]), '-')
	b = append(hex.AppendEncode(b, id[8:10]), '-')
	return hex.AppendEncode(b, id[10:])
}
