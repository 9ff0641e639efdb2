package registrations_test

import (
	"bytes"
	"flag"
	"maps"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/cloudevents/eventtest"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

var decidedAt = time.Date(2026, 11, 21, 10, 0, 0, 123e6, time.UTC)

// accepted is the outcome of a claim of Alice.
func accepted() registrations.Outcome {
	id := uuid.MustParse("6f0c3a52-8f4e-4c1d-9b7a-2f6d1e5c4b3a")
	o := registrations.Outcome{
		Type: registrations.Accepted, RequestID: id, ClaimID: id,
		Ref: names.Ref{Space: names.Username, Key: "alice"}, Name: "Alice", Owner: "u-17",
		State: registrations.Registered, Version: 1,
		LogTime: decidedAt, PolicyVersion: 1, Partition: 7, LogEpoch: 1, Offset: 4711,
	}
	for i := range o.RequestHash {
		o.RequestHash[i] = byte(i * 8)
	}
	return o
}

func reserved() registrations.Outcome {
	o := accepted()
	o.State = registrations.Reserved
	return o
}

func rejected(why registrations.Reason) registrations.Outcome {
	o := accepted()
	o.Type, o.State, o.Version, o.Reason = registrations.Rejected, "", 0, why
	return o
}

// golden is one outcome of each shape, by the file that keeps it.
func golden() map[string]registrations.Outcome {
	conflict := rejected(registrations.VersionConflict)
	conflict.Detail, conflict.CurrentVersion = "the name is at version 3", 3
	neverHeld := rejected(registrations.VersionConflict)
	neverHeld.Detail = "the name is at version 0"
	malformed := rejected(registrations.Malformed)
	malformed.Detail, malformed.Name, malformed.Owner, malformed.PolicyVersion = "owner is not a string", "", "", 0
	stray := malformed // under a record key that is no name's
	stray.Ref = names.Ref{Key: "Alice"}
	unknown := rejected(registrations.UnknownSpace)
	unknown.Ref.Space, unknown.PolicyVersion = "nickname", 0
	invalid := rejected(registrations.InvalidName)
	invalid.Detail, invalid.Name, invalid.Ref.Key = "the name may have the letters a to z, digits and . _ - only; character 3 is something else", "naïve \"<&>\u2028\t", "naïve"
	request := rejected(registrations.InvalidRequest)
	request.Detail = `mode must be "register" or "reserve"`
	existing := accepted() // asked for with return_existing
	existing.ClaimID, existing.Version = uuid.MustParse("0190163d-8694-739b-aea5-966c26f8ad91"), 4
	files := map[string]registrations.Outcome{
		"accepted.json":                   accepted(),
		"accepted_existing.json":          existing,
		"rejected_taken.json":             rejected(registrations.Taken),
		"rejected_version_conflict.json":  conflict,
		"rejected_version_conflict0.json": neverHeld,
		"rejected_malformed.json":         malformed,
		"rejected_malformed_stray.json":   stray,
		"rejected_unknown_space.json":     unknown,
		"rejected_invalid_name.json":      invalid,
		"rejected_invalid_request.json":   request,
		"rejected_reserved_word.json":     rejected(registrations.ReservedWord),
		"rejected_deadline_passed.json":   rejected(registrations.DeadlinePassed),
	}
	maps.Copy(files, goldenLife())
	return files
}

// goldenLife is one outcome of each request beside a claim, of each shape it can have, and one of each fact.
func goldenLife() map[string]registrations.Outcome {
	claim := accepted().ClaimID
	about := func(what registrations.Type, request string, state registrations.State, version int64) registrations.Outcome {
		o := accepted()
		o.RequestID = uuid.MustParse("0190163d-8694-739b-aea5-966c26f8ad91")
		o.Type, o.Request, o.State, o.Version = what, request, state, version
		return o
	}
	until := func(o registrations.Outcome, after time.Duration) registrations.Outcome {
		o.ExpiresAt = decidedAt.Add(after)
		return o
	}
	itself := func(o registrations.Outcome) registrations.Outcome { // the claim from now on
		o.ClaimID = o.RequestID
		return o
	}
	nobodys := func(o registrations.Outcome) registrations.Outcome {
		o.ClaimID, o.Name, o.Owner = uuid.Nil, "", ""
		return o
	}
	fact := func(o registrations.Outcome) registrations.Outcome {
		o.Fact = true
		return o
	}
	refused := func(why registrations.Reason, request, detail string) registrations.Outcome {
		o := about(registrations.Rejected, request, "", 0)
		o.Reason, o.Detail = why, detail
		return o
	}
	mark := about(registrations.Withdrawn, "WithdrawRequested", "", 0)
	mark.ClaimID = claim
	erased := about(registrations.Erased, "ErasureRequested", registrations.Free, 2)
	erased.Name, erased.Owner = "", ""
	cooled := erased
	cooled.State = registrations.Cooling
	untouched := nobodys(about(registrations.Erased, "ErasureRequested", "", 0))
	transferred := itself(about(registrations.Transferred, "TransferRequested", registrations.Registered, 3))
	transferred.Owner = "u-18"
	return map[string]registrations.Outcome{
		"accepted_reserved.json":            until(reserved(), 15*time.Minute),
		"confirmed.json":                    about(registrations.Confirmed, "ConfirmRequested", registrations.Registered, 2),
		"extended.json":                     until(about(registrations.Extended, "ExtendRequested", registrations.Reserved, 2), time.Hour),
		"released.json":                     about(registrations.Released, "ReleaseRequested", registrations.Free, 2),
		"released_cooling.json":             until(about(registrations.Released, "ReleaseRequested", registrations.Cooling, 2), 30*24*time.Hour),
		"released_fact.json":                fact(about(registrations.Released, "", registrations.Free, 2)),
		"withdrawn.json":                    about(registrations.Withdrawn, "WithdrawRequested", registrations.Free, 2),
		"withdrawn_mark.json":               mark,
		"deactivated.json":                  about(registrations.Deactivated, "DeactivateRequested", registrations.Inactive, 2),
		"deactivated_free.json":             about(registrations.Deactivated, "DeactivateRequested", registrations.Free, 2),
		"reactivated.json":                  itself(about(registrations.Reactivated, "ReactivateRequested", registrations.Registered, 3)),
		"transferred.json":                  transferred,
		"blocked.json":                      nobodys(about(registrations.Blocked, "BlockRequested", registrations.StateBlocked, 3)),
		"unblocked.json":                    nobodys(about(registrations.Unblocked, "UnblockRequested", registrations.Free, 4)),
		"erased.json":                       erased,
		"erased_cooling.json":               until(cooled, 30*24*time.Hour),
		"erased_untouched.json":             untouched,
		"expired.json":                      about(registrations.Expired, "ExpiryDue", registrations.Free, 2),
		"expired_fact.json":                 fact(about(registrations.Expired, "", registrations.Free, 2)),
		"rejected_not_allowed.json":         refused(registrations.NotAllowed, "BlockRequested", ""),
		"rejected_withdrawn.json":           rejected(registrations.ClaimWithdrawn),
		"rejected_blocked.json":             rejected(registrations.NameBlocked),
		"rejected_unknown_claim.json":       refused(registrations.UnknownClaim, "ConfirmRequested", ""),
		"rejected_reservation_expired.json": refused(registrations.ReservationExpired, "ConfirmRequested", ""),
		"rejected_not_owner.json":           refused(registrations.NotOwner, "ReleaseRequested", ""),
		"rejected_wrong_state.json":         refused(registrations.WrongState, "DeactivateRequested", "the name is reserved"),
		"rejected_cooling_down.json":        rejected(registrations.CoolingDown),
		"rejected_confusable.json":          rejected(registrations.Confusable),
		"rejected_limit_exceeded.json":      refused(registrations.LimitExceeded, "ExtendRequested", "a reservation holds for at most 604800 seconds in this space"),
	}
}

// The files are the contract of topic two. A committed outcome may be published again by any later version, so what is
// in them never changes: new rules bring new files.
func TestGolden(t *testing.T) {
	files := golden()
	for file, o := range files {
		t.Run(file, func(t *testing.T) {
			path := filepath.Join("testdata", file)
			eventtest.Check(t, path, o.Record(), *update)
			read, err := registrations.Decode(eventtest.Read(t, path))
			if err != nil {
				t.Fatal(err)
			}
			if read != o {
				t.Errorf("got  %+v\nwant %+v", read, o)
			}
		})
	}
	kept, err := filepath.Glob("testdata/*.json")
	if err != nil || len(kept) != len(files) {
		t.Errorf("%d golden files for %d outcomes, %v", len(kept), len(files), err)
	}
}

var everyReason = []registrations.Reason{
	registrations.Malformed, registrations.NotAllowed, registrations.UnknownSpace, registrations.DeadlinePassed,
	registrations.ClaimWithdrawn, registrations.InvalidName, registrations.InvalidRequest, registrations.ReservedWord,
	registrations.NameBlocked, registrations.UnknownClaim, registrations.ReservationExpired, registrations.NotOwner,
	registrations.VersionConflict, registrations.WrongState, registrations.CoolingDown, registrations.Confusable,
	registrations.Taken, registrations.LimitExceeded,
}

// everyType is every outcome and fact that is published, but for Rejected.
var everyType = []registrations.Type{
	registrations.Accepted, registrations.Confirmed, registrations.Extended, registrations.Released, registrations.Withdrawn,
	registrations.Deactivated, registrations.Reactivated, registrations.Transferred, registrations.Blocked, registrations.Unblocked,
	registrations.Erased, registrations.Expired,
}

// Every outcome, and every reason that these rules give, is in a golden file.
func TestGoldenIsComplete(t *testing.T) {
	types, reasons := make(map[registrations.Type]bool), make(map[registrations.Reason]bool)
	for _, o := range golden() {
		types[o.Type], reasons[o.Reason] = true, true
	}
	for _, what := range everyType {
		if !types[what] {
			t.Errorf("no file of %s", what)
		}
		if want := "dibs." + string(what) + ".v1"; what.EventType() != want {
			t.Errorf("%s is %s", what, what.EventType())
		}
	}
	for _, why := range everyReason {
		if !reasons[why] {
			t.Errorf("no file of %s", why)
		}
	}
}

// The list is closed: callers switch on it.
func TestReasons(t *testing.T) {
	var spelt []string
	for _, r := range everyReason {
		spelt = append(spelt, string(r))
	}
	const want = "malformed not_allowed unknown_space deadline_passed withdrawn invalid_name invalid_request reserved_word blocked " +
		"unknown_claim reservation_expired not_owner version_conflict wrong_state cooling_down confusable taken limit_exceeded"
	if got := strings.Join(spelt, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func drawOutcome(t *rapid.T) registrations.Outcome {
	text, number := rapid.String(), rapid.Int64Min(0)
	id := func(label string) (id uuid.UUID) {
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label))
		return id
	}
	o := registrations.Outcome{
		Type: registrations.Accepted, RequestID: id("request id"), ClaimID: id("claim id"), Fact: rapid.Bool().Draw(t, "fact"),
		Ref:  names.Ref{Space: names.Space(text.Draw(t, "space")), Key: names.Key(text.Draw(t, "key"))},
		Name: text.Draw(t, "name"), Owner: text.Draw(t, "owner"),
		LogTime:       time.UnixMilli(rapid.Int64Range(0, 253402300799999).Draw(t, "log time")).UTC(), // to the end of 9999
		PolicyVersion: rapid.IntMin(0).Draw(t, "policy version"), Partition: rapid.Int32Min(0).Draw(t, "partition"),
		LogEpoch: number.Draw(t, "log epoch"), Offset: number.Draw(t, "offset"),
	}
	copy(o.RequestHash[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash"))
	if rapid.Bool().Draw(t, "rejected") {
		o.Type, o.Reason = registrations.Rejected, rapid.SampledFrom(everyReason).Draw(t, "reason")
		if o.Reason == registrations.VersionConflict {
			o.CurrentVersion = number.Draw(t, "current version")
		}
		o.Detail = text.Draw(t, "detail")
	} else {
		o.Type = rapid.SampledFrom(everyType).Draw(t, "type")
		o.State, o.Version = registrations.State(text.Draw(t, "state")), number.Draw(t, "version")
		if rapid.Bool().Draw(t, "expires") {
			o.ExpiresAt = time.UnixMilli(rapid.Int64Range(0, 253402300799999).Draw(t, "expires at")).UTC()
		}
	}
	o.Request = text.Draw(t, "request")
	return o
}

func TestOutcomeReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawOutcome(t)
		r := want.Record()
		read, err := registrations.Decode(r)
		if err != nil || read != want {
			t.Fatalf("%s\ngot  %+v, %v\nwant %+v", r.Value, read, err, want)
		}
		if again := read.Record(); !reflect.DeepEqual(again, r) {
			t.Fatalf("published again it is\n%+v\nand was\n%+v", again, r)
		}
		id, ok := registrations.PeekRequestID(r.Value)
		if ok == want.Fact || ok && id != want.RequestID {
			t.Fatalf("%s: PeekRequestID says %s, %v", r.Value, id, ok)
		}
	})
}

