package importer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/importer"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// log is a topic and its processor in one: it decides by first come, and fails now and then on the way.
type log struct {
	mu      sync.Mutex
	waiter  *registrations.Waiter
	holders map[string]uuid.UUID
	decided map[uuid.UUID]registrations.Outcome
	order   []string // owners in the order of their first claims
	calls   int
	fail    func(call int) (published bool, err error)
	halted  map[int32]string // partitions that take claims and decide none
	away    error            // what reading the partitions answers
}

func newLog() *log {
	return &log{waiter: registrations.NewWaiter(registrations.WaiterConfig{Max: 100_000}), holders: map[string]uuid.UUID{}, decided: map[uuid.UUID]registrations.Outcome{}}
}

func (l *log) Publish(_ context.Context, partition int32, r cloudevents.Record) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	published, err := true, error(nil)
	if l.fail != nil {
		published, err = l.fail(l.calls)
	}
	if _, halted := l.halted[partition]; published && !halted {
		l.waiter.Deliver(l.decide(partition, r))
	}
	return int64(l.calls), err
}

func (l *log) Partitions(context.Context) ([]api.Partition, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rows := []api.Partition{{Partition: 99, Halted: "a partition that was added behind our back"}}
	for p := range int32(12) {
		rows = append(rows, api.Partition{Partition: p, LogEpoch: 1, Halted: l.halted[p]})
	}
	return rows, l.away
}

func (l *log) decide(partition int32, r cloudevents.Record) registrations.Outcome {
	req, err := claims.Read(r)
	if err != nil {
		panic(err)
	}
	if o, ok := l.decided[req.ID]; ok {
		return o
	}
	c := req.Body.(*claims.UsernameClaimed)
	ref := names.ParseRef(string(r.Key))
	l.order = append(l.order, c.Owner)
	o := registrations.Outcome{
		Type: registrations.Accepted, RequestID: req.ID, ClaimID: req.ID, Ref: ref, Owner: c.Owner, Partition: partition,
		RequestHash: c.Hash(ref, req.Principal, names.Builtin()),
	}
	if _, taken := l.holders[string(r.Key)]; taken {
		o.Type, o.Reason = registrations.Rejected, registrations.Taken
	} else {
		l.holders[string(r.Key)] = req.ID
	}
	l.decided[req.ID] = o
	return o
}

func run(t *testing.T, l *log, text, name string, skip int) []importer.Result {
	t.Helper()
	rows, err := importer.NewReader(strings.NewReader(text), name)
	if err != nil {
		t.Fatal(err)
	}
	im := importer.New(importer.Config{Policies: names.Builtin(), Partitions: 12, Waiting: 16, Resend: 100 * time.Millisecond}, l, l.waiter, l)
	var results []importer.Result
	if err := im.Run(t.Context(), rows, skip, func(r importer.Result) { results = append(results, r) }); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(results, func(a, b importer.Result) int { return a.Number - b.Number })
	return results
}

func reasons(results []importer.Result) string {
	var s []string
	for _, r := range results {
		s = append(s, fmt.Sprintf("%d:%s", r.Number, r.Reason))
	}
	return strings.Join(s, " ")
}

const file = "username,owner_id\nAlice,u-1\nalice,u-2\nroot\u200b,u-3\n,u-4\nbob,\nbob,u-5\nalice,u-1\na b,u-6,x\n"

const fileWants = "1: 2:taken 3:invalid_name 4:invalid_name 5:invalid_request 6: 7: 8:malformed"

// signedClaims takes only what is signed with a key.
type signedClaims struct {
	*log
	keys claims.Keys
}

func (s signedClaims) Publish(ctx context.Context, partition int32, r cloudevents.Record) (int64, error) {
	if !s.keys.Signed(r) {
		return 0, errors.New("it is not signed")
	}
	return s.log.Publish(ctx, partition, r)
}

func TestClaimsAreSigned(t *testing.T) {
	l, key := newLog(), claims.SigningKey{ID: "k1", Secret: []byte("of a test")}
	rows, err := importer.NewReader(strings.NewReader(file), "f.csv")
	if err != nil {
		t.Fatal(err)
	}
	cfg := importer.Config{Policies: names.Builtin(), Partitions: 12, Waiting: 16, Sign: key.Sign, Resend: 100 * time.Millisecond}
	im := importer.New(cfg, signedClaims{l, claims.Keys{key.ID: key.Secret}}, l.waiter, l)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // what is not taken is tried again
	defer cancel()
	if err := im.Run(ctx, rows, 0, func(importer.Result) {}); err != nil || len(l.decided) != 3 {
		t.Errorf("%d claims are decided, %v", len(l.decided), err)
	}
}

