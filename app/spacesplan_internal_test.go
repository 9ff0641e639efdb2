package app

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
)

// withKeys is a deployment of two partitions, by somebody whose file has these keys.
func withKeys(ids ...string) *Deployment {
	d := &Deployment{Policies: names.Builtin(), Contract: postgres.Contract{Partitions: 2}}
	d.Config.Security.RequireSignatures = config.SignPrivileged
	if len(ids) > 0 {
		d.Keys = auth.RequestKeys{All: make(claims.Keys), Signing: claims.SigningKey{ID: ids[0], Secret: []byte(ids[0])}}
	}
	for _, id := range ids {
		d.Keys.All[id] = []byte(id)
		d.Keys.Order = append(d.Keys.Order, id)
	}
	return d
}

// usernames is a version of the space username, with another shortest name.
func usernames(version, shortest int) *names.Policy {
	p := *names.Builtin()[names.Username]
	p.Version, p.MinLength = version, shortest
	return &p
}

// standing is the row of a partition in which a policy holds, with these keys.
func standing(partition int32, p *names.Policy, keys ...string) processor.Standing {
	f := &processor.InForce{Policies: names.Policies{p.Space: p}, Rules: claims.Rules, Keys: keys}
	return processor.Standing{Fence: processor.Fence{Partition: partition}, InForce: f}
}

// TestOrderOfKeys: each step of a rotation, and what is refused of those in another order.
func TestOrderOfKeys(t *testing.T) {
	now, next := usernames(2, 3), usernames(3, 3)
	both := func(keys ...string) []processor.Standing {
		return []processor.Standing{standing(0, now, keys...), standing(1, now, keys...)}
	}
	half := func(zero, one []string) []processor.Standing {
		return []processor.Standing{standing(0, now, zero...), standing(1, now, one...)}
	}
	for name, test := range map[string]struct {
		file []string
		rows []processor.Standing
		why  error
		says string
	}{
		"at the start":                       {[]string{"k2", "k1"}, nil, nil, ""},
		"2: the new one alone":               {[]string{"k2"}, both("k1"), ErrUnsigned, "A new one comes beside one that holds"},
		"2: the new one first":               {[]string{"k2", "k1"}, both("k1"), nil, ""},
		"2: the same, gone on with":          {[]string{"k2", "k1"}, half([]string{"k2", "k1"}, []string{"k1"}), nil, ""},
		"2: the new one behind":              {[]string{"k1", "k2"}, both("k1"), nil, ""},
		"3: the old one retired":             {[]string{"k2"}, both("k2", "k1"), nil, ""},
		"3: and the next one brought":        {[]string{"k3", "k2"}, both("k2", "k1"), nil, ""},
		"3: the same, gone on with":          {[]string{"k2"}, half([]string{"k2"}, []string{"k2", "k1"}), nil, ""},
		"3: where the old one signs":         {[]string{"k2"}, both("k1", "k2"), ErrTooEarly, "dibs signs with k1, which would be retired: put it back into security.request_keys_file, behind k2"},
		"3: before the new one holds in all": {[]string{"k2"}, half([]string{"k2", "k1"}, []string{"k1"}), ErrUnsigned, "holds in every partition"},
		"3: where a third one holds in all":  {[]string{"k2", "k3"}, half([]string{"k2", "k3", "k1"}, []string{"k1", "k3"}), nil, ""},
		"retired, and back":                  {[]string{"k1"}, both("k2"), ErrUnsigned, "no key of security.request_keys_file holds in every partition"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := withKeys(test.file...).planSpaces(test.rows, 2, []*names.Policy{next})
			if !errors.Is(err, test.why) || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v, want %v: %s", err, test.why, test.says)
			}
		})
	}
}

// TestPlanOfPrivateSpaces: a space is private from its first version on, or never, with or without a pepper for it.
func TestPlanOfPrivateSpaces(t *testing.T) {
	private := usernames(3, 3)
	private.Private = &names.Private{Form: names.FormEmail}
	d := withKeys("k1")
	rows := []processor.Standing{standing(0, usernames(2, 3), "k1"), standing(1, usernames(2, 3), "k1")}
	const says = "is private or it is not, from its first version on, and version 2 holds in partition 0. That needs a new space"
	if _, err := d.planSpaces(rows, 2, []*names.Policy{private}); !errors.Is(err, ErrMovesKeys) || !strings.Contains(err.Error(), says) {
		t.Errorf("a plain space is made private without a pepper: %v", err)
	}
	private.Space = "email"
	if _, err := d.planSpaces(rows, 2, []*names.Policy{private}); !errors.Is(err, ErrNoPepper) {
		t.Errorf("a new one, without a pepper: %v", err)
	}
}

