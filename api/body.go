package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxBody is how large a request's body may be.
const MaxBody = 4 << 10

// wholeBody is the field that an error names which is about no field of the body in particular.
const wholeBody = "body"

// readBody reads the body of a request and checks that it is exactly what target, a pointer to a struct, can take: the
// decoder of the generated code takes more. The body can be read again afterwards.
func readBody(w http.ResponseWriter, r *http.Request, target any) error {
	if err := checkMediaType(r.Header); err != nil {
		return err
	}
	data, err := readLimited(r)
	if err != nil {
		w.Header().Set("Connection", "close") // the rest is not read
		return err
	}
	if claim, ok := target.(*ClaimRequest); ok {
		if claim.readPlain(data) {
			return nil // nobody reads it again
		}
		*claim = ClaimRequest{}
	}
	if err := checkJSON(data, target); err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(data))
	return nil
}

func readLimited(r *http.Request) ([]byte, error) {
	if r.ContentLength > MaxBody {
		return nil, &Refused{Reason: BodyTooLarge}
	}
	data := make([]byte, 0, max(r.ContentLength, 255)+1) // with room to see that it ends
	for len(data) <= MaxBody {
		if len(data) == cap(data) {
			data = slices.Grow(data, len(data))
		}
		n, err := r.Body.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case errors.Is(err, io.EOF) && len(data) <= MaxBody:
			return data, nil
		case err != nil && !errors.Is(err, io.EOF):
			return nil, badRequest(wholeBody, "did not arrive in full")
		}
	}
	return nil, &Refused{Reason: BodyTooLarge}
}

func checkMediaType(h http.Header) error {
	if h.Get("Content-Type") == "application/json" && h.Get("Content-Encoding") == "" {
		return nil
	}
	mediaType, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset, given := params["charset"]
	switch {
	case err != nil || mediaType != "application/json", given && !strings.EqualFold(charset, "utf-8"):
		return &Refused{Reason: WrongMediaType, Errors: []FieldError{{Field: "Content-Type", Detail: "must be application/json"}}}
	case h.Get("Content-Encoding") != "":
		return &Refused{Reason: WrongMediaType, Errors: []FieldError{{Field: "Content-Encoding", Detail: "is not possible here"}}}
	}
	return nil
}

// checkJSON checks that data is one JSON object in UTF-8, without a field given twice, without null and NUL, and with the
// fields of target alone, spelt as they are, each of its type.
func checkJSON(data []byte, target any) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return badRequest(wholeBody, "is empty: a JSON object is expected")
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(data))
	if d.PeekKind() != '{' {
		if err := d.SkipValue(); err != nil {
			return syntaxError(err)
		}
		return badRequest(wholeBody, "is not a JSON object")
	}
	for {
		token, err := d.ReadToken()
		if err != nil {
			return syntaxError(err)
		}
		switch token.Kind() {
		case 'n':
			return badRequest(fieldAt(d.StackPointer()), "is null: leave it out instead")
		case '"':
			if strings.IndexByte(token.String(), 0) >= 0 {
				return badRequest(fieldAt(d.StackPointer()), "contains NUL")
			}
		}
		if d.StackDepth() == 0 {
			break
		}
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return badRequest(wholeBody, "has something behind the JSON object")
	}
	err := json.Unmarshal(data, target, json.RejectUnknownMembers(true))
	var semantic *json.SemanticError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, json.ErrUnknownName) && errors.As(err, &semantic):
		return badRequest(fieldAt(semantic.JSONPointer), "is not a known field")
	case errors.As(err, &semantic):
		return badRequest(fieldAt(semantic.JSONPointer), "is not "+typeName(semantic.GoType))
	default:
		return fmt.Errorf("read body: %w", err)
	}
}

// syntaxError says what is not JSON, in our words.
func syntaxError(err error) error {
	var syntactic *jsontext.SyntacticError
	if !errors.As(err, &syntactic) {
		return badRequest(wholeBody, "is not JSON")
	}
	field := fieldAt(syntactic.JSONPointer)
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return badRequest(field, "is given twice")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return badRequest(field, "is not JSON: it ends too early")
	case strings.Contains(syntactic.Err.Error(), "UTF-8"):
		return badRequest(field, "is not UTF-8")
	}
	return badRequest(field, fmt.Sprintf("is not JSON, at byte %d", syntactic.ByteOffset))
}

// listField is the field that is a list, in every body that has one.
const listField = "names"

// fieldAt spells a place in the body as its field: metadata.source, names[1].name. What is among the fields of a private space is not
// repeated: it may be what must not be written down.
func fieldAt(p jsontext.Pointer) string {
	var b strings.Builder
	before := ""
	for name := range p.Tokens() {
		if before == listField { // of nothing else is a body a list
			fmt.Fprintf(&b, "[%s]", shownField(name))
			before = ""
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(shownField(name))
		if name == "fields" {
			break
		}
		before = name
	}
	if b.Len() == 0 {
		return wholeBody
	}
	return b.String()
}

// shownField is the name of a field, or of a parameter, as it is told to whoever sent it: not what is clearly the value.
func shownField(name string) string {
	if len(name) > 64 || strings.Contains(name, "@") {
		return "(no field's name)"
	}
	return strings.ToValidUTF8(strings.ReplaceAll(name, "\x00", "\uFFFD"), "\uFFFD")
}

// typeName says what a field should be.
func typeName(t reflect.Type) string {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil {
		return "of the right type"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Int64, reflect.Int32, reflect.Int:
		return "a whole number"
	case reflect.Map, reflect.Struct:
		return "an object"
	}
	return "of the right type"
}
