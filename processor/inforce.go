package processor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
)

// InForce is what holds in a partition by what its log has said so far. It is a part of the partition's row: a fail-over
// takes it back with everything else, and the same records bring it again. It is never changed; nil is what holds before
// the first PolicyActivated.
type InForce struct {
	// Policies are those that were activated, beside or in place of the ones that hold from the start.
	Policies names.Policies
	// Rules is the version of the rules to decide by.
	Rules int
	// Keys are the ids of the keys that signatures may be made with.
	Keys []string
	// SignedOnly: every request must be signed.
	SignedOnly bool
	// Unreadable is why the row's part cannot be read; else it is empty. Nothing is decided under it.
	Unreadable string

	lacking error // why a policy that holds is not among Policies; nil where all are
}

// with returns what holds behind an activation. Rules never go down: what was decided by newer ones is there.
func (f *InForce) with(a *claims.PolicyActivated) *InForce {
	next := &InForce{Rules: a.Rules, Keys: a.Keys, SignedOnly: a.SignedOnly}
	var before names.Policies
	if f != nil {
		before = f.Policies
		next.Rules = max(f.Rules, a.Rules)
	}
	if next.Policies, next.lacking = before, a.Lacking; a.Policy != nil { // else it asks for what is not known here
		next.Policies = before.With(a.Policy)
	}
	return next
}

// rules is the version of the rules to decide by: the first, before any was activated.
func (f *InForce) rules() int {
	if f == nil {
		return 1
	}
	return f.Rules
}

// Over returns the policies where f holds, whose log began with those of start.
func (f *InForce) Over(start names.Policies) names.Policies {
	if f == nil {
		return start
	}
	all := make(names.Policies, len(start)+len(f.Policies))
	maps.Copy(all, start)
	maps.Copy(all, f.Policies)
	return all
}

// Lacking says why this build cannot follow one of the policies that hold; nil where it can follow all. The error wraps
// names.ErrTables.
func (f *InForce) Lacking() error {
	if f == nil {
		return nil
	}
	return f.lacking
}

// Equal reports whether the same holds.
func (f *InForce) Equal(other *InForce) bool {
	return f == other || f != nil && other != nil && bytes.Equal(f.JSON(), other.JSON())
}

// JSON is how it is stored.
func (f *InForce) JSON() []byte {
	if f.Unreadable != "" { // only to be shown
		why, _ := json.Marshal(f.Unreadable)
		return fmt.Appendf(nil, `{"unreadable":%s}`, why)
	}
	signatures := "privileged"
	if f.SignedOnly {
		signatures = "all"
	}
	keys, _ := json.Marshal(f.Keys) // of strings
	b := fmt.Appendf(nil, `{"rules":%d,"keys":%s,"signatures":%q,"spaces":{`, f.Rules, keys, signatures)
	for i, space := range slices.Sorted(maps.Keys(f.Policies)) {
		if i > 0 {
			b = append(b, ',')
		}
		p := f.Policies[space]
		b = p.AppendJSON(fmt.Appendf(b, `%q:{"version":%d,"policy":`, space, p.Version)) // a space is plain ASCII
		b = append(b, '}')
	}
	return append(b, "}}"...)
}

