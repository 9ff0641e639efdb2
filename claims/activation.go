package claims

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
)

// Rules is the version of the rules by which requests are decided: what this dibs knows, all lower ones included. A
// policy that says more than one could before comes with a higher version.
//
// Rules 2 know policies with unicode, private spaces, dibs' own requests by key, and erasure; and refuse a claim that gives up
// a name and asks for on_conflict. Rules 3 know policies that compare names with reserved words by what they look like.
const Rules = 3

// rulesUnicode are the first that know policies with unicode, rulesPrivate private ones, rulesLooks those that compare names with
// reserved words by what they look like.
const (
	rulesUnicode = 2
	rulesPrivate = 2
	rulesLooks   = 3
)

// RulesSignups are the first whose processors all know sign-ups: an older one leaves a sign-up dead, and does not know that a name
// is promised.
const RulesSignups = 2

// rulesOneWish are the first that refuse a claim with both replaces and on_conflict.
const rulesOneWish = 2

// SpaceKey is the key of the records about a space as a whole: no name has it.
func SpaceKey(s names.Space) string { return string(s) + "/" }

// MaxKeys is how many keys may be valid at once, and maxKeyID how long the id of one may be.
const (
	MaxKeys  = 32
	maxKeyID = 64
)

// PolicyActivated says what holds in its partition from its record on: the policy of a space, and for all spaces the rules
// to decide by, the keys that signatures may be made with, and whether every request must be signed. It comes from dibs
// spaces apply, to each partition, and is decided where it lies.
type PolicyActivated struct {
	Space   names.Space
	Version int
	// Policy is nil where it asks for what this dibs lacks: Rules are of a newer one, or it is because of Lacking, which
	// wraps names.ErrTables.
	Policy  *names.Policy
	Lacking error
	Rules   int
	// Keys are the ids of keys.
	Keys []string
	// SignedOnly: every request must be signed, not only the privileged ones.
	SignedOnly bool
}

// The values of signatures.
const (
	signaturesPrivileged = "privileged"
	signaturesAll        = "all"
)

// Type implements Body.
func (*PolicyActivated) Type() string { return TypePolicyActivated }

// Name implements Body. It is about a space as a whole.
func (a *PolicyActivated) Name() (names.Space, string) { return a.Space, "" }

// Until implements Body.
func (*PolicyActivated) Until() time.Time { return time.Time{} }

// Privileged implements Body.
func (*PolicyActivated) Privileged() bool { return true }

// Validate implements Body. What is read is valid.
func (a *PolicyActivated) Validate() error {
	switch {
	case a.Policy == nil:
		return &InvalidError{"policy", "is missing"}
	case a.Policy.Space != a.Space || a.Policy.Version != a.Version:
		return &InvalidError{"policy", "is that of another space or version"}
	}
	if err := a.Policy.Validate(); err != nil {
		return &InvalidError{"policy", err.Error()}
	}
	if private := a.Policy.Private; private != nil && private.Check == "" {
		return &InvalidError{"policy", "has no pepper"}
	}
	if err := a.validRules(); err != nil {
		return err
	}
	return a.validFrame()
}

var (
	errRules        = &InvalidError{"rules", fmt.Sprintf("must be %d or more for a policy with unicode", rulesUnicode)}
	errRulesLooks   = &InvalidError{"rules", fmt.Sprintf("must be %d or more for a policy with unicode.reserved", rulesLooks)}
	errRulesPrivate = &InvalidError{"rules", fmt.Sprintf("must be %d or more for a private space", rulesPrivate)}
)

// validRules checks that the policy asks for nothing that the rules do not know.
func (a *PolicyActivated) validRules() error {
	switch {
	case a.Policy.Form != nil && a.Rules < rulesUnicode:
		return errRules
	case a.Policy.ReservesLooks() && a.Rules < rulesLooks:
		return errRulesLooks
	case a.Policy.Private != nil && a.Rules < rulesPrivate:
		return errRulesPrivate
	}
	return nil
}

// validFrame checks all but the policy.
func (a *PolicyActivated) validFrame() error {
	switch {
	case !a.Space.Valid():
		return &InvalidError{"space", "is not spelt as one"}
	case a.Space == Signup:
		return &InvalidError{"space", "is that of sign-ups, which have no policy"}
	case a.Version < 1 || a.Version > names.MaxVersion:
		return &InvalidError{"version", fmt.Sprintf("must be 1 to %d", names.MaxVersion)}
	case a.Rules < 1:
		return &InvalidError{"rules", "must be 1 or more"}
	case len(a.Keys) == 0 || len(a.Keys) > MaxKeys:
		return &InvalidError{"keys", fmt.Sprintf("must be 1 to %d ids of keys", MaxKeys)}
	}
	for i, id := range a.Keys {
		if !printable(id, maxKeyID) || slices.Contains(a.Keys[:i], id) {
			return &InvalidError{"keys", "must be ids of keys, each once"}
		}
	}
	return nil
}

func (a *PolicyActivated) fields() fields { return fields{Space: a.Space, activated: a} }

