package config_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/names"
)

func TestPrivateSpaces(t *testing.T) {
	policies, err := config.ParseSpaces([]byte(`
spaces:
  email: {version: 1, key: hmac, form: email}
  handle: {version: 1, key: hmac, unicode: precis, max_length: 40}
  member:
    version: 1
    key: hmac
    pepper: 3
    fields: [tenant, {email: email}, note: exact]
  plain: {version: 1, key: plain}
`))
	if err != nil || len(policies) != 4 {
		t.Fatal(policies, err)
	}
	email, handle, member, plain := policies[0], policies[1], policies[2], policies[3]
	if p := email.Private; p == nil || !reflect.DeepEqual(*p, names.Private{Form: names.FormEmail}) || email.MaxLength != 254 || email.MinLength != 1 || len(email.Reserved) != 0 {
		t.Errorf("email: %s", email.AppendJSON(nil))
	}
	if handle.Private.Form != names.FormName || handle.Form == nil || handle.MaxLength != 40 {
		t.Errorf("handle: %s", handle.AppendJSON(nil))
	}
	want := names.Private{Pepper: 3, Fields: []names.Field{{Name: "tenant", Form: names.FormName}, {Name: "email", Form: names.FormEmail}, {Name: "note", Form: names.FormExact}}}
	if !reflect.DeepEqual(*member.Private, want) {
		t.Errorf("member: %s", member.AppendJSON(nil))
	}
	if plain.Private != nil || len(plain.Reserved) == 0 {
		t.Errorf("plain: %s", plain.AppendJSON(nil))
	}
}

func TestPrivateSpacesThatAreWrong(t *testing.T) {
	for line, want := range map[string]string{
		"key: hamc":                                                 `line 4: spaces.email.key is "hamc": plain or hmac`,
		"kee: hmac":                                                 `line 4: spaces.email.kee is no setting: did you mean key?`,
		"key: [hmac]":                                               "line 4: spaces.email.key",
		"form: email":                                               "line 4: spaces.email.form needs key: hmac",
		"key: plain\n    fields: [a]":                               "line 5: spaces.email.fields needs key: hmac",
		"key: hmac\n    form: e-mail":                               `line 5: spaces.email form is "e-mail"`,
		"key: hmac\n    feilds: [a]":                                "line 5: spaces.email.feilds is no setting: did you mean fields?",
		"key: hmac\n    fields: []":                                 "line 5: spaces.email.fields",
		"key: hmac\n    fields: tenant":                             "line 5: spaces.email.fields",
		"key: hmac\n    fields: [a, a]":                             "line 5: spaces.email fields has a twice",
		"key: hmac\n    fields: [{a: email, b: email}]":             "line 5: spaces.email.fields",
		"key: hmac\n    fields: [{a: mail}]":                        "line 5: spaces.email fields has the form",
		"key: hmac\n    fields: [Tenant]":                           "line 5: spaces.email fields must have names",
		"key: hmac\n    pepper: 0":                                  "line 5: spaces.email.pepper",
		"key: hmac\n    pepper: one":                                "line 5: spaces.email.pepper",
		"key: hmac\n    reserved: [root]":                           "line 5: spaces.email reserved is not possible in a private space",
		"key: hmac\n    unicode: precis\n    confusables: as_typed": "line 6: spaces.email confusables are not possible in a private space",
		"key: hmac\n    form: email\n    unicode: precis":           "line 6: spaces.email unicode is of no use",
	} {
		_, err := config.ParseSpaces([]byte("spaces:\n  email:\n    version: 1\n    " + line + "\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", line, err, want)
		}
	}
}
