package api

import (
	"net/http"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// reply is what is answered to a request that was published: it is done, or will be. It is the same for all calls.
type reply struct {
	done  *DoneJSONResponse
	later *LaterJSONResponse
}

// replyOf makes an answer of a result. A rejection is an error.
func replyOf(r *Result, applied string) (*reply, error) {
	switch {
	case r.Withdrawing, r.Outcome == nil:
		path := claimPath(r.RequestID, &r.Position)
		if r.Withdrawing {
			path += "&on_timeout=withdraw"
		}
		return &reply{later: &LaterJSONResponse{Body: claimOf(r), Headers: LaterResponseHeaders{
			Location: path, RetryAfter: retryAfter(pollAfter), PreferenceApplied: optional(applied),
		}}}, nil
	case r.Withdrawal != nil, r.Outcome.Type == registrations.Rejected:
		return nil, &rejectedError{Result: *r, applied: applied}
	}
	return &reply{done: &DoneJSONResponse{Body: claimOf(r), Headers: DoneResponseHeaders{
		Location: claimPath(r.RequestID, nil), ETag: etag(r.Outcome.Version),
		IdempotentReplayed: optional(r.Replayed), PreferenceApplied: optional(applied),
	}}}, nil
}

// write writes the answer. The calls share their answers: what is generated for one of them does for all.
func (r *reply) write(w http.ResponseWriter) error {
	if r.later != nil {
		return ConfirmClaim202JSONResponse{*r.later}.VisitConfirmClaimResponse(w)
	}
	return ConfirmClaim200JSONResponse{*r.done}.VisitConfirmClaimResponse(w)
}

// What the generated code asks for.

// VisitConfirmClaimResponse implements ConfirmClaimResponseObject.
func (r *reply) VisitConfirmClaimResponse(w http.ResponseWriter) error { return r.write(w) }

// VisitExtendClaimResponse implements ExtendClaimResponseObject.
func (r *reply) VisitExtendClaimResponse(w http.ResponseWriter) error { return r.write(w) }

// VisitWithdrawClaimResponse implements WithdrawClaimResponseObject.
func (r *reply) VisitWithdrawClaimResponse(w http.ResponseWriter) error { return r.write(w) }

// VisitReleaseNameResponse implements ReleaseNameResponseObject.
func (r *reply) VisitReleaseNameResponse(w http.ResponseWriter) error { return r.write(w) }

// VisitRenameNameResponse implements RenameNameResponseObject.
func (r *reply) VisitRenameNameResponse(w http.ResponseWriter) error { return r.write(w) }

// VisitTransferNameResponse implements TransferNameResponseObject.
func (r *reply) VisitTransferNameResponse(w http.ResponseWriter) error { return r.write(w) }

// VisitDeactivateNameResponse implements DeactivateNameResponseObject.
func (r *reply) VisitDeactivateNameResponse(w http.ResponseWriter) error { return r.write(w) }

// VisitReactivateNameResponse implements ReactivateNameResponseObject.
func (r *reply) VisitReactivateNameResponse(w http.ResponseWriter) error { return r.write(w) }

// VisitAdminReleaseNameResponse implements AdminReleaseNameResponseObject.
func (r *reply) VisitAdminReleaseNameResponse(w http.ResponseWriter) error { return r.write(w) }

// VisitAdminTransferNameResponse implements AdminTransferNameResponseObject.
func (r *reply) VisitAdminTransferNameResponse(w http.ResponseWriter) error { return r.write(w) }

// VisitBlockNameResponse implements BlockNameResponseObject.
func (r *reply) VisitBlockNameResponse(w http.ResponseWriter) error { return r.write(w) }

// VisitUnblockNameResponse implements UnblockNameResponseObject.
func (r *reply) VisitUnblockNameResponse(w http.ResponseWriter) error { return r.write(w) }

// about is the claim that a result is about, as far as that is known.
func (r *Result) about() uuid.UUID {
	switch {
	case r.Outcome != nil && r.Outcome.ClaimID != uuid.Nil:
		return r.Outcome.ClaimID
	case r.ClaimID != uuid.Nil:
		return r.ClaimID
	}
	return r.RequestID
}

// claimOf is how a request reads. Of a pending one that was found by its position there is nothing more to say.
func claimOf(r *Result) Claim {
	said := &struct {
		kind                    ClaimType
		space, key, name, owner string
		decided                 time.Time
	}{kind: ClaimType(claims.ShortType(r.Type)), space: string(r.Ref.Space), key: string(r.Ref.Key), name: r.Name, owner: r.Owner}
	if r.Type == claims.TypeUsernameClaimed {
		said.kind = UsernameClaimed
	}
	c := Claim{
		RequestID: r.RequestID.String(), Type: unlessZero(&said.kind), State: ClaimStatePending,
		Space: unlessZero(&said.space), Key: unlessZero(&said.key), Name: unlessZero(&said.name), Owner: unlessZero(&said.owner),
		Partition: r.Position.Partition, LogEpoch: r.Position.LogEpoch, Offset: r.Position.Offset,
	}
	if c.ClaimID = c.RequestID; r.about() != r.RequestID {
		c.ClaimID = r.about().String()
	}
	o := r.Outcome
	switch {
	case r.Withdrawing:
		c.State = ClaimStateWithdrawing
		return c
	case r.Withdrawal != nil:
		c.State, o = ClaimStateWithdrawn, r.Withdrawal
	case o == nil:
		return c
	default:
		c.State = ClaimStateAccepted
		said.name, said.owner = o.Name, o.Owner
		c.Name, c.Owner = unlessZero(&said.name), unlessZero(&said.owner)
	}
	said.decided = o.LogTime.UTC()
	c.DecidedAt, c.Partition, c.LogEpoch, c.Offset = &said.decided, o.Partition, o.LogEpoch, o.Offset
	if o.Type == registrations.Rejected {
		c.State, c.Reason, c.Detail = ClaimStateRejected, new(RejectionReason(o.Reason)), optional(o.FullDetail())
		if o.Reason == registrations.VersionConflict {
			c.CurrentVersion = &o.CurrentVersion
		}
		return c
	}
	c.Version = &o.Version
	if !o.ExpiresAt.IsZero() {
		c.ExpiresAt = new(o.ExpiresAt.UTC())
	}
	c.FollowUp = followUpOf(r.FollowUp)
	return c
}

// followUpOf is how the release of what was given up reads.
func followUpOf(f *GivenUp) *FollowUp {
	if f == nil {
		return nil
	}
	told := &FollowUp{
		RequestID: f.Request.String(), Space: string(f.Ref.Space), Key: string(f.Ref.Key), Version: f.Version, State: FollowUpStatePending,
	}
	switch o := f.Outcome; {
	case o == nil:
	case o.Type == registrations.Rejected:
		told.State, told.Reason, told.Detail = FollowUpStateRejected, new(RejectionReason(o.Reason)), optional(o.FullDetail())
	default:
		told.State = FollowUpStateReleased
	}
	return told
}

// claimPath is where a claim can be read; at makes it readable while it is pending.
func claimPath(id uuid.UUID, at *Position) string {
	path := "/v1/claims/" + id.String()
	if at != nil {
		path += "?at=" + at.String()
	}
	return path
}
