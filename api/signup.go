package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// SignUp is a sign-up as a caller asks for it.
type SignUp struct {
	Owner      string
	Names      []SignupWanted
	TTLSeconds *int64
	// IdempotencyKey is what the id is derived from. Without it the sign-up cannot be repeated.
	IdempotencyKey string
	// Trace is passed through as headers of the record.
	Trace []cloudevents.Header
}

// SignupWanted is one of the names of a sign-up, as a caller asks for it.
type SignupWanted struct {
	Space names.Space
	names.Value
}

// operationSignup is what an Idempotency-Key of a sign-up is for.
const operationSignup = "signup"

// SignupResult is what became of a sign-up, as far as it is known: its outcome, and what its names have said.
type SignupResult struct {
	Result
	Ballot    registrations.Ballot
	State     registrations.State // of the sign-up: reserved while it is under way; empty where it is not known
	ExpiresAt time.Time
}

// concealAll makes of the names of a sign-up what is asked for: of a private one the key. What is wrong with one is kept in its
// place, to be told with everything else; the error is a *Refused that is told alone.
func (c *Claimer) concealAll(policies names.Policies, wanted []SignupWanted) ([]claims.SignupName, []*Refused, error) {
	all, unfit := make([]claims.SignupName, len(wanted)), make([]*Refused, len(wanted))
	for i := range wanted {
		n := &wanted[i]
		asked, err := c.concealed(policies, n.Space, n.Value)
		if errors.As(err, &unfit[i]) && unfit[i].Reason == NotConfigured {
			return nil, nil, err
		}
		all[i] = claims.SignupName{Space: n.Space, Spelling: asked}
		if p := policies[n.Space]; p != nil && p.Private != nil {
			all[i].Spelling, all[i].Key = "", names.Key(asked)
		}
	}
	return all, unfit, nil
}

// checkSignUp says what is wrong with a sign-up, all of it at once, and finds its names. The error is a *Refused.
func (c *Claimer) checkSignUp(s *SignUp) (*claims.SignupRequested, []registrations.Candidate, error) {
	policies := c.Policies()
	found := newFindings()
	wanted, unfit, err := c.concealAll(policies, s.Names)
	if err != nil {
		return nil, nil, err
	}
	body := &claims.SignupRequested{Owner: s.Owner, Names: wanted, TTLSeconds: s.TTLSeconds}
	var all []registrations.Candidate
	for i := range wanted {
		n := &wanted[i]
		one := newFindings()
		if no := unfit[i]; no != nil {
			for _, e := range no.Errors {
				found.reason = no.Reason
				found.add(fmt.Sprintf("names[%d].%s", i, e.Field), e.Detail)
			}
			all = append(all, registrations.Candidate{})
			continue
		}
		ref, policy := one.name(policies, n.Space, n.Spelling+string(n.Key))
		switch {
		case len(one.errors) > 0:
		case policy.IsReserved(ref.Key):
			one.reason = ReservedWord
			one.add("name", "is reserved")
		}
		for k := range all {
			if all[k].Ref == ref && len(one.errors) == 0 {
				one.field("name", fmt.Sprintf("is the same as names[%d]", k))
			}
		}
		for _, e := range one.errors {
			found.reason = one.reason
			found.add(fmt.Sprintf("names[%d].%s", i, e.Field), e.Detail)
		}
		all = append(all, registrations.Candidate{Ref: ref, Name: n.Spelling})
	}
	found.invalid(body.Validate())
	return body, all, found.refused()
}

// SignUp publishes a sign-up and waits for its outcome, as Claim does.
func (c *Claimer) SignUp(ctx context.Context, principal string, s SignUp, wait time.Duration) (SignupResult, error) {
	if rules := c.standings.holding().Rules; rules > 0 && rules < claims.RulesSignups {
		return SignupResult{}, &Refused{Reason: NotConfigured, Status: 503, RetryAfter: 30 * time.Second, Detail: fmt.Sprintf(
			"rules %d hold, from before there were sign-ups: bring every processor to this version, raise the version of a space and apply it with dibs spaces apply; nothing was published", rules)}
	}
	body, wanted, err := c.checkSignUp(&s)
	if err != nil {
		return SignupResult{}, err
	}
	id := c.cfg.NewID()
	if s.IdempotencyKey != "" {
		id = derivedID(principal, operationSignup, "", names.Ref{Space: claims.Signup}, s.IdempotencyKey)
	}
	body.About = claims.About{Space: claims.Signup, Spelling: id.String()}
	result, err := c.ask(ctx, &asking{
		principal: principal, body: body, ref: claims.SignupRef(id), id: id, repeatable: s.IdempotencyKey != "", trace: s.Trace,
	}, wait)
	if err != nil {
		return SignupResult{}, aboutSignup(err)
	}
	r := SignupResult{Result: result, Ballot: registrations.Ballot{Names: wanted}}
	if o := result.Outcome; o != nil && o.Type == registrations.Accepted {
		r.State = registrations.Registered
	}
	return r, nil
}

