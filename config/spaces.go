package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/dibs-hq/dibs/names"
	"go.yaml.in/yaml/v3"
)

// ErrSpaces says that a file of spaces cannot be used, where and why.
var ErrSpaces = errors.New("spaces")

// maxSpaces keeps a wrong path from being read into memory.
const maxSpaces = 1 << 20

// defaultPolicy is that of a space that says nothing but its version: what the space username has from the start.
func defaultPolicy(space names.Space) *names.Policy {
	p := *names.Builtin()[names.Username]
	p.Space, p.Version = space, 0
	return &p
}

// ReadSpaces reads a file of spaces and their policies, in the order of the spaces' names. The error is an ErrSpaces.
func ReadSpaces(path string) ([]*names.Policy, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSpaces, err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxSpaces+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrSpaces, err)
	case len(text) > maxSpaces:
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrSpaces, path, maxSpaces)
	}
	policies, err := ParseSpaces(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrSpaces, path, err)
	}
	return policies, nil
}

// ParseSpaces reads what such a file says. Its errors name the line and the field.
func ParseSpaces(text []byte) ([]*names.Policy, error) {
	var document yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&document); errors.Is(err, io.EOF) {
		return nil, errors.New(`it is empty: it needs "spaces" with at least one of them`)
	} else if err != nil {
		return nil, err
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("it holds more than one document")
	}
	all := make(map[string]*names.Policy)
	err := members(document.Content[0], "", func(field string, n *yaml.Node) error {
		if field != "spaces" {
			return unknownField(n, "", field, []string{"spaces"})
		}
		return members(n, "spaces", func(space string, n *yaml.Node) (err error) {
			all[space], err = readSpace(names.Space(space), n)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New(`there are no spaces: it needs "spaces" with at least one of them`)
	}
	policies := make([]*names.Policy, 0, len(all))
	for _, space := range slices.Sorted(maps.Keys(all)) {
		policies = append(policies, all[space])
	}
	return policies, nil
}

// readSpace reads the policy of one space.
func readSpace(space names.Space, n *yaml.Node) (*names.Policy, error) {
	where := "spaces." + string(space)
	p := defaultPolicy(space)
	lines := map[string]int{}
	if err := readPrivate(p, n, where); err != nil {
		return nil, err
	}
	err := members(n, where, func(field string, v *yaml.Node) error {
		lines[field] = v.Line
		if slices.Contains(formSettings, field) || slices.Contains(privateSettings, field) {
			return nil
		}
		set, ok := policySettings[field]
		if !ok {
			return unknownField(v, where+".", field, knownSettings())
		}
		if err := set(p, v); err != nil {
			return at(v, where+"."+field, err.Error())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if _, ok := lines["version"]; !ok {
		return nil, at(n, where, "has no version: the first one of a new space is 1, and each change raises it")
	}
	if err := readForm(p, n, where, lines); err != nil {
		return nil, err
	}
	var wrong *names.PolicyError
	if err := p.Validate(); errors.As(err, &wrong) {
		line := *n
		if at, ok := lines[wrong.Field]; ok {
			line.Line = at
		}
		return nil, at(&line, where, wrong.Error())
	}
	return p, nil
}

// policySettings are the fields of a space.
var policySettings = map[string]func(*names.Policy, *yaml.Node) error{
	"version":             func(p *names.Policy, n *yaml.Node) error { return readInt(&p.Version, n) },
	"min_length":          func(p *names.Policy, n *yaml.Node) error { return readInt(&p.MinLength, n) },
	"max_length":          func(p *names.Policy, n *yaml.Node) error { return readInt(&p.MaxLength, n) },
	"reserved":            readReserved,
	"ttl":                 func(p *names.Policy, n *yaml.Node) error { return readDuration(&p.TTL, n) },
	"shortest_ttl":        func(p *names.Policy, n *yaml.Node) error { return readDuration(&p.ShortestTTL, n) },
	"longest_ttl":         func(p *names.Policy, n *yaml.Node) error { return readDuration(&p.LongestTTL, n) },
	"cool_down":           func(p *names.Policy, n *yaml.Node) error { return readDuration(&p.CoolDown, n) },
	"previous_may_return": readBool,
	"unique_among": func(p *names.Policy, n *yaml.Node) error {
		p.UniqueAmong = names.Among(n.Value)
		if n.Kind != yaml.ScalarNode {
			return errors.New("is neither all nor active")
		}
		return nil
	},
}

// knownSettings lists all fields of a space.
func knownSettings() []string {
	return slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Keys(policySettings)), formSettings, privateSettings)))
}

func readInt(to *int, n *yaml.Node) (err error) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!int" {
		*to, err = strconv.Atoi(n.Value)
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("is %s, which is no whole number", shown(n))
}

func readDuration(to *time.Duration, n *yaml.Node) (err error) {
	if n.Kind == yaml.ScalarNode {
		if *to, err = time.ParseDuration(n.Value); err == nil {
			return nil
		}
	}
	return fmt.Errorf("is %s, which is no time such as 15m or 720h", shown(n))
}

func readBool(p *names.Policy, n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		return fmt.Errorf("is %s: use true or false", shown(n))
	}
	return n.Decode(&p.PreviousMayReturn)
}

func readReserved(p *names.Policy, n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return fmt.Errorf("is %s, which is no list of words; [] reserves none", shown(n))
	}
	p.Reserved = make(map[names.Key]struct{}, len(n.Content))
	for _, word := range n.Content {
		if word.Kind != yaml.ScalarNode {
			return fmt.Errorf("has %s, which is no word", shown(word))
		}
		if _, twice := p.Reserved[names.Key(word.Value)]; twice {
			return fmt.Errorf("has %.64q twice", word.Value)
		}
		p.Reserved[names.Key(word.Value)] = struct{}{}
	}
	return nil
}

// members calls f for each member of a mapping. One that comes twice is a mistake, and what stands for something
// elsewhere (an alias, a merge) is not followed.
func members(n *yaml.Node, where string, f func(field string, value *yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return at(n, where, "is "+shown(n)+", which is no mapping")
	}
	lines := make(map[string]int, len(n.Content)/2)
	for i := 0; i < len(n.Content); i += 2 {
		field, value := n.Content[i], n.Content[i+1]
		if field.Kind != yaml.ScalarNode || value.Kind == yaml.AliasNode {
			return at(value, where, "has an alias, or a key that is no word: write it out")
		}
		if first, twice := lines[field.Value]; twice {
			return at(field, where, fmt.Sprintf("has %.64q in line %d already", field.Value, first))
		}
		lines[field.Value] = field.Line
		if err := f(field.Value, value); err != nil {
			return err
		}
	}
	return nil
}

func unknownField(n *yaml.Node, where, field string, known []string) error {
	return at(n, where+shortened(field), "is no setting"+nearest(field, slices.Values(known)))
}

// at says where in the file something is wrong.
func at(n *yaml.Node, where, what string) error {
	if where == "" {
		where = "it"
	}
	return fmt.Errorf("line %d: %s %s", n.Line, where, what)
}

// shown is what a node says, for an error.
func shown(n *yaml.Node) string {
	switch n.Kind {
	case yaml.ScalarNode:
		return strconv.Quote(shortened(n.Value))
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "a mapping"
	}
	return "an alias"
}

func shortened(s string) string { return s[:min(len(s), 64)] }
