package importer_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/importer"
	"github.com/dibs-hq/dibs/names"
)

// importFor imports a file in a bubble, and says how it ended and when.
func importFor(t *testing.T, l *log, text string) (done []importer.Result, took time.Duration, err error) {
	t.Helper()
	rows, err := importer.NewReader(strings.NewReader(text), "f.csv")
	if err != nil {
		t.Fatal(err)
	}
	im := importer.New(importer.Config{Policies: names.Builtin(), Partitions: 12, Waiting: 16}, l, l.waiter, l)
	began := time.Now()
	err = im.Run(t.Context(), rows, 0, func(r importer.Result) { done = append(done, r) })
	return done, time.Since(began), err
}

// TestHaltedPartitionEndsTheImport: what waits there is not decided before an operator acts. It says which one.
func TestHaltedPartitionEndsTheImport(t *testing.T) {
	var b strings.Builder
	b.WriteString("name,owner\n")
	alices := claims.Partition("username/alice", 12)
	elsewhere := 0
	for i := range 200 {
		fmt.Fprintf(&b, "name-%d,u-%d\n", i, i)
		if claims.Partition(fmt.Sprintf("username/name-%d", i), 12) != alices {
			elsewhere++
		}
	}
	for name, text := range map[string]string{"among others": b.String(), "the only row": "name,owner\nalice,u-1\n"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLog()
				l.halted = map[int32]string{alices: "the log was cut"}
				done, took, err := importFor(t, l, text)
				var halted *importer.HaltedError
				if !errors.As(err, &halted) || halted.Partition != alices || halted.Reason != "the log was cut" || errors.Is(err, importer.ErrSilent) {
					t.Errorf("got %v", err)
				}
				if took > 10*time.Second {
					t.Errorf("it took %s", took)
				}
				for _, r := range done {
					if claims.Partition("username/"+r.Name, 12) == alices {
						t.Errorf("row %d counts as done", r.Number)
					}
				}
			})
		})
	}
	if elsewhere == 200 {
		t.Error("no name was on the halted partition")
	}
}

// TestHaltOfAnotherPartition is no business of rows that are not there.
func TestHaltOfAnotherPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog()
		l.halted = map[int32]string{(claims.Partition("username/alice", 12) + 1) % 12: "the log was cut"}
		began := time.Now()
		l.fail = func(int) (bool, error) {
			return time.Since(began) > time.Minute, fmt.Errorf("slow: %w", api.ErrUnknown)
		}
		if done, _, err := importFor(t, l, "name,owner\nalice,u-1\n"); err != nil || len(done) != 1 {
			t.Errorf("%v, %v", done, err)
		}
	})
}

// TestHaltThatIsLifted in time: nothing has to be started again.
func TestHaltThatIsLifted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog()
		alices := claims.Partition("username/alice", 12)
		l.halted = map[int32]string{alices: "the log was cut"}
		time.AfterFunc(3*time.Second, func() { // seen halted once
			l.mu.Lock()
			defer l.mu.Unlock()
			l.halted = nil
		})
		if done, _, err := importFor(t, l, "name,owner\nalice,u-1\n"); err != nil || len(done) != 1 {
			t.Errorf("%v, %v", done, err)
		}
	})
}

// TestSilenceEndsTheImport, whatever it is that is away, and says so.
func TestSilenceEndsTheImport(t *testing.T) {
	refused := errors.New("connection refused")
	for name, c := range map[string]struct {
		fail func(int) (bool, error)
		away error
		want string
	}{
		"Kafka":         {func(int) (bool, error) { return false, fmt.Errorf("%w: no leader", api.ErrNotPublished) }, nil, "no leader"},
		"the processor": {func(int) (bool, error) { return false, nil }, nil, "wait for the outcome"},
		"all":           {func(int) (bool, error) { return false, api.ErrNotPublished }, refused, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLog()
				l.fail, l.away = c.fail, c.away
				done, took, err := importFor(t, l, "name,owner\nalice,u-1\nbob,u-2\n")
				if !errors.Is(err, importer.ErrSilent) || !strings.Contains(err.Error(), "none for 5m0s") || !strings.Contains(err.Error(), c.want) || len(done) != 0 {
					t.Errorf("%v, %v", done, err)
				}
				if took < 5*time.Minute || took > 5*time.Minute+10*time.Second {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// TestPatienceBeginsAnew with every outcome: slow is not silent. Nor is a file whose rows need none.
func TestPatienceBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog()
		began, decided := time.Now(), 0
		l.fail = func(int) (bool, error) {
			if time.Since(began) < time.Duration(decided+1)*4*time.Minute {
				return false, api.ErrNotPublished
			}
			decided++
			return true, nil
		}
		done, took, err := importFor(t, l, "name,owner\nalice,u-1\nalice,u-2\nalice,u-3\n")
		if err != nil || len(done) != 3 || took < 12*time.Minute {
			t.Errorf("%v, %v after %s", done, err, took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		l := newLog()
		began := time.Now()
		l.fail = func(int) (bool, error) { // each row waits for a while
			if time.Since(began)%betweenRows < 10*time.Second {
				return false, api.ErrNotPublished
			}
			return true, nil
		}
		im := importer.New(importer.Config{Policies: names.Builtin(), Partitions: 12, Waiting: 16}, l, l.waiter, l)
		if err := im.Run(t.Context(), new(slowly), 0, func(importer.Result) {}); err != nil {
			t.Errorf("a file that is read slowly: %v", err)
		}
	})
}

// slowly is a file of which a row comes now and then.
type slowly int

const betweenRows = 7 * time.Minute

func (n *slowly) Next() (importer.Row, error) {
	if *n++; *n > 3 {
		return importer.Row{}, io.EOF
	}
	time.Sleep(betweenRows)
	return importer.Row{Number: int(*n), Space: names.Username, Name: fmt.Sprintf("name-%d", *n), Owner: "u"}, nil
}
