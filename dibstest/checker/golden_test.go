package checker

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// golden are the records of the contract's files.
func golden(t *testing.T, folder string) map[string]Record {
	t.Helper()
	files, err := filepath.Glob("../../" + folder + "/testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	all := make(map[string]Record)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var is struct {
			Key, Value string
			Headers    [][2]string
			Time       time.Time
		}
		if err := json.Unmarshal(text, &is); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		r := Record{Key: []byte(is.Key), Value: []byte(is.Value), Time: is.Time}
		for _, h := range is.Headers {
			r.Headers = append(r.Headers, header(h[0], h[1]))
		}
		all[filepath.Base(file)] = r
	}
	return all
}

// TestGoldenRequests: the checker reads every request of the contract, and knows whose signature holds.
func TestGoldenRequests(t *testing.T) {
	l := builtin
	l.secrets = map[string][]byte{"k2": []byte("the key of now, 32 bytes or more"), "k1": []byte("first secret")}
	email := username()
	email.Space, email.Pepper = "email", 1
	l.policies = map[string]Policy{spaceUsername: l.policies[spaceUsername], "email": email}
	kinds := make(map[string]bool)
	for file, r := range golden(t, "claims") {
		q := read(&r, &l)
		if q.dead != "" || q.malformed || q.kind != typePolicy && (!q.nameOK || q.invalid(&l)) {
			t.Errorf("%s: %q %t, %s", file, q.dead, q.malformed, q.name)
		}
		needed := q.privileged() || q.kind == typePolicy || q.byKey && q.space != "email" || q.signup != "" // which only dibs may
		if _, there := r.header("ce_dibssig"); there != needed || q.signed != there {
			t.Errorf("%s: signature there %t, needed %t, good %t", file, there, needed, q.signed)
		}
		kinds[q.kind] = true
		r.Value = append(r.Value, ' ')
		if read(&r, &l).signed {
			t.Errorf("%s: the signature holds although the value is another", file)
		}
	}
	for kind := range fieldsOf {
		if !kinds[kind] {
			t.Errorf("there is no golden file of %s", kind)
		}
	}
}

// TestGoldenOutcomes: the id of every outcome and fact of the contract is derived as the design says, and nothing that is
// in its value is passed over.
func TestGoldenOutcomes(t *testing.T) {
	for file, r := range golden(t, "registrations") {
		var p published
		if err := json.Unmarshal(r.Value, &p); err != nil {
			t.Fatal(err)
		}
		o := p.outcomeRow()
		if o.RequestID == "" {
			o.RequestID = p.Cause
		}
		ids := make(map[string]bool)
		for o.Seq = range 3 {
			ids[eventID(&o)] = true
		}
		if id, _ := r.header("ce_id"); !ids[id] {
			t.Errorf("%s: ce_id %s is that of no number", file, id)
		}
		j := new(judge)
		for o.Seq = range 3 {
			if id, _ := r.header("ce_id"); id == eventID(&o) {
				j.envelope(&r, file, &o)
			}
		}
		for _, v := range j.violations {
			t.Error(v)
		}
	}
}

// TestDerivedIDs: against ids that were derived once.
func TestDerivedIDs(t *testing.T) {
	const claim, other = "6f0c3a52-8f4e-4c1d-9b7a-2f6d1e5c4b3a", "0190163d-8694-739b-aea5-966c26f8ad91"
	sent := time.Date(2026, 11, 21, 10, 0, 0, 123e6, time.UTC)
	for want, is := range map[string]string{
		"4a7b5e5a-ef69-83e9-a4b0-17ce51d2bec6": releaseID(other, alice), "8af1c2c5-50bd-82cd-8565-7880a6d20844": releaseID(claim, alice), "8150b766-71c1-842b-8d16-becc8148b088": expiryID(other, sent),
	} {
		if is != want {
			t.Errorf("%s, want %s", is, want)
		}
	}
}
