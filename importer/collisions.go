package importer

import (
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
)

// Holders reads who has which names.
type Holders interface {
	// Name returns what is recorded of a name; the zero Holding for one never held.
	Name(ctx context.Context, ref names.Ref) (registrations.Holding, error)
}

// DryRun tells what an import would reject, without claiming anything: rows that are wrong, rows whose name an earlier
// row has, and rows whose name somebody else holds by now. It calls found for each row. The error is that of the file, of
// the holders, or of a pepper that is missing.
func DryRun(ctx context.Context, rows Reader, policies names.Policies, peppers names.Peppers, holders Holders, found func(Result)) error {
	first := make(map[names.Ref]Row)
	for {
		row, err := rows.Next()
		var broken *RowError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &broken):
			found(Result{Row: broken.Row, Rejection: Rejection{"malformed", broken.Detail}})
			continue
		case err != nil:
			return err
		}
		result, err := dryRow(ctx, row, policies, peppers, holders, first)
		if err != nil {
			return err
		}
		found(result)
	}
}

func dryRow(ctx context.Context, row Row, policies names.Policies, peppers names.Peppers, holders Holders, first map[names.Ref]Row) (Result, error) {
	id, ref, claim, rejection, err := row.claim(policies, peppers)
	result := Result{Row: row, ID: id, Rejection: rejection}
	if claim == nil {
		return result, err
	}
	if policies[ref.Space].IsReserved(ref.Key) {
		result.Rejection = Rejection{string(registrations.ReservedWord), "the name is reserved"}
		return result, nil
	}
	if earlier, ok := first[ref]; ok {
		if p := policies[ref.Space]; p.KeepsLookalikesApart() && !p.Same(earlier.Name, row.Name) {
			result.Rejection = Rejection{string(registrations.Confusable), "the name looks like that of row " + strconv.Itoa(earlier.Number)}
		} else if earlier.Owner != row.Owner {
			result.Rejection = Rejection{string(registrations.Taken), "row " + strconv.Itoa(earlier.Number) + " has the name"}
		}
		return result, nil
	}
	first[ref] = row
	h, err := holders.Name(ctx, ref)
	if err != nil {
		return result, err
	}
	if h.Held() && h.Name != "" && !policies[ref.Space].Same(h.Name, row.Name) {
		result.Rejection = Rejection{string(registrations.Confusable), "the name looks like one that somebody has"}
	} else if h.Held() && (h.ClaimID != id || h.Owner != row.Owner) {
		result.Rejection = Rejection{string(registrations.Taken), "somebody has the name already"}
		if h.Owner == row.Owner { // no collision: there is nothing to put right
			result.Detail = "its owner has the name already, by another claim"
		}
	}
	return result, nil
}
