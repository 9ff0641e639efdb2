package api

import (
	"context"
	"errors"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
)

// In a private space what is asked for is a key, from here on: what callers say in a body is made one before anything else
// is done with it, and what they say in an address must be one. Nothing behind this file knows the value.

// concealed returns what a caller asks for in a body as the rest knows it: the name, or in a private space the key, which a
// caller may give as well. The error is a *Refused.
func (c *Claimer) concealed(policies names.Policies, space names.Space, value names.Value) (string, error) {
	p := policies[space]
	switch {
	case value.Fields != nil && value.Name != "":
		return "", invalidRequest("fields", "does not go with a name")
	case p == nil:
		return "", &Refused{Reason: UnknownSpace, Errors: []FieldError{{Field: "space", Detail: "there is no such space"}}}
	case p.Private == nil && value.Fields != nil:
		return "", invalidRequest("fields", "is possible in a private space only")
	case p.Private == nil, value.Fields == nil && names.IsPrivateKey(value.Name):
		return value.Name, nil
	}
	key, err := c.cfg.Peppers.Key(p, value)
	var invalid *names.InvalidError
	switch {
	case err == nil:
		return string(key), nil
	case errors.As(err, &invalid):
		field := invalid.Field
		if field == "" {
			field = "name"
		}
		return "", &Refused{Reason: InvalidName, Errors: []FieldError{{Field: field, Detail: invalid.Detail}}}
	}
	return "", unpeppered(err)
}

// unpeppered is the refusal of a value that no key can be made of here.
func unpeppered(err error) *Refused {
	detail := "security.peppers_file of this server has not the pepper of this space: nothing was published"
	if errors.Is(err, names.ErrOtherPepper) {
		detail = "security.peppers_file of this server has another pepper than the one of this space: nothing was published"
	}
	return &Refused{Reason: NotConfigured, Status: 503, Detail: detail, RetryAfter: 30 * time.Second, Err: err}
}

// conceal makes keys of what a claim says. What is wrong with the name is kept, to be told with everything else; the error
// is a *Refused that is told alone.
func (c *Claimer) conceal(policies names.Policies, r *Request) error {
	p := policies[r.Space]
	if p == nil || p.Private == nil && r.Fields == nil {
		return nil // the rest says what is wrong
	}
	name, err := c.concealed(policies, r.Space, names.Value{Name: r.Name, Fields: r.Fields})
	var refused *Refused
	if errors.As(err, &refused) && refused.Reason != NotConfigured {
		r.unfit, err = refused, nil
	}
	r.Name, r.Fields = name, nil
	if err != nil || p.Private == nil || r.Replaces == nil || r.Rename {
		return err // a rename has what it replaces from its address
	}
	replaced := *r.Replaces
	r.Replaces = &replaced
	if replaced.Name, err = c.concealed(policies, r.Space, names.Value{Name: replaced.Name}); err == nil {
		return nil
	}
	if errors.As(err, &refused) && refused.Reason == InvalidName {
		return &Refused{Reason: InvalidRequest, Errors: []FieldError{{Field: "replaces.name", Detail: refused.Errors[0].Detail}}}
	}
	return err
}

// about is what a request says of a name, as it was asked: in a private space of its key.
func about(policies names.Policies, space names.Space, asked string) claims.About {
	if p := policies[space]; p != nil && p.Private != nil {
		return claims.About{Space: space, Key: names.Key(asked)}
	}
	return claims.About{Space: space, Spelling: asked}
}

// about is that of a name in an address, until it is of no use any more.
func (c *Claimer) about(space names.Space, asked string) claims.About {
	a := about(c.Policies(), space, asked)
	a.Deadline = c.deadline(decideWithin)
	return a
}

// CreateLookup is POST /v1/lookups.
func (h *handlers) CreateLookup(ctx context.Context, r CreateLookupRequestObject) (CreateLookupResponseObject, error) {
	space := names.Username
	if r.Body.Space != nil {
		space = names.Space(*r.Body.Space)
	}
	if !principalOf(ctx).InSpace(string(space)) {
		return nil, notAllowed("space", "the key is limited to other spaces")
	}
	ref, err := h.claimer.KeyOf(space, valueOf(r.Body.Name, r.Body.Fields))
	if err != nil {
		return nil, err
	}
	return CreateLookup200JSONResponse{
		Space: string(ref.Space), Key: string(ref.Key), RecordKey: ref.RecordKey(), Partition: claims.Partition(ref.RecordKey(), h.claimer.cfg.Partitions),
	}, nil
}

// KeyOf computes the key of what somebody may ask for. The error is a *Refused.
func (c *Claimer) KeyOf(space names.Space, value names.Value) (names.Ref, error) {
	policies := c.Policies()
	name, err := c.concealed(policies, space, value)
	if err != nil {
		return names.Ref{}, err
	}
	found := newFindings()
	ref, _ := found.name(policies, space, name)
	return ref, found.refused()
}

// valueOf reads the wire form of what is asked for.
func valueOf(name *string, fields *Fields) names.Value {
	var v names.Value
	if fields != nil {
		v.Fields = *fields
	}
	if name != nil {
		v.Name = *name
	}
	return v
}
