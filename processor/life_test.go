package processor_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// TestLifeIsPlayed: the scripts of testdata make every move of the table, from each state and to each state it names; and
// they make no other.
func TestLifeIsPlayed(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	played := make(map[string]bool)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		told, _, _ := strings.Cut(string(text), "\n----\n")
		play(t, told, true, func(l processor.Ledger, m []processor.Message, d processor.Decision) {
			last := d.Rows[len(d.Rows)-1]
			o := last.Outcome
			if last.Kind != processor.KindOutcome || o.Type == registrations.Rejected || o.State == "" || o.Ref.Space == claims.Signup {
				return // no name has moved
			}
			from, to := l.Known.Holdings[o.Ref].State, carried(l, d).Known.Holdings[o.Ref].State
			if from == "" || slices.ContainsFunc(d.Rows, func(r processor.Row) bool {
				return r.Kind == processor.KindFact && r.Outcome.Type == registrations.Expired
			}) {
				from = registrations.Free
			}
			request := processor.Receive(m[0], l.Rules).Request.Type
			move := slices.IndexFunc(processor.Life, func(m processor.Move) bool {
				return m.Request == request && m.Outcome == o.Type && m.Actor == (last.Actor != "") && slices.Contains(m.From, from) && slices.Contains(m.To, to)
			})
			if move < 0 {
				t.Errorf("%s: %s makes %s of %s, and is %s: no move of the table", file, request, to, from, o.Type)
			}
			played[fmt.Sprint(move, " from ", from)], played[fmt.Sprint(move, " to ", to)] = true, true
		})
	}
	for i, m := range processor.Life {
		for _, from := range m.From {
			if !played[fmt.Sprint(i, " from ", from)] {
				t.Errorf("no script has %s of what is %s, by %s", m.Request, from, m.By)
			}
		}
		for _, to := range m.To {
			if !played[fmt.Sprint(i, " to ", to)] {
				t.Errorf("no script has %s that leads to %s, by %s", m.Request, to, m.By)
			}
		}
	}
}

