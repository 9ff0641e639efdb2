package processor_test

import (
	"bytes"
	"maps"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
)

// spaceInvoice is not there from the start.
const spaceInvoice = names.Space("invoice-number")

// activate is an operator who changes what holds, in all partitions or not, or somebody who would like to.
func (c *clients) activate(sent) {
	w := c.w
	if len(c.activations) > 0 && w.r.IntN(4) == 0 {
		c.send(w.r.Int32N(int32(w.rates.partitions)), one(w, c.activations...)) // once more, where it may be new or long over
		w.sometimes("asked: a policy of a version that holds")
		return
	}
	a := c.nextPolicy(one(w, names.Username, names.Username, spaceHandle, spaceVanity, spaceAlike, spaceSecret, spaceInvoice))
	key := simSigning
	if w.r.IntN(3) == 0 { // which holds or not, by what was activated before
		key = claims.SigningKey{ID: "k2", Secret: simKeys["k2"]}
	}
	r, err := a.Record("test", w.clock(), key)
	if err != nil {
		panic(err)
	}
	switch w.r.IntN(10) {
	case 0:
		r = c.forgedPolicy(r)
	case 1:
		r = c.brokenPolicy(r)
	}
	if bytes.Contains(r.Value, []byte(unstorableOwner)) {
		c.unstorablePolicies[claims.ActivationID(r.Value)] = true
		w.sometimes("asked: a policy that cannot be stored")
	}
	c.activations = append(c.activations, r)
	w.sometimes("asked: a policy")
	for p := range int32(w.rates.partitions) {
		if w.r.IntN(8) > 0 {
			c.send(p, r)
		}
	}
}

// signedLate is what an administrator signs with the late key where that holds: who has not got it must not answer. Where
// none was activated it would depend on the process.
func (c *clients) signedLate(sent) {
	w := c.w
	for tries := 8; c.lateKeyAsked && tries > 0; tries-- {
		about := c.about(c.space(), c.spelling())
		q := c.new(one[claims.Body](w,
			&claims.ReleaseRequested{About: about, Actor: "root", Reason: "a bug"},
			&claims.UnblockRequested{About: about, Actor: "root", Reason: "settled"},
			&claims.TransferRequested{About: about, Actor: "root", Reason: "bought", NewOwner: c.owner()},
		))
		if w.db.lateKeyHolds(q.partition()) {
			r := claims.SigningKey{ID: lateKey, Secret: simKeys[lateKey]}.Sign(q.record())
			r.Time = c.stamp()
			c.write(q.partition(), r)
			w.sometimes("asked: signed with the late key")
			return
		}
	}
}

// nextPolicy makes up the next version of a space's policy, or one of before.
func (c *clients) nextPolicy(space names.Space) *claims.PolicyActivated {
	w := c.w
	made := c.policies[space]
	if len(made) > 0 && w.r.IntN(6) == 0 {
		return one(w, made...)
	}
	p := *simPolicies()[names.Username]
	p.Space, p.Version = space, 1
	if q := simPolicies()[space]; q != nil {
		p = *q
		p.Version = 2
	}
	if n := len(made); n > 0 {
		p.Version = made[n-1].Version + 1 + w.r.IntN(2)
	}
	p.MinLength = one(w, 1, 2, 3, 3, 5, 6)
	p.MaxLength = one(w, 6, 32, 32, 64)
	p.Reserved = map[names.Key]struct{}{"root": {}, one[names.Key](w, "erin", "alice", "zed"): {}}
	if w.r.IntN(10) == 0 {
		p.Reserved[unstorableOwner] = struct{}{}
	}
	if p.Form != nil {
		words := p.ReservedWords()
		p.Reserved = make(map[names.Key]struct{})
		for _, word := range words {
			maps.Copy(p.Reserved, p.ReservedKeys(string(word)))
		}
	}
	if p.Private != nil {
		private := *p.Private
		private.Pepper = one(w, 1, 1, 2)
		p.Reserved, p.Private = nil, &private
	}
	p.CoolDown = time.Duration(w.r.IntN(4)) * time.Second
	p.PreviousMayReturn = w.r.IntN(2) == 0
	p.UniqueAmong = one(w, names.AmongAll, names.AmongActive)
	p.LongestTTL = one(w, 6*time.Second, 9*time.Second)
	a := &claims.PolicyActivated{
		Space: space, Version: p.Version, Policy: &p, Rules: claims.Rules, Keys: one(w, []string{"k1"}, []string{"k1", "k2"}, []string{"k1", "k2"}), SignedOnly: w.r.IntN(15) == 0,
	}
	if p.Form == nil && p.Private == nil && w.r.IntN(2) == 0 {
		a.Rules = 1
	}
	if w.r.IntN(12) == 0 {
		a.Keys = []string{"k1", "k2", lateKey}
		c.lateKeyAsked = true
	}
	c.policies[space] = append(made, a)
	return a
}

// forgedPolicy is one that nobody may bring: unsigned, signed with a key that is none, or changed since.
func (c *clients) forgedPolicy(r cloudevents.Record) cloudevents.Record {
	c.w.sometimes("asked: a policy, not signed as one")
	switch c.w.r.IntN(3) {
	case 0:
		r.Headers = r.Headers[:len(r.Headers)-1]
		return r
	case 1:
		return one(c.w, wrongKey, strangeKey).Sign(r)
	}
	r.Value = bytes.Replace(r.Value, []byte(`"unique_among":"all"`), []byte(`"unique_among":"active"`), 1)
	r.Value = append(r.Value, ' ')
	return r
}

// brokenPolicy is signed, and says what cannot be.
func (c *clients) brokenPolicy(r cloudevents.Record) cloudevents.Record {
	c.w.sometimes("asked: a policy that cannot be read")
	change := one(c.w,
		[2]string{`"min_length":`, `"min_length":-`}, [2]string{`"reserved":[`, `"reserved":["Not A Key",`}, [2]string{`"unique_among"`, `"unique"`},
		[2]string{`"rules":`, `"rules":-`}, [2]string{`"keys":[`, `"keys":["k1",`}, [2]string{`{"space"`, `{"spice"`}, [2]string{`}`, ``},
	)
	r.Value = bytes.Replace(r.Value, []byte(change[0]), []byte(change[1]), 1)
	return simSigning.Sign(r)
}
