package names_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/names"
	"pgregory.net/rapid"
)

// secret is the bytes 0 to 31.
var secret = func() []byte {
	b := make([]byte, 32)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}()

// private is a private policy with that pepper.
func private(space names.Space, p names.Private) *names.Policy {
	policy := *names.Builtin()[names.Username]
	policy.Space, policy.Reserved, policy.MinLength, policy.MaxLength = space, nil, 1, 254
	policy.Private = &p
	return policy.WithPepper(1, secret)
}

var (
	emails  = private("email", names.Private{Form: names.FormEmail})
	members = private("member", names.Private{Fields: []names.Field{{Name: "tenant", Form: names.FormName}, {Name: "email", Form: names.FormEmail}}})
)

// TestPrivateKeyVectors: the digests were computed by another program, from the layout as the docs have it.
func TestPrivateKeyVectors(t *testing.T) {
	for _, c := range []struct {
		policy *names.Policy
		value  names.Value
		want   names.Key
	}{
		{emails, names.Value{Name: "Ada.L+x@EXAMPLE.com"}, "h1:9d71ff2b7e49f27b7dd3e85c07569f1bb53bb714d86f1ba8b34260a37b95e3cb"},
		{members, names.Value{Fields: map[string]string{"email": "ada@example.com", "tenant": "ACME"}}, "h1:3e524580f04287973e4f7bff8925d4fde47997293491c7fba713c5b76fac923f"},
		{private("passport", names.Private{Form: names.FormExact}), names.Value{Name: "X 12/ü"}, "h1:b9400f72ce221decc844bebd7454ec4dc28e31cde0b2d540a0d2da97c6baf4d3"},
	} {
		key, err := c.policy.PrivateKey(secret, c.value)
		if key != c.want || err != nil {
			t.Errorf("%s %+v: %s, %v", c.policy.Space, c.value, key, err)
		}
		for _, of := range []func(string) (names.Key, error){c.policy.Key, c.policy.HeldKey, c.policy.Canonical} {
			if again, err := of(string(key)); again != key || err != nil {
				t.Errorf("a key is its own key: %s, %v", again, err)
			}
		}
	}
	if check := names.PepperCheck(secret, "email"); check != "b9e160ced3d7240b" || emails.Private.Check != check {
		t.Errorf("the check is %s, and %s in the policy", check, emails.Private.Check)
	}
}

// TestPrivateKeysDiffer: by space, secret, version, and where one value ends and the next begins.
func TestPrivateKeysDiffer(t *testing.T) {
	pair := private("pair", names.Private{Fields: []names.Field{{Name: "a", Form: names.FormExact}, {Name: "b", Form: names.FormExact}}})
	two := func(a, b string) names.Value { return names.Value{Fields: map[string]string{"a": a, "b": b}} }
	exact := private("pair", names.Private{Form: names.FormExact})
	seen := make(map[names.Key]string)
	add := func(what string, p *names.Policy, secret []byte, v names.Value) {
		t.Helper()
		key, err := p.PrivateKey(secret, v)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if other, ok := seen[key]; ok {
			t.Errorf("%s and %s have one key", what, other)
		}
		seen[key] = what
	}
	add("ab, c", pair, secret, two("ab", "c"))
	add("a, bc", pair, secret, two("a", "bc"))
	add("c, ab", pair, secret, two("c", "ab"))
	add("abc", exact, secret, names.Value{Name: "abc"})
	add("another space", private("other", names.Private{Form: names.FormExact}), secret, names.Value{Name: "abc"})
	add("another secret", exact, bytes.Repeat([]byte{7}, 32), names.Value{Name: "abc"})
	add("another version", exact.WithPepper(2, secret), secret, names.Value{Name: "abc"})
	for key, what := range seen {
		if strings.HasSuffix(string(key), names.PepperCheck(secret, "pair")) || strings.Contains(string(key), ":"+names.PepperCheck(secret, "pair")) {
			t.Errorf("%s has the check in its key", what)
		}
	}
}

