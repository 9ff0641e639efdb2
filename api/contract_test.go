package api_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

type contract struct {
	doc    *openapi3.T
	router routers.Router
}

// theContract reads openapi.yaml. What callers are told to ignore, fields that they do not know, is an error in these
// tests: an answer has nothing that is not described.
var theContract = sync.OnceValue(func() contract {
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		panic(err)
	}
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(text)
	if err != nil {
		panic(err)
	}
	if err := doc.Validate(loader.Context); err != nil {
		panic(err)
	}
	for _, name := range []string{"Claim", "FollowUp", "Name", "History", "HistoryEntry", "OwnerNames", "Problem", "FieldError", "Registration"} {
		no := false
		doc.Components.Schemas[name].Value.AdditionalProperties = openapi3.BoolSchema{Has: &no}
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		panic(err)
	}
	return contract{doc, router}
})

// checkAnswer checks an answer against the contract; and, if the request was answered as asked, the request as well. All
// answers of all tests of this package go through here.
func checkAnswer(r *http.Request, requestBody []byte, status int, header http.Header, body []byte) error {
	c := theContract()
	if r.Method == http.MethodHead { // answered as GET is
		r = r.Clone(r.Context())
		r.Method = http.MethodGet
	}
	route, params, err := c.router.FindRoute(r)
	for _, value := range params {
		if value == "" { // this router takes /v1/claims for /v1/claims/{id}
			err = routers.ErrPathNotFound
		}
	}
	if err != nil {
		return checkProblem(c.doc, status, header, body) // nothing is described there: it can only be a problem
	}
	asked := r.Clone(r.Context())
	asked.Body = io.NopCloser(bytes.NewReader(requestBody))
	input := &openapi3filter.RequestValidationInput{
		Request: asked, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if status < 300 {
		if err := openapi3filter.ValidateRequest(r.Context(), input); err != nil {
			return errors.Join(errors.New("the request was answered but is not as described"), err)
		}
	}
	answer := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: status, Header: header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	if mediaType, _, _ := strings.Cut(header.Get("Content-Type"), ";"); mediaType == "text/html" || mediaType == "application/yaml" || mediaType == "text/event-stream" {
		answer.Options.ExcludeResponseBody = true // they are no JSON
	}
	if err := openapi3filter.ValidateResponse(r.Context(), answer.SetBodyBytes(body)); err != nil {
		return err
	}
	if status >= 400 {
		return checkProblem(c.doc, status, header, body)
	}
	return nil
}

// checkProblem checks what is the same for all problems, whatever the address.
func checkProblem(doc *openapi3.T, status int, header http.Header, body []byte) error {
	if got := header.Get("Content-Type"); got != "application/problem+json" {
		return errors.New("a problem comes as " + got)
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return err
	}
	if err := doc.Components.Schemas["Problem"].Value.VisitJSON(value, openapi3.EnableJSONSchema2020(), openapi3.VisitAsResponse()); err != nil {
		return err
	}
	p := value.(map[string]any)
	if p["status"] != float64(status) || p["type"] != "/problems/"+p["reason"].(string) {
		return errors.New("status or type do not fit: " + string(body))
	}
	return nil
}

// The check can fail.
func TestContractCheckFails(t *testing.T) {
	r, err := http.NewRequest(http.MethodGet, "/v1/names/username/alice", nil)
	if err != nil {
		t.Fatal(err)
	}
	const good = `{"space":"username","name":"Alice","key":"alice","available":true,"state":"free","version":0}`
	const problem = `{"type":"/problems/internal","title":"x","status":500,"reason":"internal"}`
	json, problemJSON := "application/json", "application/problem+json"
	for name, test := range map[string]struct {
		status            int
		mediaType, etag   string
		body              string
		ok                bool
		method, path, ask string
	}{
		"good":              {200, json, `"0"`, good, true, "GET", "/v1/names/username/alice", ""},
		"no ETag":           {200, json, ``, good, false, "GET", "/v1/names/username/alice", ""},
		"bad ETag":          {200, json, `0`, good, false, "GET", "/v1/names/username/alice", ""},
		"missing field":     {200, json, `"0"`, strings.Replace(good, `"key":"alice",`, "", 1), false, "GET", "/v1/names/username/alice", ""},
		"unknown field":     {200, json, `"0"`, strings.Replace(good, `{`, `{"x":1,`, 1), false, "GET", "/v1/names/username/alice", ""},
		"wrong type":        {200, json, `"0"`, strings.Replace(good, `true`, `"yes"`, 1), false, "GET", "/v1/names/username/alice", ""},
		"unknown state":     {200, json, `"0"`, strings.Replace(good, `"free"`, `"lost"`, 1), false, "GET", "/v1/names/username/alice", ""},
		"undeclared status": {418, problemJSON, ``, strings.ReplaceAll(problem, "500", "418"), false, "GET", "/v1/names/username/alice", ""},
		"problem":           {500, problemJSON, ``, problem, true, "GET", "/v1/names/username/alice", ""},
		"other status":      {500, problemJSON, ``, strings.Replace(problem, "500", "503", 1), false, "GET", "/v1/names/username/alice", ""},
		"not a problem":     {500, json, ``, problem, false, "GET", "/v1/names/username/alice", ""},
		"elsewhere":         {404, problemJSON, ``, strings.ReplaceAll(strings.ReplaceAll(problem, "500", "404"), "internal", "not_found"), true, "GET", "/elsewhere", ""},
		"elsewhere, text":   {404, "text/plain", ``, "404 page not found", false, "GET", "/elsewhere", ""},
		"bad request taken": {202, json, ``, `{}`, false, "POST", "/v1/claims", `{"name":"alice"}`},
	} {
		r.Method, r.URL.Path = test.method, test.path
		header := http.Header{"Content-Type": {test.mediaType}}
		if test.etag != "" {
			header.Set("ETag", test.etag)
		}
		err := checkAnswer(r, []byte(test.ask), test.status, header, []byte(test.body))
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
