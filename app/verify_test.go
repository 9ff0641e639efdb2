package app_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// verdict is what dibs verify -o json says.
type verdict struct {
	Partitions, Of, Records, Rows, Names, Outcomes, Duplicates, Trusted, Unpublished, Later, Found, Erased int64

	TrustedOutcomes int64 `json:"trusted_outcomes"`
	Complete        bool
	Notes           []string
	Differences     []found
}

// found is a difference.
type found struct {
	Partition, Offset                   int64
	Where, Name, Field, Expected, Found string

	RequestID string `json:"request_id"`
}

// verify runs dibs verify.
func (d *deployment) verify(want int, args ...string) (v verdict) {
	d.t.Helper()
	p, code := d.run(append([]string{"verify", "-o", "json"}, args...)...)
	for try := 1; code == 5 && want != 5 && try < 3; try++ { // a busy machine: what it would have found is not known
		d.t.Logf("dibs verify is asked again: a server did not answer\n%s", p.errors())
		p, code = d.run(append([]string{"verify", "-o", "json"}, args...)...)
	}
	if code != want {
		d.t.Fatalf("dibs verify: exit code %d, want %d\n%s%s", code, want, p.output(), p.errors())
	}
	if text := p.output(); text != "" {
		mustJSON(d.t, []byte(text), &v)
	}
	return v
}

// asker writes requests to claims, as a service does that has the keys.
type asker struct {
	*deployment
	key claims.SigningKey
}

func (d *deployment) asker() *asker {
	d.t.Helper()
	keys, err := auth.ReadRequestKeys(d.keys)
	if err != nil {
		d.t.Fatal(err)
	}
	return &asker{d, keys.Signing}
}

// record is a request about a name as it goes to claims.
func (k *asker) record(id uuid.UUID, body claims.Body, signed bool) *kgo.Record {
	space, name := body.Name()
	ref := names.Ref{Space: space, Key: names.Key(strings.ToLower(name))}
	r := claims.NewRecord(body, cloudevents.Event{ID: id, Source: "tests", Principal: "gateway"}, ref)
	if signed {
		r = k.key.Sign(r)
	}
	out := &kgo.Record{Key: r.Key, Value: r.Value, Partition: claims.Partition(ref.String(), k.partitions)}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
	}
	return out
}

// ask appends requests, each with a new id.
func (k *asker) ask(bodies ...claims.Body) {
	k.t.Helper()
	var records []*kgo.Record
	for _, body := range bodies {
		records = append(records, k.record(uuid.New(), body, body.Privileged()))
	}
	k.topic.append(k.topic.client, records...)
}

func about(name string) claims.About {
	return claims.About{Space: names.Username, Spelling: name}
}

func register(name, owner string) *claims.UsernameClaimed {
	return &claims.UsernameClaimed{Space: names.Username, Spelling: name, Owner: owner, Mode: claims.ModeRegister}
}

func reserve(name, owner string, seconds int64) *claims.UsernameClaimed {
	c := register(name, owner)
	c.Mode, c.TTLSeconds = claims.ModeReserve, &seconds
	return c
}

func replacing(c *claims.UsernameClaimed, name string) *claims.UsernameClaimed {
	c.Replaces = &claims.Replaces{Name: name, Version: 1}
	return c
}