func TestRunAccountsForEveryRow(t *testing.T) {
	l := newLog()
	if got := reasons(run(t, l, file, "f.csv", 0)); got != fileWants {
		t.Errorf("got  %s\nwant %s", got, fileWants)
	}
	decided := len(l.decided)
	if got := reasons(run(t, l, file, "f.csv", 0)); got != fileWants {
		t.Errorf("a second time: got %s", got)
	}
	if len(l.decided) != decided {
		t.Errorf("the second import made %d new requests", len(l.decided)-decided)
	}
	if got := reasons(run(t, l, file, "f.csv", 6)); got != "7: 8:malformed" {
		t.Errorf("resumed behind row 6: got %s", got)
	}
}

// TestFirstRowClaimsFirst: in the file's order, however many rows are on their way.
func TestFirstRowClaimsFirst(t *testing.T) {
	var b strings.Builder
	b.WriteString("name,owner\n")
	for i := range 2000 {
		fmt.Fprintf(&b, "name-%d,o-%d\n", i%50, i)
	}
	l := newLog()
	for _, r := range run(t, l, b.String(), "f.csv", 0) {
		if want := r.Number > 50; (r.Reason == "taken") != want {
			t.Fatalf("row %d: reason %q", r.Number, r.Reason)
		}
	}
}

// TestTroubleIsWaitedOut: whatever Kafka answers, each row gets its outcome, and each request is decided once.
func TestTroubleIsWaitedOut(t *testing.T) {
	l := newLog()
	l.fail = func(call int) (bool, error) {
		switch call % 5 {
		case 0:
			return false, fmt.Errorf("no leader: %w", api.ErrNotPublished)
		case 1:
			return true, fmt.Errorf("timed out: %w", api.ErrUnknown) // it was
		case 2:
			return false, fmt.Errorf("timed out: %w", api.ErrUnknown) // it was not
		}
		return true, nil
	}
	if got := reasons(run(t, l, file, "f.csv", 0)); got != fileWants {
		t.Errorf("got  %s\nwant %s", got, fileWants)
	}
	if len(l.decided) != 3 {
		t.Errorf("%d requests were decided, want 3: alice for two owners, bob for one", len(l.decided))
	}
}