// The record around the value.
func TestOutcomeRecord(t *testing.T) {
	o := accepted()
	r := o.Record()
	if string(r.Key) != "username/alice" || !r.Time.Equal(decidedAt) {
		t.Errorf("key %q at %v", r.Key, r.Time)
	}
	e, err := cloudevents.ReadEvent(r)
	want := cloudevents.Event{ID: o.ID(), Type: "dibs.Accepted.v1", Source: "dibs", Subject: "username/alice", Time: decidedAt}
	if err != nil || e != want {
		t.Errorf("got  %+v, %v\nwant %+v", e, err, want)
	}
	// The same in another zone is the same.
	zoned := o
	zoned.LogTime = decidedAt.In(time.FixedZone("", 3600))
	if again := zoned.Record(); !bytes.Equal(again.Value, r.Value) || !reflect.DeepEqual(again.Headers, r.Headers) {
		t.Errorf("in another zone it is %s", again.Value)
	}
}

// An outcome is about its request; the usual text of a reason is not stored, and comes back.
func TestUsualDetail(t *testing.T) {
	for reason, want := range map[registrations.Reason]string{
		registrations.Taken:          "the name is taken",
		registrations.ReservedWord:   "the name is reserved",
		registrations.UnknownSpace:   "there is no such space",
		registrations.DeadlinePassed: "the request came after its deadline; use a new id or Idempotency-Key",
		registrations.InvalidName:    "",

		registrations.NotAllowed:         "the request must be signed, and has no signature that holds",
		registrations.ClaimWithdrawn:     "the claim was withdrawn; use a new id or Idempotency-Key",
		registrations.NameBlocked:        "the name is blocked",
		registrations.UnknownClaim:       "the claim holds nothing here",
		registrations.ReservationExpired: "the reservation has expired",
		registrations.NotOwner:           "the name is not held by this owner",
		registrations.CoolingDown:        "the name was released a short while ago",
	} {
		o := rejected(reason)
		if got := o.FullDetail(); got != want {
			t.Errorf("%s: %q, want %q", reason, got, want)
		}
		o.Detail = "in particular"
		if got := o.FullDetail(); got != "in particular" {
			t.Errorf("%s: %q", reason, got)
		}
		o.Detail = want
		if read, err := registrations.Decode(o.Record()); err != nil || read.Detail != "" {
			t.Errorf("%s: the usual detail was read as %q, %v", reason, read.Detail, err)
		}
	}
}

