package app_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dibs-hq/dibs/client"
	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
)

// tongues are the spaces in which spellings are compared.
const tongues = `
spaces:
  handle: {version: 1, unicode: precis, min_length: 1, reserved: []}
  anyone: {version: 1, unicode: precis, characters: all, scripts: ["*"], min_length: 1, max_length: 64, reserved: []}
  nickname: {version: 1, unicode: precis, confusables: as_typed, min_length: 1, reserved: []}
`

// spelling is a name as somebody wrote it in a space, and what is to be its key: none where it is no name there.
type spelling struct {
	space, name string
	key         string
	policy      *names.Policy
}

func (s spelling) String() string { return fmt.Sprintf("%s: %.40q", s.space, s.name) }

// spellings are random ones of all planes, each in one of the spaces.
func spellings(t *testing.T, seed uint64, n int) (all []spelling) {
	t.Helper()
	policies := names.Builtin()
	of, err := config.ParseSpaces([]byte(tongues))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range of {
		policies = policies.With(p)
	}
	random := rand.New(rand.NewPCG(seed, seed))
	spaces := sorted(policies)
	keyed := make(map[string]int)
	for range n {
		space := spaces[random.IntN(len(spaces))]
		s := spelling{space: string(space), name: randomSpelling(random), policy: policies[space]}
		if key, err := policies[space].Key(s.name); err == nil {
			s.key = string(key)
			keyed[s.space]++
		}
		all = append(all, s)
	}
	t.Logf("%d spellings; names of them: %v", n, keyed)
	for space := range policies {
		if keyed[string(space)] < n/len(spaces)/20 {
			t.Fatalf("%s: %d of %d are names, too few to say anything", space, keyed[string(space)], n)
		}
	}
	return all
}

// hostile are pieces that some code on the way may take for something else, or not see.
var hostile = []string{
	"\u202e", "\u2066", "\u200f", "\u061c", // turn the direction
	"\u200b", "\u200c", "\u200d", "\ufeff", "\u00ad", "\u034f", "\ufe0f", "\u3164", // cannot be seen
	"/", "%2F", "%", "?", "#", "&", "+", " ", "\\", "\"", "<", "{", "}", ";", ",", ":", "..", "\x00", "\n", "\r\n", "\t", "\x7f",
	"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", // not UTF-8
	"\U00020000", "\U0001f600", "\U00010400", "\U0001d41a", "\U0010ffff", "\ufffd", "\ufdfa", "\u0130", "\u1e9e", "\u03a3", "\u212a",
}

var scriptsOfNames = []*unicode.RangeTable{
	unicode.Latin, unicode.Latin, unicode.Greek, unicode.Cyrillic, unicode.Armenian, unicode.Hebrew, unicode.Arabic, unicode.Devanagari,
	unicode.Thai, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Han, unicode.Georgian, unicode.Cherokee,
}

// randomSpelling is in one script most of the time, with what does not belong there now and then.
func randomSpelling(r *rand.Rand) string {
	const ascii = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"
	var b strings.Builder
	switch r.IntN(20) {
	case 0: // a flood of marks
		b.WriteByte(ascii[r.IntN(52)])
		for range 1 + r.IntN(300) {
			b.WriteRune(from(r, unicode.Mn))
		}
		return b.String()
	case 1: // 10 KiB
		c := string(from(r, scriptsOfNames[r.IntN(len(scriptsOfNames))]))
		return strings.Repeat(c, 10<<10/len(c))
	case 2, 3: // anything, of all planes
		for range 1 + r.IntN(6) {
			b.WriteRune(rune(r.IntN(unicode.MaxRune + 1)))
		}
		return b.String()
	case 4, 5, 6, 7, 8: // ASCII
		for range 1 + r.IntN(12) {
			b.WriteByte(ascii[r.IntN(len(ascii))])
		}
	default:
		script := scriptsOfNames[r.IntN(len(scriptsOfNames))]
		for range 1 + r.IntN(8) {
			b.WriteRune(from(r, script))
			if r.IntN(12) == 0 {
				b.WriteRune(from(r, unicode.Mn))
			}
		}
	}
	if r.IntN(6) == 0 {
		text, piece := []rune(b.String()), hostile[r.IntN(len(hostile))]
		at := r.IntN(len(text) + 1)
		return string(text[:at]) + piece + string(text[at:])
	}
	return b.String()
}

// from is a random character of a table.
func from(r *rand.Rand, table *unicode.RangeTable) rune {
	type span struct{ lo, hi, stride rune }
	var spans []span
	for _, s := range table.R16 {
		spans = append(spans, span{rune(s.Lo), rune(s.Hi), rune(s.Stride)})
	}
	for _, s := range table.R32 {
		spans = append(spans, span{rune(s.Lo), rune(s.Hi), rune(s.Stride)})
	}
	s := spans[r.IntN(len(spans))]
	return s.lo + s.stride*rune(r.IntN(int((s.hi-s.lo)/s.stride)+1))
}

