package importer_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/importer"
	"github.com/dibs-hq/dibs/names"
)

// TestImportIntoPrivateSpaces: keys are made of the rows with the pepper, and the same row has the same id in any spelling
// that is one; without the pepper no row is imported.
func TestImportIntoPrivateSpaces(t *testing.T) {
	secret := []byte("thirty-two bytes that nobody has")
	peppers := names.Peppers{"email": {1: secret}, "member": {1: secret}}
	policies := names.Builtin()
	for space, private := range map[names.Space]names.Private{
		"email":  {Form: names.FormEmail},
		"member": {Fields: []names.Field{{Name: "tenant", Form: names.FormName}, {Name: "email", Form: names.FormEmail}}},
	} {
		p := *names.Builtin()[names.Username]
		p.Space, p.Reserved, p.MaxLength, p.Private = space, nil, 254, &private
		policies = policies.With(p.WithPepper(1, secret))
	}
	run := func(text, name string, peppers names.Peppers) (results []importer.Result, err error) {
		rows, err := importer.NewReader(strings.NewReader(text), name)
		if err != nil {
			t.Fatal(err)
		}
		err = importer.DryRun(t.Context(), rows, policies, peppers, held{}, func(r importer.Result) { results = append(results, r) })
		return results, err
	}
	const table = `space,username,owner,fields.tenant,fields.email
,alice,u-1,,
email,ada@EXAMPLE.com,u-1,,
email,ada@example.com,u-1,,
email,ada@example.com,u-2,,
email,ada,u-2,,
member,,u-1,ACME,ada@example.com
member,,u-2,acme,ada@example.com
member,,u-2,acme,
,bobby,u-1,acme,
`
	results, err := run(table, "f.csv", peppers)
	if err != nil || reasons(results) != "1: 2: 3: 4:taken 5:invalid_name 6: 7:taken 8:invalid_name 9:invalid_name" {
		t.Errorf("%s, %v", reasons(results), err)
	}
	if results[1].ID != results[2].ID || results[1].ID == results[3].ID {
		t.Error("a row has its id of its key and owner")
	}
	for _, r := range results {
		if strings.Contains(r.Detail, "ada") {
			t.Errorf("row %d: %s", r.Number, r.Detail)
		}
	}
	lines, err := run(`{"space":"member","fields":{"tenant":"acme","email":"ada@example.com"},"owner":"u-1"}`, "f.ndjson", peppers)
	if err != nil || reasons(lines) != "1:" || lines[0].ID != results[5].ID {
		t.Errorf("%s, %v", reasons(lines), err)
	}
	if some, err := run(table, "f.csv", nil); !errors.Is(err, names.ErrNoPepper) || len(some) != 1 || strings.Contains(err.Error(), "ada") {
		t.Errorf("without a pepper: %s, %v", reasons(some), err)
	}
}