// appendJSON appends the value of a record.
func (a *PolicyActivated) appendJSON(b []byte) []byte {
	b = appendString(append(b, `{"space":`...), string(a.Space))
	b = strconv.AppendInt(append(b, `,"version":`...), int64(a.Version), 10)
	if b = append(b, `,"policy":`...); a.Policy == nil {
		b = append(b, "null"...)
	} else {
		b = a.Policy.AppendJSON(b)
	}
	b = strconv.AppendInt(append(b, `,"rules":`...), int64(a.Rules), 10)
	b = append(b, `,"keys":[`...)
	for i, id := range a.Keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, id)
	}
	signatures := signaturesPrivileged
	if a.SignedOnly {
		signatures = signaturesAll
	}
	return append(appendString(append(b, `],"signatures":`...), signatures), '}')
}

// Record writes the activation as the record to be produced to each partition, signed. The error says why it cannot be.
func (a *PolicyActivated) Record(source string, at time.Time, key SigningKey) (cloudevents.Record, error) {
	if err := a.Validate(); err != nil {
		return cloudevents.Record{}, err
	}
	value := a.appendJSON(nil)
	if n := len(value) + len(SpaceKey(a.Space)); n > MaxRecord {
		return cloudevents.Record{}, &InvalidError{"policy", fmt.Sprintf("makes a record of %d bytes, %d at most: reserve fewer words", n, MaxRecord)}
	}
	event := cloudevents.Event{
		ID: ActivationID(value), Type: TypePolicyActivated, Subject: SpaceKey(a.Space), Source: source, Principal: Principal, Time: at,
	}
	return key.Sign(cloudevents.Record{Key: []byte(event.Subject), Value: value, Headers: event.Headers(0)}), nil
}

// readActivation reads a record of the type PolicyActivated. There is nobody to answer: what is wrong is an
// *UnanswerableError.
func readActivation(req Request, r cloudevents.Record) (Request, error) {
	if !OwnID(req.ID) {
		return req, &UnanswerableError{"ce_id of a PolicyActivated must be a UUID of version 8: dibs spaces apply makes it"}
	}
	if n := len(r.Key) + len(r.Value); n > MaxRecord {
		return req, &UnanswerableError{fmt.Sprintf("the record is larger than %d bytes", MaxRecord)}
	}
	_, req.Rerouted = r.Header(Rerouted)
	a, err := decodeActivation(r.Value)
	if err != nil {
		return req, &UnanswerableError{"PolicyActivated: " + err.Error()}
	}
	req.Body = a
	return req, nil
}

// decodeActivation reads the value strictly, but for fields that it does not know beside the policy.
func decodeActivation(value []byte) (*PolicyActivated, error) {
	d := decoders.Get().(*decoder)
	defer decoders.Put(d)
	d.bytes.Reset()
	d.bytes.Write(value)
	d.json.Reset(&d.bytes)

	var a PolicyActivated
	var policy []byte
	var seen []string
	err := d.object("", func(field string) (err error) {
		seen = append(seen, field)
		switch field {
		case "space":
			a.Space, err = readString[names.Space](d, field)
		case "version":
			a.Version, err = d.int32(field)
		case "policy":
			policy, err = d.raw()
		case "rules":
			a.Rules, err = d.int32(field)
		case "keys":
			a.Keys, err = d.list(field)
		case "signatures":
			var s string
			s, err = readString[string](d, field)
			if a.SignedOnly = s == signaturesAll; err == nil && !a.SignedOnly && s != signaturesPrivileged {
				err = &MalformedError{field, `must be "privileged" or "all"`}
			}
		default:
			err = d.skip()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err := d.json.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, &MalformedError{"", "there is something behind the JSON object"}
	}
	if hasNUL(value) {
		return nil, containsNUL
	}
	for _, field := range []string{"space", "version", "policy", "rules", "keys", "signatures"} {
		if !slices.Contains(seen, field) {
			return nil, &MalformedError{field, "is missing"}
		}
	}
	if err := a.validFrame(); err != nil {
		return nil, err
	}
	if a.Rules > Rules {
		return &a, nil
	}
	switch a.Policy, err = names.ReadPolicy(a.Space, a.Version, policy); {
	case errors.Is(err, names.ErrTables) && a.Rules >= rulesUnicode:
		a.Policy, a.Lacking, err = nil, err, nil
	case err == nil:
		err = a.validRules()
	}
	return &a, err
}

// int32 reads a number that is small; one that is not comes back as one that is refused.
func (d *decoder) int32(field string) (int, error) {
	n, err := d.integer(field)
	if err != nil {
		return 0, err
	}
	if *n < 0 || *n > math.MaxInt32 {
		return 0, &MalformedError{field, fmt.Sprintf("must be 1 to %d", math.MaxInt32)}
	}
	return int(*n), nil
}

func (d *decoder) raw() ([]byte, error) {
	v, err := d.json.ReadValue()
	if err != nil {
		return nil, notJSON
	}
	return bytes.Clone(v), nil
}

// list reads a list of strings.
func (d *decoder) list(field string) ([]string, error) {
	if d.json.PeekKind() != '[' {
		return nil, d.wrong(field, "is not a list of strings")
	}
	if _, err := d.json.ReadToken(); err != nil {
		return nil, notJSON
	}
	var all []string
	for d.json.PeekKind() != ']' {
		s, err := readString[string](d, field)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	if _, err := d.json.ReadToken(); err != nil {
		return nil, notJSON
	}
	return all, nil
}
