package claims

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// UnanswerableError says that nobody could be told the outcome of this record, or that its type means nothing to us. It
// goes to the dead letter topic, with the text as the reason.
type UnanswerableError struct{ Detail string }

func (e *UnanswerableError) Error() string { return e.Detail }

// MalformedError says that the record has an id and a type, but what it asks cannot be read. It is answered
// Rejected(malformed).
type MalformedError struct{ Field, Detail string }

func (e *MalformedError) Error() string {
	if e.Field == "" {
		return e.Detail
	}
	return e.Field + " " + e.Detail
}

// Read reads a record of the topic. With a *MalformedError the request is still set, but for its Body; with an
// *UnanswerableError it may have an ID.
func Read(r cloudevents.Record) (Request, error) {
	event, err := cloudevents.ReadEvent(r)
	req := Request{Event: event}
	if err != nil {
		return req, &UnanswerableError{err.Error()}
	}
	if req.Type == TypePolicyActivated {
		return readActivation(req, r)
	}
	if _, ok := bodies[req.Type]; !ok {
		return req, &UnanswerableError{fmt.Sprintf("ce_type %.64q is unknown", req.Type)}
	}
	if !ValidID(req.ID) && !OwnID(req.ID) {
		return req, &UnanswerableError{"ce_id must be a UUID of version 4, 5 or 7"}
	}
	_, req.Rerouted = r.Header(Rerouted)
	if n := len(r.Key) + len(r.Value); n > MaxRecord {
		return req, &MalformedError{"", fmt.Sprintf("the record is larger than %d bytes", MaxRecord)}
	}
	if req.Principal != "" && !printable(req.Principal, MaxOwner) {
		req.Principal = ""
		return req, &MalformedError{cloudevents.Principal, "is not printable ASCII"}
	}
	if req.Type == TypeUsernameClaimed {
		if claim := readPlain(r.Value); claim != nil {
			req.Body = claim
			return req, nil
		}
	}
	if req.Body, err = decodeBody(req.Type, r.Value); err != nil {
		return req, err
	}
	return req, nil
}

var decoders = sync.Pool{New: func() any { return &decoder{json: jsontext.NewDecoder(new(bytes.Buffer))} }}

// decoder reads one value without reflection: this is on every claim's path.
type decoder struct {
	json  *jsontext.Decoder
	bytes bytes.Buffer
	key   []byte // the value of that field, if it is a string
	kind  string // the ce_type

	fields fields // of the value; kept here for its size
}

func decodeBody(kind string, value []byte) (Body, error) {
	d := decoders.Get().(*decoder)
	defer func() {
		d.fields = fields{} // what is read does not outlive its request
		decoders.Put(d)
	}()
	d.bytes.Reset()
	d.bytes.Write(value)
	d.json.Reset(&d.bytes)

	d.key, d.kind = d.key[:0], kind
	f := &d.fields
	var seen seenFields
	err := d.object("", func(field string) error { return d.field(f, &seen, field) })
	if err != nil {
		return nil, err
	}
	if _, err := d.json.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, &MalformedError{"", "there is something behind the JSON object"}
	}
	if hasNUL(value) { // in a field that is passed over
		return nil, containsNUL
	}
	body := bodies[kind]
	if !seen.has("name") && d.givesKey(f) {
		seen |= fieldBits["name"]
	}
	for _, must := range [][]string{{"space", "name"}, body.must} {
		for _, field := range must {
			switch {
			case seen.has(field):
			case f.byKey && field != "space":
				return nil, ErrNoName // what dibs asks itself lacks nothing
			default:
				return nil, &MalformedError{field, "is missing"}
			}
		}
	}
	return body.of(f), nil
}

// givesKey takes the key in place of a name, if there is one that can be. Beside a name the field is ignored, whatever it
// says, as an unknown one is.
func (d *decoder) givesKey(f *fields) bool {
	key, err := jsontext.AppendUnquote(nil, d.key)
	if f.byKey = err == nil && 0 < len(key) && len(key) <= names.MaxKey; f.byKey {
		f.Spelling = string(key)
	}
	return f.byKey
}

// seenFields says which of the fields that some request must have are there.
type seenFields uint16

