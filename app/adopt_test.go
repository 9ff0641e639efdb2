package app_test

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/client"
	"github.com/dibs-hq/dibs/docs/recipes"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestAdopt goes the way of docs/adopt.md, with its commands and its code.
func TestAdopt(t *testing.T) {
	t.Parallel()
	needs(t, "psql")
	k := cook(t)
	page := k.open(t, "../docs/adopt.md", "dibs.names", k.database.Schema+".names")
	users := k.users(t, page.block("sql"))
	ctx := t.Context()

	page.play("export")
	page.play("fix")
	page.play("belt")

	// Two users sign up in the shadow: one is claimed before the import, one is not, because something crashes.
	var reported []client.Result
	shadow := func(id int, name string) {
		t.Helper()
		if err := recipes.Shadow(ctx, k.dibs, fmt.Sprint(id), name, func(r client.Result) { reported = append(reported, r) }); err != nil {
			t.Fatal(err)
		}
	}
	k.insert(t, 1001, "Zoe")
	shadow(1001, "Zoe")
	page.play("import")
	k.insert(t, 1002, "Zack")
	k.insert(t, 1003, "Zita")
	shadow(1003, "Zita")
	shadow(1003, "Zita")        // whoever is not sure does it again
	shadow(1, "Joanne.Laprade") // whom the import has claimed
	if len(reported) > 0 {
		t.Errorf("reported, although the table and dibs agree: %+v", reported)
	}
	// Without the belt, the table takes what dibs does not.
	k.exec(`DROP INDEX users_username_key_of_dibs`)
	k.insert(t, 1004, "zita")
	shadow(1004, "zita")
	if len(reported) != 1 || reported[0].Reason != "taken" || reported[0].Owner != "1004" {
		t.Errorf("reported: %+v; want one duplicate", reported)
	}
	if shadow(1009, "Zoë"); len(reported) != 2 || reported[1].Reason != "invalid_name" {
		t.Errorf("reported: %+v; want a name that is none", reported)
	}
	page.play("compare")
	k.exec(`DELETE FROM users WHERE id = 1004`) // the duplicate is put right
	page.play("missing")

	// Behind the switch.
	k.exec(`CREATE UNIQUE INDEX users_username_key_of_dibs ON users (lower(username))`)
	sign := &signUps{kitchen: k, behind: func() error { return nil }}
	sign.upByClaim(t)

	// Back: what dibs holds is what the table holds.
	page.play("back")
	page.done()
	type user struct {
		Name string
		ID   string
	}
	want := rows[user](k.deployment, `SELECT username, id::text FROM users ORDER BY users.id`)
	f, err := os.Open(filepath.Join(page.dir, "names.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var have []user
	for _, line := range lines[1:] {
		have = append(have, user{line[0], line[1]})
	}
	if len(have) < users+4 || !slices.Equal(have, want) {
		t.Errorf("%d names came back, of %d users (%d at first)", len(have), len(want), users)
	}
	sign.upTooLate(t)
}

// users makes the table that a team has and fills it as people do. It returns how many there are.
func (k *kitchen) users(t *testing.T, table string) int {
	t.Helper()
	k.exec(table)
	f, err := os.Open("../names/testdata/signups.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	lines, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	begun := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := k.query(func(ctx context.Context, conn *pgx.Conn) error {
		for i, line := range lines[1:] {
			tag, err := conn.Exec(ctx, `INSERT INTO users VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, i+1, line[0], begun.Add(time.Duration(i)*time.Hour))
			if err != nil {
				return err
			}
			n += int(tag.RowsAffected())
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func (k *kitchen) insert(t *testing.T, id int, name string) {
	t.Helper()
	if err := k.query(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `INSERT INTO users VALUES ($1, $2)`, id, name)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// signUps is the sign-up behind the switch.
type signUps struct {
	*kitchen
	inserted int
	behind   func() error // what comes behind the insert
}

func (s *signUps) up(ctx context.Context, dibs *client.Client, id int, name string) (client.Result, error) {
	change := func(sql string, args ...any) error {
		return s.query(func(ctx context.Context, conn *pgx.Conn) error { _, err := conn.Exec(ctx, sql, args...); return err })
	}
	return recipes.SignUpByClaim(ctx, dibs, recipes.SignUp{ID: fmt.Sprint(id), Name: name}, shortest, func(context.Context) error {
		s.inserted++
		if err := change(`INSERT INTO users VALUES ($1, $2) ON CONFLICT (id) DO NOTHING`, id, name); err != nil {
			return err
		}
		return s.behind()
	}, func(context.Context) error {
		return change(`DELETE FROM users WHERE id = $1`, id)
	})
}

// both fails the test where the table and dibs do not say alike whether that user has a name.
func (s *signUps) both(t *testing.T, id int, name string, want bool) {
	t.Helper()
	if has := value[bool](s.deployment, `SELECT EXISTS (SELECT FROM users WHERE users.id = $1 AND username = $2)`, id, name); has != want {
		t.Errorf("%s, user %d: is in the table: %t; want %t", name, id, has, want)
	}
	if n := s.name(t, name); (n.State == "registered" && n.Owner == fmt.Sprint(id)) != want {
		t.Errorf("%s, user %d: has the name: %t; want %t: %+v", name, id, !want, want, n)
	}
}

// upByClaim signs up with a crash at each step.
func (s *signUps) upByClaim(t *testing.T) {
	ctx := t.Context()
	ids := make(map[string]int)
	s.crashes(t, func(ctx context.Context, dibs *client.Client, id string) error {
		if ids[id] == 0 {
			ids[id] = 2000 + len(ids)
		}
		_, err := s.up(ctx, dibs, ids[id], "Yann."+id)
		return err
	}, func(t *testing.T, id string) { s.both(t, ids[id], "Yann."+id, true) })
	got(t)(s.up(ctx, s.dibs, 1005, "Yann"))
	s.both(t, 1005, "Yann", true)
	s.inserted = 0
	if refused(t, "taken")(s.up(ctx, s.dibs, 1006, "YANN")); s.inserted != 0 {
		t.Error("the table was asked although the claim was rejected")
	}
	s.insert(t, 1007, "Yuri") // by somebody who was left behind
	var violation *pgconn.PgError
	if r, err := s.up(ctx, s.dibs, 1008, "yuri"); !errors.As(err, &violation) || violation.Code != "23505" {
		t.Errorf("%+v, %v: the belt has not held", r, err)
	} else {
		s.holds(t, "1008", "yuri", "reserved")
		got(t)(s.dibs.Withdraw(ctx, r.ID, "1008"))
	}
	s.exec(`DELETE FROM users WHERE id = 1007`)
}

// upTooLate signs up with a repeat that comes when the reservation is over: it finds the user confirmed, or leaves none.
func (s *signUps) upTooLate(t *testing.T) {
	ctx := t.Context()
	s.topic.set(s.topic.claims, "message.timestamp.after.max.ms", "3600000") // for elapse; with that, nothing more would start
	ids := make(map[string]int)
	last := make(map[string]client.Result)
	s.crashes(t, func(ctx context.Context, dibs *client.Client, id string) (err error) {
		if name := "ylva." + id; ids[id] == 0 {
			ids[id] = 3000 + len(ids)
		} else if n := s.name(t, name); n.State == "reserved" {
			s.elapse(t, name, n.ExpiresAt)
		}
		last[id], err = s.up(ctx, dibs, ids[id], "Ylva."+id)
		return err
	}, func(t *testing.T, id string) {
		r := last[id]
		if s.both(t, ids[id], "Ylva."+id, r.State == client.Accepted); r.State != client.Accepted {
			refused(t, "reservation_expired")(r, nil)
			got(t)(s.up(ctx, s.dibs, ids[id]+100, "ylva."+id)) // another attempt
			s.both(t, ids[id]+100, "ylva."+id, true)
			refused(t, "reservation_expired")(s.up(ctx, s.dibs, ids[id], "Ylva."+id)) // and the first once more
			s.both(t, ids[id]+100, "ylva."+id, true)
		}
		if late := map[string]bool{"at1true": true, "at2false": true}; late[id] != (r.State != client.Accepted) { // reserved, not confirmed
			t.Errorf("%s: %+v; is to be too late: %t", id, r, late[id])
		}
	})

	// It is over while the insert is at work.
	over := func(name string, err error) func() error {
		return func() error { s.elapse(t, name, s.name(t, name).ExpiresAt); return err }
	}
	s.behind = over("yves", nil)
	refused(t, "reservation_expired")(s.up(ctx, s.dibs, 1010, "yves"))
	s.both(t, 1010, "yves", false)

	// It is, and nobody hears of it: until that is repeated, whoever gets the name runs into the index.
	crashed := errors.New("crashed")
	s.behind = over("yoko", crashed)
	if _, err := s.up(ctx, s.dibs, 1011, "yoko"); !errors.Is(err, crashed) {
		t.Fatal(err)
	}
	s.behind = func() error { return nil }
	var violation *pgconn.PgError
	if r, err := s.up(ctx, s.dibs, 1012, "yoko"); !errors.As(err, &violation) || violation.Code != "23505" {
		t.Fatalf("%+v, %v: two users have the name", r, err)
	}
	s.behind = func() error { t.Error("inserted, though it is over"); return nil }
	refused(t, "reservation_expired")(s.up(ctx, s.dibs, 1011, "yoko"))
	s.both(t, 1011, "yoko", false)
	s.behind = func() error { return nil }
	got(t)(s.up(ctx, s.dibs, 1012, "yoko"))
	s.both(t, 1012, "yoko", true)
}
