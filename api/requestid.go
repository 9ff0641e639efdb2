package api

import (
	"encoding/binary"

	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// requestIDs is the namespace of the ids that are derived from an Idempotency-Key:
// uuid5(URL namespace, "https://github.com/dibs-hq/dibs/request-id"). It never changes.
var requestIDs = uuid.MustParse("cd54bd74-4d68-5cb0-950e-e2f44a030a1c")

// What an Idempotency-Key is for: the same key for two operations makes two requests.
const (
	operationClaim    = "claim"
	operationRename   = "rename"
	operationWithdraw = "withdraw"
)

// meant is the name that an id is derived of: of names with one key, each has ids of its own.
func meant(policies names.Policies, ref names.Ref, name string) names.Ref {
	if p := policies[ref.Space]; p != nil {
		if canonical := p.Asked(name, ref.Key); canonical != "" {
			ref.Key = names.Key(canonical)
		}
	}
	return ref
}

// derivedID is the request id of an operation that came with an Idempotency-Key: version 5 over the parts, each with its
// length before it, so that no two lists of parts look alike. claim is the id in the path, empty where there is none.
func derivedID(principal, operation, claim string, ref names.Ref, idempotencyKey string) uuid.UUID {
	b := make([]byte, 0, 128)
	for _, part := range [...]string{principal, operation, claim, string(ref.Space), string(ref.Key), idempotencyKey} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return uuid.NewSHA1(requestIDs, b)
}
