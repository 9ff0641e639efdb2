package api

import (
	"html"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/getkin/kin-openapi/openapi3"
)

func loadDocument(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// What is described is served, what is served is described, and both ask for the same scope.
func TestRoutesAreThoseOfTheDocument(t *testing.T) {
	doc := loadDocument(t)
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("it is OpenAPI %s", doc.OpenAPI)
	}
	described := make(map[string]bool)
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			pattern := method + " " + path
			described[pattern] = true
			route, ok := routes[pattern]
			if !ok {
				t.Errorf("%s is described and not served", pattern)
				continue
			}
			if (op.RequestBody != nil) != (route.body != nil) {
				t.Errorf("%s: its body is not checked as described", pattern)
			}
			security := doc.Security
			if op.Security != nil {
				security = *op.Security
			}
			want := openapi3.SecurityRequirements{{"key": {string(route.scope)}}}
			if route.public {
				want = openapi3.SecurityRequirements{}
			}
			if len(security) != len(want) || len(want) > 0 && !slices.Equal(security[0]["key"], want[0]["key"]) {
				t.Errorf("%s asks for %v and is described as asking for %v", pattern, want, security)
			}
		}
	}
	for pattern := range routes {
		if !described[pattern] {
			t.Errorf("%s is served and not described", pattern)
		}
	}
}

// Each reason that an answer may have is described, has a page, a status and a text; and the other way round.
func TestReasons(t *testing.T) {
	doc := loadDocument(t)
	var rejections []string
	for _, value := range doc.Components.Schemas["RejectionReason"].Value.Enum {
		rejections = append(rejections, value.(string))
	}
	text := doc.Components.Schemas["Problem"].Value.Properties["reason"].Value.Description
	own := regexp.MustCompile(`[a-z_]+`).FindAllString(text[strings.Index(text, ":"):], -1)
	described := append(slices.Clone(rejections), own...)
	sort.Strings(described)
	var has []string
	for reason, k := range kinds {
		has = append(has, string(reason))
		rejection := slices.Contains(rejections, string(reason))
		if rejection != (k.rejected != 0) || k.rejected == 0 && k.refused == 0 || k.title == "" || k.advice == "" {
			t.Errorf("%s: %+v", reason, k)
		}
	}
	sort.Strings(has)
	if !slices.Equal(described, has) {
		t.Errorf("described are\n%q, there are\n%q", described, has)
	}
	for _, reason := range []registrations.Reason{
		registrations.Malformed, registrations.NotAllowed, registrations.UnknownSpace, registrations.DeadlinePassed,
		registrations.ClaimWithdrawn, registrations.InvalidName, registrations.InvalidRequest, registrations.ReservedWord,
		registrations.NameBlocked, registrations.UnknownClaim, registrations.ReservationExpired, registrations.NotOwner,
		registrations.VersionConflict, registrations.WrongState, registrations.CoolingDown, registrations.Confusable,
		registrations.Taken, registrations.LimitExceeded,
	} {
		if !slices.Contains(rejections, string(reason)) {
			t.Errorf("the log may say %s, which is not described", reason)
		}
	}
	if len(rejections) != 18 {
		t.Errorf("%d reasons of a rejection", len(rejections))
	}
}

func newTestServer(t *testing.T) *Server {
	t.Helper()
	waiter := registrations.NewWaiter(registrations.WaiterConfig{})
	claimer, err := NewClaimer(ClaimerConfig{Partitions: 1, Policies: names.Builtin()}, nil, nil, waiter)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewServer(Config{}, claimer, auth.None{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestProblemPages(t *testing.T) {
	s := newTestServer(t)
	for reason, k := range kinds {
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, httptest.NewRequest("GET", "/problems/"+string(reason), nil))
		page := html.UnescapeString(rec.Body.String())
		if rec.Code != 200 || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/html") ||
			!strings.Contains(page, k.title) || !strings.Contains(page, k.advice) || !strings.Contains(page, string(reason)) {
			t.Errorf("%s: %d\n%s", reason, rec.Code, page)
		}
	}
}

func TestDocumentIsServed(t *testing.T) {
	rec := httptest.NewRecorder()
	newTestServer(t).ServeHTTP(rec, httptest.NewRequest("GET", "/openapi.yaml", nil))
	file, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if rec.Code != 200 || rec.Header().Get("Content-Type") != "application/yaml" || rec.Body.String() != string(file) {
		t.Errorf("%d %s, %d bytes of %d", rec.Code, rec.Header().Get("Content-Type"), rec.Body.Len(), len(file))
	}
}

// The examples of the document are requests that can be made.
func TestExamplesOfTheDocument(t *testing.T) {
	doc := loadDocument(t)
	post := doc.Paths.Value("/v1/claims").Post
	example, err := post.RequestBody.Value.Content["application/json"].Schema.Value.MarshalJSON()
	if err != nil || len(example) == 0 {
		t.Fatal(err)
	}
	for _, p := range post.Parameters {
		value, _ := p.Value.Example.(string)
		switch p.Value.Name {
		case "Idempotency-Key":
			_, err = idempotencyKey(&value)
		case "Prefer":
			_, err = parsePrefer(&value, 0, 30e9)
		case "If-Match":
			_, err = expectedVersion(nil, &value, nil)
		case "If-None-Match":
			_, err = expectedVersion(nil, nil, &value)
		}
		if err != nil {
			t.Errorf("the example %q of %s: %v", value, p.Value.Name, err)
		}
	}
}
