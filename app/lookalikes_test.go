package app_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestLookalikes applies a space in which one of the names that look alike has a holder, and one of other languages; and
// has changes refused that would give names another key.
func TestLookalikes(t *testing.T) {
	t.Parallel()
	d := deploy(t, 4)
	p, api := d.start("processor"), d.start("api")
	d.assigned(time.Minute, p.ready())
	api.ready()
	claim := func(space, name, owner string) string {
		return fmt.Sprintf(`{"space":%q,"name":%q,"owner":%q}`, space, name, owner)
	}
	const first = `
spaces:
  handle: {version: 1, unicode: precis, confusables: as_typed, scripts: [Latn, Cyrl]}
`
	d.apply(0, first)
	d.soon(api, 201, "", "/v1/claims", claim("handle", "PayPal", "u-1"))
	d.must(api, 409, "confusable", "/v1/claims", claim("handle", "paypa1", "u-2"))
	d.must(api, 409, "taken", "/v1/claims", claim("handle", "PAYPAL", "u-2"))
	for first, second := range map[string]string{
		"some0ne": "SomeOne", "modern": "rnodern", "lIl": "1l1",
		"scope": "ѕсоре", // all of it Cyrillic
	} {
		d.must(api, 201, "", "/v1/claims", claim("handle", first, "u-1"))
		d.must(api, 409, "confusable", "/v1/claims", claim("handle", second, "u-2"))
	}
	d.must(api, 422, "invalid_name", "/v1/claims", claim("handle", "p\u0430ypal", "u-2")) // two scripts in one name
	d.must(api, 422, "invalid_name", "/v1/claims", claim("handle", "pay\u200bpal", "u-2"))
	d.must(api, 422, "reserved_word", "/v1/claims", claim("handle", "r00t", "u-2"))
	d.must(api, 422, "reserved_word", "/v1/claims", claim("handle", "admi\u0307n", "u-2")) // a dot upon a dot
	if a := d.look(api, "/v1/names/handle/paypa1/history", ""); a.status != 200 || !strings.Contains(string(a.body), `"name":"PayPal"`) {
		t.Errorf("the history of paypa1 reads %d %s", a.status, a.body)
	}

	// Whose it looks like keeps it.
	d.must(api, 403, "not_owner", "/v1/names/handle/paypa1/release", `{"owner":"u-1"}`)
	if a := d.look(api, "/v1/names/handle/paypa1", ""); a.status != 200 || !strings.Contains(string(a.body), `"reason":"confusable"`) || strings.Contains(string(a.body), "u-1") {
		t.Errorf("paypa1 reads %d %s", a.status, a.body)
	}

	// What is replaced is released by its key, which is no name.
	before := d.must(api, 201, "", "/v1/claims", claim("handle", "_Иван_", "u-3"))
	after := d.must(api, 200, "", "/v1/names/handle/"+url.PathEscape("_иван_")+"/rename", `{"owner":"u-3","to":"Пётр"}`)
	if before["name"] != "_Иван_" || after["name"] != "Пётр" || before["key"] == "_иван_" {
		t.Errorf("renamed from %v to %v", before, after)
	}
	d.soon(api, 201, "", "/v1/claims", claim("handle", "_иван_", "u-4"))

	// A space may go beyond ASCII later, not look-alikes: names would get another key.
	d.must(api, 201, "", "/v1/claims", claim("username", "alice1", "u-5"))
	d.must(api, 201, "", "/v1/claims", claim("username", "norton", "u-6"))
	const apart = `{spaces: {username: {version: 2, unicode: precis, confusables: as_typed}}}`
	if said := d.apply(1, apart); !strings.Contains(said, "names would get another key: in space username alice1 would have the key allcel") || strings.Contains(said, "norton") ||
		strings.Contains(said, "published") {
		t.Errorf("apply says\n%s", said)
	}
	check, code := d.run("spaces", "check", spacesFile(t, apart))
	if said := check.output() + check.errors(); code != 1 || !strings.Contains(said, "username/alice1  registered of u-5: would have the key allcel") {
		t.Errorf("check: exit code %d\n%s", code, said)
	}
	d.apply(0, `{spaces: {username: {version: 2, unicode: precis}}}`)
	d.soon(api, 201, "", "/v1/claims", claim("username", "Пётр", "u-7"))
	d.must(api, 409, "taken", "/v1/claims", claim("username", "ALICE1", "u-8"))
	d.must(api, 201, "", "/v1/claims", claim("username", "allce1", "u-8"))
	if said := d.apply(1, `{spaces: {username: {version: 3}}}`); !strings.Contains(said, "пётр would be no name") {
		t.Errorf("back to ASCII: %s", said)
	}

	// Whoever comes next goes by the same.
	p.kill()
	p = d.start("processor")
	d.assigned(time.Minute, p.ready())
	d.must(api, 409, "confusable", "/v1/claims", claim("handle", "paypa1", "u-9"))
	d.settled(time.Minute)
	if verified, code := d.run("verify"); code != 0 {
		t.Errorf("verify: exit code %d\n%s%s", code, verified.output(), verified.errors())
	}
}
