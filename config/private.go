package config

import (
	"fmt"

	"github.com/dibs-hq/dibs/names"
	"go.yaml.in/yaml/v3"
)

// privateSettings are the fields of a space that say how its keys are made. All but the first need key: hmac.
var privateSettings = []string{"key", "form", "fields", "pepper"}

// The values of key.
const (
	keyPlain = "plain"
	keyHMAC  = "hmac"
)

// longestValue is how long a value of a private space may be where nobody says: as long as an e-mail address can be.
const longestValue = 254

// readPrivate reads those fields, before all others: a private space has other defaults.
func readPrivate(p *names.Policy, n *yaml.Node, where string) error {
	var private names.Private
	form, hmac := names.FormName, false
	lines := map[string]int{}
	var fields *yaml.Node
	err := members(n, where, func(field string, v *yaml.Node) (err error) {
		lines[field] = v.Line
		text := ""
		switch field {
		case "key":
			text, err = readWord(v)
			if hmac = text == keyHMAC; err == nil && !hmac && text != keyPlain {
				err = fmt.Errorf("is %s: %s or %s", shown(v), keyPlain, keyHMAC)
			}
		case "form":
			text, err = readWord(v)
			form = names.ValueForm(text)
		case "pepper":
			if err = readInt(&private.Pepper, v); err == nil && private.Pepper < 1 {
				err = fmt.Errorf("is %s: the version of a pepper is 1 or more", shown(v))
			}
		case "fields":
			fields = v
		}
		if err != nil {
			return at(v, where+"."+field, err.Error())
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !hmac {
		for _, field := range privateSettings[1:] {
			if line, ok := lines[field]; ok {
				return at(&yaml.Node{Line: line}, where+"."+field, "needs key: "+keyHMAC)
			}
		}
		return nil
	}
	if fields == nil {
		private.Form = form
	} else if private.Fields, err = readFields(fields, form); err != nil {
		return at(fields, where+".fields", err.Error())
	}
	p.Private = &private
	p.MinLength, p.MaxLength, p.Reserved = 1, longestValue, nil
	return nil
}

// readFields reads a list of fields: a word has the form of the space, a word with another behind it that one.
func readFields(n *yaml.Node, form names.ValueForm) ([]names.Field, error) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		return nil, fmt.Errorf("is %s, which is no list of fields", shown(n))
	}
	all := make([]names.Field, 0, len(n.Content))
	for _, one := range n.Content {
		f := names.Field{Form: form}
		name := one
		if one.Kind == yaml.MappingNode && len(one.Content) == 2 {
			name = one.Content[0]
			text, err := readWord(one.Content[1])
			if err != nil {
				return nil, err
			}
			f.Form = names.ValueForm(text)
		}
		var err error
		if f.Name, err = readWord(name); err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}
