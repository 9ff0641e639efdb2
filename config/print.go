package config

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/go-viper/mapstructure/v2"
)

// Print writes every setting, a line each, with secrets masked, and with where each came from if asked.
func (l *Loaded) Print(w io.Writer, withSource bool) error {
	values, err := l.flat()
	if err != nil {
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, k := range keys {
		line := k.name + ":\t" + values[k.name]
		if withSource {
			line += "\t# " + string(l.Source(k.name))
		}
		fmt.Fprintln(tw, line)
	}
	return tw.Flush()
}

// Source says where a setting's value came from.
func (l *Loaded) Source(key string) Source {
	if s, ok := l.sources[key]; ok {
		return s
	}
	return FromDefault
}

func (l *Loaded) flat() (map[string]string, error) {
	var tree map[string]any
	if err := mapstructure.Decode(l.Config, &tree); err != nil {
		return nil, fmt.Errorf("print settings: %w", err)
	}
	values := make(map[string]string, len(keys))
	for _, k := range keys {
		var v any = tree
		for _, part := range strings.Split(k.name, ".") {
			m, ok := v.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("print settings: %s has no value", k.name)
			}
			v = m[part]
		}
		text := fmt.Sprint(v)
		if list, ok := v.([]string); ok {
			text = strings.Join(list, ",")
		}
		if k.secret && text != "" {
			text = "********"
		}
		values[k.name] = text
	}
	return values, nil
}
