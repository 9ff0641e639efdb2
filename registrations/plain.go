package registrations

import (
	"bytes"
	"encoding/hex"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// readPlain reads the value of an answer to a claim as AppendJSON writes it: its fields in its order, nothing escaped. That
// is how nearly all are, and a replica reads one for every claim that it waits for. It reports false for any other value,
// which says nothing about it: Decode reads those the long way. What it reads the long way reads alike.
func readPlain(value []byte) (o Outcome, ok bool) {
	p := plain{rest: value}
	p.must(`{"request_id":"`)
	o.RequestID = p.id()
	p.must(`,"claim_id":"`)
	o.ClaimID = p.id()
	p.must(`,"space":"`)
	if space := p.text(); string(space) == string(names.Username) {
		o.Ref.Space = names.Username
	} else {
		o.Ref.Space = names.Space(space)
	}
	p.must(`,"key":"`)
	key := p.text()
	o.Ref.Key = names.Key(key)
	p.must(`,"name":"`)
	if name := p.text(); bytes.Equal(name, key) {
		o.Name = string(o.Ref.Key)
	} else {
		o.Name = string(name)
	}
	p.must(`,"owner":"`)
	o.Owner = string(p.text())
	if p.has(`,"outcome":"Accepted","state":"registered","version":`) {
		o.Type, o.State = Accepted, Registered
		o.Version = p.number()
	} else {
		p.must(`,"outcome":"Rejected","reason":"taken","detail":"the name is taken"`)
		o.Type, o.Reason = Rejected, Taken
	}
	p.must(`,"log_time":"`)
	o.LogTime = p.time()
	p.must(`,"policy_version":`)
	o.PolicyVersion = int(p.small())
	p.must(`,"request_hash":"`)
	p.hex(o.RequestHash[:])
	p.must(`,"partition":`)
	o.Partition = p.small()
	p.must(`,"log_epoch":`)
	o.LogEpoch = p.number()
	p.must(`,"offset":`)
	o.Offset = p.number()
	p.must(`}`)
	return o, !p.failed && len(p.rest) == 0
}

// plain reads on after a failure, and says so in the end.
type plain struct {
	rest   []byte
	failed bool
}

func (p *plain) has(label string) bool {
	if len(p.rest) < len(label) || string(p.rest[:len(label)]) != label {
		return false
	}
	p.rest = p.rest[len(label):]
	return true
}

func (p *plain) must(label string) { p.failed = !p.has(label) || p.failed }

// text reads up to the next quote. What is not plain ASCII, or is escaped, is left to the long way.
func (p *plain) text() []byte {
	for i, c := range p.rest {
		switch {
		case c == '"':
			t := p.rest[:i]
			p.rest = p.rest[i+1:]
			return t
		case c < ' ' || c == '\\' || c > '~':
			p.failed = true
			return nil
		}
	}
	p.failed = true
	return nil
}

func (p *plain) id() uuid.UUID {
	t := p.text()
	if len(t) != uuidLength { // the parser takes other forms too
		p.failed = true
		return uuid.Nil
	}
	id, err := uuid.ParseBytes(t)
	p.failed = p.failed || err != nil
	return id
}

func (p *plain) time() time.Time {
	t, err := time.Parse(time.RFC3339Nano, string(p.text()))
	p.failed = p.failed || err != nil
	return t
}

func (p *plain) hex(to []byte) {
	t := p.text()
	if len(t) != hex.EncodedLen(len(to)) {
		p.failed = true
		return
	}
	_, err := hex.Decode(to, t)
	p.failed = p.failed || err != nil
}

// number reads digits. JSON knows no leading zeros; what is negative, or so large that it may not fit, is read the long way.
func (p *plain) number() (n int64) {
	i := 0
	for i < len(p.rest) && '0' <= p.rest[i] && p.rest[i] <= '9' {
		n = n*10 + int64(p.rest[i]-'0')
		i++
	}
	p.failed = p.failed || i == 0 || i > 18 || i > 1 && p.rest[0] == '0'
	p.rest = p.rest[i:]
	return n
}

func (p *plain) small() int32 {
	n := p.number()
	p.failed = p.failed || n != int64(int32(n))
	return int32(n)
}
