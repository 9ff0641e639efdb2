package importer

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// Row is one row of the file.
type Row struct {
	Number    int // of the row, from 1, the header not counted
	Space     names.Space
	Name      string
	Fields    map[string]string // of a private space, in place of a name
	Owner     string
	RequestID uuid.UUID // zero where the file has none
	Metadata  map[string]string
}

// RowError says that a row cannot be read. The rows behind it can.
type RowError struct {
	Row    Row
	Detail string
}

func (e *RowError) Error() string { return fmt.Sprintf("row %d: %s", e.Row.Number, e.Detail) }

// Reader reads rows, in order. Its error is io.EOF behind the last, a *RowError for a row to be rejected, or final.
type Reader interface {
	Next() (Row, error)
}

// NewReader reads the format that the file's name ends in: .csv, or .ndjson, .jsonl.
func NewReader(r io.Reader, name string) (Reader, error) {
	switch ext := strings.ToLower(filepath.Ext(name)); ext {
	case ".csv":
		return newCSV(r)
	case ".ndjson", ".jsonl":
		s := bufio.NewScanner(r)
		s.Buffer(make([]byte, 0, 64<<10), 1<<20)
		return &ndjson{lines: s}, nil
	default:
		return nil, fmt.Errorf("the file's name ends in %q: rename it to .csv, .ndjson or .jsonl, by what it is", ext)
	}
}

// set puts one field into a row. Names of fields are those of the claim; username and owner_id are what many tables say.
func (r *Row) set(field, value string) error {
	if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
		return fmt.Errorf("%s is not UTF-8 text", field)
	}
	switch field {
	case "name", "username":
		r.Name = value
	case "owner", "owner_id":
		r.Owner = value
	case "space":
		if value != "" {
			r.Space = names.Space(value)
		}
	case "request_id":
		if value == "" {
			return nil
		}
		id, err := uuid.Parse(value)
		if err != nil || len(value) != 36 {
			return errors.New("request_id is not a UUID")
		}
		r.RequestID = id
	default: // registered_at, metadata.* and fields.*
		if value == "" {
			return nil
		}
		if name, ok := strings.CutPrefix(field, "fields."); ok {
			if r.Fields == nil {
				r.Fields = make(map[string]string)
			}
			r.Fields[name] = value
			return nil
		}
		if r.Metadata == nil {
			r.Metadata = make(map[string]string)
		}
		r.Metadata[strings.TrimPrefix(field, "metadata.")] = value
	}
	return nil
}

// known reports whether a field is one that set takes.
func known(field string) bool {
	switch field {
	case "name", "username", "owner", "owner_id", "space", "request_id", "registered_at":
		return true
	}
	return strings.HasPrefix(field, "metadata.") && len(field) > len("metadata.") || strings.HasPrefix(field, "fields.") && len(field) > len("fields.")
}

const fieldsHelp = "name (or username), owner (or owner_id), and perhaps space, fields.* (in place of a name), registered_at, request_id, metadata.*"

type csvReader struct {
	csv    *csv.Reader
	fields []string
	number int
}

func newCSV(r io.Reader) (*csvReader, error) {
	c := csv.NewReader(r)
	c.FieldsPerRecord = -1
	c.ReuseRecord = true
	header, err := c.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty: the first row names the columns: " + fieldsHelp)
	}
	if err != nil {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	fields := make([]string, len(header))
	has := make(map[string]bool, len(header))
	for i, h := range header {
		f := strings.TrimSpace(strings.TrimPrefix(h, "\ufeff"))
		if !known(f) {
			return nil, fmt.Errorf("column %q is unknown: the columns are %s", f, fieldsHelp)
		}
		if has[f] {
			return nil, fmt.Errorf("column %q is there twice", f)
		}
		fields[i], has[f] = f, true
	}
	keyed := slices.ContainsFunc(fields, func(f string) bool { return strings.HasPrefix(f, "fields.") })
	if has["name"] && has["username"] || !has["name"] && !has["username"] && !keyed || has["owner"] == has["owner_id"] {
		return nil, errors.New("the first row must name the columns: " + fieldsHelp)
	}
	return &csvReader{csv: c, fields: fields}, nil
}

func (c *csvReader) Next() (Row, error) {
	values, err := c.csv.Read()
	if errors.Is(err, io.EOF) {
		return Row{}, io.EOF
	}
	c.number++
	row := Row{Number: c.number, Space: names.Username}
	var broken *csv.ParseError
	switch {
	case errors.As(err, &broken):
		return row, &RowError{row, broken.Err.Error()}
	case err != nil:
		return row, fmt.Errorf("read row %d: %w", c.number, err)
	case len(values) != len(c.fields):
		return row, &RowError{row, fmt.Sprintf("has %d columns, the header has %d", len(values), len(c.fields))}
	}
	for i, f := range c.fields {
		if err := row.set(f, strings.Clone(values[i])); err != nil {
			return row, &RowError{row, err.Error()}
		}
	}
	return row, nil
}