// TestAgreement: whoever is asked for the key of a spelling gives the same one, or says that there is none: dibs vectors,
// the API asked by the client for what is known of a name, and to claim it; dibs import; and the processor, of what they and
// a stranger put on the topic.
func TestAgreement(t *testing.T) {
	t.Parallel()
	agree(t, 1, 2000)
}

// TestAgreementCampaign is the same over a million, and other servers for each part of them.
func TestAgreementCampaign(t *testing.T) {
	campaign(t)
	const strings, at = 1_000_000, 50_000
	seed := uint64(time.Now().UnixNano())
	for i := range strings / at {
		t.Run(fmt.Sprintf("from=%d", i*at), func(t *testing.T) { agree(t, seed+uint64(i), at) })
	}
}

func agree(t *testing.T, seed uint64, n int) {
	t.Logf("seed %d", seed)
	d := deploy(t, 4)
	p, api := d.start("processor").ready(), d.start("api").ready()
	d.assigned(time.Minute, p)
	d.apply(0, tongues)
	all := spellings(t, seed, n)
	d.byVectors(t, all)
	d.byAPI(t, api, all)
	d.byImport(t, all)
	d.byStranger(t, all)
	d.settled(time.Minute)
	for _, kind := range []string{"dead", "duplicate"} {
		if got := p.metrics()[`dibs_rows_total{kind="`+kind+`"}`]; got != 0 {
			t.Errorf("%v records are of kind %s", got, kind)
		}
	}
	d.verified()
}

// agreed fails the test where somebody gave another key; "" for none.
func (s spelling) agreed(t *testing.T, who, key string) {
	t.Helper()
	if key != s.key {
		t.Errorf("%s gives %s the key %q; it is %q", who, s, key, s.key)
	}
}

// byVectors asks the command line, which reads lines.
func (d *deployment) byVectors(t *testing.T, all []spelling) {
	t.Helper()
	list := filepath.Join(t.TempDir(), "names")
	var lines []string
	for _, s := range all {
		if s.name != "" && !strings.ContainsAny(s.name, "\r\n") {
			lines = append(lines, s.name)
		}
	}
	lines = slices.Compact(lines)
	if err := os.WriteFile(list, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	vectors, code := d.run("vectors", "--spaces", spacesFile(t, tongues), "--file", list)
	if code != 0 && code != 1 {
		t.Fatalf("vectors: exit code %d\n%s", code, vectors.errors())
	}
	keys := make(map[[2]string]string)
	for line := range strings.Lines(vectors.output()) {
		var v struct{ Space, Name, Key string }
		mustJSON(t, []byte(line), &v)
		keys[[2]string{v.Space, v.Name}] = v.Key
	}
	asked := 0
	for _, s := range all {
		if s.name != "" && !strings.ContainsAny(s.name, "\r\n") {
			asked++
			s.agreed(t, "dibs vectors", keys[[2]string{s.space, s.name}])
		}
	}
	t.Logf("dibs vectors was asked for %d keys", asked)
}

// byAPI asks the API by the client, which has to bring a name there as it is: in a path, and in a body.
func (d *deployment) byAPI(t *testing.T, api *process, all []spelling) {
	t.Helper()
	dibs, err := client.New("http://"+api.apiAddr(), client.WithHTTPClient(&http.Client{Transport: transport}))
	if err != nil {
		t.Fatal(err)
	}
	for _, space := range []string{"handle", "anyone", "nickname"} { // an API hears of spaces a little later
		eventually(t, 10*time.Second, func() error {
			_, err := dibs.Name(t.Context(), space, "alice")
			return err
		})
	}
	none := func(err error) bool {
		problem := new(client.Problem)
		return errors.As(err, &problem) && slices.Contains([]int{400, 413, 422, 431}, problem.Status)
	}
	ids := make([]string, len(all))
	var asHeld atomic.Int32
	each(32, len(all), func(i int) {
		s := all[i]
		key := ""
		switch known, err := dibs.Name(t.Context(), s.space, s.name); {
		case err == nil && s.key == "" && s.held(known):
			asHeld.Add(1)
		case err == nil:
			key = known.Key
		case !none(err) && s.name != "." && s.name != "..": // in a path those are places, and this one is not there
			t.Errorf("%s: %v", s, err)
			return
		}
		s.agreed(t, "the API, asked for what is known,", key)
		if !utf8.ValidString(s.name) {
			return // JSON has no such name
		}
		ids[i] = uuid.NewString()
		r, err := dibs.Claim(t.Context(), client.Claim{Space: s.space, Name: s.name, Owner: fmt.Sprintf("u-%d", i), ID: ids[i]})
		switch {
		case err == nil && r.State == client.Rejected && r.Reason != "invalid_name": // which says no key: the topic does
		case err == nil:
			s.agreed(t, "the API, asked to claim,", r.Key)
		case !none(err):
			t.Errorf("%s: %v", s, err)
		default:
			s.agreed(t, "the API, asked to claim,", "")
		}
	})
	t.Logf("%d spellings that nobody may claim are of names that are held", asHeld.Load())
	d.onTopic(t, "the API", all, ids)
}

// held reports whether what is known is the holding of this very name, written so that somebody may claim it: with an Ύ nobody
// may where look-alikes are kept apart as typed, and ύ is held.
func (s spelling) held(known client.Name) bool {
	key, err := s.policy.HeldKey(s.name)
	return err == nil && known.State == "registered" && known.Key == string(key) && s.policy.Same(known.Name, s.name)
}

// byImport has a file imported.
func (d *deployment) byImport(t *testing.T, all []spelling) {
	t.Helper()
	var file strings.Builder
	ids := make([]string, len(all))
	for i, s := range all {
		if !utf8.ValidString(s.name) {
			continue
		}
		ids[i] = uuid.NewString()
		line, err := json.Marshal(map[string]string{"space": s.space, "name": s.name, "owner": fmt.Sprintf("i-%d", i), "request_id": ids[i]})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&file, "%s\n", line)
	}
	path := filepath.Join(t.TempDir(), "names.ndjson")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	d.mustRun("import", path)
	d.onTopic(t, "dibs import", all, ids)
}

