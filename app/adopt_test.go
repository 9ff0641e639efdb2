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
	inserted := 0
	signUp := func(ctx context.Context, dibs *client.Client, id int, name string) (client.Result, error) {
		return recipes.SignUpByClaim(ctx, dibs, fmt.Sprint(id), name, func(context.Context) error {
			inserted++
			return k.query(func(ctx context.Context, conn *pgx.Conn) error {
				_, err := conn.Exec(ctx, `INSERT INTO users VALUES ($1, $2) ON CONFLICT (id) DO NOTHING`, id, name)
				return err
			})
		})
	}
	ids := make(map[string]int)
	k.crashes(t, func(ctx context.Context, dibs *client.Client, id string) error {
		if ids[id] == 0 {
			ids[id] = 2000 + len(ids)
		}
		_, err := signUp(ctx, dibs, ids[id], "Yann."+id)
		return err
	}, func(t *testing.T, id string) { k.holds(t, fmt.Sprint(ids[id]), "yann."+id, "registered") })
	got(t)(signUp(ctx, k.dibs, 1005, "Yann"))
	k.holds(t, "1005", "yann", "registered")
	inserted = 0
	if refused(t, "taken")(signUp(ctx, k.dibs, 1006, "YANN")); inserted != 0 {
		t.Error("the table was asked although the claim was rejected")
	}
	k.insert(t, 1007, "Yuri") // by somebody who was left behind
	var violation *pgconn.PgError
	if r, err := signUp(ctx, k.dibs, 1008, "yuri"); !errors.As(err, &violation) || violation.Code != "23505" {
		t.Errorf("%+v, %v: the belt has not held", r, err)
	} else {
		k.holds(t, "1008", "yuri", "reserved")
		got(t)(k.dibs.Withdraw(ctx, r.ID, "1008"))
	}
	k.exec(`DELETE FROM users WHERE id = 1007`)

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
