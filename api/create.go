package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/dibs-hq/dibs/auth"
)

// POST /v1/claims is what a server does all day. What is generated for it reads the body once more, and asks reflection
// how to read and how to write: this file does the same without. Whatever is not plain here goes the usual way.

// createPattern is its route.
const createPattern = "POST /v1/claims"

// isCreate reports whether a request is one of that route, in the one spelling that it has.
func isCreate(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Path == "/v1/claims" && r.URL.RawPath == ""
}

// createClaim answers it; everything that is the same for all calls is checked.
func (s *Server) createClaim(w http.ResponseWriter, r *http.Request, principal *auth.Principal, body *ClaimRequest) {
	reply, err := s.tryCreate(r.Context(), r.Header, principal, body)
	if err == nil {
		if reply.done != nil {
			err = reply.done.write(w, http.StatusCreated)
		} else {
			err = reply.write(w)
		}
	}
	if err != nil {
		s.writeProblem(w, r, err)
	}
}

func (s *Server) tryCreate(ctx context.Context, h http.Header, principal *auth.Principal, body *ClaimRequest) (*reply, error) {
	params, err := createParams(h)
	if err != nil {
		return nil, err
	}
	request, err := requestOf(body, &params)
	if err != nil {
		return nil, err
	}
	return s.handlers.claim(ctx, principal, request, params.Prefer)
}

// createParams reads the headers that have a meaning.
func createParams(h http.Header) (p CreateClaimParams, err error) {
	for _, header := range [...]struct {
		name, key string
		value     **string
	}{
		{"Idempotency-Key", "Idempotency-Key", &p.IdempotencyKey}, {"Prefer", "Prefer", &p.Prefer},
		{"If-Match", "If-Match", &p.IfMatch}, {"If-None-Match", "If-None-Match", &p.IfNoneMatch},
		{"traceparent", "Traceparent", &p.Traceparent}, {"tracestate", "Tracestate", &p.Tracestate},
	} {
		switch values := h[header.key]; len(values) {
		case 0:
		case 1:
			*header.value = &values[0]
		default:
			return p, &TooManyValuesForParamError{ParamName: header.name, Count: len(values)}
		}
	}
	return p, nil
}

// The values of headers that many answers have; nobody changes them.
var (
	isJSON  = []string{"application/json"}
	noSniff = []string{"nosniff"}
	notKept = []string{"no-store"}
)

// buffers are for answers that are being written.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// write writes the answer, as what is generated for it does.
func (r *DoneJSONResponse) write(w http.ResponseWriter, status int) error {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	var err error
	if *buffer, err = appendClaim((*buffer)[:0], &r.Body); err != nil {
		return err
	}
	h, values := w.Header(), [...]string{r.Headers.ETag, r.Headers.Location}
	h["Content-Type"] = isJSON
	h["Etag"], h["Location"] = values[0:1:1], values[1:2:2]
	if replayed := r.Headers.IdempotentReplayed; replayed != nil {
		h["Idempotent-Replayed"] = []string{strconv.FormatBool(*replayed)}
	}
	if r.Headers.PreferenceApplied != nil {
		h["Preference-Applied"] = []string{*r.Headers.PreferenceApplied}
	}
	w.WriteHeader(status)
	_, err = w.Write(*buffer)
	return err
}

// appendClaim writes a claim as encoding/json does.
func appendClaim(b []byte, c *Claim) ([]byte, error) {
	var err error
	b = appendText(append(b, `{"claim_id":`...), c.ClaimID)
	b = appendNumber(b, `,"current_version":`, c.CurrentVersion)
	if b, err = appendMoment(b, `,"decided_at":"`, c.DecidedAt); err != nil {
		return nil, err
	}
	b = appendOptional(b, `,"detail":`, c.Detail)
	if b, err = appendMoment(b, `,"expires_at":"`, c.ExpiresAt); err != nil {
		return nil, err
	}
	if c.FollowUp != nil {
		followUp, err := json.Marshal(c.FollowUp)
		if err != nil {
			return nil, err
		}
		b = append(append(b, `,"follow_up":`...), followUp...)
	}
	b = appendOptional(b, `,"key":`, c.Key)
	b = appendNumber(b, `,"log_epoch":`, &c.LogEpoch)
	b = appendOptional(b, `,"name":`, c.Name)
	b = appendNumber(b, `,"offset":`, &c.Offset)
	b = appendOptional(b, `,"owner":`, c.Owner)
	b = strconv.AppendInt(append(b, `,"partition":`...), int64(c.Partition), 10)
	b = appendOptional(b, `,"reason":`, c.Reason)
	b = appendText(append(b, `,"request_id":`...), c.RequestID)
	b = appendOptional(b, `,"space":`, c.Space)
	b = appendText(append(b, `,"state":`...), c.State)
	b = appendOptional(b, `,"type":`, c.Type)
	b = appendNumber(b, `,"version":`, c.Version)
	return append(b, "}\n"...), nil
}

func appendOptional[T ~string](b []byte, label string, s *T) []byte {
	if s == nil {
		return b
	}
	return appendText(append(b, label...), *s)
}

func appendNumber(b []byte, label string, n *int64) []byte {
	if n == nil {
		return b
	}
	return strconv.AppendInt(append(b, label...), *n, 10)
}

func appendMoment(b []byte, label string, t *time.Time) ([]byte, error) {
	if t == nil {
		return b, nil
	}
	b, err := t.AppendText(append(b, label...))
	return append(b, '"'), err
}

// appendText appends a JSON string. What is not plain is spelt by who knows how.
func appendText[T ~string](b []byte, s T) []byte {
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\', '<', '>', '&':
		default:
			if c >= ' ' && c <= '~' {
				continue
			}
		}
		quoted, _ := json.Marshal(string(s)) // a string has no error
		return append(b, quoted...)
	}
	return append(append(append(b, '"'), s...), '"')
}