type ndjson struct {
	lines  *bufio.Scanner
	number int
}

func (n *ndjson) Next() (Row, error) {
	for n.lines.Scan() {
		line := n.lines.Bytes()
		if len(strings.TrimSpace(string(line))) == 0 {
			continue
		}
		n.number++
		return n.row(line)
	}
	if err := n.lines.Err(); err != nil {
		return Row{}, fmt.Errorf("read row %d: %w", n.number+1, err)
	}
	return Row{}, io.EOF
}

func (n *ndjson) row(line []byte) (Row, error) {
	row := Row{Number: n.number, Space: names.Username}
	var fields map[string]any
	if !utf8.Valid(line) {
		return row, &RowError{row, "is not UTF-8"}
	}
	if err := json.Unmarshal(line, &fields); err != nil {
		return row, &RowError{row, "is not a JSON object"}
	}
	for _, of := range []string{"metadata", "fields"} {
		if members, ok := fields[of].(map[string]any); ok {
			delete(fields, of)
			for k, v := range members {
				fields[of+"."+k] = v
			}
		}
	}
	for f, v := range fields {
		text, ok := v.(string)
		if v == nil {
			continue
		}
		if !known(f) {
			return row, &RowError{row, fmt.Sprintf("field %q is unknown: the fields are %s", f, fieldsHelp)}
		}
		if !ok {
			return row, &RowError{row, f + " is not a string"}
		}
		if err := row.set(f, text); err != nil {
			return row, &RowError{row, err.Error()}
		}
	}
	return row, nil
}

// key is that of the row's name, or of its fields.
func (r *Row) key(policy *names.Policy, peppers names.Peppers) (names.Key, error) {
	switch {
	case policy.Private == nil && r.Fields != nil:
		return "", &names.InvalidError{Field: "fields", Detail: "are possible in a private space only"}
	case policy.Private == nil, r.Fields == nil && names.IsPrivateKey(r.Name):
		return policy.Key(r.Name)
	}
	return peppers.Key(policy, names.Value{Name: r.Name, Fields: r.Fields})
}

// claim makes the request of a row, with its id and its name's key; or says why there is none to make. The error is that
// of a pepper, without which no row of the space can be imported.
func (r *Row) claim(policies names.Policies, peppers names.Peppers) (id uuid.UUID, ref names.Ref, c *claims.UsernameClaimed, reject Rejection, err error) {
	policy := policies[r.Space]
	if policy == nil {
		return id, ref, nil, Rejection{"unknown_space", "there is no such space"}, nil
	}
	key, err := r.key(policy, peppers)
	var invalid *names.InvalidError
	switch {
	case errors.As(err, &invalid):
		what := "the name "
		if invalid.Field != "" {
			what = ""
		}
		return id, ref, nil, Rejection{"invalid_name", what + err.Error()}, nil
	case err != nil:
		return id, ref, nil, Rejection{}, fmt.Errorf("row %d: security.peppers_file: %w", r.Number, err)
	}
	ref = names.Ref{Space: r.Space, Key: key}
	c = &claims.UsernameClaimed{Space: r.Space, Spelling: r.Name, Owner: r.Owner, Mode: claims.ModeRegister, Metadata: r.Metadata}
	if policy.Private != nil {
		c.Spelling, c.Key = "", key
	}
	if err := c.Validate(); err != nil {
		return id, ref, nil, Rejection{"invalid_request", err.Error()}, nil
	}
	if id = r.RequestID; id == uuid.Nil {
		of := ref
		if canonical := policy.Asked(r.Name, key); canonical != "" {
			of.Key = names.Key(canonical) // it is another claim than that of a name that looks like it
		}
		id = RequestID(of, r.Owner)
	} else if !claims.ValidID(id) {
		return id, ref, nil, Rejection{"invalid_request", "request_id must be a UUID of version 4, 5 or 7"}, nil
	}
	return id, ref, c, Rejection{}, nil
}

// idSpace is the UUID namespace of ids that an import derives.
var idSpace = uuid.MustParse("7f0c2a52-7b0e-5c2c-9c55-6d1be0a7c1de")

// RequestID derives the id of a row that has none: the same name and owner give the same id in every import.
func RequestID(ref names.Ref, owner string) uuid.UUID {
	b := make([]byte, 0, 64)
	for _, part := range []string{string(ref.Space), string(ref.Key), owner} {
		b = append(fmt.Appendf(b, "%d:", len(part)), part...)
	}
	return uuid.NewSHA1(idSpace, b)
}