// life asks for everything that can be asked for, about names that begin with a prefix.
func (k *asker) life(prefix string) {
	k.t.Helper()
	n := func(name string) string { return prefix + "-" + name }
	var registered []claims.Body
	for i := range 40 {
		registered = append(registered, register(n(fmt.Sprintf("Name%d", i)), fmt.Sprintf("u-%d", i)))
	}
	k.ask(registered...)
	is := func(i int) string { return n(fmt.Sprintf("name%d", i)) }

	reserved, early := uuid.New(), uuid.New()
	k.topic.append(k.topic.client,
		k.record(reserved, replacing(reserve(n("later"), "u-8", 600), is(8)), false),
		k.record(uuid.New(), &claims.WithdrawRequested{About: about(n("early")), ClaimID: early, Owner: "u-1"}, false),
		k.record(early, register(n("early"), "u-1"), false),
		k.record(uuid.New(), &claims.BlockRequested{About: about(is(9)), Actor: "mallory", Reason: "unsigned"}, false),
	)
	k.ask(
		replacing(register(n("new"), "u-0"), is(0)), replacing(register(strings.ToUpper(is(1)), "u-1"), is(1)),
		&claims.ExtendRequested{About: about(n("later")), ClaimID: reserved, Owner: "u-8", TTLSeconds: 900},
		&claims.ConfirmRequested{About: about(n("later")), ClaimID: reserved, Owner: "u-8"},
		&claims.ConfirmRequested{About: about(n("later")), ClaimID: reserved, Owner: "u-8"},
		reserve(n("brief"), "u-2", 1), reserve(n("stays"), "u-2", 3600),
		&claims.BlockRequested{About: about(is(2)), Actor: "root", Reason: "trademark"}, register(is(2), "u-3"),
		&claims.BlockRequested{About: about(n("never")), Actor: "root", Reason: "trademark"},
		&claims.UnblockRequested{About: about(n("never")), Actor: "root", Reason: "settled"},
		register(n("never"), "u-9"), &claims.ReleaseRequested{About: about(n("never")), Owner: "u-9"},
		&claims.TransferRequested{About: about(is(3)), Owner: "u-3", NewOwner: "u-30"},
		&claims.TransferRequested{About: about(is(4)), Actor: "root", Reason: "bought", NewOwner: "u-40"},
		&claims.DeactivateRequested{About: about(is(5)), Owner: "u-5"}, &claims.ReactivateRequested{About: about(is(5)), Owner: "u-5"},
		&claims.DeactivateRequested{About: about(is(6)), Owner: "u-6"},
		&claims.ReleaseRequested{About: about(is(7)), Owner: "u-7"}, register(is(7), "u-70"),
		&claims.ReleaseRequested{About: about(is(10)), Actor: "root", Reason: "a bug"}, register("root", "u-1"), register("x", "u-1"),
		&claims.ReleaseRequested{About: about(is(11)), Owner: "somebody else"}, register("späß", "u-1"),
	)
	astray := k.record(uuid.New(), register(n("astray"), "u-1"), false)
	astray.Partition = (astray.Partition + 1) % int32(k.partitions)
	twice := k.record(uuid.New(), register(n("twice"), "u-1"), false)
	again, other := *twice, *twice
	other.Value = k.record(uuid.New(), register(n("twice"), "u-2"), false).Value
	nonsense := *twice
	nonsense.Value, nonsense.Headers = []byte("{"), slices.Clone(twice.Headers)
	nonsense.Headers[2].Value = []byte(uuid.NewString())
	k.topic.append(k.topic.client, astray, twice, &again, &other, &nonsense,
		&kgo.Record{Key: []byte("username/x"), Value: []byte{0, 0xff}, Partition: 0, Headers: []kgo.RecordHeader{{Key: "ce_dibsprincipal", Value: []byte("a\x00b")}}},
		&kgo.Record{Value: nil, Partition: 1})
	eventually(k.t, 30*time.Second, func() error { // the sweeper asks
		if state := value[string](k.deployment, `SELECT coalesce(max(state::text), 'none') FROM names WHERE key = $1`, n("brief")); state != "f" {
			return fmt.Errorf("the reservation of %s: state %s", n("brief"), state)
		}
		return nil
	})
}

