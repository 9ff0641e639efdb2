package processor_test

import (
	"regexp"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
)

func asksToErase(body claims.Body) bool {
	_, is := body.(*claims.ErasureRequested)
	return is
}

// erased is what an erasure makes of a name: "changed" to next, the "same" as it was erased before, or nothing at all, for it is
// not the owner's.
func (y *reference) erased(n *life, owner string, mine bool, p *names.Policy) (next life, what string) {
	free, cooling := n.state == "" && n.version > 0, n.state == "cooling"
	left := n.previous == owner
	switch {
	case mine && n.state != "reserved" && p.CoolDown > 0:
		return life{state: "cooling", claim: n.claim, until: y.now.Add(p.CoolDown), erased: true}, "changed"
	case cooling && left:
		return life{state: "cooling", claim: n.claim, until: n.until, erased: true}, "changed"
	case mine, free && left, free && n.previous == "" && !n.erased:
		return life{until: time.Time{}, erased: true}, "changed"
	case free && n.previous == "":
		return life{}, "same"
	}
	return life{}, ""
}

// needsSignature lists the requests that not everybody who may write may make.
func needsSignature(body claims.Body) bool {
	switch b := body.(type) {
	case *claims.BlockRequested, *claims.UnblockRequested, *claims.ExpiryDue, *claims.ErasureRequested, *claims.SignupVoted:
		return true
	case *claims.ReleaseRequested:
		return b.Actor != ""
	case *claims.TransferRequested:
		return b.Actor != ""
	}
	return false
}

// ownerOf is whom a request speaks for.
func ownerOf(body claims.Body) string {
	owner, _ := field(body, "Owner").(string)
	return owner
}

// prints tell requests with one id apart: by what they ask. Which one counts depends on whether the name had a key when
// it was asked first. The first is that of a name without one, as of now.
func (y *reference) prints(m processor.Message, q claims.Request, p *names.Policy, spelling string) []string {
	if q.Body == nil {
		principal, _ := m.Header(cloudevents.Principal)
		return []string{strings.Join([]string{"unread", q.Type, string(principal), string(m.Key), string(m.Value)}, "\x00")}
	}
	space, _ := q.Body.Name()
	typed := names.Ref{Space: space, Key: names.Key(string(m.Key) + "\x01" + spelling)}
	var all []string
	add := func(ref names.Ref, policies names.Policies) {
		h := claims.HashOf(q.Body, ref, q.Principal, policies)
		all = append(all, string(h[:]))
	}
	add(typed, y.policies)
	if p == nil {
		return all
	}
	add(typed, nil)
	if key := claims.KeyOf(q.Body); key != "" {
		add(names.Ref{Space: space, Key: key}, y.policies)
	} else if key, err := p.HeldKey(spelling); err == nil {
		add(names.Ref{Space: space, Key: key}, y.policies)
	}
	return all
}

// privateKey is how a key of a private space is spelt.
var privateKey = regexp.MustCompile(`^h([1-9][0-9]{0,8}):[0-9a-f]{64}$`)

// another reports whether a request is about a name that nobody has, and that only looks like the one that is held.
func (y *reference) another(n *life, p *names.Policy, q claims.Request) bool {
	held := n.state == "registered" || n.state == "reserved" || n.state == "inactive"
	if _, isClaim := q.Body.(*claims.UsernameClaimed); !held || q.ID.Version() == 8 && !isClaim {
		return false
	}
	_, spelling := q.Body.Name()
	return !p.Same(spelling, n.name)
}
