package api

import (
	"context"
	"net/http"

	"github.com/dibs-hq/dibs/auth"
)

// Generated answers a claim as what is generated would without create.go and plain.go.
func (s *Server) Generated(w http.ResponseWriter, r *http.Request, principal *auth.Principal) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	s.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), principalKey{}, principal)))
}

// CheckLong checks a body the long way.
func CheckLong(data []byte) error { return checkJSON(data, new(ClaimRequest)) }