// TestPlanOfWhatAnOlderDibsApplied: the same file again is no change, although it is written otherwise now.
func TestPlanOfWhatAnOlderDibsApplied(t *testing.T) {
	of := func(by names.ReservedBy) *names.Policy {
		p := usernames(2, 3)
		var err error
		if p.Form, err = (names.Precis{Tables: names.TablesLatest, Reserved: by}).Form(); err != nil {
			t.Fatal(err)
		}
		p.Reserved = p.ReservedKeys("admin", "root")
		return p
	}
	before, now := of(names.ReservedByForm), of(names.ReservedByLook)
	rows := []processor.Standing{standing(0, before, "k1"), standing(1, before, "k1")}
	if plan, err := withKeys("k1").planSpaces(rows, 2, []*names.Policy{now}); err != nil || !plan.Done() {
		t.Errorf("%+v, %v", plan, err)
	}
	if _, err := withKeys("k1").planSpaces(rows[:1], 2, []*names.Policy{now}); !errors.Is(err, ErrNotRaised) || !strings.Contains(err.Error(), "make this 3") {
		t.Errorf("half applied: %v", err)
	}
	now.Reserved = now.ReservedKeys("admin")
	if _, err := withKeys("k1").planSpaces(rows, 2, []*names.Policy{now}); !errors.Is(err, ErrNotRaised) {
		t.Errorf("with another word: %v", err)
	}
}

// TestPlanOfEveryPartition: those that were added to the topic are published to as well.
func TestPlanOfEveryPartition(t *testing.T) {
	plan, err := withKeys("k1").planSpaces(nil, 4, []*names.Policy{usernames(2, 3)})
	if err != nil || len(plan.Changes[0].Pending) != 4 {
		t.Errorf("%+v, %v", plan, err)
	}
	rows := []processor.Standing{standing(0, usernames(2, 3), "k1"), standing(1, usernames(2, 3), "k1")}
	rows[0].InForce.SignedOnly = true
	if _, err := withKeys("k1").planSpaces(rows, 4, []*names.Policy{usernames(2, 3)}); !errors.Is(err, ErrNotRaised) {
		t.Errorf("every request is signed in partition 0, which would stay so: %v", err)
	}
	rows[1].InForce = &processor.InForce{Unreadable: "why"}
	if _, err := withKeys("k1").planSpaces(rows, 4, []*names.Policy{usernames(3, 3)}); !errors.Is(err, ErrUnsigned) || !strings.Contains(err.Error(), "partition 1 cannot be read") {
		t.Errorf("a partition that cannot be read: %v", err)
	}
}

// TestTakenIsAllOfIt: a change holds where all that it says does, and not what somebody else has said.
func TestTakenIsAllOfIt(t *testing.T) {
	plan, err := withKeys("k1", "k2").planSpaces(nil, 1, []*names.Policy{usernames(2, 4)})
	if err != nil {
		t.Fatal(err)
	}
	at := func(p *names.Policy, change func(*processor.Standing), keys ...string) processor.Standing {
		row := standing(0, p, keys...)
		if change != nil {
			change(&row)
		}
		return row
	}
	for name, test := range map[string]struct {
		row  processor.Standing
		want bool
		says string
	}{
		"all of it":          {at(usernames(2, 4), nil, "k1", "k2"), true, ""},
		"not yet":            {processor.Standing{Fence: processor.Fence{NextOffset: 7}}, false, ""},
		"passed over":        {processor.Standing{Fence: processor.Fence{NextOffset: 8}}, false, "has passed offset 7"},
		"halted":             {processor.Standing{Halted: "why"}, false, "halted: why"},
		"other content":      {at(usernames(2, 8), nil, "k1", "k2"), false, "with other content: somebody else has published it, or an earlier run that was broken off. Make this 3"},
		"a higher version":   {at(usernames(3, 4), nil, "k1", "k2"), false, "version 3 of space username holds in partition 0 by now"},
		"other keys":         {at(usernames(2, 4), nil, "k1"), false, "the keys k1, k2"},
		"in another order":   {at(usernames(2, 4), nil, "k2", "k1"), false, "the keys k1, k2"},
		"other signatures":   {at(usernames(2, 4), func(s *processor.Standing) { s.InForce.SignedOnly = true }, "k1", "k2"), false, "security.require_signatures privileged"},
		"other rules":        {at(usernames(2, 4), func(s *processor.Standing) { s.InForce.Rules++ }, "k1", "k2"), false, fmt.Sprintf("rules %d", claims.Rules)},
		"all of it, halted ": {at(usernames(2, 4), func(s *processor.Standing) { s.Halted = "behind it" }, "k1", "k2"), true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := plan.taken(plan.Changes[0], names.Builtin(), test.row, 7)
			if got != test.want || (err != nil) != (test.says != "") || err != nil && (!errors.Is(err, ErrNotTaken) || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("%v, %v; want %v, %s", got, err, test.want, test.says)
			}
		})
	}
}

// TestStartWithRetiredKeys: who has only keys that do not hold any more signs what nobody takes.
func TestStartWithRetiredKeys(t *testing.T) {
	rows := []processor.Standing{standing(0, usernames(2, 3), "k1", "k2"), standing(1, usernames(2, 3), "k2"), standing(2, usernames(2, 3), "k9")}
	for name, test := range map[string]struct {
		d         *Deployment
		processor bool
		says      string
	}{
		"an API with the retired one":        {withKeys("k1"), false, "in partition 1 signatures hold that are made with k2"},
		"an API with one of them":            {withKeys("k1", "k2"), false, ""},
		"an API that never signs":            {withKeys(), false, ""},
		"a processor that lacks one of them": {withKeys("k2", "k9"), true, "partition 0: signatures of the key k1"},
		"a processor, beyond the count":      {withKeys("k1", "k2"), true, "partition 2: signatures of the key k9"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := test.d.lacks(rows, test.processor); (err != nil) != (test.says != "") || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v, want %q", err, test.says)
			}
		})
	}
}