// A fact names its cause and no request: nobody takes it for the answer.
func TestFact(t *testing.T) {
	o := accepted()
	o.Fact, o.Seq = true, 1
	r := o.Record()
	if !bytes.HasPrefix(r.Value, []byte(`{"cause":"`+o.RequestID.String()+`",`)) || bytes.Contains(r.Value, []byte("request_id")) {
		t.Errorf("%s", r.Value)
	}
	if id, ok := registrations.PeekRequestID(r.Value); ok {
		t.Errorf("taken for the outcome of %s", id)
	}
	read, err := registrations.Decode(r)
	o.Seq = 0 // the value does not say
	if err != nil || read != o {
		t.Errorf("got  %+v, %v\nwant %+v", read, err, o)
	}
}

// The literals were computed with another implementation of UUID version 5.
func TestEventID(t *testing.T) {
	o := accepted()
	for want, change := range map[string]func(*registrations.Outcome){
		"34e22fed-80b8-5a80-9ac3-22d822ceeaae": func(*registrations.Outcome) {},
		"cd37c63b-e8cd-500f-8952-a52729a0e0e5": func(o *registrations.Outcome) { o.Seq = 1 },
		"27e56851-ba75-59b0-af2f-1736bf202b60": func(o *registrations.Outcome) { o.Seq = 12 },
		"c352e83c-261d-5722-92ef-258e3e9b6b25": func(o *registrations.Outcome) { o.Type = registrations.Rejected },
	} {
		o := o
		change(&o)
		if got := o.ID(); got != uuid.MustParse(want) {
			t.Errorf("%s/%d: %s, want %s", o.Type, o.Seq, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		o := drawOutcome(t)
		o.Type = registrations.Type(rapid.StringN(0, 80, -1).Draw(t, "type"))
		o.Seq = rapid.Int().Draw(t, "seq")
		want := uuid.NewSHA1(o.RequestID, []byte(o.Type.EventType()+"/"+strconv.Itoa(o.Seq)))
		if got := o.ID(); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
		o.Name, o.Offset, o.Partition = "other", o.Offset/2, 3 // not part of it: a copy has the same
		if got := o.ID(); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}

// What is empty is left out, not written as nothing.
func TestOutcomeLeavesOutWhatIsAbsent(t *testing.T) {
	o := rejected(registrations.Malformed)
	o.ClaimID, o.Name, o.Owner, o.Ref = uuid.Nil, "", "", names.Ref{Key: "stray"}
	const want = `{"request_id":"6f0c3a52-8f4e-4c1d-9b7a-2f6d1e5c4b3a","key":"stray","outcome":"Rejected","reason":"malformed","log_time":`
	if r := o.Record(); !bytes.HasPrefix(r.Value, []byte(want)) || string(r.Key) != "stray" {
		t.Errorf("%s under %s", r.Value, r.Key)
	}
}

func TestDecodeRefuses(t *testing.T) {
	o := accepted()
	good := string(o.Record().Value)
	with := func(old, text string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%s has no %s", good, old)
		}
		return strings.Replace(good, old, text, 1)
	}
	for name, value := range map[string]string{
		"empty":                "",
		"null":                 "null",
		"no object":            "[]",
		"no fields":            "{}",
		"cut off":              good[:len(good)-1],
		"something behind":     good + "x",
		"a field twice":        with(`"space":"username"`, `"space":"username","space":"username"`),
		"invalid UTF-8":        with(`"Alice"`, "\"\xff\""),
		"no request id":        with(`"request_id":`, `"request":`),
		"request id no UUID":   with(`"request_id":"6`, `"request_id":"x`),
		"claim id no UUID":     with(`"claim_id":"6`, `"claim_id":"x`),
		"no log time":          with(`"log_time":`, `"time":`),
		"log time no time":     with(`"log_time":"2026`, `"log_time":"x`),
		"no hash":              with(`"request_hash":`, `"hash":`),
		"hash no hex":          with(`"request_hash":"00`, `"request_hash":"0x`),
		"hash too short":       with(`"request_hash":"00`, `"request_hash":"`),
		"hash too long":        with(`"request_hash":"00`, `"request_hash":"0000`),
		"version a string":     with(`"version":1`, `"version":"1"`),
		"offset no whole":      with(`"offset":4711`, `"offset":47.11`),
		"partition over int32": with(`"partition":7`, `"partition":4294967296`),
	} {
		t.Run(name, func(t *testing.T) {
			read, err := registrations.Decode(cloudevents.Record{Key: []byte("username/alice"), Value: []byte(value)})
			if err == nil || read != (registrations.Outcome{}) {
				t.Fatalf("read as %+v, %v", read, err)
			}
			if !strings.HasPrefix(err.Error(), `decode outcome of "username/alice": `) {
				t.Errorf("error %q does not say of what", err)
			}
		})
	}
	// Where both are, it is an outcome: PeekRequestID, which hands it out, sees the first only.
	if read, err := registrations.Decode(cloudevents.Record{Value: []byte(with(`"space"`, `"cause":"x","space"`))}); err != nil || read != o {
		t.Errorf("with a cause besides: %+v, %v", read, err)
	}
	// A later version may add fields: they are passed over.
	if read, err := registrations.Decode(cloudevents.Record{Value: []byte(with(`"space"`, `"later":{"a":[1]},"Space":"x","space"`))}); err != nil || read != o {
		t.Errorf("with a new field: %+v, %v", read, err)
	}
}

func TestPeekRequestID(t *testing.T) {
	const id = "6f0c3a52-8f4e-4c1d-9b7a-2f6d1e5c4b3a"
	for value, want := range map[string]bool{
		`{"request_id":"` + id + `"`:             true,
		`{"request_id":"` + id + `","x":1}`:      true,
		"":                                       false,
		`{"request_id":"`:                        false,
		`{"request_id":"` + id:                   false,
		`{"request_id":"` + id[:35] + `"`:        false,
		`{"request_id":"` + id + `x"`:            false,
		`{"request_id":"{` + id[:34] + `}"`:      false,
		`{"request_id":"x` + id[1:] + `"`:        false,
		`{"cause":"` + id + `"`:                  false,
		` {"request_id":"` + id + `"`:            false,
		`{"space":"a","request_id":"` + id + `"`: false,
	} {
		got, ok := registrations.PeekRequestID([]byte(value))
		if ok != want || ok && got.String() != id || !ok && got != uuid.Nil {
			t.Errorf("%s: %s, %v", value, got, ok)
		}
	}
}

func TestHeld(t *testing.T) {
	for state, want := range map[registrations.State]bool{
		"": false, registrations.Free: false, registrations.Registered: true, registrations.Reserved: true, registrations.Inactive: true,
		registrations.Cooling: false, registrations.StateBlocked: false,
	} {
		if h := (registrations.Holding{State: state}); h.Held() != want {
			t.Errorf("%q: held %v", state, h.Held())
		}
	}
}

// What holds a name for a while is over at that very time, and nothing else ever is.
func TestDue(t *testing.T) {
	for _, state := range []registrations.State{
		"", registrations.Free, registrations.Registered, registrations.Reserved, registrations.Inactive, registrations.Cooling, registrations.StateBlocked,
	} {
		h := registrations.Holding{State: state, ExpiresAt: decidedAt}
		passing := state == registrations.Reserved || state == registrations.Cooling
		for after, want := range map[time.Duration]bool{-time.Millisecond: false, 0: passing, time.Hour: passing} {
			if got := h.Due(decidedAt.Add(after)); got != want {
				t.Errorf("%q, %v after its time: due %v", state, after, got)
			}
		}
	}
}

func TestDecodeRefusesExpiry(t *testing.T) {
	o := accepted()
	o.ExpiresAt = decidedAt.Add(time.Hour)
	r := o.Record()
	if read, err := registrations.Decode(r); err != nil || read != o {
		t.Fatalf("%+v, %v", read, err)
	}
	r.Value = bytes.Replace(r.Value, []byte(`"expires_at":"2026`), []byte(`"expires_at":"soon`), 1)
	if read, err := registrations.Decode(r); err == nil || !strings.Contains(err.Error(), "expires_at") || read != (registrations.Outcome{}) {
		t.Errorf("%+v, %v", read, err)
	}
}

// FuzzDecode: there is no panic, and what is read is published as what reads the same.
func FuzzDecode(f *testing.F) {
	for _, o := range golden() {
		f.Add(o.Record().Value)
	}
	f.Add([]byte(`{"request_id":"6F0C3A528F4E4C1D9B7A2F6D1E5C4B3A","log_time":"2026-11-21T10:00:00+01:00","request_hash":"00"}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		peeked, ok := registrations.PeekRequestID(value)
		read, err := registrations.Decode(cloudevents.Record{Value: value})
		if err != nil {
			return
		}
		if ok && (read.Fact || read.RequestID != peeked) {
			t.Fatalf("%q: PeekRequestID says %s, Decode %s", value, peeked, read.RequestID)
		}
		if year := read.LogTime.UTC().Year(); year < 0 || year > 9999 {
			return // not ours to write
		}
		r := read.Record()
		again, err := registrations.Decode(r)
		if err != nil {
			t.Fatalf("%q was read as %+v, written as %s, and that is refused: %v", value, read, r.Value, err)
		}
		if back := again.Record(); !reflect.DeepEqual(back, r) {
			t.Fatalf("%q was published as\n%s\nand then as\n%s", value, r.Value, back.Value)
		}
	})
}

func BenchmarkOutcome(b *testing.B) {
	for name, o := range map[string]registrations.Outcome{"accepted": accepted(), "taken": rejected(registrations.Taken)} {
		r := o.Record()
		b.Run("Record/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				o.Record()
			}
		})
		b.Run("Decode/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := registrations.Decode(r); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("PeekRequestID/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				registrations.PeekRequestID(r.Value)
			}
		})
	}
}