// TestVerify: a deployment that works agrees with its log, also while it works; what somebody changes behind its back is
// named.
func TestVerify(t *testing.T) {
	t.Parallel()
	d := deploy(t, 3)
	s := d.start("serve").ready()
	d.assigned(time.Minute, s)
	k := d.asker()
	k.life("first")
	for i := range 20 {
		d.claim(s, asked{name: fmt.Sprintf("over.http.%d", i%15), owner: "u-1", key: fmt.Sprintf("key-%d", i%18)})
	}
	d.settled(30 * time.Second)

	v := d.verify(0)
	kinds := value[string](d, `SELECT string_agg(DISTINCT kind::text, '' ORDER BY kind::text) FROM decisions`)
	stored := value[int64](d, `SELECT count(*) FROM decisions`)
	if kinds != "dfmowx" || v.Rows != stored || v.Names != value[int64](d, `SELECT count(*) FROM names`) || v.Records != d.written() ||
		v.Outcomes != value[int64](d, `SELECT count(*) FROM decisions WHERE kind IN ('o', 'f') AND outcome <> 'N'`) ||
		v.Trusted != 0 || v.Unpublished != 0 || v.Duplicates == 0 || !v.Complete || v.Partitions != 3 {
		t.Errorf("kinds %s, %d rows: %+v", kinds, stored, v)
	}
	if p, code := d.run("verify", "--partition", "1"); code != 0 || !strings.Contains(p.output(), "1 of 1 partitions") || !strings.Contains(p.output(), "differences                        0") {
		t.Errorf("exit code %d\n%s%s", code, p.output(), p.errors())
	}
	for _, wrong := range [][]string{{"--partition", "3"}, {"--partition", "-1"}, {"--max-differences", "0"}, {"-o", "xml"}, {"extra"}} {
		d.verify(2, wrong...)
	}
	bare := start(t, "without keys", slices.DeleteFunc(d.env("without keys"), func(s string) bool { return strings.HasPrefix(s, "DIBS_SECURITY") }), "verify")
	if code := bare.wait(time.Minute); code != 2 || !strings.Contains(bare.errors(), "set security.request_keys_file") {
		t.Errorf("without keys: exit code %d\n%s", code, bare.errors())
	}
	d.breaks()
	d.verify(0)

	// Beside a deployment at work.
	stop := make(chan struct{})
	var load sync.WaitGroup
	for i := range 4 {
		load.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if a := d.claim(s, asked{name: fmt.Sprintf("load.%d.%d", i, n%50), owner: fmt.Sprintf("u-%d", n)}); a.status != http.StatusCreated && a.status != http.StatusConflict {
					t.Errorf("under load: %s", a)
					return
				}
			}
		})
	}
	load.Go(func() {
		for n := 0; n < 3; n++ {
			k.life(fmt.Sprintf("load%d", n))
		}
	})
	later := int64(0)
	for range 6 {
		v := d.verify(0)
		later += v.Later + v.Unpublished
	}
	close(stop)
	load.Wait()
	d.settled(30 * time.Second)
	if d.verify(0); later == 0 {
		t.Error("nothing was decided or published while dibs verify ran")
	}

	// Retention takes the first part of both topics; what is left agrees with what is folded.
	for p := range d.partitions {
		d.topic.cut(int32(p), d.standing(int32(p)).Next/2)
	}
	if v := d.verify(0); v.Trusted == 0 || v.TrustedOutcomes == 0 || len(v.Notes) != 3 {
		t.Errorf("after retention: %+v", v)
	}
}

