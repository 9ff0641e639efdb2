package api

import (
	"strconv"
	"strings"

	"github.com/dibs-hq/dibs/cloudevents"
)

// maxIdempotencyKey is how long an Idempotency-Key may be.
const maxIdempotencyKey = 255

// idempotencyKey checks the header: 1 to 255 printable ASCII characters.
func idempotencyKey(header *string) (string, error) {
	if header == nil {
		return "", nil
	}
	key := *header
	ok := key != "" && len(key) <= maxIdempotencyKey
	for i := 0; ok && i < len(key); i++ {
		ok = key[i] >= ' ' && key[i] <= '~'
	}
	if !ok {
		return "", badRequest("Idempotency-Key", "must be 1 to 255 printable ASCII characters")
	}
	return key, nil
}

// expectedVersion reads what the body and the conditional headers say about the version that the name must have. They
// are three ways to say one thing, so at most one of them is used.
func expectedVersion(body *int64, ifMatch, ifNoneMatch *string) (*int64, error) {
	said := ""
	expected := body
	if body != nil {
		said = "expected_version"
	}
	if ifMatch != nil {
		if said != "" {
			return nil, badRequest("If-Match", "cannot be combined with "+said)
		}
		said = "If-Match"
		text, ok := strings.CutPrefix(*ifMatch, `"`)
		text, ok2 := strings.CutSuffix(text, `"`)
		version, err := strconv.ParseUint(text, 10, 63)
		if !ok || !ok2 || err != nil {
			return nil, badRequest("If-Match", `must be one version in quotes, as the ETag of the name: "3"`)
		}
		expected = new(int64(version))
	}
	if ifNoneMatch != nil {
		if said != "" {
			return nil, badRequest("If-None-Match", "cannot be combined with "+said)
		}
		if *ifNoneMatch != "*" {
			return nil, badRequest("If-None-Match", "must be *: the name must be free")
		}
		expected = new(int64(0))
	}
	return expected, nil
}

// traceHeaders are the W3C Trace Context of a request as headers of the record. What is not valid is left out, as that
// standard asks: tracing never costs anybody a claim.
func traceHeaders(parent, state *string) []cloudevents.Header {
	if parent == nil || !validTraceparent(*parent) {
		return nil
	}
	h := []cloudevents.Header{{Name: "traceparent", Value: []byte(*parent)}}
	if state != nil && validTracestate(*state) {
		h = append(h, cloudevents.Header{Name: "tracestate", Value: []byte(*state)})
	}
	return h
}

// validTraceparent checks version-trace_id-parent_id-flags: 2, 32, 16 and 2 lower-case hex digits. A version higher than
// 00 may have more behind a further dash.
func validTraceparent(s string) bool {
	const size = 2 + 1 + 32 + 1 + 16 + 1 + 2
	if len(s) < size || len(s) > 255 || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	version, trace, span, flags := s[:2], s[3:35], s[36:52], s[53:55]
	if !hexDigits(version) || !hexDigits(trace) || !hexDigits(span) || !hexDigits(flags) || version == "ff" {
		return false
	}
	if strings.Trim(trace, "0") == "" || strings.Trim(span, "0") == "" {
		return false
	}
	if len(s) == size {
		return true
	}
	return version != "00" && s[size] == '-' && printableASCII(s)
}

func hexDigits(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// validTracestate checks a list of at most 32 key=value, 512 characters in all.
func validTracestate(s string) bool {
	if len(s) > 512 || !printableASCII(strings.ReplaceAll(s, "\t", " ")) {
		return false
	}
	n := 0
	for member := range strings.SplitSeq(s, ",") {
		member = strings.Trim(member, " \t")
		if member == "" {
			continue
		}
		key, value, ok := strings.Cut(member, "=")
		n++
		if !ok || n > 32 || value == "" || len(value) > 256 || strings.Contains(value, "=") || !traceKey(key) {
			return false
		}
	}
	return n > 0
}

// traceKey checks a key of tracestate: lower-case letters, digits and _-*/, with one @ at most.
func traceKey(s string) bool {
	if s == "" || len(s) > 256 || strings.Count(s, "@") > 1 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && strings.IndexByte("_-*/@", c) < 0 {
			return false
		}
	}
	return s[0] >= 'a' && s[0] <= 'z' || s[0] >= '0' && s[0] <= '9'
}

func printableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
