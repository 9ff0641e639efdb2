package config

import (
	"errors"
	"fmt"

	"github.com/dibs-hq/dibs/names"
	"go.yaml.in/yaml/v3"
)

// formSettings are the fields of a space that say how names beyond ASCII are written. All but the first need that.
var formSettings = []string{"unicode", "characters", "scripts", "confusables", "tables"}

// unicodePrecis is the one value of unicode.
const unicodePrecis = "precis"

// readForm reads those fields of a space, once all others are read: what is reserved is compared in the form.
func readForm(p *names.Policy, n *yaml.Node, where string, lines map[string]int) error {
	spec := names.Precis{Tables: names.TablesLatest}
	precis := false
	err := members(n, where, func(field string, v *yaml.Node) (err error) {
		text := ""
		switch field {
		case "unicode":
			text, err = readWord(v)
			if precis = text == unicodePrecis; err == nil && !precis {
				err = fmt.Errorf("is %s, which is not %s; left out, names are ASCII", shown(v), unicodePrecis)
			}
		case "characters":
			text, err = readWord(v)
			spec.Characters = names.Characters(text)
		case "confusables":
			text, err = readWord(v)
			spec.Confusables = names.Confusables(text)
		case "tables":
			text, err = readWord(v)
			spec.Tables = names.Tables(text)
		case "scripts":
			spec.Scripts, err = readWords(v)
		}
		if err != nil {
			return at(v, where+"."+field, err.Error())
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, field := range formSettings {
		if line, ok := lines[field]; ok && !precis {
			return at(&yaml.Node{Line: line}, where+"."+field, "needs unicode: "+unicodePrecis)
		}
	}
	if !precis {
		return nil
	}
	if spec.Confusables == "" || spec.Confusables == names.ConfusablesAllowed {
		spec.Reserved = names.ReservedByLook
	}
	if p.Form, err = spec.Form(); err != nil {
		line := lines["unicode"]
		if errors.Is(err, names.ErrTables) && lines["tables"] > 0 {
			line = lines["tables"]
		}
		return at(&yaml.Node{Line: line}, where, err.Error())
	}
	words := make([]string, 0, len(p.Reserved))
	for _, word := range p.ReservedWords() {
		if err := p.CanReserve(string(word)); err != nil {
			return at(&yaml.Node{Line: max(lines["reserved"], lines["unicode"])}, where+".reserved", fmt.Sprintf("has %.64q, which no name can be: it %s", word, err))
		}
		words = append(words, string(word))
	}
	p.Reserved = p.ReservedKeys(words...)
	return nil
}

func readWord(n *yaml.Node) (string, error) {
	if n.Kind != yaml.ScalarNode || n.Value == "" {
		return "", fmt.Errorf("is %s, which is no word", shown(n))
	}
	return n.Value, nil
}

func readWords(n *yaml.Node) ([]string, error) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		return nil, fmt.Errorf("is %s, which is no list of words", shown(n))
	}
	all := make([]string, 0, len(n.Content))
	for _, one := range n.Content {
		word, err := readWord(one)
		if err != nil {
			return nil, err
		}
		all = append(all, word)
	}
	return all, nil
}
