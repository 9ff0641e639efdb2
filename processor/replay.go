package processor

import (
	"strings"

	"github.com/google/uuid"
)

// refusedPrefix is what the detail of a dead letter begins with whose record the database could not store: see
// deciding.record.
const refusedPrefix = "the database refuses it: "

// UsedBefore is the detail of a dead row whose request id another request has.
const UsedBefore = "ce_id was used before for a request with other content"

// RefusedBecause reads the detail of a dead row: what the database said, if that is why the record is dead. A replay
// cannot know: it is what Ledger.Refused has to say.
func RefusedBecause(detail string) (why string, refused bool) {
	return strings.CutPrefix(detail, refusedPrefix)
}

// AboutClaim is the id of the claim that the request names, whose outcome is to be looked up beside its own; zero for
// none.
func (r *Received) AboutClaim() uuid.UUID { return r.aboutClaim() }

// Refusal is the detail of a dead row whose record the database could not store.
func Refusal(why string) string { return refusedPrefix + why }