func TestIDUsedForSomethingElse(t *testing.T) {
	l := newLog()
	text := `{"name":"alice","owner":"u-1","request_id":"0190a5a0-0000-7000-8000-000000000001"}` + "\n" +
		`{"name":"alice","owner":"u-2","request_id":"0190a5a0-0000-7000-8000-000000000001","metadata":{"plan":"pro"}}` + "\n"
	if got, want := reasons(run(t, l, text, "f.ndjson", 0)), "1: 2:idempotency_mismatch"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestIDThatNobodyWouldAnswer: of a version that the log refuses, and no outcome would ever come.
func TestIDThatNobodyWouldAnswer(t *testing.T) {
	l := newLog()
	text := `{"name":"alice","owner":"u-1","request_id":"0190a5a0-0000-1000-8000-000000000001"}` + "\n"
	if got, want := reasons(run(t, l, text, "f.ndjson", 0)), "1:invalid_request"; got != want || l.calls != 0 {
		t.Errorf("got %s after %d calls, want %s", got, l.calls, want)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	l := newLog()
	l.fail = func(int) (bool, error) { return false, api.ErrNotPublished }
	rows, err := importer.NewReader(strings.NewReader(file), "f.csv")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	im := importer.New(importer.Config{Policies: names.Builtin(), Partitions: 12, Waiting: 4}, l, l.waiter, l)
	err = im.Run(ctx, rows, 0, func(r importer.Result) {
		if r.Reason == "" {
			t.Errorf("row %d counts as accepted", r.Number)
		}
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestReaderRefusesWhatItCannotMean(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"f.csv", "", "the first row names the columns"},
		{"f.csv", "alice,u-1\n", `column "alice" is unknown`},
		{"f.csv", "name\n", "name (or username), owner (or owner_id)"},
		{"f.csv", "name,username,owner\n", "name (or username)"},
		{"f.csv", "name,name,owner\n", "twice"},
		{"f.txt", "name,owner\n", ".csv, .ndjson or .jsonl"},
	} {
		if _, err := importer.NewReader(strings.NewReader(c.text), c.name); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q: %v does not say %q", c.name, c.text, err, c.want)
		}
	}
	for _, c := range []struct{ name, text, want string }{
		{"f.csv", "name,owner\n\"a\n", "quote"},
		{"f.csv", "name,owner\nalice\n", "has 1 columns, the header has 2"},
		{"f.csv", "name,owner,request_id\nalice,u,7\n", "request_id is not a UUID"},
		{"f.csv", "name,owner\n\xff,u\n", "not UTF-8"},
		{"f.ndjson", "{\n", "not a JSON object"},
		{"f.ndjson", `{"name":7}`, "name is not a string"},
		{"f.ndjson", `{"nam":"x"}`, `field "nam" is unknown`},
	} {
		rows, err := importer.NewReader(strings.NewReader(c.text), c.name)
		if err != nil {
			t.Fatal(err)
		}
		var broken *importer.RowError
		if _, err := rows.Next(); !errors.As(err, &broken) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q: %v does not say %q", c.name, c.text, err, c.want)
		}
	}
}

func TestReaderReadsBothFormats(t *testing.T) {
	csv := "\ufeffusername,owner_id,space,registered_at,metadata.plan\nAlice,u-1,,2020-01-01,pro\n"
	ndjson := `{"username":"Alice","owner_id":"u-1","registered_at":"2020-01-01","metadata":{"plan":"pro"}}` + "\n\n"
	for name, text := range map[string]string{"f.csv": csv, "f.jsonl": ndjson} {
		rows, err := importer.NewReader(strings.NewReader(text), name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := rows.Next()
		if err != nil {
			t.Fatal(err)
		}
		if r.Name != "Alice" || r.Owner != "u-1" || r.Space != "username" || r.Metadata["registered_at"] != "2020-01-01" || r.Metadata["plan"] != "pro" {
			t.Errorf("%s: %+v", name, r)
		}
		if _, err := rows.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: behind the last row: %v", name, err)
		}
	}
}

// TestRequestIDIsFixed: a later version that derived other ids would import everything a second time.
func TestRequestIDIsFixed(t *testing.T) {
	ref := names.Ref{Space: "username", Key: "alice"}
	if got, want := importer.RequestID(ref, "u-1").String(), "559aab29-a571-5676-b453-30fa00e99be6"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if importer.RequestID(names.Ref{Space: "username", Key: "a"}, "bc") == importer.RequestID(names.Ref{Space: "username", Key: "ab"}, "c") {
		t.Error("two requests have one id")
	}
}

// held is who has which names.
type held map[string]registrations.Holding

func (h held) Name(_ context.Context, ref names.Ref) (registrations.Holding, error) {
	return h[ref.String()], nil
}

func TestDryRun(t *testing.T) {
	rows, err := importer.NewReader(strings.NewReader(file+"root,u-7\ncarol,u-8\ndave,u-9\nerin,u-10\n"), "f.csv")
	if err != nil {
		t.Fatal(err)
	}
	dave := names.Ref{Space: "username", Key: "dave"}
	h := held{
		"username/carol": {State: registrations.Registered, Owner: "somebody"},
		"username/erin":  {State: registrations.Registered, Owner: "u-10", ClaimID: uuid.New()},                     // claimed beside the table
		"username/dave":  {State: registrations.Registered, Owner: "u-9", ClaimID: importer.RequestID(dave, "u-9")}, // imported before
	}
	var results []importer.Result
	if err := importer.DryRun(t.Context(), rows, names.Builtin(), nil, h, func(r importer.Result) { results = append(results, r) }); err != nil {
		t.Fatal(err)
	}
	if got, want := reasons(results), fileWants+" 9:reserved_word 10:taken 11: 12:taken"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for row, want := range map[int]string{2: "row 1 has the name", 10: "somebody has the name already", 12: "its owner has the name already, by another claim"} {
		if got := results[row-1].Detail; got != want {
			t.Errorf("row %d: %q, want %q", row, got, want)
		}
	}
}

func TestProgress(t *testing.T) {
	path := t.TempDir() + "/f.csv.resume"
	sum, err := importer.Fingerprint(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	p, err := importer.LoadProgress(path, "f.csv", sum)
	if err != nil || p.Rows != 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	p.Rows = 7
	if err := p.Save(path); err != nil {
		t.Fatal(err)
	}
	if p, err = importer.LoadProgress(path, "f.csv", sum); err != nil || p.Rows != 7 {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err = importer.LoadProgress(path, "f.csv", "another"); err != nil || p.Rows != 0 {
		t.Errorf("of another file: %+v, %v", p, err)
	}
}
