package app_test

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// fate is what a record must leave: its row, and what else can be seen of it.
type fate struct {
	kind   string // of its row: o outcome, d duplicate, w forwarded, x dead
	reason string // of an outcome; empty for accepted. Of a dead record, what its letter says among other things
}

var accepted = fate{kind: "o"}

// strange is a record that somebody put on the topic, and what must become of it.
type strange struct {
	name string
	produced
	want fate
}

// strangers makes one of each kind of record that is not as it should be, in a partition.
func strangers(partition, partitions int, next func() string) []strange {
	good := func() produced { return newClaim(partitions, next(), "u-1") }
	var all []strange
	add := func(name string, r produced, want fate) {
		r.Partition = int32(partition)
		all = append(all, strange{name, r, want})
	}
	with := func(change func(*produced)) produced {
		r := good()
		change(&r)
		return r
	}
	header := func(name, value string) produced { return with(func(r *produced) { r.set(name, value) }) }
	value := func(v []byte) produced { return with(func(r *produced) { r.Value = v }) }
	bare := func(v []byte) produced { return with(func(r *produced) { r.Headers, r.Value = nil, v }) }
	elsewhere := namesOf("elsewhere", (partition+1)%partitions, partitions)

	add("garbage, no headers", bare([]byte{0xff, 0x00, 0xfe, '{'}), fate{"x", "ce_id"})
	add("a good value, no headers", with(func(r *produced) { r.Headers = nil }), fate{"x", "ce_id"})
	add("nothing at all", with(func(r *produced) { r.Headers, r.Key, r.Value = nil, nil, nil }), fate{"x", "ce_id"})
	add("garbage under good headers", value([]byte{0xff, 0x00, 0xfe, '{'}), fate{"o", "malformed"})
	add("no value", value(nil), fate{"o", "malformed"})
	add("a list", value([]byte(`["alice"]`)), fate{"o", "malformed"})
	add("a name of another type", value([]byte(`{"space":"username","name":7,"owner":"u-1","mode":"register"}`)), fate{"o", "malformed"})
	add("NUL in the name", value([]byte(`{"space":"username","name":"al\u0000ice","owner":"u-1","mode":"register"}`)), fate{"o", "malformed"})
	add("invalid UTF-8 in the owner", value([]byte("{\"space\":\"username\",\"name\":\"alice\",\"owner\":\"\xff\",\"mode\":\"register\"}")), fate{"o", "malformed"})
	add("malformed and without a key", with(func(r *produced) { r.Key, r.Value = nil, []byte(`{`) }), fate{"x", "key"})
	add("without a key", with(func(r *produced) { r.Key = nil }), accepted)
	add("the key of another name, in the right place", with(func(r *produced) { r.Key = []byte("username/" + next()) }), accepted)
	add("the right key, in the wrong place", newClaim(partitions, elsewhere(), "u-1"), fate{kind: "w"})
	add("the key of a name that belongs here, for one that does not", with(func(r *produced) { r.Value = newClaim(partitions, elsewhere(), "u-1").Value }), fate{kind: "w"})
	add("forwarded once, and still in the wrong place", func() produced {
		r := newClaim(partitions, elsewhere(), "u-1")
		r.set("dibs-rerouted", "1")
		return r
	}(), fate{"x", "forwarded once before"})
	add("an unknown type", header("ce_type", "dibs.NameWished.v1"), fate{"x", "ce_type"})
	add("an unknown version of a type", header("ce_type", "dibs.UsernameClaimed.v2"), fate{"x", "ce_type"})
	add("another specversion", header("ce_specversion", "2.0"), fate{"x", "ce_specversion"})
	add("structured mode", header("content-type", "application/cloudevents+json"), fate{"x", "structured"})
	add("an id that is a number", header("ce_id", "4711"), fate{"x", "ce_id"})
	add("an id in the name of dibs", header("ce_id", "0190a5a0-0000-8000-8000-000000000001"), fate{"x", "ce_id"})
	add("an unknown space", with(func(r *produced) {
		r.Value = bytes.Replace(r.Value, []byte(`"username"`), []byte(`"planets"`), 1)
	}), fate{"o", "unknown_space"})
	add("no name", with(func(r *produced) {
		r.Value = []byte(`{"space":"username","name":"-","owner":"u-1","mode":"register"}`)
	}), fate{"o", "invalid_name"})
	add("no owner", with(func(r *produced) { r.Value = bytes.Replace(r.Value, []byte(`"u-1"`), []byte(`""`), 1) }), fate{"o", "invalid_request"})
	add("a mode that there is not", with(func(r *produced) {
		r.Value = bytes.Replace(r.Value, []byte(`"register"`), []byte(`"borrow"`), 1)
	}), fate{"o", "invalid_request"})
	add("unknown fields", with(func(r *produced) { r.Value = bytes.Replace(r.Value, []byte(`{`), []byte(`{"colour":"red",`), 1) }), accepted)
	big := bytes.Repeat([]byte("x"), 1<<20-2<<10)
	add("1 MiB", value(big), fate{"o", "malformed"})
	add("1 MiB without headers", bare(big), fate{"x", "ce_id"})

	once := good()
	add("the first with an id", once, accepted)
	add("the same once more", produced{Record: &kgo.Record{Key: once.Key, Value: once.Value, Headers: once.Headers}, id: once.id}, fate{kind: "d"})
	other := good()
	other.set("ce_id", once.id)
	add("other content under that id", other, fate{"x", "ce_id"})
	return all
}

