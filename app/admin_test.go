package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/client"
)

// TestAdmin: what actors ask for, from the command line to the tables and back, and what can be read of it: on the real
// servers, by a process that signs and one that decides.
func TestAdmin(t *testing.T) {
	t.Parallel()
	d := deploy(t, 3)
	d.calm = true
	processor, api := d.start("processor").ready(), d.start("api").ready()
	d.assigned(30*time.Second, processor)
	url := "http://" + api.apiAddr()
	dibs := func(want string, args ...string) {
		t.Helper()
		if says := d.mustRun(append(args, "--url="+url)...); !strings.Contains(says, want) {
			t.Errorf("dibs %s says %q, want %q", strings.Join(args, " "), says, want)
		}
	}
	admin := func(what, name string, more ...string) []string {
		return append(append([]string{"admin", what, name}, more...), "--actor=ada", "--reason=ticket 4711")
	}
	c, err := client.New(url)
	if err != nil {
		t.Fatal(err)
	}
	claim := func(name, state, reason string) client.Result {
		t.Helper()
		r, err := c.Claim(t.Context(), client.Claim{Name: name, Owner: "u-17"})
		if err != nil || string(r.State) != state || r.Reason != reason {
			t.Fatalf("%s: %+v, %v", name, r, err)
		}
		return r
	}

	// Block, and unblock.
	dibs("accepted: username/mallory is blocked, version 1", admin("block", "Mallory")...)
	claim("mallory", "rejected", "blocked")
	dibs("username/mallory: blocked, version 1", "names", "mallory")
	dibs("accepted: username/mallory is unblocked, version 2", admin("unblock", "mallory")...)
	claim("Mallory", "accepted", "")

	// A name that is held: handed over, taken away.
	claim("Alice", "accepted", "")
	dibs("accepted: u-18 has username/alice, version 2", admin("transfer", "alice", "u-18")...)
	dibs("username/alice: registered by u-18, version 2", "names", "--owner=u-18")
	dibs("accepted: username/alice is released, which was u-18's, version 3", admin("release", "alice")...)
	var history []string
	for e, err := range c.History(t.Context(), "username", "ALICE", 0) {
		history = append(history, fmt.Sprintf("%d %s %s %q %q %v", e.Version, e.Outcome, e.Owner, e.Actor, e.Reason, err))
	}
	want := []string{`1 Accepted u-17 "" "" <nil>`, `2 Transferred u-18 "ada" "ticket 4711" <nil>`, `3 Released u-18 "ada" "ticket 4711" <nil>`}
	if strings.Join(history, "\n") != strings.Join(want, "\n") {
		t.Errorf("the history is %q", history)
	}
	dibs("released  u-18  by ada: ticket 4711", "history", "alice", "--from=3")
	if !strings.Contains(api.errors(), `"msg":"admin request","principal":"anonymous","actor":"ada","action":"release","space":"username"`) {
		t.Errorf("it is not in the log of the API:\n%s", api.errors())
	}
	if strings.Contains(api.errors()+processor.errors(), "alice") {
		t.Error("a log has a name")
	}

	// The bound of the topic's clocks says how short a reservation may be; what is over is not held.
	if a := d.post(api, "/v1/claims", `{"name":"carol","owner":"u-17","mode":"reserve","ttl_seconds":1}`); a.status != http.StatusUnprocessableEntity {
		t.Errorf("a second: %s", a)
	}
	reserved, err := c.Reserve(t.Context(), client.Claim{Name: "carol", Owner: "u-17"}, 2*time.Second)
	if err != nil || reserved.State != client.Accepted {
		t.Fatalf("%+v, %v", reserved, err)
	}
	held := func() (keys []string) {
		t.Helper()
		for n, err := range c.OwnerNames(t.Context(), "u-17") {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, n.Key)
		}
		return keys
	}
	if got := strings.Join(held(), " "); got != "carol mallory" {
		t.Errorf("u-17 holds %s", got)
	}
	eventually(t, 10*time.Second, func() error {
		if got := strings.Join(held(), " "); got != "mallory" {
			return fmt.Errorf("u-17 holds %s", got)
		}
		return nil
	})

	// What follows a rename, and a claim that is withdrawn.
	renamed, err := c.Rename(t.Context(), "username", "mallory", "u-17", "Molly")
	if err != nil || renamed.FollowUp == nil {
		t.Fatalf("%+v, %v", renamed, err)
	}
	eventually(t, 10*time.Second, func() error {
		r, err := c.Get(t.Context(), renamed.ID)
		if err != nil || r.FollowUp == nil || r.FollowUp.State != client.FollowUpReleased || r.FollowUp.Key != "mallory" {
			return fmt.Errorf("%+v, %w", r, err)
		}
		return nil
	})
	if n := processor.metrics()[`dibs_follow_ups_total{outcome="released"}`]; n != 1 {
		t.Errorf("%v follow-ups are counted", n)
	}
	undone := claim("dave", "accepted", "")
	if r, err := c.Withdraw(t.Context(), undone.ID, "u-17"); err != nil || r.State != client.Accepted {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err := c.Get(t.Context(), undone.ID); err != nil || r.State != client.Withdrawn {
		t.Errorf("%+v, %v", r, err)
	}

	// Who has no key to sign with says which setting it is.
	without := start(t, "api-without", append(d.env("api-without"), "DIBS_SECURITY_REQUEST_KEYS_FILE="), "api").ready()
	a := d.post(without, "/v1/admin/names/username/molly/block", `{"actor":"ada","reason":"ticket 4711"}`)
	if a.status != http.StatusNotImplemented || !strings.Contains(a.claim.Detail, "security.request_keys_file") {
		t.Errorf("without a key: %s", a)
	}
}

// post posts JSON to an API.
func (d *deployment) post(api *process, path, body string) answer {
	return call(http.MethodPost, api.apiAddr(), path, http.Header{"Content-Type": {"application/json"}, "Prefer": {"wait=20"}}, []byte(body))
}