var fieldBits = map[string]seenFields{
	"space": 1 << 0, "name": 1 << 1, "owner": 1 << 2, "mode": 1 << 3, "claim_id": 1 << 4, "ttl_seconds": 1 << 5,
	"new_owner": 1 << 6, "actor": 1 << 7, "reason": 1 << 8, "expires_at": 1 << 9, "names": 1 << 10, "of": 1 << 11,
}

func (s seenFields) has(field string) bool { return s&fieldBits[field] != 0 }

// field reads the value of one field. A field that another type of request has is read all the same, and then ignored as
// an unknown one is.
func (d *decoder) field(f *fields, seen *seenFields, field string) (err error) {
	*seen |= fieldBits[field]
	switch field {
	case "space":
		f.Space, err = readString[names.Space](d, field)
	case "name":
		f.Spelling, err = readString[string](d, field)
	case "key":
		if d.json.PeekKind() != '"' {
			return d.skip()
		}
		raw, err := d.json.ReadValue()
		if err != nil {
			return notJSON
		}
		d.key = append(d.key[:0], raw...)
	case "claim_id":
		f.ClaimID, err = d.id(field)
	case "owner":
		f.Owner, err = readString[string](d, field)
	case "new_owner":
		f.NewOwner, err = readString[string](d, field)
	case "mode":
		f.Mode, err = readString[Mode](d, field)
	case "ttl_seconds":
		f.TTLSeconds, err = d.integer(field)
	case "replaces":
		f.Replaces, err = d.replaces()
	case "expected_version":
		f.ExpectedVersion, err = d.integer(field)
	case "expires_at":
		f.ExpiresAt, err = d.time(field)
	case "on_conflict":
		f.OnConflict, err = readString[OnConflict](d, field)
	case "actor":
		f.Actor, err = readString[string](d, field)
	case "reason":
		f.Reason, err = readString[string](d, field)
	case "deadline":
		f.Deadline, err = d.time(field)
	case "metadata":
		f.Metadata, err = d.strings(field)
	default:
		return d.later(f, field)
	}
	return err
}

// later reads a field that came with a later type of request. To the types before it, it is unknown: their records say what
// they said.
func (d *decoder) later(f *fields, field string) (err error) {
	switch {
	case d.kind == TypeSignupRequested && field == "names":
		f.Names, err = d.signupNames(field)
	case d.kind == TypeSignupVoted && field == "of":
		f.Of, err = d.ref(field)
	case d.kind == TypeSignupVoted && field == "detail":
		f.Detail, err = readString[string](d, field)
	case d.kind == TypeUsernameClaimed && field == "signup" && d.json.PeekKind() == '"':
		raw, err := d.json.ReadValue()
		if err != nil {
			return notJSON
		}
		if id, err := uuid.ParseBytes(raw[1 : len(raw)-1]); err == nil && len(raw) == 38 {
			f.Signup = id
		}
		return nil
	default:
		err = d.skip()
	}
	return err
}

func (d *decoder) id(field string) (uuid.UUID, error) {
	text, err := readString[string](d, field)
	if err != nil {
		return uuid.Nil, err
	}
	id, err := uuid.Parse(text)
	if err != nil || len(text) != 36 || id == uuid.Nil {
		return uuid.Nil, &MalformedError{field, "is not a UUID"}
	}
	return id, nil
}

// object reads an object and calls member for each name, which must read its value.
func (d *decoder) object(field string, member func(name string) error) error {
	if d.json.PeekKind() != '{' {
		return d.wrong(field, "is not a JSON object")
	}
	if _, err := d.json.ReadToken(); err != nil {
		return notJSON
	}
	for d.json.PeekKind() == '"' {
		name, err := readString[string](d, field)
		if err != nil {
			return err
		}
		if d.json.PeekKind() == 'n' { // null is how many encoders spell absent
			err = d.skip()
		} else {
			err = member(name)
		}
		if err != nil {
			return err
		}
	}
	if _, err := d.json.ReadToken(); err != nil {
		return notJSON
	}
	return nil
}

// Texts are our own and name no offset: a rejection must read the same when the log is replayed by a newer library.
var (
	notJSON     = &MalformedError{"", "the value is not valid JSON in UTF-8, or repeats a field"}
	containsNUL = &MalformedError{"", "the value contains NUL"}
)

