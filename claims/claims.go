// Package claims is topic one: the requests that somebody puts on it, their envelope, and the partition each belongs on.
//
// It promises that a request reads back as it was written, that what cannot be read is told apart into what can still be
// answered (MalformedError) and what cannot (UnanswerableError), and that key, partition and request hash come out the
// same for every producer in every language. It does no I/O.
package claims

import (
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// Rerouted marks a record that a processor has forwarded to its right partition: it is forwarded once, not twice.
const Rerouted = "dibs-rerouted"

// Limits on what a request carries, in bytes.
const (
	MaxRecord   = 8 << 10
	MaxOwner    = 255
	MaxMetadata = 1 << 10 // as canonical JSON
)

// Mode says what a claim asks for.
type Mode string

// The modes of a claim.
const (
	ModeRegister Mode = "register" // the name, at once
	ModeReserve  Mode = "reserve"  // a reservation that expires unless confirmed
)

// OnConflict says what a claim wants to hear about a name that its owner already holds.
type OnConflict string

// The ways to deal with a name already held by the same owner.
const (
	OnConflictReject OnConflict = ""                // rejected as taken
	OnConflictReturn OnConflict = "return_existing" // accepted, with what is held; nothing changes
)

// Request is one record of the topic, read.
type Request struct {
	cloudevents.Event
	// Rerouted is set on a record that was forwarded before.
	Rerouted bool
	// Body is what is asked; nil where the value could not be read.
	Body Body
}

// Body is what a request asks, by type.
type Body interface {
	// Type is the ce_type of the request.
	Type() string
	// Name is the space and the name, as typed, that the request is about.
	Name() (names.Space, string)
	// Until is the deadline of the request; zero: it is decided however late.
	Until() time.Time
	// Privileged reports whether the request must be signed: who may write to the topic may not ask it for that alone.
	Privileged() bool
	// Validate checks what can be checked without the space's policy. Its error is an *InvalidError.
	Validate() error

	fields() fields
}

// UsernameClaimed asks for a name.
type UsernameClaimed struct {
	Space           names.Space
	Spelling        string    // the name as typed; kept for display
	Key             names.Key // in place of a name, in a private space
	Owner           string
	Mode            Mode
	TTLSeconds      *int64
	Replaces        *Replaces
	ExpectedVersion *int64 // of the claimed name: absent = any, 0 = never held or free, n = exactly n
	OnConflict      OnConflict
	Deadline        time.Time // zero: decided however late
	Metadata        map[string]string
	// Signup is the sign-up that reserves the name, of a claim that dibs makes itself; zero for none.
	Signup uuid.UUID
}

// Replaces names what a rename gives up.
type Replaces struct {
	Name    string
	Key     names.Key // in place of a name, in a private space
	Version int64
}

// Asked is what is given up as it was asked: the key, or the name.
func (r *Replaces) Asked() string {
	if r.Key != "" {
		return string(r.Key)
	}
	return r.Name
}

// Type implements Body.
func (*UsernameClaimed) Type() string { return TypeUsernameClaimed }

// Name implements Body.
func (c *UsernameClaimed) Name() (names.Space, string) { return c.Space, c.Spelling }

// Until implements Body.
func (c *UsernameClaimed) Until() time.Time { return c.Deadline }

// Privileged implements Body.
func (c *UsernameClaimed) Privileged() bool { return false }

func (c *UsernameClaimed) key() names.Key { return c.Key }

func (c *UsernameClaimed) fields() fields {
	f := fields{
		claim: true, Space: c.Space, Spelling: c.Spelling, Owner: c.Owner, Mode: c.Mode, TTLSeconds: c.TTLSeconds, Replaces: c.Replaces,
		ExpectedVersion: c.ExpectedVersion, OnConflict: c.OnConflict, Deadline: c.Deadline, Metadata: c.Metadata, Signup: c.Signup,
	}
	if c.Key != "" {
		f.byKey, f.Spelling = true, string(c.Key)
	}
	return f
}

// InvalidError says which field of a readable request asks for something that cannot be had.
type InvalidError struct{ Field, Detail string }

func (e *InvalidError) Error() string { return e.Field + " " + e.Detail }

// Validate implements Body.
func (c *UsernameClaimed) Validate() error {
	if err := ValidOwner(c.Owner); err != nil {
		return err
	}
	switch c.Mode {
	case ModeRegister, ModeReserve:
	default:
		return &InvalidError{"mode", `must be "register" or "reserve"`}
	}
	if c.OnConflict != OnConflictReject && c.OnConflict != OnConflictReturn {
		return &InvalidError{"on_conflict", `must be "return_existing" or left out`}
	}
	if err := validVersion(c.ExpectedVersion); err != nil {
		return err
	}
	if c.TTLSeconds != nil {
		if c.Mode == ModeRegister {
			return &InvalidError{"ttl_seconds", `does not go with mode "register"`}
		}
		if err := validTTL(*c.TTLSeconds); err != nil {
			return err
		}
	}
	if c.Replaces != nil && c.Replaces.Version < 1 {
		return &InvalidError{"replaces.version", "must be 1 or more"}
	}
	if len(c.Metadata) > 0 && len(appendMetadata(nil, c.Metadata)) > MaxMetadata {
		return &InvalidError{"metadata", fmt.Sprintf("is larger than %d bytes of JSON", MaxMetadata)}
	}
	return nil
}

// ValidUnder checks what these rules ask beyond Validate. Claims that earlier rules decided stand as they were decided.
func (c *UsernameClaimed) ValidUnder(rules int) error {
	if rules >= rulesOneWish && c.Replaces != nil && c.OnConflict != OnConflictReject {
		return &InvalidError{"on_conflict", "does not go with replaces"}
	}
	return nil
}

// ValidOwner checks the id of an owner: 1 to 255 printable ASCII bytes.
func ValidOwner(owner string) error {
	if !printable(owner, MaxOwner) {
		return &InvalidError{"owner", fmt.Sprintf("must be 1 to %d printable ASCII characters", MaxOwner)}
	}
	return nil
}

// printable reports whether s is 1 to most bytes of printable ASCII.
func printable(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// ValidID reports whether a caller may use the id: version 4 or 7 is its own choice, version 5 is derived from an
// Idempotency-Key or by an import. Version 8 is for ids that dibs derives for its own requests, which are signed.
func ValidID(id uuid.UUID) bool {
	v := id.Version()
	return id.Variant() == uuid.RFC4122 && (v == 4 || v == 5 || v == 7)
}

// OwnID reports whether the id is one that dibs derives for its own requests. Unsigned it is nobody's.
func OwnID(id uuid.UUID) bool { return id.Variant() == uuid.RFC4122 && id.Version() == 8 }
