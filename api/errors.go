package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// rejectedError is an outcome that is answered as a problem.
type rejectedError struct {
	Result
	applied string // what was made of Prefer
}

func (e *rejectedError) Error() string { return "rejected: " + string(e.Outcome.Reason) }

// badRequest is the refusal of something that cannot be read.
func badRequest(field, detail string) *Refused {
	return &Refused{Reason: BadRequest400, Errors: []FieldError{{Field: field, Detail: detail}}}
}

// problemOf is the one place that makes a problem of an error: its body, and the headers that go with it. What it does
// not know is a fault of ours.
func problemOf(err error) (Problem, http.Header) {
	h := make(http.Header)
	var rejected *rejectedError
	if errors.As(err, &rejected) {
		return rejectionOf(rejected, h), h
	}
	refused := asRefused(err)
	k := kinds[refused.Reason]
	p := Problem{
		Type: "/problems/" + string(refused.Reason), Title: k.title, Status: int32(k.refused), Reason: string(refused.Reason),
		Detail: &k.advice, Errors: refused.Errors, CurrentVersion: refused.CurrentVersion,
	}
	if refused.Status != 0 {
		p.Status = int32(refused.Status)
	}
	if refused.Detail != "" {
		p.Detail = &refused.Detail
	}
	if refused.ClaimID != uuid.Nil {
		p.ClaimID, p.RequestID = new(refused.ClaimID.String()), new(refused.ClaimID.String())
		p.Instance = new(claimPath(refused.ClaimID, nil))
		if refused.Signup {
			p.Instance = new(signupPath(refused.ClaimID, nil))
		}
	}
	if refused.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(retryAfter(refused.RetryAfter)))
	}
	if refused.Reason == NoKey {
		h.Set("WWW-Authenticate", `Bearer realm="dibs"`)
	}
	return p, h
}

// rejectionOf makes a problem of an outcome. It says nothing about who holds the name.
func rejectionOf(r *rejectedError, h http.Header) Problem {
	o := r.Outcome
	if r.Withdrawal != nil {
		o = &registrations.Outcome{Reason: registrations.ClaimWithdrawn, Detail: "the claim was accepted, and withdrawn since; use a new id or Idempotency-Key"}
	}
	k := kinds[Reason(o.Reason)]
	p := Problem{
		Type: "/problems/" + string(o.Reason), Title: k.title, Status: int32(k.rejected), Reason: string(o.Reason),
		ClaimID: new(r.about().String()), RequestID: new(r.RequestID.String()), Instance: new(r.path()),
	}
	if k.rejected == 0 { // a reason of a later version of the processor
		p.Status, p.Title = http.StatusConflict, "The claim was rejected"
	}
	if detail := o.FullDetail(); detail != "" {
		p.Detail = &detail
	}
	if o.Reason == registrations.VersionConflict {
		p.CurrentVersion = &o.CurrentVersion
	}
	if r.Replayed {
		h.Set("Idempotent-Replayed", "true")
	}
	if r.applied != "" {
		h.Set("Preference-Applied", r.applied)
	}
	return p
}

// asRefused finds the refusal in an error. The generated code has errors of its own for parameters that it cannot read.
func asRefused(err error) *Refused {
	var refused *Refused
	if errors.As(err, &refused) {
		return refused
	}
	field := ""
	var (
		format   *InvalidParamFormatError
		many     *TooManyValuesForParamError
		missing  *RequiredParamError
		header   *RequiredHeaderError
		unescape *UnescapedCookieParamError
		decode   *UnmarshalingParamError
	)
	switch {
	case errors.As(err, &format):
		field = format.ParamName
	case errors.As(err, &many):
		return badRequest(many.ParamName, fmt.Sprintf("is given %d times", many.Count))
	case errors.As(err, &missing):
		field = missing.ParamName
	case errors.As(err, &header):
		field = header.ParamName
	case errors.As(err, &unescape):
		field = unescape.ParamName
	case errors.As(err, &decode):
		field = decode.ParamName
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return unavailable(err) // the caller is gone, or we are stopping
	default:
		return &Refused{Reason: InternalFault, Err: err}
	}
	return badRequest(field, "cannot be read")
}

// retryAfter is in whole seconds, at least one.
func retryAfter(d time.Duration) int { return max(1, int(math.Ceil(d.Seconds()))) }

// writeProblem answers with an error.
func (s *Server) writeProblem(w http.ResponseWriter, r *http.Request, err error) {
	p, headers := problemOf(err)
	if !errors.As(err, new(*rejectedError)) {
		refused := asRefused(err)
		if rec, ok := w.(*recorder); ok {
			rec.refused = refused
		}
		s.metrics.refusals.WithLabelValues(string(refused.Reason)).Inc()
		s.log.Log(r.Context(), severity(r, refused.Reason), "request is refused", "reason", refused.Reason, "err", refused.Err)
	}
	for name, values := range headers {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", "application/problem+json")
	body, err := json.Marshal(p)
	if err != nil { // impossible: there is nothing in a Problem that JSON could not say
		body = []byte(`{"type":"/problems/internal","title":"The server has a fault","status":500,"reason":"internal"}`)
		p.Status = http.StatusInternalServerError
	}
	w.WriteHeader(int(p.Status))
	if _, err := w.Write(append(body, '\n')); err != nil {
		s.log.DebugContext(r.Context(), "problem not sent", "err", err)
	}
}

// severity of a refusal. What is away says so once and elsewhere; a caller that has gone hears nothing anyway.
func severity(r *http.Request, reason Reason) slog.Level {
	switch {
	case r.Context().Err() != nil:
		return slog.LevelDebug
	case reason == InternalFault:
		return slog.LevelError
	case reason == OutcomeUnknown:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}
