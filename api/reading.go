package api

import (
	"context"
	"encoding/base64"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/names"
)

// Pages of what is read.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

func limitOf(limit *int32) (int, error) {
	switch {
	case limit == nil:
		return defaultLimit, nil
	case *limit < 1 || *limit > maxLimit:
		return 0, badRequest("limit", "must be 1 to 1000")
	}
	return int(*limit), nil
}

// GetHistory is GET /v1/names/{space}/{name}/history.
func (h *handlers) GetHistory(ctx context.Context, r GetHistoryRequestObject) (GetHistoryResponseObject, error) {
	principal := principalOf(ctx)
	if !principal.InSpace(r.Space) {
		return nil, notAllowed("space", "the key is limited to other spaces")
	}
	limit, err := limitOf(r.Params.Limit)
	if err != nil {
		return nil, err
	}
	from := int64(1)
	if r.Params.From != nil {
		if from = *r.Params.From; from < 0 {
			return nil, badRequest("from", "must be 0 or more")
		}
	}
	ref, entries, next, err := h.claimer.History(ctx, names.Space(r.Space), r.Name, from, limit)
	if err != nil {
		return nil, inPath(err)
	}
	told := History{Space: string(ref.Space), Key: string(ref.Key), Entries: make([]HistoryEntry, len(entries)), Next: optional(next)}
	for i := range entries {
		told.Entries[i] = entryOf(&entries[i], principal)
	}
	return GetHistory200JSONResponse(told), nil
}

// entryOf is how a change reads. What is about an owner whom the key does not cover is left out.
func entryOf(e *Entry, principal *auth.Principal) HistoryEntry {
	told := HistoryEntry{
		Version: e.Version, Outcome: HistoryEntryOutcome(e.Type), At: e.LogTime.UTC(),
		Partition: e.Partition, LogEpoch: e.LogEpoch, Offset: e.Offset,
	}
	if principal.ForOwner(e.Owner) {
		told.Name, told.Owner, told.Actor, told.Reason = optional(e.Name), optional(e.Owner), optional(e.Actor), optional(e.Why)
		told.RequestID = new(e.RequestID.String())
	}
	return told
}

// GetOwnerNames is GET /v1/owners/{owner}/names.
func (h *handlers) GetOwnerNames(ctx context.Context, r GetOwnerNamesRequestObject) (GetOwnerNamesResponseObject, error) {
	principal := principalOf(ctx)
	if !principal.ForOwner(r.Owner) {
		return nil, notAllowed("owner", "the key is limited to other owners")
	}
	limit, err := limitOf(r.Params.Limit)
	if err != nil {
		return nil, err
	}
	var after names.Ref
	if r.Params.After != nil {
		var ok bool
		if after, ok = parseCursor(*r.Params.After); !ok {
			return nil, badRequest("after", "is not the next of an answer")
		}
	}
	within := principal.Spaces()
	if r.Params.Space != nil {
		if err := checkSpace(names.Space(*r.Params.Space), h.claimer.Policies(), principal); err != nil {
			return nil, err
		}
		within = []string{*r.Params.Space}
	}
	held, more, err := h.claimer.Owned(ctx, r.Owner, within, limit, after)
	if err != nil {
		return nil, err
	}
	told := OwnerNames{Owner: r.Owner, Names: make([]Name, 0, len(held))}
	for i := range held {
		told.Names = append(told.Names, nameOf(&held[i], principal))
	}
	if more != nil {
		told.Next = new(cursor(*more))
	}
	return GetOwnerNames200JSONResponse(told), nil
}

// cursor spells a place in a list of names so that nobody is tempted to read it.
func cursor(ref names.Ref) string { return base64.RawURLEncoding.EncodeToString([]byte(ref.String())) }

// parseCursor reads what cursor writes.
func parseCursor(s string) (names.Ref, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	ref := names.ParseRef(string(b))
	return ref, err == nil && ref.Space != "" && len(ref.Key) <= names.MaxKey && text(string(b))
}