// grid is what becomes of each request in each state, written from design §3 and its order of checks, not from the code. A
// name is held, or was, by u-1, under claim c1. In the columns: never claimed; free; deactivated by u-1 where names are
// unique among active, thus free; reserved; reserved and over; registered; registered and changed since; inactive; cooling;
// cooling and over; blocked. A state says that the request moves the name there; = that it is answered and stays as it is;
// anything else is the reason of its refusal.
const grid = `
                         never        free         left         reserved     over         registered   changed      inactive     cooling      cooled       blocked
claim by u-1             registered   registered   registered   taken        registered   taken        taken        taken        registered   registered   blocked
claim by u-2             registered   registered   registered   taken        registered   taken        taken        taken        cooling_down registered   blocked
reserve by u-1           reserved     reserved     reserved     taken        reserved     taken        taken        taken        reserved     reserved     blocked
reserve by u-2           reserved     reserved     reserved     taken        reserved     taken        taken        taken        cooling_down reserved     blocked
existing for u-1         registered   registered   registered   taken        registered   =            =            taken        registered   registered   blocked
existing for u-2         registered   registered   registered   taken        registered   taken        taken        taken        cooling_down registered   blocked
respell by u-1           registered   registered   registered   taken        registered   registered   registered   taken        registered   registered   blocked
respell by u-2           registered   registered   registered   taken        registered   taken        taken        taken        cooling_down registered   blocked
confirm c1 by u-1        unknown      unknown      unknown      registered   expired      =            =            wrong_state  unknown      unknown      blocked
confirm c1 by u-2        unknown      unknown      unknown      not_owner    expired      not_owner    not_owner    not_owner    unknown      unknown      blocked
confirm c2 by u-1        unknown      unknown      unknown      unknown      unknown      unknown      unknown      unknown      unknown      unknown      blocked
extend c1 by u-1         unknown      unknown      unknown      reserved     expired      wrong_state  wrong_state  wrong_state  unknown      unknown      blocked
extend c1 by u-2         unknown      unknown      unknown      not_owner    expired      not_owner    not_owner    not_owner    unknown      unknown      blocked
extend c2 by u-1         unknown      unknown      unknown      unknown      unknown      unknown      unknown      unknown      unknown      unknown      blocked
withdraw c1 by u-1       =            unknown      unknown      free         expired      free         wrong_state  wrong_state  unknown      unknown      blocked
withdraw c1 by u-2       =            unknown      unknown      not_owner    expired      not_owner    not_owner    not_owner    unknown      unknown      blocked
withdraw c2 by u-1       =            =            =            =            =            =            =            =            =            =            =
release by u-1           not_owner    not_owner    not_owner    free         not_owner    cooling      cooling      wrong_state  wrong_state  not_owner    blocked
release by u-2           not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    blocked
release by an actor      wrong_state  wrong_state  wrong_state  free         wrong_state  cooling      cooling      cooling      wrong_state  wrong_state  blocked
deactivate by u-1        not_owner    not_owner    not_owner    wrong_state  not_owner    inactive     inactive     wrong_state  wrong_state  not_owner    blocked
deactivate by u-2        not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    blocked
reactivate by u-1        not_owner    not_owner    registered   wrong_state  not_owner    wrong_state  wrong_state  registered   wrong_state  not_owner    blocked
reactivate by u-2        not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    blocked
transfer by u-1          not_owner    not_owner    not_owner    wrong_state  not_owner    registered   registered   wrong_state  wrong_state  not_owner    blocked
transfer by u-2          not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    not_owner    blocked
transfer by an actor     wrong_state  wrong_state  wrong_state  registered   wrong_state  registered   registered   registered   wrong_state  wrong_state  blocked
transfer to u-1          wrong_state  wrong_state  wrong_state  wrong_state  wrong_state  wrong_state  wrong_state  wrong_state  wrong_state  wrong_state  blocked
block                    blocked!     blocked!     blocked!     blocked!     blocked!     blocked!     blocked!     blocked!     blocked!     blocked!     blocked!
unblock                  wrong_state  wrong_state  wrong_state  wrong_state  wrong_state  wrong_state  wrong_state  wrong_state  wrong_state  wrong_state  free
erase u-1                =            free         free         free         free         cooling      cooling      cooling      cooling      free         =
erase u-2                =            free         =            =            free         =            =            =            =            free         =
erase u-1, unsigned      not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed
unblock, unsigned        not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed
release, unsigned        not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed
transfer, unsigned       not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed
block, unsigned          not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed
is c1 over               =            =            =            =            free         =            =            =            =            free         =
is c2 over               =            =            =            =            =            =            =            =            =            =            =
`

// activeGrid is what differs where names are unique among active, with neither cool-down nor return.
const activeGrid = `
                         never        free         left         reserved     over         registered   changed      inactive     cooling      cooled       blocked
claim by u-1             registered   registered   registered   taken        registered   taken        taken        taken        cooling_down registered   blocked
existing for u-1         registered   registered   registered   taken        registered   =            =            taken        cooling_down registered   blocked
release by u-1           not_owner    not_owner    not_owner    free         not_owner    free         free         wrong_state  wrong_state  not_owner    blocked
release by an actor      wrong_state  wrong_state  wrong_state  free         wrong_state  free         free         free         wrong_state  wrong_state  blocked
deactivate by u-1        not_owner    not_owner    not_owner    wrong_state  not_owner    free         free         wrong_state  wrong_state  not_owner    blocked
reactivate by u-1        not_owner    not_owner    registered   wrong_state  not_owner    wrong_state  wrong_state  registered   wrong_state  not_owner    blocked
reactivate by u-2        not_owner    not_owner    not_owner    taken        not_owner    taken        taken        taken        not_owner    not_owner    blocked
erase u-1                =            free         free         free         free         free         free         free         cooling      free         =
`

