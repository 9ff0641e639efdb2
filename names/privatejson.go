package names

import (
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
)

// keyHMAC is what key says in a private policy; another does not have it.
const keyHMAC = "hmac"

// appendJSON appends what the policy says of its keys, behind everything else.
func (p *Private) appendJSON(b []byte) []byte {
	b = fmt.Appendf(b, `,"key":%q,"pepper":%d,"pepper_check":%q`, keyHMAC, p.Pepper, p.Check) // all of it is ASCII
	if len(p.Fields) == 0 {
		return fmt.Appendf(b, `,"form":%q`, p.Form)
	}
	b = append(b, `,"fields":[`...)
	for i, f := range p.Fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"name":%q,"form":%q}`, f.Name, f.Form)
	}
	return append(b, ']')
}

// checkPrivateFields checks which of a private policy's fields are there.
func checkPrivateFields(seen map[string]bool) error {
	private := []string{"pepper", "pepper_check"}
	if !seen["key"] {
		for _, field := range append(private, "form", "fields") {
			if seen[field] {
				return wrong(field, `is possible in a private space only: "key":"hmac"`)
			}
		}
		return nil
	}
	for _, field := range private {
		if !seen[field] {
			return wrong(field, "is missing")
		}
	}
	if seen["form"] == seen["fields"] {
		return wrong("form", "or fields must be there, one of them")
	}
	return nil
}

// privateField reads one field of a private policy.
func (d policyReader) privateField(p *Policy, field string) (err error) {
	if p.Private == nil {
		p.Private = new(Private)
	}
	private := p.Private
	switch field {
	case "key":
		var kind string
		if kind, err = d.text(field); err == nil && kind != keyHMAC {
			err = wrong(field, "must be %q, or left out", keyHMAC)
		}
	case "pepper":
		var n int64
		n, err = d.integer(field, math.MaxInt32)
		if private.Pepper = int(n); err == nil && n < 1 {
			err = wrong(field, "must be 1 to %d", MaxVersion)
		}
	case "pepper_check":
		if private.Check, err = d.text(field); err == nil && private.Check == "" {
			err = wrong(field, "is empty")
		}
	case "form":
		var form string
		form, err = d.text(field)
		private.Form = ValueForm(form)
	case "fields":
		private.Fields, err = d.fields(field)
	default:
		return wrong("policy", "has the unknown field %.64q", field)
	}
	return err
}

// fields reads the list of fields, each of which says its name and its form.
func (d policyReader) fields(in string) (all []Field, err error) {
	if d.PeekKind() != '[' {
		return nil, d.not(in, "a list of fields")
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, errPolicyJSON
	}
	for d.PeekKind() != ']' {
		if d.PeekKind() != '{' {
			return nil, d.not(in, "a list of fields")
		}
		if _, err := d.ReadToken(); err != nil {
			return nil, errPolicyJSON
		}
		var f Field
		for d.PeekKind() == '"' {
			token, err := d.ReadToken()
			if err != nil {
				return nil, errPolicyJSON
			}
			member := strings.Clone(token.String())
			text, err := d.text(in)
			switch {
			case err != nil:
				return nil, err
			case member == "name":
				f.Name = text
			case member == "form":
				f.Form = ValueForm(text)
			default:
				return nil, wrong(in, "has the unknown field %.64q", member)
			}
		}
		if _, err := d.ReadToken(); err != nil {
			return nil, errPolicyJSON
		}
		all = append(all, f)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, errPolicyJSON
	}
	return all, nil
}

// validPrivate checks what a policy says of private keys. One that was not given its pepper yet is valid: see WithPepper.
func (p *Policy) validPrivate() error {
	private := p.Private
	if private == nil {
		return nil
	}
	switch check, err := hex.DecodeString(private.Check); {
	case private.Pepper < 0 || private.Pepper > MaxVersion:
		return wrong("pepper", "must be 1 to %d", MaxVersion)
	case private.Check != "" && (err != nil || len(check) != 8 || private.Check != strings.ToLower(private.Check) || private.Pepper == 0):
		return wrong("pepper_check", "must be 8 bytes in hexadecimal digits")
	case len(private.Fields) > MaxFields:
		return wrong("fields", "must be %d at most", MaxFields)
	case len(private.Fields) > 0 && private.Form != "":
		return wrong("form", "is that of one value; each of the fields has its own")
	case len(p.Reserved) > 0:
		return wrong("reserved", "is not possible in a private space: its keys tell nothing")
	case p.Form != nil && p.Form.confusables != ConfusablesAllowed:
		return wrong("confusables", "are not possible in a private space: its keys tell nothing")
	}
	forms := []ValueForm{private.Form}
	if len(private.Fields) > 0 {
		forms = forms[:0]
	}
	for i, f := range private.Fields {
		if !fieldName(f.Name) {
			return wrong("fields", "must have names of 1 to 32 of a to z, digits and _, that begin with a letter")
		}
		if slices.ContainsFunc(private.Fields[:i], func(other Field) bool { return other.Name == f.Name }) {
			return wrong("fields", "has %s twice", f.Name)
		}
		forms = append(forms, f.Form)
	}
	for _, form := range forms {
		if form != FormName && form != FormEmail && form != FormExact {
			if len(private.Fields) > 0 {
				return wrong("fields", "has the form %.32q: %s, %s or %s", form, FormName, FormEmail, FormExact)
			}
			return wrong("form", "is %.32q: %s, %s or %s", form, FormName, FormEmail, FormExact)
		}
	}
	if p.Form != nil && !slices.Contains(forms, FormName) {
		return wrong("unicode", "is of no use: no value has the form %s", FormName)
	}
	return nil
}

func fieldName(s string) bool {
	if len(s) == 0 || len(s) > 32 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}
