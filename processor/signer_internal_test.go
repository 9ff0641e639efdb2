package processor

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// TestOwnRequestsHoldEverywhere: a follow-up, and what the sweeper asks, is signed with a key that holds in whatever
// partition it arrives; also while keys are on their way to the partitions, and where one asks for a key that is lacking here.
func TestOwnRequestsHoldEverywhere(t *testing.T) {
	keys := claims.Keys{"k1": []byte("one"), "k2": []byte("two")}
	rules := Rules{Partitions: 2, Policies: names.Builtin(), Keys: keys}
	for _, held := range [][][]string{
		{nil, nil},
		{{"k1"}, {"k1"}},
		{{"k1", "k2"}, nil},
		{{"k1"}, {"k2", "k1"}},       // k2 is on its way
		{{"k2", "k1"}, {"k2", "k1"}}, // and everywhere
		{{"k2"}, {"k2", "k1"}},       // k1 is on its way out
		{{"k2", "k1"}, {"k2"}},
		{{"k2"}, {"k2", "k9"}}, // which halts the second
	} {
		l := &lane{rules: rules, signing: claims.SigningKey{ID: "k1", Secret: keys["k1"]}}
		rows := make([]Standing, len(held))
		for p, ids := range held {
			if rows[p].Partition = int32(p); ids != nil {
				rows[p].InForce = &InForce{Rules: 1, Keys: ids}
			}
		}
		l.signWith(rows)
		released := FollowUp{Claim: uuid.UUID{6: 0x40, 8: 0x80, 15: 1}, Ref: names.Ref{Space: names.Username, Key: "old"}, Owner: "u-1", Version: 1}
		row := Row{Kind: KindOutcome, FollowUp: &released, Outcome: registrations.Outcome{Type: registrations.Accepted, Ref: names.Ref{Space: names.Username, Key: "new"}}}
		claim, now := uuid.New(), time.Now()
		question := &claims.ExpiryDue{About: claims.About{Space: names.Username, Spelling: "x"}, ClaimID: claim, ExpiresAt: now}
		sent := append(l.outputs(nil, Fence{}, []Row{row})[1:], l.own(question, claims.ExpiryID(claim, now), names.Ref{Space: names.Username, Key: "x"}, now))
		for _, there := range rows {
			regime, err := NewRegime(rules, there.InForce)
			if err != nil {
				continue // it is halted
			}
			for _, o := range sent {
				if r := Receive(Message{Record: o.Record}, regime.Rules); r.err != nil {
					t.Errorf("%v hold, signed with %s, dead in partition %d: %v", held, l.signer.Load().ID, there.Partition, r.err)
				}
			}
		}
	}
}

// keysRecord says which keys hold, and lets nobody take anything over.
type keysRecord struct {
	Record
	held []string
}

func (r *keysRecord) Standings(context.Context, []int32) ([]Standing, error) {
	return []Standing{{InForce: &InForce{Rules: 1, Keys: r.held}}}, nil
}

func (r *keysRecord) Acquire(context.Context, int32, uuid.UUID) (Standing, error) {
	return Standing{}, errors.New("not now")
}

// TestKeysOfALaneThatOwnedNothing: what it takes over it signs with what holds by then. The former owner's follow-ups are the
// first that it publishes.
func TestKeysOfALaneThatOwnedNothing(t *testing.T) {
	keys := claims.Keys{"k1": []byte("one"), "k2": []byte("two")}
	record := &keysRecord{held: []string{"k1", "k2"}}
	cfg := Config{Rules: Rules{Partitions: 1, Policies: names.Builtin(), Keys: keys}, Signing: claims.SigningKey{ID: "k1", Secret: keys["k1"]}}
	cfg.Clock, cfg.Log = machineClock{}, slog.New(slog.DiscardHandler)
	cfg.Limits = Limits{}.withDefaults()
	l := newLane(cfg, nil, record, nil, newMetrics(nil))
	l.beside = func(f func()) { f() }
	for _, held := range [][]string{{"k1", "k2"}, {"k2", "k1"}, {"k2"}} {
		record.held = held
		l.takeOver(t.Context(), 0)
		l.takenOver(t.Context())
		if got := l.signer.Load().ID; got != held[0] {
			t.Errorf("%v hold: signs with %s", held, got)
		}
	}
}