// aboutSignup says of a refusal that the request in the log is a sign-up.
func aboutSignup(err error) error {
	var refused *Refused
	if !errors.As(err, &refused) || refused.ClaimID == uuid.Nil {
		return err
	}
	refused.Signup = true
	if refused.Reason == IdempotencyMismatch {
		refused.Detail = "An earlier sign-up had the same Idempotency-Key, but asked for other names, or was of another owner or ttl_seconds. That one stands. Use a new Idempotency-Key."
	}
	return err
}

// FindSignup reads what became of a sign-up, and waits for its outcome at most that long. at is where the request was
// written, if the caller knows: then one that has not begun is pending, else it is refused as UnknownClaim.
func (c *Claimer) FindSignup(ctx context.Context, id uuid.UUID, at *Position, wait time.Duration) (SignupResult, error) {
	ticket, err := c.expect(id, wait) // first: what is decided behind the look-up's back is delivered
	if err != nil {
		return SignupResult{}, err
	}
	if ticket != nil {
		defer ticket.Release()
	}
	result, known, err := c.readSignup(ctx, id)
	if err != nil || result.Outcome != nil {
		return result, err
	}
	if ticket != nil && (known || at == nil || !c.standings.passed(*at)) {
		await(ctx, ticket, wait)
		if result, known, err = c.readSignup(ctx, id); err != nil || result.Outcome != nil {
			return result, err
		}
	}
	unknown := &Refused{Reason: UnknownClaim, RetryAfter: time.Second,
		Detail: "there is no such sign-up, or it has not begun yet: the Location of the 202 says where it is (?at=…) and can tell"}
	switch {
	case known:
		return result, nil
	case at == nil:
		return SignupResult{}, unknown
	case c.standings.passed(*at), c.standings.replaced(*at):
		if err := c.standings.readAnew(ctx); err != nil {
			return SignupResult{}, unavailable(err)
		}
		if result, known, err = c.readSignup(ctx, id); err != nil || known {
			return result, err
		}
		if c.standings.passed(*at) || c.standings.replaced(*at) {
			unknown.Detail = "all that was written up to that position is decided, and this sign-up was not there: the id or the position is wrong, or the log was replaced"
			return SignupResult{}, unknown
		}
	}
	result.Position = *at
	return result, nil
}

// readSignup reads what there is of a sign-up, and reports whether there is anything.
func (c *Claimer) readSignup(ctx context.Context, id uuid.UUID) (SignupResult, bool, error) {
	r := SignupResult{Result: Result{RequestID: id, Type: claims.TypeSignupRequested, ClaimID: id, Ref: claims.SignupRef(id)}}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := c.decidedSignup(ctx, &r); err != nil {
		return r, false, err
	}
	h, err := c.lookup.Name(ctx, r.Ref)
	if err != nil {
		return r, false, unavailable(err)
	}
	if r.Outcome == nil && h.Ballot != "" && h.State != registrations.Reserved { // it was decided between the two looks
		if err := c.decidedSignup(ctx, &r); err != nil {
			return r, false, err
		}
	}
	if h.Ballot != "" {
		if r.Ballot, err = registrations.ReadBallot(h.Ballot); err != nil {
			return r, false, unavailable(err)
		}
		r.State, r.ExpiresAt = h.State, h.ExpiresAt
		if r.Outcome == nil {
			r.Owner = h.Owner
		}
	}
	return r, r.Outcome != nil || h.Ballot != "", nil
}

// decidedSignup reads the outcome of a sign-up, if it has one.
func (c *Claimer) decidedSignup(ctx context.Context, r *SignupResult) error {
	outcomes, err := c.lookup.Decided(ctx, []uuid.UUID{r.RequestID})
	if err != nil {
		return unavailable(err)
	}
	for i := range outcomes {
		o := &outcomes[i]
		its := o.Ref == r.Ref || o.Erased && o.Ref.Space == claims.Signup
		if its && typeOf(o) == claims.TypeSignupRequested {
			r.Result = resultOf(o)
		}
	}
	return nil
}

