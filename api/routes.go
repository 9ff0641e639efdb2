package api

import (
	"context"
	_ "embed"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/registrations"
)

// route says what must hold before a handler is called.
type route struct {
	public bool       // no key is asked for
	scope  auth.Scope // of the key
	body   func() any // makes what the body is read into; nil for a call without one
	// honours are the preconditions that it looks at. A call with a body refuses any other rather than pass it over.
	honours []string
	// query are the parameters that it knows. Any other is refused: it is one that is mistyped.
	query []string
}

var (
	preconditions = []string{"If-Match", "If-None-Match"}
	ifMatch       = []string{"If-Match"}
)

// routes has every pattern of the ServeMux. One that is missing here is not served.
var routes = map[string]route{
	"POST /v1/claims":              {scope: auth.ScopeClaim, body: func() any { return new(ClaimRequest) }, honours: preconditions},
	"GET /v1/claims/{id}":          {scope: auth.ScopeRead, query: []string{"at", "on_timeout"}},
	"GET /v1/names/{space}/{name}": {scope: auth.ScopeRead},
	"POST /v1/lookups":             {scope: auth.ScopeLookup, body: func() any { return new(LookupRequest) }},
	"POST /v1/signups":             {scope: auth.ScopeClaim, body: func() any { return new(SignupRequest) }},
	"GET /v1/signups/{id}":         {scope: auth.ScopeRead, query: []string{"at"}},

	"POST /v1/claims/{id}/confirm":             {scope: auth.ScopeClaim, body: func() any { return new(ConfirmRequest) }},
	"POST /v1/claims/{id}/extend":              {scope: auth.ScopeClaim, body: func() any { return new(ExtendRequest) }},
	"POST /v1/claims/{id}/withdraw":            {scope: auth.ScopeClaim, body: func() any { return new(WithdrawRequest) }},
	"POST /v1/names/{space}/{name}/release":    {scope: auth.ScopeClaim, body: func() any { return new(HolderRequest) }, honours: ifMatch},
	"POST /v1/names/{space}/{name}/rename":     {scope: auth.ScopeClaim, body: func() any { return new(RenameRequest) }, honours: ifMatch},
	"POST /v1/names/{space}/{name}/transfer":   {scope: auth.ScopeClaim, body: func() any { return new(TransferRequest) }, honours: ifMatch},
	"POST /v1/names/{space}/{name}/deactivate": {scope: auth.ScopeClaim, body: func() any { return new(HolderRequest) }, honours: ifMatch},
	"POST /v1/names/{space}/{name}/reactivate": {scope: auth.ScopeClaim, body: func() any { return new(HolderRequest) }, honours: ifMatch},

	"GET /v1/names/{space}/{name}/history": {scope: auth.ScopeRead, query: []string{"from", "limit"}},
	"GET /v1/owners/{owner}/names":         {scope: auth.ScopeRead, query: []string{"after", "limit", "space"}},

	"POST /v1/admin/names/{space}/{name}/release":  {scope: auth.ScopeAdmin, body: func() any { return new(AdminReleaseRequest) }, honours: ifMatch},
	"POST /v1/admin/names/{space}/{name}/transfer": {scope: auth.ScopeAdmin, body: func() any { return new(AdminTransferRequest) }, honours: ifMatch},
	"POST /v1/admin/names/{space}/{name}/block":    {scope: auth.ScopeAdmin, body: func() any { return new(AdminRequest) }},
	"POST /v1/admin/names/{space}/{name}/unblock":  {scope: auth.ScopeAdmin, body: func() any { return new(AdminRequest) }},
	"POST /v1/admin/owners/{owner}/erase":          {scope: auth.ScopeAdmin, body: func() any { return new(AdminRequest) }},
	"GET /v1/admin/erasures/{id}":                  {scope: auth.ScopeAdmin},
	"GET /v1/registrations":                        {scope: auth.ScopeRead, query: []string{"last_event_id", "space"}},

	"GET /problems/{reason}": {public: true},
	"GET /openapi.yaml":      {public: true},
}

//go:embed openapi.yaml
var document []byte

// getDocument serves the document that this package was generated from.
func (s *Server) getDocument(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	w.Header().Set("Cache-Control", "public, max-age=3600")
	if _, err := w.Write(document); err != nil {
		s.log.DebugContext(r.Context(), "document not sent", "err", err)
	}
}

// newMux binds the handlers to their patterns.
func (s *Server) newMux(h *handlers) *http.ServeMux {
	mux := http.NewServeMux()
	strict := NewStrictHandlerWithOptions(h, nil, StrictHTTPServerOptions{
		RequestErrorHandlerFunc: func(w http.ResponseWriter, r *http.Request, _ error) {
			s.writeProblem(w, r, badRequest(wholeBody, "cannot be read"))
		},
		ResponseErrorHandlerFunc: s.writeProblem,
	})
	HandlerWithOptions(strict, StdHTTPServerOptions{BaseRouter: mux, ErrorHandlerFunc: s.writeProblem})
	mux.HandleFunc("GET /v1/registrations", s.streamRegistrations)
	mux.HandleFunc("GET /problems/{reason}", s.getProblem)
	mux.HandleFunc("GET /openapi.yaml", s.getDocument)
	return mux
}