// ReadInForce reads what JSON wrote. The order of fields does not matter.
func ReadInForce(text []byte) (*InForce, error) {
	var stored struct {
		Rules      int      `json:"rules"`
		Keys       []string `json:"keys"`
		Signatures string   `json:"signatures"`
		Spaces     map[names.Space]struct {
			Version int             `json:"version"`
			Policy  json.RawMessage `json:"policy"`
		} `json:"spaces"`
	}
	if err := json.Unmarshal(text, &stored); err != nil {
		return nil, fmt.Errorf("read what holds in a partition: %w", err)
	}
	f := &InForce{Policies: make(names.Policies, len(stored.Spaces)), Rules: stored.Rules, Keys: stored.Keys, SignedOnly: stored.Signatures == "all"}
	if f.Rules > claims.Rules {
		return f, nil // its policies are for those who know these rules
	}
	for space, s := range stored.Spaces {
		p, err := names.ReadPolicy(space, s.Version, s.Policy)
		if errors.Is(err, names.ErrTables) {
			f.lacking = fmt.Errorf("space %s: %w", space, err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read what holds in a partition: space %s: %w", space, err)
		}
		f.Policies[space] = p
	}
	return f, nil
}

// LackingError says that what holds asks for something that this process has not got.
type LackingError struct {
	Rules      int      // 0 where they are known
	Keys       []string // ids of keys without a secret
	Unreadable string   // why what holds cannot be read
	Secret     bool     // that names are erased with
	Tables     error    // what is wrong with the Unicode tables of a policy; nil for nothing
}

func (e *LackingError) Error() string {
	if e.Unreadable != "" {
		return e.Unreadable + ": this dibs did not write it so: run the newest one that has run here, or mend the row; then dibs partitions resume"
	}
	if e.Secret {
		return "an erasure is asked for, and this process has no secret to keep erased names under: set security.erasure_secret_file, the same for all, and restart, then dibs partitions resume"
	}
	if e.Tables != nil {
		return fmt.Sprintf("a policy holds from here on that this dibs cannot follow: %v: run one that has them, then dibs partitions resume", e.Tables)
	}
	if e.Rules > 0 {
		return fmt.Sprintf("rules %d hold from here on, and this dibs knows rules %d: run a newer one, then dibs partitions resume", e.Rules, claims.Rules)
	}
	return fmt.Sprintf("signatures of the key %s hold from here on, and this process has no such key: add it to security.request_keys_file and restart, then dibs partitions resume",
		strings.Join(e.Keys, ", "))
}

// Under returns the rules as they are where f holds. The error is a *LackingError.
func (r Rules) Under(f *InForce) (Rules, error) {
	if f == nil {
		return r, nil
	}
	if f.Unreadable != "" {
		return r, &LackingError{Unreadable: f.Unreadable}
	}
	if f.Rules > claims.Rules {
		return r, &LackingError{Rules: f.Rules}
	}
	if f.lacking != nil {
		return r, &LackingError{Tables: f.lacking}
	}
	keys, lacking := r.Keys.Only(f.Keys)
	if len(lacking) > 0 {
		return r, &LackingError{Keys: lacking}
	}
	r.Keys, r.SignedOnly = keys, f.SignedOnly
	r.Policies = f.Over(r.Policies)
	return r, nil
}

// Regime is what holds at a position: the row's part, and the rules that follow from it for this process.
type Regime struct {
	base    Rules
	InForce *InForce
	Rules   Rules
}

// NewRegime returns what holds where f does. The error is a *LackingError.
func NewRegime(base Rules, f *InForce) (Regime, error) {
	rules, err := base.Under(f)
	return Regime{base, f, rules}, err
}

// Behind returns what holds behind a record that was received under this regime. The error is a *LackingError: the
// record must not be decided here.
func (g Regime) Behind(r *Received) (Regime, error) {
	if a := r.activates(g.Rules.Policies); a != nil {
		return NewRegime(g.base, g.InForce.with(a))
	}
	return g, nil
}

// ReceiveAll reads records of one partition, in order, each under what holds where it lies. It stops before one that
// asks for what this process lacks, with a *LackingError. It is pure.
func ReceiveAll(messages []Message, g Regime) ([]Received, error) {
	all := make([]Received, len(messages))
	for i := range messages {
		r := &all[i]
		if *r = Receive(messages[i], g.Rules); r.activation == nil {
			if g.Rules.Eraser == nil && r.signed && r.erases() {
				return all[:i], &LackingError{Secret: true}
			}
			continue
		}
		next, err := g.Behind(r)
		if err != nil {
			return all[:i], err
		}
		g = next
	}
	return all, nil
}

// activates returns what a record makes hold from now on, if the policies before it are these: a version that is not
// higher makes no difference.
func (r *Received) activates(policies names.Policies) *claims.PolicyActivated {
	a := r.activation
	if a == nil || a.Version <= policies.Version(a.Space) {
		return nil
	}
	return a
}
