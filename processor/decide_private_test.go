package processor_test

import (
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
)

var (
	pepper = []byte("thirty-two bytes that nobody has")
	// emailPolicy is that of a private space, at pepper 2.
	emailPolicy = func() *names.Policy {
		p := *names.Builtin()[names.Username]
		p.Space, p.Reserved, p.MaxLength, p.Private = "email", nil, 254, &names.Private{Form: names.FormEmail}
		return p.WithPepper(2, pepper)
	}()
	rulesEmail = processor.Rules{Partitions: 48, Policies: names.Builtin().With(emailPolicy), Keys: rules48.Keys}
)

// emailKey is the key of an address.
func emailKey(address string) names.Key {
	key, err := emailPolicy.PrivateKey(pepper, names.Value{Name: address})
	if err != nil {
		panic(err)
	}
	return key
}

// privately makes a claim one of a key in the private space.
func privately(key names.Key) func(*claims.UsernameClaimed) {
	return func(c *claims.UsernameClaimed) { c.Space, c.Spelling, c.Key = "email", "", key }
}

// TestDecidePrivate: in a private space the key is what is asked for, and there is no name.
func TestDecidePrivate(t *testing.T) {
	ada, bob := emailKey("ada@example.com"), emailKey("bob@example.com")
	stale := names.Key(strings.Replace(string(ada), "h2:", "h1:", 1))
	at := func(recordKey string) int32 { return claims.Partition(recordKey, 48) }
	on := at("email/" + string(ada))
	raw := func(c *claims.UsernameClaimed) { c.Space, c.Spelling = "email", "ada@example.com" }
	replacing := func(r claims.Replaces) func(*claims.UsernameClaimed) {
		return func(c *claims.UsernameClaimed) {
			privately(ada)(c)
			c.Replaces = &r
		}
	}
	for what, c := range map[string]struct {
		asking
		on   int32
		want string
		key  string // of the record that is forwarded, and of the outcome
	}{
		"where it belongs":             {asking{key: "email/" + string(ada), more: privately(ada)}, on, "Accepted", "email/" + string(ada)},
		"elsewhere":                    {asking{key: "email/" + string(ada), more: privately(ada)}, (on + 1) % 48, "forwarded", "email/" + string(ada)},
		"under another key":            {asking{key: "email/" + string(bob), more: privately(ada)}, on, "Accepted", "email/" + string(ada)},
		"under another key, elsewhere": {asking{key: "email/x", more: privately(ada)}, (on + 1) % 48, "forwarded", "email/" + string(ada)},
		"another pepper":               {asking{key: "email/" + string(stale), more: privately(stale)}, at("email/" + string(stale)), "invalid_name", "email/" + string(stale)},
		"another pepper, elsewhere":    {asking{key: "email/" + string(stale), more: privately(stale)}, (at("email/"+string(stale)) + 1) % 48, "forwarded", "email/" + string(stale)},
		"no key at all":                {asking{key: "email/nope", more: privately("nope")}, at("email/nope"), "invalid_name", "email/nope"},
		"in capitals":                  {asking{key: "email/nope", more: privately(names.Key(strings.ToUpper(string(ada))))}, at("email/nope"), "invalid_name", "email/nope"},
		"a name":                       {asking{key: "email/nope", more: raw}, at("email/nope"), "invalid_name", "email/nope"},
		"a name, elsewhere":            {asking{key: "email/nope", more: raw}, (at("email/nope") + 1) % 48, "forwarded", "email/nope"},
		"a name beside a key":          {asking{key: "email/nope", value: []byte(`{"space":"email","name":"ada@example.com","key":"` + string(ada) + `","owner":"u-1","mode":"register"}`)}, at("email/nope"), "invalid_name", "email/nope"},
		"a key in a space of names":    {asking{key: "username/alice", value: []byte(`{"space":"username","key":"alice","owner":"u-1","mode":"register"}`)}, onAlice, "malformed", "username/alice"},
		"a key in no space":            {asking{key: "nope/x", value: []byte(`{"space":"nope","key":"` + string(ada) + `","owner":"u-1","mode":"register"}`)}, at("nope/x"), "unknown_space", "nope/x"},
		"replaces a name":              {asking{key: "email/" + string(ada), more: replacing(claims.Replaces{Name: "bob@example.com", Version: 1})}, on, "invalid_request", "email/" + string(ada)},
		"replaces no key":              {asking{key: "email/" + string(ada), more: replacing(claims.Replaces{Key: "bob@example.com", Version: 1})}, on, "invalid_request", "email/" + string(ada)},
		"replaces a key":               {asking{key: "email/" + string(ada), more: replacing(claims.Replaces{Key: bob, Version: 1})}, on, "Accepted", "email/" + string(ada)},
		"replaces a key of old":        {asking{key: "email/" + string(ada), more: replacing(claims.Replaces{Key: stale, Version: 1})}, on, "Accepted", "email/" + string(ada)},
		"a name replaces a key":        {asking{name: "alice", key: "username/alice", more: func(c *claims.UsernameClaimed) { c.Replaces = &claims.Replaces{Key: "bob", Version: 1} }}, onAlice, "invalid_request", "username/alice"},
	} {
		a := c.asking
		a.id, a.owner = "c1", "u-1"
		d := processor.Decide(processor.Ledger{Partition: c.on, LogEpoch: 1, Rules: rulesEmail}, receiveAll(rulesEmail, 5, a))
		if kinds(d) != c.want {
			t.Errorf("%s: %s, want %s", what, kinds(d), c.want)
			continue
		}
		row := d.Rows[0]
		if row.Kind == processor.KindForwarded {
			if string(row.Raw.Key) != c.key {
				t.Errorf("%s: forwarded under %s, want %s", what, row.Raw.Key, c.key)
			}
			continue
		}
		if got := row.Outcome.Ref.RecordKey(); got != c.key {
			t.Errorf("%s: answered under %s, want %s", what, got, c.key)
		}
		if text := string(row.Outcome.AppendJSON(nil)); strings.Contains(text, "@") || strings.HasPrefix(c.key, "email/") && row.Outcome.Name != "" {
			t.Errorf("%s: the outcome tells %s", what, text)
		}
		if strings.HasPrefix(what, "replaces a key") && (row.FollowUp == nil || row.FollowUp.Ref.Space != "email") {
			t.Errorf("%s: what follows is %+v", what, row.FollowUp)
		}
	}
}