func TestLifeGrid(t *testing.T) {
	all := *names.Builtin()[names.Username]
	all.CoolDown = time.Hour
	active := all
	active.CoolDown, active.PreviousMayReturn, active.UniqueAmong = 0, false, names.AmongActive
	requests := make(map[string]bool)
	for _, test := range []struct {
		grid   string
		policy *names.Policy
	}{{grid, &all}, {activeGrid, &active}} {
		rules := processor.Rules{Partitions: 48, Policies: names.Policies{names.Username: test.policy}, Keys: testKeys}
		lines := strings.Split(strings.Trim(test.grid, "\n"), "\n")
		for _, line := range lines[1:] {
			request := strings.TrimSpace(line[:25])
			wants := strings.Fields(line[25:])
			for i, state := range strings.Fields(lines[0]) {
				if got := tryGrid(t, rules, request, state); got != wants[i] {
					t.Errorf("%s, %s: %s, want %s", state, request, got, wants[i])
				}
				requests[gridRequest(request).body.Type()] = true
			}
		}
	}
	for _, m := range processor.Life {
		if !requests[m.Request] {
			t.Errorf("%s is in no grid", m.Request)
		}
	}
}

// gridHolding is what the grid calls a state, at version 3.
func gridHolding(state string) registrations.Holding {
	soon, now := tenOClock.Add(time.Minute), tenOClock
	h := registrations.Holding{Name: "Alice", Owner: "u-1", ClaimID: idOf("c1"), Version: 3, Partition: onAlice, Since: tenOClock.Add(-time.Hour), PolicyVersion: 1}
	unheld := registrations.Holding{State: registrations.Free, Version: 3, Partition: onAlice, Since: h.Since, PolicyVersion: 1}
	cooling := unheld
	cooling.State, cooling.Previous, cooling.ClaimID, cooling.ExpiresAt = registrations.Cooling, "u-1", idOf("c1"), soon
	switch state {
	case "never":
		return registrations.Holding{}
	case "free":
		return unheld
	case "left":
		unheld.Previous = "u-1"
		return unheld
	case "blocked":
		unheld.State = registrations.StateBlocked
		return unheld
	case "cooling":
		return cooling
	case "cooled":
		cooling.ExpiresAt = now
		return cooling
	case "reserved", "over":
		h.State, h.ExpiresAt = registrations.Reserved, soon
		if state == "over" {
			h.ExpiresAt = now
		}
	case "registered", "changed":
		h.State, h.Settled = registrations.Registered, state == "changed"
	case "inactive":
		h.State = registrations.Inactive
	}
	return h
}

func gridRequest(what string) request {
	words := strings.Fields(strings.ReplaceAll(what, ",", ""))
	last := words[len(words)-1]
	words = append(words, "")
	q := request{id: idOf("the request")}
	claim := idOf(words[1])
	register := claims.UsernameClaimed{Space: names.Username, Spelling: "Alice", Owner: last, Mode: claims.ModeRegister}
	owner, actor, why := last, "", ""
	if last == "actor" || last == "unsigned" || words[0] == "block" || words[0] == "unblock" || words[1] == "to" {
		owner, actor, why = "", "ada", "asked for"
		if last != "unsigned" {
			q.sign = &testKey
		}
	}
	switch words[0] {
	case "claim":
		q.body = &register
	case "reserve":
		register.Mode = claims.ModeReserve
		q.body = &register
	case "existing":
		register.OnConflict = claims.OnConflictReturn
		q.body = &register
	case "respell":
		register.Replaces = &claims.Replaces{Name: "ALICE", Version: 3}
		q.body = &register
	case "confirm":
		q.body = &claims.ConfirmRequested{About: about("Alice"), ClaimID: claim, Owner: owner}
	case "extend":
		q.body = &claims.ExtendRequested{About: about("Alice"), ClaimID: claim, Owner: owner, TTLSeconds: 600}
	case "withdraw":
		q.body = &claims.WithdrawRequested{About: about("Alice"), ClaimID: claim, Owner: owner}
	case "release":
		q.body = &claims.ReleaseRequested{About: about("Alice"), Owner: owner, Actor: actor, Reason: why}
	case "deactivate":
		q.body = &claims.DeactivateRequested{About: about("Alice"), Owner: owner}
	case "reactivate":
		q.body = &claims.ReactivateRequested{About: about("Alice"), Owner: owner}
	case "transfer":
		to := "u-3"
		if words[1] == "to" {
			to = last
		}
		q.body = &claims.TransferRequested{About: about("Alice"), Owner: owner, NewOwner: to, Actor: actor, Reason: why}
	case "block":
		q.body = &claims.BlockRequested{About: about("Alice"), Actor: actor, Reason: why}
	case "unblock":
		q.body = &claims.UnblockRequested{About: about("Alice"), Actor: actor, Reason: why}
	case "erase":
		q.body = &claims.ErasureRequested{About: about("Alice"), Owner: words[1], Actor: "ada", Reason: "asked for"}
		if last != "unsigned" {
			q.sign = &testKey
		}
	case "is":
		q.body = &claims.ExpiryDue{About: about("Alice"), ClaimID: claim, ExpiresAt: tenOClock}
		q.id, q.principal, q.sign = claims.ExpiryID(claim, tenOClock), claims.Principal, &testKey
	}
	return q
}

