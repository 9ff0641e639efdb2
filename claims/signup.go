package claims

import (
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// The ce_types of the requests of a sign-up.
const (
	TypeSignupRequested = "dibs.SignupRequested.v1"
	TypeSignupVoted     = "dibs.SignupVoted.v1"
)

// Signup is the space of sign-ups: their keys are their ids, and no policy makes it one of names.
const Signup names.Space = "signup"

// Limits on what a sign-up asks for.
const (
	MaxSignupNames = 8
	MaxSignupTTL   = time.Hour
	SignupTTL      = time.Minute // where nothing is said
)

// SignupRef is where a sign-up is decided.
func SignupRef(id uuid.UUID) names.Ref { return names.Ref{Space: Signup, Key: names.Key(id.String())} }

// SignupID is the sign-up that a ref stands for; zero for one that is none.
func SignupID(ref names.Ref) uuid.UUID {
	id, err := uuid.Parse(string(ref.Key))
	if err != nil || ref != SignupRef(id) {
		return uuid.Nil
	}
	return id
}

// SignupName is one of the names that a sign-up asks for.
type SignupName struct {
	Space    names.Space
	Spelling string
	Key      names.Key // in place of a name, where a space's names are given by their keys
}

// SignupRequested asks for several names, all or none. Its name is its own request id.
type SignupRequested struct {
	About
	Owner string
	Names []SignupName
	// TTLSeconds is how long the names may take to answer. Defaults to SignupTTL.
	TTLSeconds *int64
}

// SignupVoted tells a sign-up what became of one of its claims: the name is reserved for it; or, with a reason, it is not.
// It comes from the partition of the name and is privileged.
type SignupVoted struct {
	About
	ClaimID uuid.UUID
	Owner   string
	Of      names.Ref // the name
	// Reason and Detail are those of the rejection; empty where the name is reserved.
	Reason, Detail string
}

// Type implements Body.
func (*SignupRequested) Type() string { return TypeSignupRequested }

// Type implements Body.
func (*SignupVoted) Type() string { return TypeSignupVoted }

// Privileged implements Body.
func (*SignupVoted) Privileged() bool { return true }

// TTL is how long the names may take to answer.
func (r *SignupRequested) TTL() time.Duration {
	if r.TTLSeconds == nil {
		return SignupTTL
	}
	return time.Duration(*r.TTLSeconds) * time.Second
}

// Validate implements Body.
func (r *SignupRequested) Validate() error {
	if err := ValidOwner(r.Owner); err != nil {
		return err
	}
	if n := len(r.Names); n < 1 || n > MaxSignupNames {
		return &InvalidError{"names", fmt.Sprintf("must be 1 to %d", MaxSignupNames)}
	}
	if most := int64(MaxSignupTTL / time.Second); r.TTLSeconds != nil && (*r.TTLSeconds < 1 || *r.TTLSeconds > most) {
		return &InvalidError{"ttl_seconds", fmt.Sprintf("must be 1 to %d", most)}
	}
	return nil
}

// Validate implements Body.
func (r *SignupVoted) Validate() error { return ValidOwner(r.Owner) }

func (r *SignupRequested) fields() fields {
	f := r.About.fields()
	f.Owner, f.Names, f.TTLSeconds = r.Owner, r.Names, r.TTLSeconds
	return f
}

func (r *SignupVoted) fields() fields {
	f := r.About.fields()
	f.ClaimID, f.Owner, f.Of, f.Reason, f.Detail = r.ClaimID, r.Owner, r.Of, r.Reason, r.Detail
	return f
}

// appendNames appends the names of a sign-up as JSON, its members in the order of the alphabet.
func appendNames(b []byte, all []SignupName) []byte {
	b = append(b, '[')
	for i := range all {
		if i > 0 {
			b = append(b, ',')
		}
		n := &all[i]
		if n.Key != "" {
			b = appendString(append(b, `{"key":`...), string(n.Key))
		} else {
			b = appendString(append(b, `{"name":`...), n.Spelling)
		}
		b = append(appendString(append(b, `,"space":`...), string(n.Space)), '}')
	}
	return append(b, ']')
}

// appendRef appends a labelled name by its key, or nothing for none.
func appendRef(b []byte, label string, ref names.Ref) []byte {
	if ref.Key == "" {
		return b
	}
	b = appendString(append(append(b, label...), `{"key":`...), string(ref.Key))
	return append(appendString(append(b, `,"space":`...), string(ref.Space)), '}')
}

// signupNames reads the names of a sign-up.
func (d *decoder) signupNames(field string) ([]SignupName, error) {
	if d.json.PeekKind() != '[' {
		return nil, d.wrong(field, "is not a list of objects")
	}
	if _, err := d.json.ReadToken(); err != nil {
		return nil, notJSON
	}
	all := []SignupName{}
	for d.json.PeekKind() != ']' {
		var n SignupName
		err := d.object(field, func(name string) (err error) {
			switch name {
			case "space":
				n.Space, err = readString[names.Space](d, "names.space")
			case "name":
				n.Spelling, err = readString[string](d, "names.name")
			case "key":
				n.Key, err = readString[names.Key](d, "names.key")
			default:
				err = d.skip()
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if n.Space == "" || (n.Spelling == "") == (n.Key == "") {
			return nil, &MalformedError{field, "needs space and name of each"}
		}
		all = append(all, n)
	}
	if _, err := d.json.ReadToken(); err != nil {
		return nil, notJSON
	}
	return all, nil
}

// ref reads a name that is given by its key.
func (d *decoder) ref(field string) (ref names.Ref, err error) {
	err = d.object(field, func(name string) (err error) {
		switch name {
		case "space":
			ref.Space, err = readString[names.Space](d, field)
		case "key":
			ref.Key, err = readString[names.Key](d, field)
		default:
			err = d.skip()
		}
		return err
	})
	if err == nil && (ref.Space == "" || ref.Key == "") {
		err = &MalformedError{field, "needs space and key"}
	}
	return ref, err
}
