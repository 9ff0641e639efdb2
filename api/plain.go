package api

import "unicode/utf8"

// readPlain reads the body of a claim whose fields are strings without escapes, and whole numbers: most are. Of any other,
// and of one that is wrong in any way, it says false, and target is of no use.
func (target *ClaimRequest) readPlain(data []byte) bool {
	p := plain{data: data}
	if !p.next('{') {
		return false
	}
	for seen := uint16(0); ; {
		name, ok := p.text()
		if !ok || !p.next(':') {
			return false
		}
		field := uint16(0)
		if p.space(); p.at < len(data) && data[p.at] == '"' {
			var text []byte
			if text, ok = p.text(); ok {
				field = target.setText(string(name), string(text))
			}
		} else {
			var n int64
			if n, ok = p.number(); ok {
				field = target.setNumber(string(name), n)
			}
		}
		if field == 0 || seen&field != 0 {
			return false
		}
		seen |= field
		if p.next('}') {
			return p.end()
		}
		if !p.next(',') {
			return false
		}
	}
}

// setText sets a field that is a string, and says which; 0 for none.
func (target *ClaimRequest) setText(name, text string) uint16 {
	switch name {
	case "name":
		target.Name = &text
		return 1 << 0
	case "owner":
		target.Owner = text
		return 1 << 1
	case "space":
		target.Space = &text
		return 1 << 2
	case "mode":
		target.Mode = new(ClaimRequestMode(text))
		return 1 << 3
	case "claim_id":
		target.ClaimID = &text
		return 1 << 4
	case "on_conflict":
		target.OnConflict = new(ClaimRequestOnConflict(text))
		return 1 << 5
	case "on_timeout":
		target.OnTimeout = new(ClaimRequestOnTimeout(text))
		return 1 << 6
	}
	return 0
}

// setNumber sets a field that is a whole number, and says which; 0 for none.
func (target *ClaimRequest) setNumber(name string, n int64) uint16 {
	switch name {
	case "ttl_seconds":
		target.TTLSeconds = &n
		return 1 << 7
	case "expected_version":
		target.ExpectedVersion = &n
		return 1 << 8
	}
	return 0
}

// plain goes through JSON that is.
type plain struct {
	data []byte
	at   int
}

func (p *plain) space() {
	for p.at < len(p.data) {
		switch p.data[p.at] {
		case ' ', '\t', '\r', '\n':
			p.at++
		default:
			return
		}
	}
}

func (p *plain) next(c byte) bool {
	p.space()
	if p.at < len(p.data) && p.data[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *plain) end() bool {
	p.space()
	return p.at == len(p.data)
}

// text reads a string of UTF-8 without an escape.
func (p *plain) text() ([]byte, bool) {
	if !p.next('"') {
		return nil, false
	}
	from, ascii := p.at, true
	for ; p.at < len(p.data); p.at++ {
		switch c := p.data[p.at]; {
		case c == '"':
			s := p.data[from:p.at]
			p.at++
			return s, ascii || utf8.Valid(s)
		case c == '\\' || c < ' ':
			return nil, false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, false
}

// number reads a whole number that is surely not too large.
func (p *plain) number() (n int64, ok bool) {
	p.space()
	from := p.at
	for ; p.at < len(p.data) && p.at-from < 18; p.at++ {
		c := p.data[p.at]
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int64(c-'0')
	}
	digits := p.at - from
	if digits == 0 || digits > 1 && p.data[from] == '0' || p.at == len(p.data) {
		return 0, false
	}
	switch p.data[p.at] {
	case ',', '}', ' ', '\t', '\r', '\n':
		return n, true
	}
	return 0, false
}