func TestEmailForm(t *testing.T) {
	same := func(a, b string) bool {
		t.Helper()
		x, err := emails.PrivateKey(secret, names.Value{Name: a})
		if err != nil {
			t.Errorf("%s: %v", a, err)
		}
		y, err := emails.PrivateKey(secret, names.Value{Name: b})
		if err != nil {
			t.Errorf("%s: %v", b, err)
		}
		return x == y
	}
	if !same("ada@EXAMPLE.Com", "ada@example.com") {
		t.Error("domains are compared in lower case")
	}
	for _, other := range []string{"Ada@example.com", "a.da@example.com", "ada+x@example.com", "ada@example.org", "ada@mail.example.com"} {
		if same("ada@example.com", other) {
			t.Errorf("%s is another address", other)
		}
	}
	for _, wrong := range []string{
		"", "ada", "@example.com", "ada@", "a@b@example.com", "ada@exa mple.com", "a da@example.com", "ada@example..com", "ada@.com", "ada@com.", "ada@-x.com", "ada@x-.com",
		"ada@ex\u00e4mple.com", "ada@\uff45xample.com", "ada\x00@example.com", "ada\n@example.com", "a\xffda@example.com", "ada@[10.0.0.1]", "\u2003ada@example.com",
		strings.Repeat("a", 65) + "@example.com", "a@" + strings.Repeat("b.", 127) + "com", "a@" + strings.Repeat("b", 64) + ".com",
	} {
		_, err := emails.PrivateKey(secret, names.Value{Name: wrong})
		if invalid := (*names.InvalidError)(nil); !errors.As(err, &invalid) || invalid.Field != "" {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

func TestFieldsAreAllAskedFor(t *testing.T) {
	for what, c := range map[string]struct {
		policy *names.Policy
		value  names.Value
		field  string
	}{
		"none":                 {members, names.Value{Name: "ada@example.com"}, "fields"},
		"empty":                {members, names.Value{Fields: map[string]string{}}, "fields.tenant"},
		"one is missing":       {members, names.Value{Fields: map[string]string{"tenant": "acme"}}, "fields.email"},
		"one is wrong":         {members, names.Value{Fields: map[string]string{"tenant": "acme", "email": "ada"}}, "fields.email"},
		"one is too much":      {members, names.Value{Fields: map[string]string{"tenant": "acme", "email": "ada@example.com", "canary": "x"}}, "fields"},
		"where there are none": {emails, names.Value{Fields: map[string]string{"email": "ada@example.com"}}, "fields"},
	} {
		key, err := c.policy.PrivateKey(secret, c.value)
		if invalid := (*names.InvalidError)(nil); !errors.As(err, &invalid) || invalid.Field != c.field || key != "" || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %q, %v", what, key, err)
		}
	}
}

// TestPrivateErrorsTellNothing of the value, whatever it is.
func TestPrivateErrorsTellNothing(t *testing.T) {
	precis := private("handle", names.Private{Form: names.FormName})
	form, err := names.Precis{Tables: names.TablesLatest}.Form()
	if err != nil {
		t.Fatal(err)
	}
	unicode := *precis
	unicode.Form = form
	rapid.Check(t, func(t *rapid.T) {
		value := "☃Zanzibar" + rapid.String().Draw(t, "value")
		for _, p := range []*names.Policy{emails, precis, &unicode, private("x", names.Private{Form: names.FormExact})} {
			_, err := p.PrivateKey(secret, names.Value{Name: value})
			_, asKey := p.Key(value)
			_, asHeld := p.HeldKey(value)
			for _, err := range []error{err, asKey, asHeld} {
				if err != nil && (strings.Contains(err.Error(), "Zanzibar") || strings.Contains(err.Error(), "☃")) {
					t.Fatalf("%q is in %q", value, err)
				}
			}
			if asKey == nil || asHeld == nil {
				t.Fatalf("%q is a key", value)
			}
		}
	})
}

func TestWhatIsAPrivateKey(t *testing.T) {
	key, err := emails.PrivateKey(secret, names.Value{Name: "ada@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	digest := strings.TrimPrefix(string(key), "h1:")
	for _, wrong := range []string{
		"", "h1:", "h1", digest, ":" + digest, "h:" + digest, "h0:" + digest, "h01:" + digest, "H1:" + digest, "h1:" + strings.ToUpper(digest), "h1:" + digest + "0",
		"h1:" + digest[1:], "h1:" + digest[1:] + "g", "h-1:" + digest, "h+1:" + digest, "h9999999999:" + digest, "h99999999999999999999:" + digest, " h1:" + digest, "h1: " + digest[1:],
	} {
		if names.IsPrivateKey(wrong) {
			t.Errorf("%q is taken for a key", wrong)
		}
	}
	stale := "h2:" + digest
	if _, err := emails.Key(stale); err == nil {
		t.Error("a key of another pepper can be claimed")
	}
	if held, err := emails.HeldKey(stale); string(held) != stale || err != nil {
		t.Errorf("a key of another pepper may be held: %q, %v", held, err)
	}
	if _, err := emails.KeyAfter(names.Key(stale), ""); err == nil {
		t.Error("a key of another pepper is the same under this one")
	}
}

func TestPeppers(t *testing.T) {
	other := bytes.Repeat([]byte{9}, 32)
	for what, c := range map[string]struct {
		peppers names.Peppers
		want    error
	}{
		"the right one": {names.Peppers{"email": {1: secret, 2: other}}, nil},
		"none":          {nil, names.ErrNoPepper},
		"of another":    {names.Peppers{"emails": {1: secret}}, names.ErrNoPepper},
		"another":       {names.Peppers{"email": {1: other}}, names.ErrOtherPepper},
		"later":         {names.Peppers{"email": {2: secret}}, names.ErrNoPepper},
	} {
		key, err := c.peppers.Key(emails, names.Value{Name: "ada@example.com"})
		if !errors.Is(err, c.want) || (err == nil) != (key != "") {
			t.Errorf("%s: %q, %v", what, key, err)
		}
		if lacking := c.peppers.Lacking(names.Builtin().With(emails)); !errors.Is(lacking, c.want) {
			t.Errorf("%s: lacking %v", what, lacking)
		}
	}
	if latest := (names.Peppers{"email": {1: secret, 12: other, 3: other}}).Latest("email"); latest != 12 {
		t.Errorf("the latest is %d", latest)
	}
}

func TestPrivatePolicyAsJSON(t *testing.T) {
	for want, p := range map[string]*names.Policy{
		`,"key":"hmac","pepper":1,"pepper_check":"b9e160ced3d7240b","form":"email"}`:   emails,
		`,"fields":[{"name":"tenant","form":"name"},{"name":"email","form":"email"}]}`: members,
	} {
		text := p.AppendJSON(nil)
		if !bytes.HasSuffix(text, []byte(want)) {
			t.Errorf("%s", text)
		}
		again, err := names.ReadPolicy(p.Space, p.Version, text)
		if err != nil || !again.SameAs(p) || !again.SameKeys(p) {
			t.Errorf("%s reads as %+v, %v", text, again, err)
		}
	}
	// A policy of names is written as ever.
	if text := string(policy.AppendJSON(nil)); strings.Contains(text, "key") || strings.Contains(text, "private") {
		t.Errorf("%s", text)
	}
	email := string(emails.AppendJSON(nil))
	for from, to := range map[string]string{
		`"key":"hmac"`: `"key":"plain"`, `"key":"hmac",`: ``, `"pepper":1,`: ``, `"pepper":1`: `"pepper":0`, `b9e160ced3d7240b`: `B9E160CED3D7240B`, `"b9e160ced3d7240b"`: `""`,
		`,"pepper_check":"b9e160ced3d7240b"`: ``, `"form":"email"`: `"form":"emial"`, `,"form":"email"`: ``, `"form":"email"}`: `"form":"email","fields":[{"name":"a","form":"exact"}]}`,
		`"reserved":[]`: `"reserved":["root"]`, `,"form"`: `,"unicode":{"tables":"` + string(names.TablesLatest) + `","characters":"all","scripts":[],"confusables":"allowed"},"form"`,
	} {
		text := strings.Replace(email, from, to, 1)
		if text == email {
			t.Fatalf("%s is not there", from)
		}
		if _, err := names.ReadPolicy("email", 1, []byte(text)); err == nil {
			t.Errorf("%s is read", text)
		}
	}
	member := string(members.AppendJSON(nil))
	for from, to := range map[string]string{
		`"name":"email"`: `"name":"tenant"`, `"name":"tenant"`: `"name":"Tenant"`, `{"name":"tenant"`: `{"nam":"tenant"`, `[{`: `[1,{`, `"form":"name"`: `"form":1`,
	} {
		text := strings.Replace(member, from, to, 1)
		if _, err := names.ReadPolicy("member", 1, []byte(text)); err == nil || text == member {
			t.Errorf("%s is read", text)
		}
	}
}

// TestPrivateKeysMove with anything that makes other keys of the same values; nothing else moves them.
func TestPrivateKeysMove(t *testing.T) {
	longer := *emails
	longer.TTL, longer.MinLength = 2*emails.TTL, 6
	if emails.MayMoveKeys(&longer) {
		t.Error("a longer ttl moves keys")
	}
	plain := *emails
	plain.Private = nil
	for what, next := range map[string]*names.Policy{
		"names": &plain, "another pepper": emails.WithPepper(1, bytes.Repeat([]byte{9}, 32)), "a later one": emails.WithPepper(2, secret),
		"another form": private("email", names.Private{Form: names.FormExact}), "fields": private("email", *members.Private),
	} {
		if !emails.MayMoveKeys(next) || !next.MayMoveKeys(emails) || emails.SameKeys(next) {
			t.Errorf("%s: keys stay", what)
		}
	}
}