// ServeHTTP answers one request: it is counted and logged, and whatever goes wrong becomes a problem.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	rec := &recorder{ResponseWriter: w}
	handler, pattern := http.Handler(nil), createPattern
	if !isCreate(r) {
		handler, pattern = s.mux.Handler(r)
	}
	var principal *auth.Principal
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(r.Context(), "handler panicked", "panic", p, "stack", string(debug.Stack()))
			if rec.status != 0 {
				panic(http.ErrAbortHandler) // half an answer is out: cut it
			}
			s.writeProblem(rec, r, &Refused{Reason: InternalFault})
		}
		s.done(r, rec, pattern, principal, time.Since(start))
		s.auditRefused(r, rec.refused, pattern, principal)
	}()
	h := rec.Header()
	h["X-Content-Type-Options"], h["Cache-Control"] = noSniff, notKept
	principal, body, err := s.admit(rec, r, handler, pattern)
	if err != nil {
		s.writeProblem(rec, r, err)
		return
	}
	if claim, ok := body.(*ClaimRequest); ok {
		s.createClaim(rec, r, principal, claim)
		return
	}
	s.mux.ServeHTTP(rec, r.WithContext(context.WithValue(r.Context(), principalKey{}, principal)))
}

// admit checks everything that is the same for all calls, cheapest first, and the body last.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, found http.Handler, pattern string) (principal *auth.Principal, body any, err error) {
	if pattern == "" {
		return nil, nil, noRoute(w, r, found)
	}
	route, ok := routes[pattern]
	if escaped := r.URL.EscapedPath(); !ok || found != nil && escaped != path.Clean(escaped) { // no redirects: an address has one spelling
		return nil, nil, &Refused{Reason: NoSuchPage}
	}
	if route.public {
		return nil, nil, nil
	}
	if err := route.knows(r.URL.RawQuery); err != nil {
		return nil, nil, err
	}
	principal, err = s.keys.Authenticate(r.Header.Get("Authorization"))
	if err != nil {
		return nil, nil, &Refused{Reason: NoKey, Err: err}
	}
	if wait := s.limits.take(principal.Name); wait > 0 {
		return principal, nil, &Refused{Reason: OverRate, RetryAfter: wait}
	}
	if !principal.Has(route.scope) {
		return principal, nil, &Refused{Reason: NotAllowed, Detail: "the key has not the scope " + string(route.scope)}
	}
	if route.scope == auth.ScopeLookup {
		if wait := s.lookups.take(principal.Name); wait > 0 {
			return principal, nil, &Refused{Reason: OverRate, RetryAfter: wait}
		}
	}
	if values := r.Header.Values("Prefer"); len(values) > 1 { // a list may come in several lines
		r.Header.Set("Prefer", strings.Join(values, ", "))
	}
	for _, header := range preconditions { // of a read they are what caches say, and change nothing
		if route.body != nil && r.Header.Values(header) != nil && !slices.Contains(route.honours, header) {
			return principal, nil, badRequest(header, "is not possible here: nothing would look at it")
		}
	}
	if pattern == createPattern && s.full() { // what is refused in a rush is refused before it costs anything
		return principal, nil, &Refused{Reason: TooBusy, RetryAfter: time.Second, Err: registrations.ErrFull}
	}
	if route.body != nil {
		body = route.body()
		err = readBody(w, r, body)
	}
	return principal, body, err
}

// knows checks that all parameters can be read, and are those of the route: the generated code leaves out all others.
func (route *route) knows(query string) error {
	if query == "" {
		return nil
	}
	for parameter := range strings.SplitSeq(query, "&") {
		values, err := url.ParseQuery(parameter)
		if err != nil {
			field, _, _ := strings.Cut(parameter, "=")
			return badRequest(shownField(field), "cannot be read")
		}
		for name := range values { // one, or none
			if !slices.Contains(route.query, name) {
				return badRequest(shownField(name), "is not a known parameter here")
			}
		}
	}
	return nil
}

// noRoute says why there is nothing to call: the handler that the ServeMux has for that knows whether another method
// would do.
func noRoute(w http.ResponseWriter, r *http.Request, found http.Handler) error {
	refusal := &silent{header: make(http.Header)}
	found.ServeHTTP(refusal, r)
	if refusal.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", refusal.header.Get("Allow"))
		return &Refused{Reason: MethodNotAllowed, Detail: "possible here: " + refusal.header.Get("Allow")}
	}
	return &Refused{Reason: NoSuchPage}
}

// done counts and logs a request. The route is the pattern: a path may have a name in it.
func (s *Server) done(r *http.Request, rec *recorder, pattern string, principal *auth.Principal, took time.Duration) {
	method, route, ok := strings.Cut(pattern, " ")
	if !ok {
		method, route = "other", "other"
	}
	if r.Method == http.MethodHead && method == http.MethodGet {
		method = http.MethodHead
	}
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	s.metrics.duration.WithLabelValues(route, method, strconv.Itoa(rec.status)).Observe(took.Seconds())
	name := ""
	if principal != nil {
		name = principal.Name
	}
	if !s.log.Enabled(r.Context(), slog.LevelDebug) {
		return // what it would say is not cheap to put together
	}
	s.log.DebugContext(r.Context(), "request", "method", method, "route", route, "code", rec.status, "took", took,
		"principal", name, "remote", r.RemoteAddr)
}

type principalKey struct{}

// principalOf returns who calls. A call that is not public always has one.
func principalOf(ctx context.Context) *auth.Principal {
	p, _ := ctx.Value(principalKey{}).(*auth.Principal)
	if p == nil {
		p = new(auth.Principal) // may do nothing
	}
	return p
}

// recorder remembers the status of an answer, and what was refused with it.
type recorder struct {
	http.ResponseWriter
	status  int
	refused *Refused
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// silent takes an answer that nobody shall see.
type silent struct {
	header http.Header
	status int
}

func (w *silent) Header() http.Header         { return w.header }
func (w *silent) Write(b []byte) (int, error) { return len(b), nil }
func (w *silent) WriteHeader(status int)      { w.status = status }