// TestDecidePrivateAgain: a request that came before its space was there is the same when it comes again; and what is held
// since an earlier pepper can be given up.
func TestDecidePrivateAgain(t *testing.T) {
	ada := emailKey("ada@example.com")
	on := claims.Partition("email/"+string(ada), 48)
	a := asking{id: "c1", owner: "u-1", key: "email/" + string(ada), more: privately(ada)}
	before := processor.Decide(processor.Ledger{Partition: on, LogEpoch: 1, Rules: rules48}, receiveAll(rules48, 5, a))
	l := carried(processor.Ledger{Partition: on, LogEpoch: 1, Rules: rulesEmail}, before)
	if d := processor.Decide(l, receiveAll(rulesEmail, 6, a)); kinds(before) != "unknown_space" || kinds(d) != "duplicate" {
		t.Errorf("%s, then %s", kinds(before), kinds(d))
	}
	stale := names.Key(strings.Replace(string(ada), "h2:", "h1:", 1))
	ref := names.Ref{Space: "email", Key: stale}
	on = claims.Partition(ref.String(), 48)
	held := processor.Change{Ref: ref, Holding: registrations.Holding{State: registrations.Registered, Owner: "u-1", Version: 3, ClaimID: idOf("c0"), Partition: on}}
	l = carried(processor.Ledger{Partition: on, LogEpoch: 1, Rules: rulesEmail}, processor.Decision{Changes: []processor.Change{held}})
	m := asking{id: "c2", key: ref.String()}.message(7)
	m.Record = claims.NewRecord(&claims.ReleaseRequested{About: claims.About{Space: "email", Key: stale}, Owner: "u-1"}, cloudevents.Event{ID: idOf("c2"), Source: "test"}, ref)
	if d := processor.Decide(l, []processor.Received{processor.Receive(m, rulesEmail)}); kinds(d) != "Released" {
		t.Errorf("a key of an earlier pepper: %s", kinds(d))
	}
}