// CreateSignup is POST /v1/signups.
func (h *handlers) CreateSignup(ctx context.Context, r CreateSignupRequestObject) (CreateSignupResponseObject, error) {
	prefer, err := parsePrefer(r.Params.Prefer, h.waitDefault, h.waitMax)
	if err != nil {
		return nil, err
	}
	s := SignUp{Owner: r.Body.Owner, TTLSeconds: r.Body.TTLSeconds, Trace: traceHeaders(r.Params.Traceparent, r.Params.Tracestate)}
	if s.IdempotencyKey, err = idempotencyKey(r.Params.IdempotencyKey); err != nil {
		return nil, err
	}
	principal := principalOf(ctx)
	if wait := h.limits.takeMore(principal.Name, len(r.Body.Names)-1); wait > 0 { // it costs what a claim of each name does
		return nil, &Refused{Reason: OverRate, RetryAfter: wait}
	}
	for _, n := range r.Body.Names {
		space := names.Username
		if n.Space != nil {
			space = names.Space(*n.Space)
		}
		if err := allowed(principal, string(space), s.Owner); err != nil {
			return nil, err
		}
		s.Names = append(s.Names, SignupWanted{Space: space, Value: valueOf(n.Name, n.Fields)})
	}
	result, err := h.claimer.SignUp(ctx, principal.Name, s, prefer.wait)
	switch {
	case err != nil:
		return nil, err
	case result.Outcome == nil:
		return CreateSignup202JSONResponse{Body: signupOf(&result), Headers: CreateSignup202ResponseHeaders{
			Location: signupPath(result.RequestID, &result.Position), RetryAfter: retryAfter(pollAfter), PreferenceApplied: optional(prefer.applied),
		}}, nil
	case result.Outcome.Type == registrations.Rejected:
		return nil, &rejectedError{Result: result.Result, applied: prefer.applied}
	}
	return CreateSignup201JSONResponse{Body: signupOf(&result), Headers: CreateSignup201ResponseHeaders{
		Location: signupPath(result.RequestID, nil), IdempotentReplayed: optional(result.Replayed), PreferenceApplied: optional(prefer.applied),
	}}, nil
}

// GetSignup is GET /v1/signups/{id}.
func (h *handlers) GetSignup(ctx context.Context, r GetSignupRequestObject) (GetSignupResponseObject, error) {
	id, err := idInPath(r.ID)
	if err != nil {
		return nil, err
	}
	at, err := h.position(r.Params.At)
	if err != nil {
		return nil, err
	}
	prefer, err := parsePrefer(r.Params.Prefer, 0, h.waitMax)
	if err != nil {
		return nil, err
	}
	result, err := h.claimer.FindSignup(ctx, id, at, prefer.wait)
	if err != nil {
		return nil, err
	}
	principal := principalOf(ctx)
	if result.Owner != "" && !principal.ForOwner(result.Owner) {
		return nil, notAllowed("owner", "the key is limited to other owners")
	}
	for _, c := range result.Ballot.Names {
		if !principal.InSpace(string(c.Ref.Space)) {
			return nil, notAllowed("space", "the key is limited to other spaces")
		}
	}
	signup := signupOf(&result)
	headers := GetSignup200ResponseHeaders{PreferenceApplied: optional(prefer.applied)}
	if signup.State == SignupStatePending {
		headers.RetryAfter = new(retryAfter(pollAfter))
	}
	return GetSignup200JSONResponse{Body: signup, Headers: headers}, nil
}

// signupOf is how a sign-up reads.
func signupOf(r *SignupResult) Signup {
	s := Signup{
		SignupID: r.RequestID.String(), State: SignupStatePending, Owner: optional(r.Owner), Names: []SignupName{},
		Partition: r.Position.Partition, LogEpoch: r.Position.LogEpoch, Offset: r.Position.Offset,
	}
	o := r.Outcome
	switch {
	case o != nil && o.Type == registrations.Rejected:
		s.State, s.Reason, s.Detail = SignupStateRejected, new(RejectionReason(o.Reason)), optional(o.FullDetail())
	case o != nil || r.State == registrations.Registered:
		s.State = SignupStateAccepted
	case r.State == registrations.Free:
		s.State = SignupStateRejected
	case r.State == registrations.Reserved:
		s.ExpiresAt = new(r.ExpiresAt.UTC())
	}
	if o != nil {
		s.DecidedAt = new(o.LogTime.UTC())
		s.Partition, s.LogEpoch, s.Offset = o.Partition, o.LogEpoch, o.Offset
	}
	for _, c := range r.Ballot.Names {
		n := SignupName{
			Space: string(c.Ref.Space), Name: optional(c.Name), Key: string(c.Ref.Key), ClaimID: claims.SignupClaimID(r.RequestID, c.Ref).String(),
			State: SignupNameStatePending,
		}
		switch {
		case s.State == SignupStateAccepted:
			n.State = SignupNameStateRegistered
		case c.Vote != "" && c.Vote != registrations.VoteYes:
			n.State, n.Reason = SignupNameStateRejected, new(RejectionReason(c.Vote))
		case s.State == SignupStateRejected:
			n.State = SignupNameStateReleased
		case c.Vote == registrations.VoteYes:
			n.State = SignupNameStateReserved
		}
		s.Names = append(s.Names, n)
	}
	return s
}

// signupPath is where a sign-up can be read; at makes it readable before it has begun.
func signupPath(id uuid.UUID, at *Position) string {
	path := "/v1/signups/" + id.String()
	if at != nil {
		path += "?at=" + at.String()
	}
	return path
}

// signupShort is what the outcome of a sign-up says was asked.
var signupShort = claims.ShortType(claims.TypeSignupRequested)

// path is where a request can be read.
func (r *Result) path() string {
	if r.Type == claims.TypeSignupRequested {
		return signupPath(r.RequestID, nil)
	}
	return claimPath(r.RequestID, nil)
}
