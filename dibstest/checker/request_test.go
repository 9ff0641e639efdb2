package checker

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
)

// builtin is what holds from the start where nothing else is said.
var builtin = (&History{}).laws()

// TestRequestHash: against the canonical JSON written by hand.
func TestRequestHash(t *testing.T) {
	for value, canonical := range map[string]string{
		ask("Alice", "u-1"): `{"key":"alice","mode":"register","owner":"u-1","principal":"gateway","space":"username","type":"dibs.UsernameClaimed.v1"}`,
		`{"mode":"reserve","owner":"u\u002d1","name":"ALICE","space":"username","ttl_seconds":60,"deadline":"2026-11-21T10:00:00Z","unknown":[1,{"a":null}],
			"replaces":{"version":3,"name":"Bob.B"},"expected_version":0,"on_conflict":"return_existing","metadata":{"b":"\u00e9\"","a":"\n","\ud83d\ude00":"1","\ufffd":"2"}}`: `{"expected_version":0,"key":"alice","metadata":{"a":"\n","b":"é\"","😀":"1","` + "\ufffd" + `":"2"},"mode":"reserve","on_conflict":"return_existing","owner":"u-1","principal":"gateway","replaces":{"name":"bob.b","version":3},"space":"username","ttl_seconds":60,"type":"dibs.UsernameClaimed.v1"}`,
	} {
		r := claim(1, 0, 1, alice, value)
		sum := sha256.Sum256([]byte(canonical))
		if q := read(&r, &builtin); q.hash != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: hash %q (malformed: %t), want that of %s", value, q.hash, q.malformed, canonical)
		}
	}
}

// TestPartitions: against Kafka's own test vectors of its default partitioner, and those of the story.
func TestPartitions(t *testing.T) {
	// From org.apache.kafka.common.utils.UtilsTest: murmur2 of these bytes, as signed numbers.
	for key, hash := range map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107} {
		const prime = 1<<31 - 1 // modulo it, what is below it stays as it is
		if is, want := partitionOf(key, prime), hash&0x7fffffff; is != want {
			t.Errorf("%s: %d, want %d", key, is, want)
		}
	}
	for key, want := range map[string]int32{alice: 0, bob: 1, carol: 0} {
		if is := partitionOf(key, 2); is != want {
			t.Errorf("%s is on %d, want %d", key, is, want)
		}
	}
}

func TestCanonical(t *testing.T) {
	for name, want := range map[string]string{"Alice": "alice", "a-b_C.9": "a-b_c.9", "0x0": "0x0", strings.Repeat("a", 32): strings.Repeat("a", 32)} {
		if key, ok := builtin.canonical(spaceUsername, name); !ok || key.Key != want {
			t.Errorf("%q: %v %t, want %q", name, key, ok, want)
		}
	}
	for _, name := range []string{"", "ab", ".ab", "ab-", "a b", "späß", "a\x00b", strings.Repeat("a", 33)} {
		if key, ok := builtin.canonical(spaceUsername, name); ok {
			t.Errorf("%q is taken for a name, %v", name, key)
		}
	}
}

// TestUnreadable: values that are no claims, and what must still be one.
func TestUnreadable(t *testing.T) {
	good := ask("alice", "u-1")
	for _, value := range []string{
		"", "x", "null", "[]", good + "x", good + good, `{"space":"username"}`, good[:len(good)-1] + `,"name":"bob"}`,
		good[:len(good)-1] + `,"x":{"a":1,"a":2}}`, good[:len(good)-1] + `,"deadline":"soon"}`, good[:len(good)-1] + `,"ttl_seconds":1.0}`,
		good[:len(good)-1] + `,"ttl_seconds":"1"}`, good[:len(good)-1] + `,"metadata":{"a":1}}`, good[:len(good)-1] + `,"metadata":[]}`,
		good[:len(good)-1] + `,"replaces":{"name":"bob"}}`, good[:len(good)-1] + `,"replaces":7}`, good[:len(good)-1] + `,"x":01}`,
		strings.Replace(good, "u-1", `\ud800`, 1), strings.Replace(good, "u-1", `\u0000`, 1), strings.Replace(good, "u-1", "\xff", 1),
		strings.Replace(good, "u-1", "\x01", 1), good[:len(good)-1] + `,}`, `{"space":"username" "name":"a"}`, good[:len(good)-1],
	} {
		r := claim(1, 0, 1, alice, value)
		if q := read(&r, &builtin); !q.malformed {
			t.Errorf("%q is taken for a claim", value)
		}
	}
	for _, value := range []string{
		good, " " + good + "\n", good[:len(good)-1] + `,"metadata":null,"deadline":null,"x":null}`, good[:len(good)-1] + `,"x":[1e5,-0.5,true,"\ud83d\ude00"]}`,
	} {
		r := claim(1, 0, 1, alice, value)
		if q := read(&r, &builtin); q.malformed || !q.nameOK {
			t.Errorf("%q is not taken for a claim", value)
		}
	}
	r := claim(1, 0, 1, alice, good)
	r.Headers[5] = header("ce_dibsprincipal", "new\nline")
	if q := read(&r, &builtin); !q.malformed {
		t.Error("a principal that is not printable is passed over")
	}
}

// TestDead: records that nobody could be told an outcome of.
func TestDead(t *testing.T) {
	for _, change := range []func(*Record){
		func(r *Record) { r.Headers[0] = header("content-type", "Application/CloudEvents+json") },
		func(r *Record) { r.Headers[1] = header("ce_specversion", "0.3") },
		func(r *Record) { r.Headers[2] = header("ce_id", "{"+id(1)[1:]) },
		func(r *Record) { r.Headers[2] = header("ce_id", strings.Replace(id(1), "-4", "-8", 1)) },
		func(r *Record) { r.Headers[2] = header("ce_id", strings.Replace(id(1), "-8", "-1", 1)) },
		func(r *Record) { r.Headers[3] = header("ce_type", "dibs.UsernameClaimed.v2") },
		func(r *Record) { r.Headers = nil },
		func(r *Record) { r.Key, r.Value = nil, nil },
		func(r *Record) { r.Key, r.Value = []byte{0xff}, []byte(ask("ab", "u-1")) },
	} {
		r := claim(1, 0, 1, alice, ask("alice", "u-1"))
		change(&r)
		if q := read(&r, &builtin); q.dead == "" {
			t.Errorf("%q %q is not dead", r.Key, r.Headers)
		}
	}
	r := claim(1, 0, 1, "", ask("alice", "u-1"))
	if q := read(&r, &builtin); q.dead != "" || q.recordKey() != alice {
		t.Errorf("a claim without a record key is dead: %s", q.dead)
	}
}
