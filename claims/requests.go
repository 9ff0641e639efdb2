package claims

import (
	"fmt"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// The ce_types of the requests. (UsernameClaimed is a historical name: every space uses it.)
const (
	TypeUsernameClaimed     = "dibs.UsernameClaimed.v1"
	TypeConfirmRequested    = "dibs.ConfirmRequested.v1"
	TypeExtendRequested     = "dibs.ExtendRequested.v1"
	TypeReleaseRequested    = "dibs.ReleaseRequested.v1"
	TypeWithdrawRequested   = "dibs.WithdrawRequested.v1"
	TypeDeactivateRequested = "dibs.DeactivateRequested.v1"
	TypeReactivateRequested = "dibs.ReactivateRequested.v1"
	TypeTransferRequested   = "dibs.TransferRequested.v1"
	TypeBlockRequested      = "dibs.BlockRequested.v1"
	TypeUnblockRequested    = "dibs.UnblockRequested.v1"
	TypeErasureRequested    = "dibs.ErasureRequested.v1"
	TypeExpiryDue           = "dibs.ExpiryDue.v1"
	TypePolicyActivated     = "dibs.PolicyActivated.v1"
)

// ShortType is the type of a request as outcomes tell it: its name, but nothing for UsernameClaimed, which most are.
func ShortType(ceType string) string {
	if ceType == TypeUsernameClaimed {
		return ""
	}
	return strings.TrimSuffix(strings.TrimPrefix(ceType, "dibs."), ".v1")
}

// Limits on what the requests beside a claim carry, in bytes.
const (
	MaxActor  = 255
	MaxReason = 500
)

// About is what every request beside a claim says: the name it is about, and until when it is to be decided.
type About struct {
	Space    names.Space
	Spelling string    // the name, in any of its spellings
	Key      names.Key // in place of a name: in a private space, and where dibs asks itself about a key that need not be a name
	Deadline time.Time // zero: decided however late
}

// Name implements Body.
func (a *About) Name() (names.Space, string) { return a.Space, a.Spelling }

// Until implements Body.
func (a *About) Until() time.Time { return a.Deadline }

func (a *About) fields() fields {
	if a.Key != "" {
		return fields{Space: a.Space, Spelling: string(a.Key), byKey: true, Deadline: a.Deadline}
	}
	return fields{Space: a.Space, Spelling: a.Spelling, Deadline: a.Deadline}
}

func (a *About) key() names.Key { return a.Key }

// AboutKey is what dibs asks itself about a name that it knows by its key. Most keys are names, which every version of dibs
// can read.
func AboutKey(ref names.Ref) About {
	if ref.Key.Plain() {
		return About{Space: ref.Space, Spelling: string(ref.Key)}
	}
	return About{Space: ref.Space, Key: ref.Key}
}

// KeyOf is the key that a request gives in place of a name; empty for nearly all.
func KeyOf(b Body) names.Key {
	if by, ok := b.(interface{ key() names.Key }); ok {
		return by.key()
	}
	return ""
}

// Asked is what a request is about as it was asked: the key, or the name.
func Asked(b Body) string {
	if key := KeyOf(b); key != "" {
		return string(key)
	}
	_, spelling := b.Name()
	return spelling
}

// ErrNoName is what is wrong with a request that gives a key in place of a name, where the space is not private and it is
// not dibs' own.
var ErrNoName = &MalformedError{"name", "is missing"}

// ConfirmRequested makes a registration of the reservation that a claim got.
type ConfirmRequested struct {
	About
	ClaimID uuid.UUID
	Owner   string
}

// ExtendRequested moves the expiry of a reservation: to TTLSeconds from now, if that is later.
type ExtendRequested struct {
	About
	ClaimID    uuid.UUID
	Owner      string
	TTLSeconds int64
}

// ReleaseRequested gives a name up: by its owner, or by an actor, who says why and is privileged.
type ReleaseRequested struct {
	About
	Owner           string
	ExpectedVersion *int64
	Actor, Reason   string
}

// WithdrawRequested undoes a claim that nobody waits for any more, also one that has not been seen yet.
type WithdrawRequested struct {
	About
	ClaimID uuid.UUID
	Owner   string
}

// DeactivateRequested says that the owner is not active any more. What becomes of the name the space's policy says.
type DeactivateRequested struct {
	About
	Owner           string
	ExpectedVersion *int64
}

// ReactivateRequested takes a deactivation back.
type ReactivateRequested struct {
	About
	Owner           string
	ExpectedVersion *int64
}

// TransferRequested hands a name over without ever freeing it: by its owner, or by an actor, who says why and is
// privileged.
type TransferRequested struct {
	About
	Owner           string
	NewOwner        string
	ExpectedVersion *int64
	Actor, Reason   string
}

// BlockRequested takes a name away from everybody. It is privileged.
type BlockRequested struct {
	About
	Actor, Reason string
}

// UnblockRequested frees a blocked name. It is privileged.
type UnblockRequested struct {
	About
	Actor, Reason string
}

// ErasureRequested frees a name that is the owner's, and has everything wiped that is kept of the two together; of a name
// that is somebody else's by now, what is kept of the owner's time. It is privileged.
type ErasureRequested struct {
	About
	Owner         string
	Actor, Reason string
}

// ExpiryDue asks to look whether the reservation or cool-down of a claim is over. It comes from a processor and is
// privileged.
type ExpiryDue struct {
	About
	ClaimID   uuid.UUID
	ExpiresAt time.Time
}

// Type implements Body.
func (*ConfirmRequested) Type() string { return TypeConfirmRequested }

// Type implements Body.
func (*ExtendRequested) Type() string { return TypeExtendRequested }

// Type implements Body.
func (*ReleaseRequested) Type() string { return TypeReleaseRequested }

// Type implements Body.
func (*WithdrawRequested) Type() string { return TypeWithdrawRequested }

// Type implements Body.
func (*DeactivateRequested) Type() string { return TypeDeactivateRequested }

// Type implements Body.
func (*ReactivateRequested) Type() string { return TypeReactivateRequested }

// Type implements Body.
func (*TransferRequested) Type() string { return TypeTransferRequested }

// Type implements Body.
func (*BlockRequested) Type() string { return TypeBlockRequested }

// Type implements Body.
func (*UnblockRequested) Type() string { return TypeUnblockRequested }

// Type implements Body.
func (*ErasureRequested) Type() string { return TypeErasureRequested }

// Type implements Body.
func (*ExpiryDue) Type() string { return TypeExpiryDue }

// Privileged implements Body.
func (r *ReleaseRequested) Privileged() bool { return r.Actor != "" }

// Privileged implements Body.
func (r *TransferRequested) Privileged() bool { return r.Actor != "" }

// Privileged implements Body.
func (*BlockRequested) Privileged() bool { return true }

// Privileged implements Body.
func (*UnblockRequested) Privileged() bool { return true }

// Privileged implements Body.
func (*ErasureRequested) Privileged() bool { return true }

// Privileged implements Body.
func (*ExpiryDue) Privileged() bool { return true }

// Privileged implements Body: most requests may come from anybody who may write.
func (*About) Privileged() bool { return false }

func (r *ConfirmRequested) fields() fields {
	f := r.About.fields()
	f.ClaimID, f.Owner = r.ClaimID, r.Owner
	return f
}

func (r *ExtendRequested) fields() fields {
	f := r.About.fields()
	f.ClaimID, f.Owner, f.TTLSeconds = r.ClaimID, r.Owner, &r.TTLSeconds
	return f
}

func (r *ReleaseRequested) fields() fields {
	f := r.About.fields()
	f.Owner, f.ExpectedVersion, f.Actor, f.Reason = r.Owner, r.ExpectedVersion, r.Actor, r.Reason
	return f
}

func (r *WithdrawRequested) fields() fields {
	f := r.About.fields()
	f.ClaimID, f.Owner = r.ClaimID, r.Owner
	return f
}

func (r *DeactivateRequested) fields() fields {
	f := r.About.fields()
	f.Owner, f.ExpectedVersion = r.Owner, r.ExpectedVersion
	return f
}

func (r *ReactivateRequested) fields() fields {
	f := r.About.fields()
	f.Owner, f.ExpectedVersion = r.Owner, r.ExpectedVersion
	return f
}

func (r *TransferRequested) fields() fields {
	f := r.About.fields()
	f.Owner, f.NewOwner, f.ExpectedVersion, f.Actor, f.Reason = r.Owner, r.NewOwner, r.ExpectedVersion, r.Actor, r.Reason
	return f
}

func (r *BlockRequested) fields() fields {
	f := r.About.fields()
	f.Actor, f.Reason = r.Actor, r.Reason
	return f
}

func (r *UnblockRequested) fields() fields {
	f := r.About.fields()
	f.Actor, f.Reason = r.Actor, r.Reason
	return f
}

func (r *ErasureRequested) fields() fields {
	f := r.About.fields()
	f.Owner, f.Actor, f.Reason = r.Owner, r.Actor, r.Reason
	return f
}

func (r *ExpiryDue) fields() fields {
	f := r.About.fields()
	f.ClaimID, f.ExpiresAt = r.ClaimID, r.ExpiresAt
	return f
}

// Validate implements Body.
func (r *ConfirmRequested) Validate() error { return ValidOwner(r.Owner) }

// Validate implements Body.
func (r *ExtendRequested) Validate() error {
	if err := ValidOwner(r.Owner); err != nil {
		return err
	}
	return validTTL(r.TTLSeconds)
}

// Validate implements Body.
func (r *ReleaseRequested) Validate() error {
	return firstError(validBy(r.Owner, r.Actor, r.Reason), validVersion(r.ExpectedVersion))
}

// Validate implements Body.
func (r *WithdrawRequested) Validate() error { return ValidOwner(r.Owner) }

// Validate implements Body.
func (r *DeactivateRequested) Validate() error {
	return firstError(ValidOwner(r.Owner), validVersion(r.ExpectedVersion))
}

// Validate implements Body.
func (r *ReactivateRequested) Validate() error {
	return firstError(ValidOwner(r.Owner), validVersion(r.ExpectedVersion))
}

// Validate implements Body.
func (r *TransferRequested) Validate() error {
	if err := validBy(r.Owner, r.Actor, r.Reason); err != nil {
		return err
	}
	if ValidOwner(r.NewOwner) != nil {
		return &InvalidError{"new_owner", fmt.Sprintf("must be 1 to %d printable ASCII characters", MaxOwner)}
	}
	if r.NewOwner == r.Owner {
		return &InvalidError{"new_owner", "is the owner"}
	}
	return validVersion(r.ExpectedVersion)
}

// Validate implements Body.
func (r *BlockRequested) Validate() error { return validActor(r.Actor, r.Reason) }

// Validate implements Body.
func (r *UnblockRequested) Validate() error { return validActor(r.Actor, r.Reason) }

// Validate implements Body.
func (r *ErasureRequested) Validate() error {
	return firstError(ValidOwner(r.Owner), validActor(r.Actor, r.Reason))
}

// Validate implements Body.
func (r *ExpiryDue) Validate() error { return nil }

// validBy checks who asks: an owner, or an actor with a reason, and not both.
func validBy(owner, actor, reason string) error {
	switch {
	case actor == "" && reason != "":
		return &InvalidError{"reason", "goes with an actor only"}
	case actor == "":
		return ValidOwner(owner)
	case owner != "":
		return &InvalidError{"actor", "does not go with an owner"}
	}
	return validActor(actor, reason)
}

func validActor(actor, reason string) error {
	if !printable(actor, MaxActor) {
		return &InvalidError{"actor", fmt.Sprintf("must be 1 to %d printable ASCII characters", MaxActor)}
	}
	if reason == "" || len(reason) > MaxReason {
		return &InvalidError{"reason", fmt.Sprintf("must be 1 to %d bytes", MaxReason)}
	}
	return nil
}

func validVersion(v *int64) error {
	if v != nil && *v < 0 {
		return &InvalidError{"expected_version", "must be 0 or more"}
	}
	return nil
}

// maxTTL keeps sums of times from overflowing; a policy's longest is far below.
const maxTTL = int64(10 * 366 * 24 * time.Hour / time.Second)

func validTTL(seconds int64) error {
	if seconds < 1 || seconds > maxTTL {
		return &InvalidError{"ttl_seconds", fmt.Sprintf("must be 1 to %d", maxTTL)}
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