// TestNothingOnTheTopicStopsAPartition puts everything on the topic that should not be there, each between two good
// claims and in one batch with them.
func TestNothingOnTheTopicStopsAPartition(t *testing.T) {
	t.Parallel()
	const partitions = 4
	d := deploy(t, partitions)
	p := d.start("processor").ready()
	d.assigned(time.Minute, p)

	var all []strange
	neighbours := 0
	inOneBatch := func(client *kgo.Client, what string, records ...*kgo.Record) {
		written := d.topic.batches.Load()
		d.topic.append(client, records...)
		eventually(t, 10*time.Second, func() error { // the producer says so a little later, and the next ones count behind it
			if n := d.topic.batches.Load() - written; n != 1 {
				return fmt.Errorf("%s: it went in %d batches with its neighbours, want one", what, n)
			}
			return nil
		})
	}
	batch := func(client *kgo.Client, partition int, middle ...strange) {
		neighbour := namesOf("neighbour."+strconv.Itoa(neighbours), partition, partitions)
		neighbours++
		before, after := newClaim(partitions, neighbour(), "u-1"), newClaim(partitions, neighbour(), "u-1")
		records := []*kgo.Record{before.Record}
		for _, s := range middle {
			records = append(records, s.Record)
		}
		inOneBatch(client, middle[0].name, append(records, after.Record)...)
		all = append(all, strange{"the neighbour before " + middle[0].name, before, accepted})
		all = append(all, middle...)
		all = append(all, strange{"the neighbour behind " + middle[0].name, after, accepted})
	}

	together := d.topic.connect(kgo.ProducerLinger(100 * time.Millisecond))
	for _, s := range strangers(0, partitions, namesOf("strange", 0, partitions)) {
		if len(s.Value) < 1<<10 {
			batch(together, 0, s)
			continue
		}
		inOneBatch(together, s.name, s.Record) // which it fills by itself
		all = append(all, s)
	}
	fresh := namesOf("packed", 1, partitions)
	for _, codec := range []struct {
		name string
		kgo.CompressionCodec
	}{{"gzip", kgo.GzipCompression()}, {"snappy", kgo.SnappyCompression()}, {"lz4", kgo.Lz4Compression()}, {"zstd", kgo.ZstdCompression()}} {
		packing := d.topic.connect(kgo.ProducerLinger(100*time.Millisecond), kgo.ProducerBatchCompression(codec.CompressionCodec))
		many := make([]strange, 50)
		for i := range many {
			many[i] = strange{codec.name, newClaim(partitions, fresh(), "u-1"), accepted}
		}
		many[25].Value, many[25].want = []byte("garbage"), fate{"o", "malformed"}
		batch(packing, 1, many...)
	}
	// Every data record is a request, whatever its producer thought of it later; the markers are nobody's.
	fresh = namesOf("transaction", 2, partitions)
	for i, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit, kgo.TryAbort} {
		transacting := d.topic.connect(kgo.ProducerLinger(100*time.Millisecond), kgo.TransactionalID(d.topic.claims+strconv.Itoa(i)))
		if err := transacting.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		batch(transacting, 2, strange{"in a transaction", newClaim(partitions, fresh(), "u-1"), accepted})
		ctx, cancel := d.topic.within()
		if err := transacting.EndTransaction(ctx, end); err != nil {
			t.Fatal(err)
		}
		cancel()
	}

	d.settled(time.Minute)
	for _, s := range d.standings() {
		if s.Halted != "" {
			t.Errorf("partition %d is halted: %s", s.Partition, s.Halted)
		}
	}
	letters := d.letters()
	for _, s := range all {
		d.met(s, letters)
	}
	if len(letters) > 0 {
		t.Errorf("letters that no record is dead for: %v", sorted(letters))
	}
	if n := p.metrics()[`dibs_dead_letters_refused_total`]; n != 0 {
		t.Errorf("%v dead letters were refused by their topic", n)
	}
	t.Logf("%d records met their fate, in %d batches with good claims before and behind", len(all), neighbours)
	d.check()
}

