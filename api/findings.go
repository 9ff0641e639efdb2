package api

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
)

// findings collects what is wrong with a request.
type findings struct {
	reason Reason
	errors []FieldError
	// lasting: under no policy could it have been right.
	lasting bool
}

func newFindings() *findings { return &findings{reason: InvalidRequest} }

func (f *findings) add(field, detail string) {
	f.errors = append(f.errors, FieldError{Field: field, Detail: detail})
}

// refused is the refusal, nil where nothing was found.
func (f *findings) refused() error {
	if len(f.errors) == 0 {
		return nil
	}
	return &Refused{Reason: f.reason, Errors: f.errors}
}

// name finds the name that is meant, and its policy. If nothing else is wrong, it is the reason. It comes first. One that
// another policy may allow is found as well as said to be wrong.
func (f *findings) name(policies names.Policies, space names.Space, spelling string) (names.Ref, *names.Policy) {
	ref := names.Ref{Space: space}
	policy := policies[space]
	if policy == nil {
		f.reason, f.lasting = UnknownSpace, true
		f.add("space", "there is no such space")
		return ref, nil
	}
	var err error
	if ref.Key, err = policy.Key(spelling); err != nil {
		f.reason = InvalidName
		f.add("name", err.Error())
		if ref.Key, err = policy.HeldKey(spelling); err != nil {
			f.lasting = true
		}
	}
	return ref, policy
}

// field adds what is wrong with a field whatever the name and the policy are.
func (f *findings) field(field, detail string) {
	f.lasting = true
	f.byPolicy(field, detail)
}

// byPolicy adds what is wrong with a field whatever the name is, and may be right under another policy.
func (f *findings) byPolicy(field, detail string) {
	f.reason = InvalidRequest
	f.add(field, detail)
}

// invalid adds what the request says of itself.
func (f *findings) invalid(err error) {
	var invalid *claims.InvalidError
	if errors.As(err, &invalid) {
		f.field(invalid.Field, invalid.Detail)
	}
}

func (f *findings) owner(field, owner string) {
	var invalid *claims.InvalidError
	if errors.As(claims.ValidOwner(owner), &invalid) {
		f.field(field, invalid.Detail)
	}
}

// by checks who asks: an actor or an owner.
func (f *findings) by(admin bool, owner, actor, reason string) {
	if admin {
		f.actor(actor, reason)
		return
	}
	f.owner("owner", owner)
}

// actor checks who asks for what only an actor may, and why.
func (f *findings) actor(actor, reason string) {
	for _, body := range []claims.Body{&claims.BlockRequested{Actor: actor, Reason: "-"}, &claims.BlockRequested{Actor: "-", Reason: reason}} {
		f.invalid(body.Validate())
	}
}

func (f *findings) version(v *int64) {
	if v != nil && *v < 0 {
		f.field("expected_version", "must be 0 or more")
	}
}

// ttl checks how long something is to hold; without a policy, that it is a time at all.
func (f *findings) ttl(p *names.Policy, seconds int64, shortest time.Duration) {
	least := max(1, int64((shortest+time.Second-1)/time.Second))
	switch {
	case seconds < 1:
		f.field("ttl_seconds", fmt.Sprintf("must be at least %d", least))
	case seconds < least:
		f.byPolicy("ttl_seconds", fmt.Sprintf("must be at least %d", least))
	case p != nil && seconds > int64(p.LongestTTL/time.Second):
		f.byPolicy("ttl_seconds", fmt.Sprintf("must be at most %d in this space", int64(p.LongestTTL/time.Second)))
	}
}

// text reports whether s can be in a record.
func text(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }
