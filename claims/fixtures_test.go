package claims_test

import (
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

var (
	alice   = names.Ref{Space: names.Username, Key: "alice"}
	claimID = uuid.MustParse("6f0c3a52-8f4e-4c1d-9b7a-2f6d1e5c4b3a")
	sentAt  = time.Date(2026, 11, 21, 10, 0, 0, 123e6, time.UTC)
)

// event is the envelope that the API gives a claim.
func event() cloudevents.Event {
	return cloudevents.Event{ID: claimID, Source: "dibs-api", Principal: "gateway", Time: sentAt}
}

// minimal is a claim with nothing that may be left out.
func minimal() *claims.UsernameClaimed {
	return &claims.UsernameClaimed{Space: names.Username, Spelling: "Alice", Owner: "u-17", Mode: claims.ModeRegister}
}

// full is a claim with everything that may be said.
func full() *claims.UsernameClaimed {
	c := minimal()
	c.Mode = claims.ModeReserve
	c.TTLSeconds = new(int64(900))
	c.Replaces = &claims.Replaces{Name: "Old.Alice", Version: 3}
	c.ExpectedVersion = new(int64(0))
	c.OnConflict = claims.OnConflictReturn
	c.Deadline = sentAt.Add(time.Minute)
	c.Metadata = map[string]string{"plan": "free", "campaign": "spring \"26\"", "ville": "Besançon"}
	return c
}
