package recordtest

import (
	"strings"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// everySent: what a row sends is read back as it was written, beside outcomes and facts, in small batches and in large ones.
func everySent(h *harness) {
	of := names.Ref{Space: "username", Key: "alice"}
	for partition, size := range []int{1, 100} {
		s := h.acquire(int32(partition))
		var rows []processor.Row
		add := func(seq int, sent processor.Sent, id uuid.UUID) {
			rows = append(rows, processor.Row{Offset: int64(len(rows)), Seq: seq, Kind: processor.KindSent, RequestID: id, Sent: &sent})
		}
		for range size {
			id := uuid.New()
			add(0, processor.Sent{Ref: of, Name: "Alice", Owner: "u-1", Claim: id, Signup: uuid.New()}, id)
			add(0, processor.Sent{Ref: of, Name: "alice", Owner: "u-1", Claim: id, Signup: uuid.New()}, id)
			add(3, processor.Sent{Request: "ConfirmRequested", Ref: of, Owner: "u-1", Claim: id, Signup: uuid.New()}, claims.SignupConfirmID(id))
			add(0, processor.Sent{Request: "WithdrawRequested", Ref: of, Owner: strings.Repeat("o", claims.MaxOwner), Claim: id, Signup: uuid.New()}, claims.SignupWithdrawID(id))
			add(0, processor.Sent{Request: "SignupVoted", Ref: names.Ref{Space: "email", Key: "h1:00ff"}, Owner: "u-1", Claim: id, Signup: uuid.New(), Reason: registrations.Taken, Detail: "the name is taken"}, uuid.New())
			rows = append(rows, processor.Row{Offset: int64(len(rows)), Kind: processor.KindPending, RequestID: uuid.New(), Principal: "gateway"})
			rows = append(rows, accepted(s, int64(len(rows)), "bob"))
		}
		h.commit(batch(s, rows...))
		h.sameRows(h.unpublished(s.Fence, 0), rows)
	}
}
