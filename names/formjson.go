package names

import (
	"errors"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// appendJSON appends what the form was made of, with nothing left to a default.
func (f *Form) appendJSON(b []byte) []byte {
	b, _ = jsontext.AppendQuote(append(b, `{"tables":`...), string(f.spec.Tables)) // it is one that this build has
	b, _ = jsontext.AppendQuote(append(b, `,"characters":`...), string(f.chars))
	b = append(b, `,"scripts":[`...)
	for i, entry := range f.spec.Scripts {
		if i > 0 {
			b = append(b, ',')
		}
		b, _ = jsontext.AppendQuote(b, entry)
	}
	b, _ = jsontext.AppendQuote(append(b, `],"confusables":`...), string(f.confusables))
	if f.spec.Reserved != ReservedByForm {
		b, _ = jsontext.AppendQuote(append(b, `,"reserved":`...), string(f.spec.Reserved))
	}
	return append(b, '}')
}

// form reads a Precis, all of it, and makes it ready.
func (d policyReader) form() (*Form, error) {
	const in = "unicode."
	if d.PeekKind() != '{' {
		return nil, d.not("unicode", "a JSON object")
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, errPolicyJSON
	}
	var spec Precis
	seen := make(map[string]bool)
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, errPolicyJSON
		}
		field := strings.Clone(name.String())
		seen[field] = true
		text := ""
		switch field {
		case "tables":
			text, err = d.text(in + field)
			spec.Tables = Tables(text)
		case "characters":
			text, err = d.text(in + field)
			spec.Characters = Characters(text)
		case "confusables":
			text, err = d.text(in + field)
			spec.Confusables = Confusables(text)
		case "reserved":
			text, err = d.text(in + field)
			if spec.Reserved = ReservedBy(text); err == nil && spec.Reserved == ReservedByForm {
				err = wrong("unicode", "leaves something to a default")
			}
		case "scripts":
			spec.Scripts, err = d.texts(in + field)
		default:
			err = wrong("unicode", "has the unknown field %.64q", field)
		}
		if err != nil {
			return nil, err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, errPolicyJSON
	}
	for _, field := range []string{"tables", "characters", "scripts", "confusables"} {
		if !seen[field] {
			return nil, wrong(in+field, "is missing")
		}
	}
	if spec.Characters == "" || spec.Confusables == "" {
		return nil, wrong("unicode", "leaves something to a default")
	}
	return spec.form()
}

// form is Form with errors as a policy has them.
func (p Precis) form() (*Form, error) {
	f, err := p.Form()
	if err != nil && !errors.Is(err, ErrTables) {
		return nil, wrong("unicode", "%s", err.Error())
	}
	return f, err
}

// texts reads a list of strings.
func (d policyReader) texts(field string) (all []string, err error) {
	if d.PeekKind() != '[' {
		return nil, d.not(field, "a list of strings")
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, errPolicyJSON
	}
	for d.PeekKind() != ']' {
		text, err := d.text(field)
		if err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, errPolicyJSON
	}
	return all, nil
}
