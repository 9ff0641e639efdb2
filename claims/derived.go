package claims

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// ReleaseID is the id of the request that gives up what the claim of a name replaces. It is derived, so that a copy is
// absorbed; of the name as well, because a caller may use one claim id for two names.
func ReleaseID(claim uuid.UUID, of names.Ref) uuid.UUID {
	return derived("release", claim, []byte(of.String()))
}

// ExpiryID is the id of the request to look whether what a claim got is over.
func ExpiryID(claim uuid.UUID, expiresAt time.Time) uuid.UUID {
	return derived("expiry", claim, binary.BigEndian.AppendUint64(nil, uint64(expiresAt.UnixMilli())))
}

// ErasureID is the id of the request to erase what is kept of an owner and a name. as says what that was as of now: what
// comes later is another request's, and a copy is absorbed.
func ErasureID(erasure uuid.UUID, of names.Ref, as string) uuid.UUID {
	return derived("erasure", erasure, []byte(as+"\x00"+of.RecordKey()))
}

// SignupClaimID is the id of the claim by which a sign-up reserves a name.
func SignupClaimID(signup uuid.UUID, of names.Ref) uuid.UUID {
	return derived("signup-claim", signup, []byte(of.String()))
}

// SignupVoteID is the id of the vote that a sign-up's claim leads to, and of the later ones that ask for the sign-up's
// decision again: each when what holds the name until then is over.
func SignupVoteID(claim uuid.UUID, until time.Time) uuid.UUID {
	var more []byte
	if !until.IsZero() {
		more = binary.BigEndian.AppendUint64(nil, uint64(until.UnixMilli()))
	}
	return derived("signup-vote", claim, more)
}

// SignupConfirmID is the id of the request that makes a registration of what a sign-up's claim got.
func SignupConfirmID(claim uuid.UUID) uuid.UUID { return derived("signup-confirm", claim, nil) }

// SignupWithdrawID is the id of the request that gives it up.
func SignupWithdrawID(claim uuid.UUID) uuid.UUID { return derived("signup-withdraw", claim, nil) }

// derived makes an id of version 8.
func derived(what string, claim uuid.UUID, more []byte) uuid.UUID {
	return hashed(what, append(claim[:], more...))
}

// ActivationID is the id of the request that makes a policy hold: of what it says. Its copies, and the records of all
// partitions, have the same.
func ActivationID(value []byte) uuid.UUID { return hashed("policy", value) }

func hashed(what string, of []byte) uuid.UUID {
	b := append(append([]byte("dibs/"), what...), 0)
	sum := sha256.Sum256(append(b, of...))
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// Principal is who dibs' own requests come from.
const Principal = "dibs"
