package checker

import (
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// errJSON: not JSON as the design asks for: RFC 8259 in valid UTF-8, no name twice, no NUL.
var errJSON = errors.New("not valid JSON")

// value is a JSON value: its first byte says which kind ('0' for a number).
type value struct {
	kind    byte
	text    string // of a string, unescaped; of a number, as written
	members []member
	// elements are those of an array.
	elements []value
}

type member struct {
	name  string
	value value
}

// parse reads one JSON value and nothing behind it.
func parse(text []byte) (value, error) {
	if !utf8.Valid(text) {
		return value{}, errJSON
	}
	p := parser{text: text}
	v := p.value()
	p.space()
	if p.bad || p.at != len(text) {
		return value{}, errJSON
	}
	return v, nil
}

// parser reads until something is bad; then it only gets out.
type parser struct {
	text []byte
	at   int
	bad  bool
}

func (p *parser) peek() byte {
	if p.bad || p.at >= len(p.text) {
		return 0
	}
	return p.text[p.at]
}

func (p *parser) next() byte {
	c := p.peek()
	p.at++
	return c
}

func (p *parser) space() {
	for c := p.peek(); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = p.peek() {
		p.at++
	}
}

func (p *parser) expect(literal string) {
	for i := range len(literal) {
		if p.next() != literal[i] {
			p.bad = true
			return
		}
	}
}

func (p *parser) value() value {
	p.space()
	switch c := p.peek(); {
	case c == '{':
		return p.object()
	case c == '[':
		return p.array()
	case c == '"':
		return value{kind: '"', text: p.str()}
	case c == 't':
		p.expect("true")
		return value{kind: 't'}
	case c == 'f':
		p.expect("false")
		return value{kind: 'f'}
	case c == 'n':
		p.expect("null")
		return value{kind: 'n'}
	case c == '-' || '0' <= c && c <= '9':
		return value{kind: '0', text: p.number()}
	}
	p.bad = true
	return value{}
}

func (p *parser) object() value {
	v := value{kind: '{'}
	seen := make(map[string]bool)
	p.at++
	p.space()
	for first := true; !p.bad && p.peek() != '}'; first = false {
		if !first {
			p.expect(",")
			p.space()
		}
		name := p.str()
		p.space()
		p.expect(":")
		m := member{name, p.value()}
		p.bad = p.bad || seen[name]
		seen[name] = true
		v.members = append(v.members, m)
		p.space()
	}
	p.expect("}")
	return v
}

func (p *parser) array() value {
	v := value{kind: '['}
	p.at++
	p.space()
	for first := true; !p.bad && p.peek() != ']'; first = false {
		if !first {
			p.expect(",")
		}
		v.elements = append(v.elements, p.value())
		p.space()
	}
	p.expect("]")
	return v
}

func (p *parser) str() string {
	p.expect(`"`)
	var b []byte
	for !p.bad {
		switch c := p.next(); {
		case c == '"':
			return string(b)
		case c == '\\':
			b = p.escape(b)
		case c < ' ': // the end of the text too
			p.bad = true
		default:
			b = append(b, c)
		}
	}
	return ""
}

func (p *parser) escape(b []byte) []byte {
	switch c := p.next(); c {
	case '"', '\\', '/':
		return append(b, c)
	case 'b':
		return append(b, '\b')
	case 'f':
		return append(b, '\f')
	case 'n':
		return append(b, '\n')
	case 'r':
		return append(b, '\r')
	case 't':
		return append(b, '\t')
	case 'u':
		r := p.hex()
		if utf16.IsSurrogate(r) {
			p.expect(`\u`)
			if r = utf16.DecodeRune(r, p.hex()); r == utf8.RuneError {
				p.bad = true
			}
		}
		if r == 0 {
			p.bad = true
		}
		return utf8.AppendRune(b, r)
	}
	p.bad = true
	return b
}

func (p *parser) hex() rune {
	if p.at+4 > len(p.text) {
		p.bad = true
		return 0
	}
	n, err := strconv.ParseUint(string(p.text[p.at:p.at+4]), 16, 16)
	p.bad = p.bad || err != nil
	p.at += 4
	return rune(n)
}

func (p *parser) number() string {
	from := p.at
	digits := func() {
		if c := p.peek(); c < '0' || c > '9' {
			p.bad = true
		}
		for c := p.peek(); '0' <= c && c <= '9'; c = p.peek() {
			p.at++
		}
	}
	if p.peek() == '-' {
		p.at++
	}
	if p.peek() == '0' {
		p.at++
	} else {
		digits()
	}
	if p.peek() == '.' {
		p.at++
		digits()
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.at++
		if c := p.peek(); c == '+' || c == '-' {
			p.at++
		}
		digits()
	}
	return string(p.text[from:min(p.at, len(p.text))])
}

// quote writes a string as RFC 8785 does.
func quote(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\b':
			b = append(b, `\b`...)
		case c == '\f':
			b = append(b, `\f`...)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c < ' ':
			b = append(b, `\u00`...)
			b = append(b, "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