// place is where a record of claims is.
func place(partition int32, offset int64) string { return fmt.Sprintf("%d-1-%d", partition, offset) }

// letters are the dead letters, by the place of their records.
func (d *deployment) letters() map[string]*kgo.Record {
	d.t.Helper()
	all := make(map[string]*kgo.Record)
	for _, r := range d.topic.read(d.topic.letters) {
		h := headers(r)
		if h["dibs-dead-topic"] != d.topic.claims {
			d.t.Errorf("a dead letter is of topic %q", h["dibs-dead-topic"])
		}
		all[h["dibs-dead-partition"]+"-"+h["dibs-dead-log-epoch"]+"-"+h["dibs-dead-offset"]] = r
	}
	return all
}

func headers(r *kgo.Record) map[string]string {
	all := make(map[string]string)
	for _, h := range r.Headers {
		all[h.Key] = string(h.Value)
	}
	return all
}

// met fails the test where a record did not meet its fate. It takes the letter of a dead one.
func (d *deployment) met(s strange, letters map[string]*kgo.Record) {
	d.t.Helper()
	type row struct{ Kind, Reason string }
	found := rows[row](d, `SELECT kind::text, coalesce(reason, '') FROM decisions WHERE partition = $1 AND "offset" = $2`, s.Partition, s.Offset)
	want := row{s.want.kind, s.want.reason}
	if s.want.kind == "x" {
		want.Reason = ""
	}
	if len(found) != 1 || found[0] != want {
		d.t.Errorf("%s (%s): its rows are %v, want %v", s.name, place(s.Partition, s.Offset), found, want)
		return
	}
	letter := letters[place(s.Partition, s.Offset)]
	delete(letters, place(s.Partition, s.Offset))
	switch s.want.kind {
	case "x":
		switch {
		case letter == nil:
			d.t.Errorf("%s: it is dead, and there is no letter", s.name)
		case !bytes.Equal(letter.Key, s.Key) || !bytes.Equal(letter.Value, s.Value) || len(letter.Headers) != len(s.Headers)+5:
			d.t.Errorf("%s: its dead letter is not as it was read", s.name)
		case !strings.Contains(headers(letter)["dibs-dead-reason"], s.want.reason):
			d.t.Errorf("%s: its dead letter says %q, which does not name %q", s.name, headers(letter)["dibs-dead-reason"], s.want.reason)
		}
	case "w":
		var name struct{ Name string }
		mustJSON(d.t, s.Value, &name)
		key := "username/" + strings.ToLower(name.Name)
		to := rows[row](d, `SELECT kind::text, coalesce(reason, '') FROM decisions WHERE request_id = $1 AND partition = $2`,
			uuid.MustParse(s.id), claims.Partition(key, d.partitions))
		if len(to) != 1 || to[0] != (row{"o", ""}) {
			d.t.Errorf("%s: where it belongs its rows are %v, want one acceptance", s.name, to)
		}
		fallthrough
	default:
		if letter != nil {
			d.t.Errorf("%s: there is a dead letter: %v", s.name, headers(letter))
		}
	}
}

// TestTopicThatGrewIsForwarded adds partitions to a topic whose count is pinned, and has somebody route by the new count.
func TestTopicThatGrewIsForwarded(t *testing.T) {
	t.Parallel()
	const pinned, grown = 3, 5
	d := deploy(t, pinned)
	api, p := d.start("api").ready(), d.start("processor").ready()
	d.assigned(time.Minute, p)
	name := namesOf("grown", 0, pinned)
	d.fill(api, name, 2)

	d.topic.grow(grown-pinned, d.topic.claims)
	p.stop()
	api.stop()
	api, p = d.again(api).ready(), d.again(p).ready()
	for _, s := range []*process{api, p} {
		if !strings.Contains(s.errors(), fmt.Sprintf("partitions is %d, want %d", grown, pinned)) {
			t.Errorf("%s does not warn that the topic has more partitions than are pinned:\n%s", s.name, s.errors())
		}
	}
	d.fill(api, name, 2) // still where it was
	r := newClaim(pinned, name(), "u-2")
	r.Partition = grown - 1
	d.topic.append(d.topic.client, r.Record)
	eventually(t, 30*time.Second, func() error {
		if a := d.look(api, "/v1/claims/"+r.id, ""); a.claim.State != "accepted" || a.claim.Partition != 0 {
			return fmt.Errorf("the claim that was put on partition %d: %s", grown-1, a)
		}
		return nil
	})
	d.settled(30 * time.Second)
	d.check()
}