// breaks changes one thing at a time in the tables, and puts it back.
func (d *deployment) breaks() {
	t := d.t
	for _, b := range []struct{ table, change, where, field string }{
		{"decisions", `owner = 'u-x'`, `kind = 'o' AND outcome = 'A'`, "owner"},
		{"decisions", `version = version + 1`, `kind = 'o' AND outcome = 'C'`, "version"},
		{"decisions", `request_hash = '\x00'`, `kind = 'o' AND outcome = 'R'`, "request_hash"},
		{"decisions", `log_time = log_time + interval '1 microsecond'`, `kind = 'o'`, "log_time"},
		{"decisions", `reason = 'blocked'`, `reason = 'taken'`, "reason"},
		{"decisions", `detail = 'x'`, `kind = 'o' AND outcome = 'R'`, "detail"},
		{"decisions", `actor = NULL`, `actor IS NOT NULL`, "actor"},
		{"decisions", `why = ''`, `actor IS NOT NULL`, "why"},
		{"decisions", `follow_version = 9`, `follow_key IS NOT NULL`, "follow_version"},
		{"decisions", `follow_key = NULL`, `follow_key IS NOT NULL`, "follow_key"},
		{"decisions", `expires_at = NULL`, `expires_at IS NOT NULL`, "expires_at"},
		{"decisions", `raw = raw || '\x00'`, `kind = 'w'`, "raw"},
		{"decisions", `principal = 'x'`, `kind = 'd'`, "principal"},
		{"decisions", `name = key`, `kind = 'o' AND name IS NULL AND key IS NOT NULL`, "name"},
		{"decisions", `rules = 2`, `kind = 'o' AND outcome = 'A'`, "rules"},
		{"decisions", `owner = 'u-x'`, `kind = 'm'`, "owner"},
		{"decisions", `kind = 'd'`, `kind = 'f'`, "kind"},
		{"decisions", `"offset" = "offset" + 1000000`, `kind = 'x'`, "row"},
		{"decisions", `kind = '?'`, `kind = 'w'`, "kind"},
		{"dead_letters", `reason = 'x'`, `true`, "dead_letters.reason"},
		{"dead_letters", `raw = NULL`, `true`, "dead_letters.raw"},
		{"names", `owner = 'u-x'`, `state = 'r'`, "owner"},
		{"names", `version = version + 1`, `state = 'f'`, "version"},
		{"names", `first_claim = NULL`, `first_claim IS NOT NULL AND version > 2`, "first_claim"},
		{"names", `replaces = 'x'`, `state = 's'`, "replaces"},
		{"names", `expires_at = expires_at + interval '1 second'`, `state = 's'`, "expires_at"},
		{"names", `settled = NULL`, `settled`, "settled"},
		{"names", `partition = (partition + 1) % 3`, `state = 'r'`, "row"},
		{"names", `key = 'nobody'`, `state = 'r'`, "row"},
		{"partitions", `log_time = log_time - interval '1 second'`, `true`, "log_time"},
		{"partitions", `last_record_hash = last_record_hash # 1`, `true`, "last_record_hash"},
	} {
		d.exec(fmt.Sprintf(`CREATE TABLE kept AS SELECT ctid AS place, * FROM %s WHERE %s ORDER BY ctid LIMIT 1`, b.table, b.where))
		if value[int64](d, `SELECT count(*) FROM kept`) == 0 {
			t.Errorf("%s has no row where %s", b.table, b.where)
			d.exec(`DROP TABLE kept`)
			continue
		}
		partition := value[int64](d, `SELECT partition FROM kept`)
		d.exec(fmt.Sprintf(`UPDATE %s SET %s WHERE ctid = (SELECT place FROM kept)`, b.table, b.change))
		offset := int64(-1)
		if b.table == "decisions" || b.table == "dead_letters" {
			offset = value[int64](d, `SELECT "offset" FROM kept`)
		}
		v := d.verify(6)
		named := slices.ContainsFunc(v.Differences, func(f found) bool {
			at := f.Where == b.table
			if b.table == "decisions" || b.table == "dead_letters" {
				at = f.Where == "decisions" && f.Offset == offset
			}
			return at && f.Field == b.field && f.Partition == partition
		})
		if !named || v.Found > 4 {
			text, _ := json.MarshalIndent(v.Differences, "", " ")
			t.Errorf("%s SET %s: no difference in %s, or too many (%d): %s", b.table, b.change, b.field, v.Found, text)
		}
		columns := value[string](d, `SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns
			WHERE table_schema = current_schema() AND table_name = $1 AND is_identity = 'NO'`, b.table)
		undo := fmt.Sprintf(`DELETE FROM %[1]s WHERE xmin::text = (SELECT max(xmin::text::bigint)::text FROM %[1]s);
			INSERT INTO %[1]s (%[2]s) SELECT %[2]s FROM kept; DROP TABLE kept`, b.table, columns)
		d.exec(undo)
	}
}