// tryGrid decides a request in a state, and says in the words of the grid what became of it.
func tryGrid(t *testing.T, rules processor.Rules, what, state string) string {
	before := gridHolding(state)
	l := processor.Ledger{Partition: onAlice, LogEpoch: 1, Rules: rules}
	d := processor.Decision{}
	if state != "never" {
		d.Changes = []processor.Change{{Ref: aliceRef, Holding: before}}
		came := registrations.Outcome{Type: registrations.Accepted, State: registrations.Registered, Ref: aliceRef, RequestID: idOf("c1"), ClaimID: idOf("c1"), LogTime: before.Since}
		if before.State == registrations.Reserved {
			came.State, came.ExpiresAt = before.State, before.ExpiresAt
		}
		d.Rows = []processor.Row{{Kind: processor.KindOutcome, RequestID: idOf("c1"), Outcome: came}}
	}
	l = carried(l, d)
	d = processor.Decide(l, []processor.Received{processor.Receive(gridRequest(what).message(7), rules)})
	o := d.Rows[len(d.Rows)-1].Outcome
	if request := gridRequest(what).body.Type(); o.Request != claims.ShortType(request) || o.Request == "" && request != claims.TypeUsernameClaimed {
		t.Errorf("%s, %s: an outcome of %q, and it was %s", state, what, o.Request, request)
	}
	after := carried(l, d).Known.Holdings[aliceRef]

	// What was over is free first, whatever is asked; but for what is refused before anything is looked at.
	if due := state == "over" || state == "cooled"; due && o.Reason != registrations.NotAllowed {
		fact := d.Rows[0].Outcome
		if o.Type == registrations.Expired {
			fact.Fact = true
		}
		if fact.Type != registrations.Expired || !fact.Fact || fact.Version != 4 || fact.ClaimID != idOf("c1") || fact.Owner != "u-1" {
			t.Errorf("%s, %s: %+v is not the fact that it expired", state, what, fact)
		}
		if o.Type == registrations.Expired {
			return string(after.State)
		}
		before = registrations.Holding{State: registrations.Free, Version: 4, Since: after.Since, Partition: onAlice, PolicyVersion: 1}
	}
	switch {
	case o.Type == registrations.Rejected:
		if !reflect.DeepEqual(after, before) {
			t.Errorf("%s, %s is refused, and leaves %+v", state, what, after)
		}
		switch o.Reason {
		case registrations.UnknownClaim:
			return "unknown"
		case registrations.ReservationExpired:
			return "expired"
		}
		return string(o.Reason)
	case reflect.DeepEqual(after, before):
		return "="
	case o.Type == registrations.Blocked || o.Type == registrations.Unblocked:
		if o.Name != "" || o.Owner != "" || o.ClaimID != uuid.Nil || o.Version != after.Version || after.Name+after.Owner+after.Previous != "" && state != "left" {
			t.Errorf("%s, %s: %+v is nobody's, and it is %+v", state, what, o, after)
		}
		if o.Type == registrations.Unblocked {
			return string(after.State)
		}
		return string(o.State) + "!"
	}
	if o.State != after.State || o.Version != after.Version || after.Version != before.Version+1 {
		t.Errorf("%s, %s: %+v, and it is %+v", state, what, o, after)
	}
	return string(after.State)
}
