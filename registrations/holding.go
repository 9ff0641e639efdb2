package registrations

import (
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// Holding is what is recorded of a name. The zero Holding is that of a name never held.
type Holding struct {
	State         State
	Name          string // as typed
	Owner         string // of a name that is held
	ClaimID       uuid.UUID
	Version       int64
	PolicyVersion int
	Since         time.Time // log time of the last change
	Partition     int32     // whose writer may change it

	// Erased: whoever had it last was erased, and nobody has had it since. Once it is free not even its key is kept.
	Erased bool
	// Settled: the name has changed since ClaimID registered it, or no claim did; nobody can withdraw it any more.
	Settled bool
	// ExpiresAt is when a reservation or a cool-down is over.
	ExpiresAt time.Time
	// Previous may come back: who released a name that is cooling, or deactivated one that is free since.
	Previous string
	// Replaces is what a reservation gives up when it is confirmed, at that version; empty for nothing.
	Replaces        names.Key
	ReplacesVersion int64
	// Signup has the reservation: nothing ends it but what that sign-up decides. When ExpiresAt is over, it is asked again.
	Signup uuid.UUID
	// Ballot is that of a sign-up, as text.
	Ballot string
}

// Held reports whether somebody has the name.
func (h *Holding) Held() bool {
	return h.State == Registered || h.State == Reserved || h.State == Inactive
}

// Hidden reports whether not even the key is kept: it is stored in the form that an Eraser gives.
func (h *Holding) Hidden() bool { return h.State == Free && h.Erased }

// Due reports whether what holds the name for a while is over at a log time.
func (h *Holding) Due(at time.Time) bool { return h.Signup == uuid.Nil && h.Asked(at) }

// Asked reports whether it is time for a sweeper to ask about the name: what holds it for a while is over, or the sign-up
// that has it is to be asked again.
func (h *Holding) Asked(at time.Time) bool {
	return (h.State == Reserved || h.State == Cooling) && !at.Before(h.ExpiresAt)
}