// wrong says that the value ahead is of another kind, unless it is no JSON at all.
func (d *decoder) wrong(field, detail string) error {
	if err := d.json.SkipValue(); err != nil {
		return notJSON
	}
	if field == "" {
		field = "the value"
	}
	return &MalformedError{field, detail}
}

// hasNUL reports whether some string of a valid JSON text has a NUL, which only an escape can spell.
func hasNUL(text []byte) bool {
	for {
		i := bytes.Index(text, []byte(`\u0000`))
		if i < 0 {
			return false
		}
		if before := text[:i]; (i-len(bytes.TrimRight(before, `\`)))%2 == 0 { // else it is an escaped backslash
			return true
		}
		text = text[i+1:]
	}
}

func (d *decoder) skip() error {
	if err := d.json.SkipValue(); err != nil {
		return notJSON
	}
	return nil
}

// word is the text as a string. The words of nearly every record cost no allocation.
func word(text []byte) string {
	switch string(text) {
	case "space":
		return "space"
	case "name":
		return "name"
	case "owner":
		return "owner"
	case "mode":
		return "mode"
	case string(names.Username):
		return string(names.Username)
	case string(ModeRegister):
		return string(ModeRegister)
	}
	return string(text)
}

func readString[T ~string](d *decoder, field string) (T, error) {
	if d.json.PeekKind() != '"' {
		return "", d.wrong(field, "is not a string")
	}
	raw, err := d.json.ReadValue()
	if err != nil {
		return "", notJSON
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return T(word(raw[1 : len(raw)-1])), nil
	}
	text, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return "", notJSON
	}
	if bytes.IndexByte(text, 0) >= 0 {
		if field == "" {
			return "", containsNUL
		}
		return "", &MalformedError{field, "contains NUL"}
	}
	return T(text), nil
}

func (d *decoder) integer(field string) (*int64, error) {
	if d.json.PeekKind() != '0' {
		return nil, d.wrong(field, "is not a number")
	}
	raw, err := d.json.ReadValue()
	if err != nil {
		return nil, notJSON
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		return nil, &MalformedError{field, "is not a whole number of 64 bits"}
	}
	return &n, nil
}

func (d *decoder) time(field string) (time.Time, error) {
	text, err := readString[string](d, field)
	if err != nil {
		return time.Time{}, err
	}
	t, ok := parseTime(text)
	if !ok {
		return time.Time{}, &MalformedError{field, "is not an RFC 3339 time"}
	}
	return t, nil
}

// parseTime reads an RFC 3339 time by the letter, as far as it can be written again: time.Parse lets some other forms
// pass, and a later one may not. Go's zero time comes back as itself, which is no time.
func parseTime(text string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || text[len("2006-01-02T15")] != ':' || strings.Contains(text, ",") {
		return time.Time{}, false
	}
	if zone := text[len(text)-len("+00:00"):]; zone[5] != 'Z' && (zone[1:3] > "23" || zone[4:] > "59") {
		return time.Time{}, false
	}
	t = t.UTC().Truncate(time.Millisecond)
	return t, 1 <= t.Year() && t.Year() <= 9999
}

func (d *decoder) strings(field string) (map[string]string, error) {
	var m map[string]string
	err := d.object(field, func(name string) error {
		if d.json.PeekKind() != '"' {
			return d.wrong(field, "is not a flat object of strings")
		}
		text, err := readString[string](d, field)
		if m == nil {
			m = make(map[string]string)
		}
		m[name] = text
		return err
	})
	return m, err
}

func (d *decoder) replaces() (*Replaces, error) {
	var r Replaces
	var named, versioned bool
	var key names.Key
	err := d.object("replaces", func(name string) (err error) {
		switch name {
		case "name":
			named = true
			r.Name, err = readString[string](d, "replaces.name")
		case "key":
			if d.json.PeekKind() != '"' {
				return d.skip()
			}
			key, err = readString[names.Key](d, "replaces.key")
		case "version":
			versioned = true
			var n *int64
			if n, err = d.integer("replaces.version"); n != nil {
				r.Version = *n
			}
		default:
			err = d.skip()
		}
		return err
	})
	if !named && key != "" && len(key) <= names.MaxKey { // beside a name it is ignored, as an unknown field is
		named, r.Key = true, key
	}
	if err == nil && (!named || !versioned) {
		err = &MalformedError{"replaces", "needs name and version"}
	}
	return &r, err
}
