package main

import (
	"context"
	"log/slog"
	"strings"
)

// progress prints log lines of what takes its time at the start, such as a download, for people.
type progress struct{ out *lines }

func (p progress) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (p progress) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(" " + a.Key + "=" + a.Value.String())
		return true
	})
	p.out.printf("%s\n", b.String())
	return nil
}

func (p progress) WithAttrs([]slog.Attr) slog.Handler { return p }

func (p progress) WithGroup(string) slog.Handler { return p }
