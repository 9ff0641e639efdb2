package app_test

import (
	"encoding/json"
	"strings"

	"github.com/dibs-hq/dibs/claims"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// produced is a claim as a producer of another team writes it, without any code of ours.
type produced struct {
	*kgo.Record
	id string
}

// newClaim makes a claim for its right place; what is wrong with one, a test changes.
func newClaim(partitions int, name, owner string) produced {
	key := "username/" + strings.ToLower(name)
	value, err := json.Marshal(map[string]string{"space": "username", "name": name, "owner": owner, "mode": "register"})
	if err != nil {
		panic(err) // strings are always JSON
	}
	r := produced{id: uuid.NewString(), Record: &kgo.Record{Key: []byte(key), Value: value, Partition: claims.Partition(key, partitions)}}
	r.set("content-type", "application/json")
	r.set("ce_specversion", "1.0")
	r.set("ce_id", r.id)
	r.set("ce_type", "dibs.UsernameClaimed.v1")
	r.set("ce_source", "tests")
	return r
}

// set sets a header, in its place where it is there.
func (r *produced) set(header, value string) {
	for i := range r.Headers {
		if r.Headers[i].Key == header {
			r.Headers[i].Value = []byte(value)
			return
		}
	}
	r.Headers = append(r.Headers, kgo.RecordHeader{Key: header, Value: []byte(value)})
}
