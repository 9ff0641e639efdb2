package claims

import (
	"cmp"
	"crypto/sha256"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// fields is everything that requests say, in one struct: one encoder, one decoder and one hash for all of them, so that
// a field means the same wherever it stands. What a type does not say is zero.
type fields struct {
	claim           bool // owner and mode are there, also where they are empty
	byKey           bool // Spelling is the key, in place of a name
	Space           names.Space
	Spelling        string
	ClaimID         uuid.UUID
	Owner           string
	NewOwner        string
	Mode            Mode
	TTLSeconds      *int64
	Replaces        *Replaces
	ExpectedVersion *int64
	ExpiresAt       time.Time
	OnConflict      OnConflict
	Actor           string
	Reason          string
	Deadline        time.Time
	Metadata        map[string]string
	Names           []SignupName
	Of              names.Ref
	Detail          string
	Signup          uuid.UUID
	activated       *PolicyActivated // it has a value of its own, and nothing else
}

// appendJSON appends the value of a record.
func (f *fields) appendJSON(b []byte) []byte {
	if f.activated != nil {
		return f.activated.appendJSON(b)
	}
	b = appendString(append(b, `{"space":`...), string(f.Space))
	if f.byKey {
		b = appendString(append(b, `,"key":`...), f.Spelling)
	} else {
		b = appendString(append(b, `,"name":`...), f.Spelling)
	}
	b = appendID(b, `,"claim_id":"`, f.ClaimID)
	b = f.appendNeeded(b, `,"owner":`, f.Owner)
	b = appendNonEmpty(b, `,"new_owner":`, f.NewOwner)
	b = f.appendNeeded(b, `,"mode":`, string(f.Mode))
	b = appendInt(b, `,"ttl_seconds":`, f.TTLSeconds)
	if r := f.Replaces; r != nil {
		label := `,"replaces":{"name":`
		if r.Key != "" {
			label = `,"replaces":{"key":`
		}
		b = appendString(append(b, label...), r.Asked())
		b = append(appendInt(b, `,"version":`, &r.Version), '}')
	}
	b = appendInt(b, `,"expected_version":`, f.ExpectedVersion)
	b = appendTime(b, `,"expires_at":"`, f.ExpiresAt)
	b = appendNonEmpty(b, `,"on_conflict":`, string(f.OnConflict))
	b = appendNonEmpty(b, `,"actor":`, f.Actor)
	b = appendNonEmpty(b, `,"reason":`, f.Reason)
	b = appendTime(b, `,"deadline":"`, f.Deadline)
	if len(f.Metadata) > 0 {
		b = appendMetadata(append(b, `,"metadata":`...), f.Metadata)
	}
	if f.Names != nil {
		b = appendNames(append(b, `,"names":`...), f.Names)
	}
	b = appendRef(b, `,"of":`, f.Of)
	b = appendNonEmpty(b, `,"detail":`, f.Detail)
	b = appendID(b, `,"signup":"`, f.Signup)
	return append(b, '}')
}

// hash is the hash of what is asked of the name ref by principal: SHA-256 over canonical JSON (RFC 8785), so in the order
// of the alphabet; what is absent is left out. Where a key stands for several names that look alike, the canonical form
// of the one that is meant is a part of it, unless it is the key.
func (f *fields) hash(kind string, ref names.Ref, principal string, policies names.Policies) Hash {
	if f.activated != nil {
		return sha256.Sum256(f.activated.appendJSON(nil))
	}
	b := append(make([]byte, 0, 256), '{')
	b = appendNonEmpty(b, `,"actor":`, f.Actor)
	b = appendID(b, `,"claim_id":"`, f.ClaimID)
	b = appendNonEmpty(b, `,"detail":`, f.Detail)
	b = appendInt(b, `,"expected_version":`, f.ExpectedVersion)
	b = appendTime(b, `,"expires_at":"`, f.ExpiresAt)
	b = appendString(append(b, `,"key":`...), string(ref.Key))
	if len(f.Metadata) > 0 {
		b = appendMetadata(append(b, `,"metadata":`...), f.Metadata)
	}
	b = f.appendNeeded(b, `,"mode":`, string(f.Mode))
	p := policies[ref.Space]
	if p != nil && !f.byKey {
		b = appendNonEmpty(b, `,"name":`, p.Asked(f.Spelling, ref.Key))
	}
	if f.Names != nil { // as typed: what they are is for the policies of their partitions
		b = appendNames(append(b, `,"names":`...), f.Names)
	}
	b = appendNonEmpty(b, `,"new_owner":`, f.NewOwner)
	b = appendRef(b, `,"of":`, f.Of)
	b = appendNonEmpty(b, `,"on_conflict":`, string(f.OnConflict))
	b = f.appendNeeded(b, `,"owner":`, f.Owner)
	b = appendNonEmpty(b, `,"principal":`, principal)
	b = appendNonEmpty(b, `,"reason":`, f.Reason)
	if r := f.Replaces; r != nil {
		old := r.Asked()
		if p != nil {
			if key, err := p.HeldKey(old); err == nil {
				old = cmp.Or(p.Asked(old, key), string(key))
			}
		}
		b = appendString(append(b, `,"replaces":{"name":`...), old)
		b = append(appendInt(b, `,"version":`, &r.Version), '}')
	}
	b = appendID(b, `,"signup":"`, f.Signup)
	b = appendString(append(b, `,"space":`...), string(ref.Space))
	b = appendInt(b, `,"ttl_seconds":`, f.TTLSeconds)
	b = append(appendString(append(b, `,"type":`...), kind), '}')
	b[1] = '{' // over the first member's comma
	return sha256.Sum256(b[1:])
}

// appendNeeded appends a labelled string that a claim must have.
func (f *fields) appendNeeded(b []byte, label, s string) []byte {
	if s == "" && !f.claim {
		return b
	}
	return appendString(append(b, label...), s)
}

// appendNonEmpty appends a labelled string, or nothing for an empty one.
func appendNonEmpty(b []byte, label, s string) []byte {
	if s == "" {
		return b
	}
	return appendString(append(b, label...), s)
}

// appendID appends a labelled id behind the label's quote, or nothing for none.
func appendID(b []byte, label string, id uuid.UUID) []byte {
	if id == uuid.Nil {
		return b
	}
	return append(cloudevents.AppendUUID(append(b, label...), id), '"')
}

// appendTime appends a labelled time behind the label's quote, or nothing for none.
func appendTime(b []byte, label string, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	return append(cloudevents.AppendTime(append(b, label...), t), '"')
}

// bodies makes each type of request of its fields. The fields named must be there; which more are allowed, and what they
// may say, is for Validate.
var bodies = map[string]struct {
	must []string
	of   func(f *fields) Body
}{
	TypeUsernameClaimed: {[]string{"owner", "mode"}, func(f *fields) Body {
		about := f.about()
		return &UsernameClaimed{
			Space: f.Space, Spelling: about.Spelling, Key: about.Key, Owner: f.Owner, Mode: f.Mode, TTLSeconds: f.TTLSeconds, Replaces: f.Replaces,
			ExpectedVersion: f.ExpectedVersion, OnConflict: f.OnConflict, Deadline: f.Deadline, Metadata: f.Metadata, Signup: f.Signup,
		}
	}},
	TypeConfirmRequested: {[]string{"claim_id", "owner"}, func(f *fields) Body {
		return &ConfirmRequested{f.about(), f.ClaimID, f.Owner}
	}},
	TypeExtendRequested: {[]string{"claim_id", "owner", "ttl_seconds"}, func(f *fields) Body {
		return &ExtendRequested{f.about(), f.ClaimID, f.Owner, *f.TTLSeconds}
	}},
	TypeReleaseRequested: {nil, func(f *fields) Body {
		return &ReleaseRequested{f.about(), f.Owner, f.ExpectedVersion, f.Actor, f.Reason}
	}},
	TypeWithdrawRequested: {[]string{"claim_id", "owner"}, func(f *fields) Body {
		return &WithdrawRequested{f.about(), f.ClaimID, f.Owner}
	}},
	TypeDeactivateRequested: {[]string{"owner"}, func(f *fields) Body {
		return &DeactivateRequested{f.about(), f.Owner, f.ExpectedVersion}
	}},
	TypeReactivateRequested: {[]string{"owner"}, func(f *fields) Body {
		return &ReactivateRequested{f.about(), f.Owner, f.ExpectedVersion}
	}},
	TypeTransferRequested: {[]string{"new_owner"}, func(f *fields) Body {
		return &TransferRequested{f.about(), f.Owner, f.NewOwner, f.ExpectedVersion, f.Actor, f.Reason}
	}},
	TypeBlockRequested: {[]string{"actor", "reason"}, func(f *fields) Body {
		return &BlockRequested{f.about(), f.Actor, f.Reason}
	}},
	TypeUnblockRequested: {[]string{"actor", "reason"}, func(f *fields) Body {
		return &UnblockRequested{f.about(), f.Actor, f.Reason}
	}},
	TypeErasureRequested: {[]string{"owner", "actor", "reason"}, func(f *fields) Body {
		return &ErasureRequested{f.about(), f.Owner, f.Actor, f.Reason}
	}},
	TypeExpiryDue: {[]string{"claim_id", "expires_at"}, func(f *fields) Body {
		return &ExpiryDue{f.about(), f.ClaimID, f.ExpiresAt}
	}},
	TypeSignupRequested: {[]string{"owner", "names"}, func(f *fields) Body {
		return &SignupRequested{f.about(), f.Owner, f.Names, f.TTLSeconds}
	}},
	TypeSignupVoted: {[]string{"claim_id", "owner", "of"}, func(f *fields) Body {
		return &SignupVoted{f.about(), f.ClaimID, f.Owner, f.Of, f.Reason, f.Detail}
	}},
}

func (f *fields) about() About {
	if f.byKey {
		return About{Space: f.Space, Key: names.Key(f.Spelling), Deadline: f.Deadline}
	}
	return About{Space: f.Space, Spelling: f.Spelling, Deadline: f.Deadline}
}