// onTopic fails the test unless the requests of these ids, where they are for a name, are on the topic under its key, and
// were decided under that; the others are not there.
func (d *deployment) onTopic(t *testing.T, who string, all []spelling, ids []string) {
	t.Helper()
	d.settled(time.Minute)
	records := make(map[string]*kgo.Record)
	for _, r := range d.topic.read(d.topic.claims) {
		if id := headers(r)["ce_id"]; records[id] == nil {
			records[id] = r
		}
	}
	type row struct{ ID, Space, Key, Kind string }
	decided := make(map[string]row)
	for _, r := range rows[row](d, `SELECT request_id::text, space, key, kind::text FROM decisions WHERE kind IN ('o', 'w') AND space IS NOT NULL`) {
		decided[r.ID] = r
	}
	asked := 0
	for i, s := range all {
		r := records[ids[i]]
		switch {
		case ids[i] == "":
			continue
		case s.key == "":
			if r != nil {
				t.Errorf("%s has put %s on the topic under %.80q", who, s, r.Key)
			}
			continue
		case r == nil:
			t.Errorf("%s has not put %s on the topic", who, s)
			continue
		}
		asked++
		s.agreed(t, who, strings.TrimPrefix(string(r.Key), s.space+"/"))
		s.agreed(t, "the processor, of a record of "+who+",", decided[ids[i]].Key)
	}
	t.Logf("%s has put %d spellings on the topic", who, asked)
}

// byStranger puts on the topic what others have refused before, also bytes that are no text, and the names under keys that
// are somebody else's.
func (d *deployment) byStranger(t *testing.T, all []spelling) {
	t.Helper()
	ids := make([]string, len(all))
	var records []*kgo.Record
	for i, s := range all {
		r := newClaim(d.partitions, fmt.Sprintf("stranger%d", i), "u-1")
		r.Value = fmt.Appendf(nil, `{"space":%q,"name":%s,"owner":"s-%d","mode":"register"}`, s.space, rawJSON(s.name), i)
		ids[i] = r.id
		records = append(records, r.Record)
	}
	d.topic.append(d.topic.client, records...)
	d.settled(time.Minute)
	type row struct{ ID, Space, Key, Reason string }
	decided := make(map[string]row)
	for _, r := range rows[row](d, `SELECT request_id::text, coalesce(space, ''), coalesce(key, ''), coalesce(reason, '') FROM decisions WHERE kind = 'o'`) {
		decided[r.ID] = r
	}
	for i, s := range all {
		switch r := decided[ids[i]]; {
		case s.key != "":
			s.agreed(t, "the processor, of a stranger's record,", r.Key)
		case r.Reason != "invalid_name" && r.Reason != "malformed":
			t.Errorf("the processor, of a stranger's record with %s: %+v", s, r)
		}
	}
}

// rawJSON writes a string as JSON, with bytes that are no UTF-8 as they are.
func rawJSON(text string) []byte {
	b := []byte{'"'}
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// each calls f for each number below n, so many at once.
func each(atOnce, n int, f func(int)) {
	next := make(chan int)
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
}
