package postgres_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/postgres"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

func TestPin(t *testing.T) {
	t.Parallel()
	r := open(t, configure(t))
	if got, is, err := r.Pinned(t.Context()); err != nil || is || got != (postgres.Contract{}) {
		t.Fatalf("before anybody pinned: %+v, %t, %v", got, is, err)
	}
	first := postgres.Contract{Topic: "dev.claims", Partitions: 12}
	if got, err := r.Pin(t.Context(), first); err != nil || got != first {
		t.Fatalf("pinned %+v, %v", got, err)
	}
	said := postgres.Contract{Topic: "dev.claims", ClusterID: "Mk3OEYBSD34fcwNTJENDM2Qk", Partitions: 12}
	if got, err := r.Pin(t.Context(), said); err != nil || got != said {
		t.Fatalf("a cluster that says who it is by now: %+v, %v", got, err)
	}
	for range 2 { // also when it does not say again
		if got, err := r.Pin(t.Context(), first); err != nil || got != said {
			t.Fatalf("pinned %+v, %v", got, err)
		}
	}
	for saying, found := range map[string]postgres.Contract{
		"24":          {Topic: "dev.claims", ClusterID: said.ClusterID, Partitions: 24},
		"other-id":    {Topic: "dev.claims", ClusterID: "other-id", Partitions: 12},
		"prod.claims": {Topic: "prod.claims", ClusterID: said.ClusterID, Partitions: 12},
	} {
		got, err := r.Pin(t.Context(), found)
		var mismatch *postgres.ContractError
		if got != said || !errors.As(err, &mismatch) || mismatch.Pinned != said || mismatch.Found != found || !strings.Contains(err.Error(), saying) {
			t.Errorf("%+v: %+v, %v", found, got, err)
		} else if grown := found.Partitions == 24; mismatch.Grown() != grown {
			t.Errorf("%+v: grown is %t", found, !grown)
		}
	}
	if got, is, err := r.Pinned(t.Context()); err != nil || !is || got != said {
		t.Fatalf("pinned is %+v, %t, %v", got, is, err)
	}
}

func TestPinAtOnce(t *testing.T) {
	t.Parallel()
	r := open(t, configure(t))
	answers := make(chan postgres.Contract, 8)
	for i := range cap(answers) {
		go func() {
			got, err := r.Pin(t.Context(), postgres.Contract{Topic: "claims", Partitions: i + 1})
			if mismatch := (*postgres.ContractError)(nil); err != nil && !errors.As(err, &mismatch) {
				t.Error(err)
			}
			answers <- got
		}()
	}
	first := <-answers
	for range cap(answers) - 1 {
		if got := <-answers; got != first {
			t.Errorf("pinned %+v and %+v", first, got)
		}
	}
}

