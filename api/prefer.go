package api

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// preference is what a caller wants of the wait.
type preference struct {
	wait time.Duration
	// applied says what was made of it, for the header Preference-Applied; empty where nothing was asked.
	applied string
}

// parsePrefer reads a header Prefer (RFC 7240). Preferences that we do not know are ignored, the first of each name
// counts. fallback is the wait where none is asked for, longest the most anybody gets. respond-async on its own means
// not to wait; with wait=N it means what wait=N means here anyway.
func parsePrefer(header *string, fallback, longest time.Duration) (preference, error) {
	p := preference{wait: fallback}
	if header == nil {
		return p, nil
	}
	var waits, async bool
	rest := *header
	for {
		name, value, after, err := nextPreference(rest)
		if err != nil {
			return p, badRequest("Prefer", err.Error())
		}
		switch {
		case strings.EqualFold(name, "wait") && !waits:
			seconds, err := strconv.ParseUint(value, 10, 31)
			if err != nil {
				return p, badRequest("Prefer", fmt.Sprintf("wait=%.20q is not a number of seconds", value))
			}
			waits = true
			p.wait = min(time.Duration(seconds)*time.Second, longest)
		case strings.EqualFold(name, "respond-async"):
			async = true
		}
		if after == "" {
			break
		}
		rest = after
	}
	switch {
	case waits:
		p.applied = fmt.Sprintf("wait=%d", int(p.wait.Seconds()))
	case async:
		p.wait, p.applied = 0, "respond-async"
	}
	return p, nil
}

// nextPreference reads one preference with its parameters, and returns what is behind the comma. Empty elements of the
// list are passed over.
func nextPreference(s string) (name, value, rest string, err error) {
	s = strings.TrimLeft(s, " \t,")
	if s == "" {
		return "", "", "", nil
	}
	if name, value, s, err = nextParameter(s); err != nil {
		return "", "", "", err
	}
	for strings.HasPrefix(s, ";") {
		s = strings.TrimLeft(s, "; \t")
		if s == "" || s[0] == ',' {
			break
		}
		if _, _, s, err = nextParameter(s); err != nil {
			return "", "", "", err
		}
	}
	if s == "" {
		return name, value, "", nil
	}
	if s[0] != ',' {
		return "", "", "", fmt.Errorf("has %.20q where a comma is expected", s)
	}
	return name, value, strings.TrimLeft(s, " \t,"), nil
}

// nextParameter reads token [= token or quoted string], and the space behind it.
func nextParameter(s string) (name, value, rest string, err error) {
	name, s = token(s)
	if name == "" {
		return "", "", "", fmt.Errorf("has %.20q where a name is expected", s)
	}
	s = strings.TrimLeft(s, " \t")
	if !strings.HasPrefix(s, "=") {
		return name, "", s, nil
	}
	s = strings.TrimLeft(s[1:], " \t")
	if strings.HasPrefix(s, `"`) {
		value, s, err = quoted(s)
	} else if value, s = token(s); value == "" {
		err = fmt.Errorf("has no value for %.20q", name)
	}
	return name, value, strings.TrimLeft(s, " \t"), err
}

// token reads a token of RFC 9110.
func token(s string) (t, rest string) {
	i := 0
	for i < len(s) && tokenByte(s[i]) {
		i++
	}
	return s[:i], s[i:]
}

func tokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// quoted reads a quoted string.
func quoted(s string) (value, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], nil
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("has a quote that does not end")
}
