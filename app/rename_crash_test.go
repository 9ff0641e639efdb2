package app_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/dibstest"
	"github.com/jackc/pgx/v5/pgxpool"
)

// TestRenameUnderCrashes is the short one: every point at which a processor can die, and few times each.
func TestRenameUnderCrashes(t *testing.T) {
	t.Parallel()
	dibstest.NeedRealKafka(t)
	renameUnderCrashes(t, 40, 1)
}

// TestCampaignRenameUnderCrashes has 1,000 crashes.
func TestCampaignRenameUnderCrashes(t *testing.T) {
	campaign(t)
	dibstest.NeedRealKafka(t)
	renameUnderCrashes(t, 1000, 15)
}

// renameUnderCrashes has owners rename again and again, and rivals claim every name they leave or want, while one
// processor after the other dies, until that many have died and every point was the end of at least so many. Then it
// judges what is left.
func renameUnderCrashes(t *testing.T, crashes, least int) {
	d := deploy(t, 4)
	d.calm = true
	d.watchRenames()
	c := newRenaming(d, d.start("api").ready(), 8)
	life, err := d.incarnate(t.Context(), "", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.wishes {
		c.settle(i)
	}
	c.start(3)

	began := time.Now()
	lives, hits := []*incarnation{life}, make(map[point]int)
	const shortest, longest = 400 * time.Millisecond, 4 * time.Second
	patience := shortest
	life.cut(anywhere, patience)
	for n := 0; ; n++ {
		<-life.ctx.Done()
		hits[life.died]++
		if life.died == life.at {
			patience = shortest
		} else { // the machine may be slow
			patience = min(longest, 3*patience/2)
		}
		missing := slices.DeleteFunc(slices.Clone(deaths), func(p point) bool { return hits[p] >= least })
		if n >= crashes && len(missing) == 0 || n >= 3*crashes || t.Context().Err() != nil {
			break
		}
		if life, err = d.incarnate(t.Context(), next(hits), 1+rand.IntN(3), 0.04); err != nil {
			t.Fatal(err)
		}
		lives = append(lives, life)
		life.cut(anywhere, patience) // where it does not come by its point
	}
	died := len(lives)
	took := time.Since(began)
	if life, err = d.incarnate(t.Context(), "", 0, 0); err != nil {
		t.Fatal(err)
	}
	lives = append(lives, life)
	c.finish()
	eventually(t, time.Minute, func() error { // the last one alive asks about what is over, and must not die with a question
		if due := value[int](d, `SELECT count(*) FROM names WHERE expires_at < now() + interval '5 seconds'`); due > 0 {
			return fmt.Errorf("%d reservations are to expire", due)
		}
		return nil
	})
	d.settled(time.Minute)
	life.kill()
	for _, l := range lives {
		<-l.over
	}

	unanswered := 0
	for _, l := range lives {
		unanswered += l.survived
	}
	t.Logf("%d crashes in %s, %d commits and publications without an answer besides", died, took.Round(time.Millisecond), unanswered)
	for _, p := range deaths {
		t.Logf("%5d × %s", hits[p], p)
		if hits[p] < least {
			t.Errorf("died only %d times at: %s", hits[p], p)
		}
	}
	c.judge(lives)
	d.check()
}

// next chooses where to die: where it has happened least, or anywhere.
func next(hits map[point]int) point {
	if rand.IntN(4) == 0 {
		return deaths[rand.IntN(len(deaths))]
	}
	rare := slices.Clone(deaths)
	rand.Shuffle(len(rare), func(i, j int) { rare[i], rare[j] = rare[j], rare[i] })
	return slices.MinFunc(rare, func(a, b point) int { return hits[a] - hits[b] })
}

// watchRenames has Postgres itself keep when a rename and when a release was decided, and, at every commit that takes a
// registered name from an owner, whether that owner is left without any.
func (d *deployment) watchRenames() {
	d.t.Helper()
	d.exec(`
CREATE TABLE moments (
	partition integer, log_epoch integer, "offset" bigint, seq smallint, at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (partition, log_epoch, "offset", seq)
);
CREATE FUNCTION note_moments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO moments SELECT m.partition, m.log_epoch, m."offset", m.seq FROM made m WHERE m.follow_key IS NOT NULL OR m.outcome = 'L';
	RETURN NULL;
END $$;
CREATE TRIGGER note_moments AFTER INSERT ON decisions REFERENCING NEW TABLE AS made FOR EACH STATEMENT EXECUTE FUNCTION note_moments();

CREATE TABLE nameless (at timestamptz NOT NULL DEFAULT clock_timestamp(), owner text, lost text);
CREATE TABLE losses (owner text, lost text);
CREATE FUNCTION note_loss() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO losses VALUES (OLD.owner, OLD.key);
	IF NOT EXISTS (SELECT 1 FROM names WHERE owner = OLD.owner AND state = 'r') THEN
		INSERT INTO nameless (owner, lost) VALUES (OLD.owner, OLD.key);
	END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER note_loss AFTER UPDATE ON names DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
	WHEN (OLD.state = 'r' AND OLD.owner LIKE 'owner-%' AND (NEW.state <> 'r' OR NEW.owner IS DISTINCT FROM OLD.owner))
	EXECUTE FUNCTION note_loss();`)
}

// renaming is what owners, rivals and the watcher do at the same time.
type renaming struct {
	d    *deployment
	api  *process
	pool *pgxpool.Pool
	stop chan struct{} // for owners
	end  chan struct{} // for the others, once the owners are done

	owners, others sync.WaitGroup

	mu     sync.Mutex
	wishes []wish
	count  map[string]int // of what was done
	seen   map[seen]int   // what the watcher has seen, and in how many samples
	looks  int
}

// wish is the name that an owner has, and the one that it wants.
type wish struct {
	has     string
	version int64
	wants   string
}

// seen is a holding that was seen in names.
type seen struct {
	key, state, owner string
	version           int64
}

func newRenaming(d *deployment, api *process, owners int) *renaming {
	d.t.Helper()
	cfg, err := pgxpool.ParseConfig(d.database.DSN)
	if err != nil {
		d.t.Fatal(err)
	}
	cfg.ConnConfig.RuntimeParams["search_path"] = d.database.Schema
	cfg.MaxConns = 4
	pool, err := pgxpool.NewWithConfig(d.t.Context(), cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(pool.Close)
	return &renaming{
		d: d, api: api, pool: pool, stop: make(chan struct{}), end: make(chan struct{}), wishes: make([]wish, owners),
		count: make(map[string]int), seen: make(map[seen]int),
	}
}

func (c *renaming) start(rivals int) {
	for i := range c.wishes {
		c.owners.Go(func() { c.own(i) })
	}
	for i := range rivals {
		c.others.Go(func() { c.rival(fmt.Sprintf("rival-%d", i)) })
	}
	c.others.Go(c.watch)
}

// finish lets every owner end the rename it is at.
func (c *renaming) finish() {
	c.d.t.Helper()
	close(c.stop)
	done := make(chan struct{})
	go func() {
		c.owners.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		c.d.t.Fatal("an owner has no answer, a minute after the last crash")
	}
	close(c.end)
	c.others.Wait()
}

func over(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// watch reads what owners hold, all in one snapshot, as often as it can.
func (c *renaming) watch() {
	owners := make([]string, len(c.wishes))
	for i := range owners {
		owners[i] = owner(i)
	}
	for !over(c.end) {
		if err := c.look(owners); err != nil {
			c.d.t.Errorf("look at names: %v", err)
			return
		}
		time.Sleep(time.Millisecond) // the processor, too, is to have a share of Postgres
	}
}

func (c *renaming) look(owners []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	found, err := c.pool.Query(ctx, `SELECT key, state::text, owner, version FROM names WHERE owner = ANY ($1)`, owners)
	if err != nil {
		return err
	}
	defer found.Close()
	held := make(map[string][]string)
	c.mu.Lock()
	defer c.mu.Unlock()
	for found.Next() {
		var s seen
		if err := found.Scan(&s.key, &s.state, &s.owner, &s.version); err != nil {
			return err
		}
		c.seen[s]++
		if s.state == "r" {
			held[s.owner] = append(held[s.owner], s.key)
		}
	}
	c.looks++
	for _, o := range owners {
		if len(held[o]) == 0 {
			c.d.t.Errorf("%s holds no name, at %s", o, time.Now())
		}
	}
	return found.Err()
}

func (c *renaming) did(what string) {
	c.mu.Lock()
	c.count[what]++
	c.mu.Unlock()
}

func (c *renaming) done() string {
	var all []string
	for _, what := range slices.Sorted(maps.Keys(c.count)) {
		all = append(all, fmt.Sprintf("%d %s", c.count[what], what))
	}
	return strings.Join(all, ", ")
}