// TestAcceptGap: the one way on for a partition whose log is another one.
func TestAcceptGap(t *testing.T) {
	t.Parallel()
	cfg := configure(t)
	r := open(t, cfg)
	if _, err := r.AcceptGap(t.Context(), 0, 100, "ops", "why"); !errors.Is(err, postgres.ErrNoPartition) {
		t.Errorf("a partition that nobody had: %v", err)
	}
	s := acquire(t, r, 0)
	old := accepting(s, 3, "old")
	commit(t, r, old)
	s = standing(t, r, 0)
	if _, err := r.AcceptGap(t.Context(), 0, 100, "ops", "why"); !errors.Is(err, postgres.ErrNotHalted) {
		t.Errorf("a partition at work: %v", err)
	}
	if err := r.Halt(t.Context(), s.Fence, "the log is another one"); err != nil {
		t.Fatal(err)
	}
	halted := standing(t, r, 0)
	if _, err := r.AcceptGap(t.Context(), 0, 100, "ops", "why"); !errors.Is(err, postgres.ErrUnpublished) || !strings.Contains(err.Error(), "offset 0 of 3") {
		t.Errorf("with outcomes to publish: %v", err)
	}
	if err := r.Published(t.Context(), []processor.Cursor{{Fence: s.Fence, Through: 3}}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.AcceptGap(t.Context(), 0, -1, "ops", "why"); err == nil {
		t.Error("resumed at -1")
	}
	halted.PublishedThrough = 3
	if now := standing(t, r, 0); now != halted {
		t.Errorf("refusals have left %+v, want %+v", now, halted)
	}

	got, err := r.AcceptGap(t.Context(), 0, 1, "ops", "the topic was made anew")
	want := processor.Standing{
		Fence:   processor.Fence{Partition: 0, LogEpoch: 2, NextOffset: 1, WriterEpoch: s.WriterEpoch + 1, WriterID: s.WriterID},
		LogTime: s.LogTime, LastOffset: -1, PublishedThrough: 1,
	}
	if err != nil || got != want || standing(t, r, 0) != want {
		t.Fatalf("resumed at %+v, %v, want %+v", got, err, want)
	}
	if err := r.Commit(t.Context(), []processor.Batch{accepting(s, 1, "x")}); !errors.Is(err, processor.ErrFenced) {
		t.Errorf("its writer before: %v", err)
	}
	type gap struct {
		FromEpoch, ToEpoch, FromOffset, ToOffset int64
		Halted, Actor, Reason                    string
	}
	var g gap
	if err := connect(t, cfg).QueryRow(t.Context(), `SELECT from_epoch, to_epoch, from_offset, to_offset, halted, actor, reason FROM gaps`).
		Scan(&g.FromEpoch, &g.ToEpoch, &g.FromOffset, &g.ToOffset, &g.Halted, &g.Actor, &g.Reason); err != nil {
		t.Fatal(err)
	}
	if want := (gap{1, 2, 3, 1, "the log is another one", "ops", "the topic was made anew"}); g != want {
		t.Errorf("written down is %+v, want %+v", g, want)
	}

	// Offsets begin again; what was decided in the old log is still known, and answers duplicates in the new one.
	s = acquire(t, r, 0)
	b := accepting(s, 2, "new")
	b.Rows[1] = processor.Row{Offset: 2, Kind: processor.KindDuplicate, RequestID: old.Rows[2].RequestID, Outcome: old.Rows[2].Outcome}
	b.Changes = b.Changes[:1]
	commit(t, r, b)
	rows, err := r.Unpublished(t.Context(), s.Fence, 0)
	if err != nil || len(rows) != 2 || rows[0].Outcome != b.Rows[0].Outcome || rows[1].Outcome != old.Rows[2].Outcome {
		t.Errorf("rows are %+v, %v", rows, err)
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	r := open(t, configure(t))
	s := acquire(t, r, 0)
	commit(t, r, accepting(s, 3, "a"))
	s = standing(t, r, 0)
	if _, err := r.Resume(t.Context(), 0, "ops", "why"); !errors.Is(err, postgres.ErrNotHalted) {
		t.Errorf("a partition at work: %v", err)
	}
	if err := r.Halt(t.Context(), s.Fence, "a name was changed behind the log"); err != nil {
		t.Fatal(err)
	}
	got, err := r.Resume(t.Context(), 0, "ops", "put right")
	want := s
	want.WriterEpoch++
	if err != nil || got != want {
		t.Errorf("resumed at %+v, %v, want %+v", got, err, want)
	}
	commit(t, r, accepting(acquire(t, r, 0), 1, "b"))
}

// TestHaltWithAnyReason: a halt is written down whatever its reason is made of.
func TestHaltWithAnyReason(t *testing.T) {
	t.Parallel()
	r := open(t, configure(t))
	for p, reason := range []string{"", "nul \x00 and \xff"} {
		s := acquire(t, r, int32(p))
		if err := r.Halt(t.Context(), s.Fence, reason); err != nil || standing(t, r, int32(p)).Halted == "" {
			t.Errorf("halt for %q: %v", reason, err)
		}
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	r := open(t, configure(t))
	if all, err := r.Partitions(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("partitions are %v, %v", all, err)
	}
	a, b := acquire(t, r, 2), acquire(t, r, 1)
	of2, of1 := accepting(a, 2, "two"), accepting(b, 2, "one")
	twice := of2.Rows[0].RequestID // an id that was used for two names
	of1.Rows[1].RequestID, of1.Rows[1].Outcome.RequestID = twice, twice
	commit(t, r, of2, of1)
	if err := r.Halt(t.Context(), standing(t, r, 1).Fence, "why"); err != nil {
		t.Fatal(err)
	}
	all, err := r.Partitions(t.Context())
	if want := []api.Partition{{Partition: 1, LogEpoch: 1, NextOffset: 2, Halted: "why"}, {Partition: 2, LogEpoch: 1, NextOffset: 2}}; err != nil || !reflect.DeepEqual(all, want) {
		t.Errorf("partitions are %+v, %v", all, err)
	}
	rows, err := r.All(t.Context())
	if err != nil || len(rows) != 2 || rows[0] != standing(t, r, 1) || rows[1] != standing(t, r, 2) {
		t.Errorf("all rows are %+v, %v", rows, err)
	}

	if none, err := r.Decided(t.Context(), nil); err != nil || len(none) != 0 {
		t.Errorf("no ids: %v, %v", none, err)
	}
	got, err := r.Decided(t.Context(), []uuid.UUID{uuid.New(), twice, of1.Rows[0].RequestID, twice, uuid.Nil})
	if err != nil || len(got) != 3 {
		t.Fatalf("decided are %+v, %v", got, err)
	}
	for _, want := range []registrations.Outcome{of2.Rows[0].Outcome, of1.Rows[0].Outcome, of1.Rows[1].Outcome} {
		if !slices.Contains(got, want) {
			t.Errorf("%+v is not among the decided %+v", want, got)
		}
	}

	if h, err := r.Name(t.Context(), ref("two1")); err != nil || !reflect.DeepEqual(h, of2.Changes[1].Holding) {
		t.Errorf("a name is held as %+v, %v", h, err)
	}
	if h, err := r.Name(t.Context(), ref("nobody's")); err != nil || h != (registrations.Holding{}) {
		t.Errorf("a name never held is held as %+v, %v", h, err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	cfg := configure(t)
	quiet, err := open(t, cfg).Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	loud := cfg
	sep := " "
	if strings.Contains(cfg.DSN, "://") {
		if sep = "?"; strings.Contains(cfg.DSN, "?") {
			sep = "&"
		}
	}
	loud.DSN += sep + "synchronous_commit=off"
	warnings, err := open(t, loud).Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	says := func(all []string) bool {
		return slices.ContainsFunc(all, func(w string) bool { return strings.HasPrefix(w, "synchronous_commit is off") })
	}
	if !says(warnings) || says(quiet) {
		t.Errorf("warnings are %q with synchronous_commit off, and %q without", warnings, quiet)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]postgres.Config{
		"a DSN that is none":    {DSN: "postgres://["},
		"a schema too long":     {Schema: strings.Repeat("s", 64)},
		"a negative timeout":    {Timeout: -1},
		"connections below one": {MaxConns: -1},
	} {
		if _, err := postgres.New(cfg); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
