package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// filled is an address of a pattern.
func filled(pattern string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	return method, strings.NewReplacer("{id}", "8b7e3d7a-13a1-4ab0-9d3c-3b0c5ad4b3f2", "{space}", "username", "{name}", "alice", "{owner}", "u-17").Replace(path)
}

// ofDocument are the parameters of a pattern's operation that are in one place: those of the path, the query, the headers.
func ofDocument(doc *openapi3.T, pattern, in string) (found []string) {
	method, path, _ := strings.Cut(pattern, " ")
	item := doc.Paths.Value(path)
	for _, p := range append(slices.Clone(item.Parameters), item.GetOperation(method).Parameters...) {
		if p.Value.In == in {
			found = append(found, p.Value.Name)
		}
	}
	slices.Sort(found)
	return found
}

// refusalOf asks for something at every route, and returns what was refused.
func refusalOf(t *testing.T, s *Server, r *http.Request) (refused string, admitted bool) {
	t.Helper()
	rec := httptest.NewRecorder()
	handler, pattern := s.mux.Handler(r)
	_, _, err := s.admit(rec, r, handler, pattern)
	if err == nil {
		return "", true
	}
	s.ServeHTTP(rec, r) // it is not admitted: no handler is called
	var p Problem
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	if rec.Code != http.StatusBadRequest || p.Reason != string(BadRequest400) || len(p.Errors) != 1 {
		return rec.Body.String(), false
	}
	return p.Errors[0].Field, false
}

// A precondition is honoured or refused, at every route: nobody shall think that it held.
func TestPreconditions(t *testing.T) {
	s, doc := newTestServer(t), loadDocument(t)
	for pattern, route := range routes {
		if route.public {
			continue
		}
		described := ofDocument(doc, pattern, "header")
		for _, header := range []string{"If-Match", "If-None-Match"} {
			honoured := slices.Contains(described, header) || route.body == nil // a cache asks so
			for _, value := range []string{"*", `"1"`, "garbage", ""} {
				method, path := filled(pattern)
				r := httptest.NewRequest(method, path, nil)
				r.Header[header] = []string{value}
				refused, admitted := refusalOf(t, s, r)
				if (refused == header) == honoured || honoured && !admitted && !strings.Contains(refused, "unsupported_media_type") {
					t.Errorf("%s with %s: %s is refused with %q, and honoured is %v", pattern, header, value, refused, honoured)
				}
			}
		}
	}
}

// A parameter that is not known is refused, at every route: it is one that is mistyped.
func TestUnknownParameters(t *testing.T) {
	s, doc := newTestServer(t), loadDocument(t)
	for pattern, route := range routes {
		if route.public {
			continue
		}
		described := ofDocument(doc, pattern, "query")
		method, path := filled(pattern)
		for _, known := range described {
			for _, r := range []string{path + "?" + known + "=1", path + "?&" + known + "&"} {
				if refused, admitted := refusalOf(t, s, httptest.NewRequest(method, r, nil)); !admitted && !strings.Contains(refused, "unsupported_media_type") {
					t.Errorf("%s: the known %s is refused: %s", pattern, known, refused)
				}
			}
		}
		for _, unknown := range []string{"foo", "lmit", "form", "last-event-id", "LIMIT", "Space", "space ", "at%00", "from[]"} {
			for _, query := range []string{"?x=1", "?x", "?at=1-3-0&x=1"} {
				name := unknown
				if strings.Contains(query, "at=") {
					if !slices.Contains(described, "at") {
						name = "at"
					}
				}
				escaped := strings.NewReplacer(" ", "+", "[", "%5B").Replace(unknown)
				r := httptest.NewRequest(method, path+strings.Replace(query, "x", escaped, 1), nil)
				want := strings.ReplaceAll(name, "%00", "\uFFFD")
				if refused, _ := refusalOf(t, s, r); refused != want {
					t.Errorf("%s %s: refused is %q, want %q", method, r.URL, refused, want)
				}
			}
		}
	}
}
