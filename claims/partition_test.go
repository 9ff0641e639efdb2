package claims_test

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
)

// vector is one line of testdata/vectors.jsonl and record_keys.jsonl. Their partitions are not ours: they were computed
// with the default partitioner of Apache Kafka's Java client, 4.3.1, and confirmed by an implementation in Python.
// Tests of other languages read the same files.
type vector struct {
	Space      names.Space `json:"space"`
	Name       string      `json:"name"`
	Key        names.Key   `json:"key"`
	RecordKey  string      `json:"record_key"`
	Partitions int         `json:"partitions"`
	Partition  int32       `json:"partition"`
}

func vectors(t *testing.T, file string) []vector {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	for line := range bytes.Lines(text) {
		var v vector
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%s: %v in %s", file, err, line)
		}
		all = append(all, v)
	}
	if len(all) < 300 {
		t.Fatalf("%s has %d lines only", file, len(all))
	}
	return all
}

// From the name as typed to the partition.
func TestVectors(t *testing.T) {
	policies := names.Builtin()
	for _, v := range vectors(t, "testdata/vectors.jsonl") {
		key, err := policies[v.Space].Key(v.Name)
		if err != nil || key != v.Key {
			t.Errorf("%q: key %q, %v; want %q", v.Name, key, err, v.Key)
		}
		if got := (names.Ref{Space: v.Space, Key: key}).RecordKey(); got != v.RecordKey {
			t.Errorf("%q: record key %q, want %q", v.Name, got, v.RecordKey)
		}
		if got := claims.Partition(v.RecordKey, v.Partitions); got != v.Partition {
			t.Errorf("%q: partition %d of %d, want %d", v.RecordKey, got, v.Partitions, v.Partition)
		}
	}
}

// Record keys as somebody else may have made them, also beyond ASCII.
func TestRecordKeyVectors(t *testing.T) {
	for _, v := range vectors(t, "testdata/record_keys.jsonl") {
		if got := claims.Partition(v.RecordKey, v.Partitions); got != v.Partition {
			t.Errorf("%q: partition %d of %d, want %d", v.RecordKey, got, v.Partitions, v.Partition)
		}
	}
}
