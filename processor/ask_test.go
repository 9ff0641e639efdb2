package processor_test

import (
	"strings"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/google/uuid"
)

// What requests are signed with: the key of now, one that still holds, and one that nobody knows.
var (
	testKey    = claims.SigningKey{ID: "k2", Secret: []byte("the key of now")}
	olderKey   = claims.SigningKey{ID: "k1", Secret: []byte("the key before")}
	unknownKey = claims.SigningKey{ID: "k2", Secret: []byte("somebody's guess")}
	testKeys   = claims.Keys{"k1": olderKey.Secret, "k2": testKey.Secret}
)

// request is a record of any request as a test puts it on the topic.
type request struct {
	id        uuid.UUID
	body      claims.Body
	at        time.Duration // after ten o'clock
	principal string
	sign      *claims.SigningKey
}

func (q request) message(offset int64) processor.Message {
	space, name := q.body.Name()
	ref := names.Ref{Space: space, Key: names.Key(strings.ToLower(name))}
	r := claims.NewRecord(q.body, cloudevents.Event{ID: q.id, Source: "test", Principal: q.principal}, ref)
	if q.sign != nil {
		r = q.sign.Sign(r)
	}
	r.Time = tenOClock.Add(q.at)
	return processor.Message{Offset: offset, Record: r}
}

func about(name string) claims.About { return claims.About{Space: names.Username, Spelling: name} }
