package dibstest

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/dibs-hq/dibs/dev"
)

// Kind is where a server comes from.
type Kind string

// The kinds of servers.
const (
	Environment Kind = "environment"
	Docker      Kind = "docker"
	Jars        Kind = "jars"
	Local       Kind = "local"
	Embedded    Kind = "embedded"
)

// The environment variables of the harness.
const (
	kafkaVariable    = "DIBS_TEST_KAFKA"
	postgresVariable = "DIBS_TEST_POSTGRES"
	requireVariable  = "DIBS_TEST_REQUIRE"
	// reportVariable names a file that each test binary adds its skips to, for with-servers to sum up.
	reportVariable = "DIBS_TEST_REPORT"

	// embeddedWord, instead of an address, asks for the embedded server, whatever else is to be had.
	embeddedWord = "embedded"
)

// session is one run of a test binary.
type session struct {
	out io.Writer

	mu       sync.Mutex // guards what follows; held while a shared server starts
	begun    bool
	kafka    *kafkaServer
	kafkaErr error
	pg       *postgresServer
	pgErr    error
	skipped  map[string]int // by what was missing
}

// current is the session of this process: a test binary has one.
var current = &session{out: os.Stderr}

// Main runs the tests of a binary, stops the servers they started, and exits. It is the whole of a TestMain:
//
//	func TestMain(m *testing.M) { dibstest.Main(m) }
func Main(m *testing.M) {
	dev.ChildMain()
	current.mu.Lock()
	current.begun = true
	current.mu.Unlock()
	code := m.Run()
	if err := current.end(); err != nil {
		current.say(err.Error())
		code = max(code, 1)
	}
	os.Exit(code)
}

// end looks for private values on the shared servers, stops them and says what was left out.
func (s *session) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []string
	if err := newSweep().servers(s.kafka, s.pg); err != nil {
		errs = append(errs, err.Error())
	}
	if s.kafka != nil {
		if err := s.kafka.close(); err != nil {
			errs = append(errs, err.Error())
		}
	}
	if s.pg != nil {
		if err := s.pg.close(); err != nil {
			errs = append(errs, err.Error())
		}
	}
	for what, n := range s.skipped {
		s.say(skippedLine(n, what))
		if err := report(what, n); err != nil {
			errs = append(errs, err.Error())
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("end of the run: %s", strings.Join(errs, "; "))
	}
	return nil
}

func (s *session) say(line string) {
	fmt.Fprintln(s.out, "dibstest:", line)
}

// mustHaveBegun fails a test whose binary does not use Main: its servers would be left without an end.
func (s *session) mustHaveBegun(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun {
		t.Fatal("this test binary needs: func TestMain(m *testing.M) { dibstest.Main(m) }")
	}
}

// skip skips a test so that it is seen, or fails it where what is missing is required.
func (s *session) skip(t testing.TB, word, what, why string) {
	t.Helper()
	if requires(t, word) {
		t.Fatalf("%s=%s, but this test needs %s: %s", requireVariable, os.Getenv(requireVariable), what, why)
	}
	s.mu.Lock()
	if s.skipped == nil {
		s.skipped = map[string]int{}
	}
	s.skipped[what]++
	s.mu.Unlock()
	t.Skipf("SKIPPED, NOT TESTED: needs %s: %s", what, why)
}

// Needs skips a test that needs a tool that is not here, or cannot be had now, so that it is seen at the end of the run.
// Where DIBS_TEST_REQUIRE names producers, it fails instead: they need the most.
func Needs(t testing.TB, what string, why error) {
	t.Helper()
	current.mustHaveBegun(t)
	current.skip(t, "producers", what, why.Error())
}

func skippedLine(n int, what string) string {
	tests := "tests"
	if n == 1 {
		tests = "test"
	}
	return fmt.Sprintf("%d %s SKIPPED, NOT TESTED: need %s", n, tests, what)
}

// requires says whether DIBS_TEST_REQUIRE names word. A word that means nothing fails the test, since a typo there
// would let a run pass that tested little.
func requires(t testing.TB, word string) bool {
	t.Helper()
	words, err := requireWords(os.Getenv(requireVariable))
	if err != nil {
		t.Fatal(err)
	}
	return words[word]
}

func requireWords(list string) (map[string]bool, error) {
	words := map[string]bool{}
	for word := range strings.SplitSeq(list, ",") {
		switch word = strings.TrimSpace(word); word {
		case "":
		case "kafka", "postgres", "producers":
			words[word] = true
		default:
			return nil, fmt.Errorf("%s: unknown word %q; it takes kafka, postgres and producers", requireVariable, word)
		}
	}
	return words, nil
}

// report adds a line to the run's report, where there is one.
func report(what string, n int) error {
	path := os.Getenv(reportVariable)
	if path == "" {
		return nil
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("report of skipped tests: %w", err)
	}
	// One write of one line: several test binaries append at once.
	_, err = fmt.Fprintf(file, "%d\t%s\t%s\n", n, filepath.Base(os.Args[0]), what)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("report of skipped tests: %w", err)
	}
	return nil
}

// sumReport adds up a run's report, by what was missing.
func sumReport(raw string) map[string]int {
	sums := map[string]int{}
	for line := range strings.Lines(raw) {
		fields := strings.SplitN(strings.TrimSpace(line), "\t", 3)
		if len(fields) != 3 {
			continue
		}
		if n, err := strconv.Atoi(fields[0]); err == nil {
			sums[fields[2]] += n
		}
	}
	return sums
}

// CacheDir is where the harness keeps what it downloads: in the user's cache, and for root outside of root's home,
// since the user that runs Postgres for root must get there.
func CacheDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/cache/dibs-test", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cache of the test harness: %w", err)
	}
	return filepath.Join(dir, "dibs-test"), nil
}

// serverDir makes a temporary folder that another user can pass through: the one that runs Postgres for root.
func serverDir(what string) (string, error) {
	dir, err := os.MkdirTemp("", "dibs-test-"+what+"-")
	if err != nil {
		return "", fmt.Errorf("folder for %s: %w", what, err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", fmt.Errorf("folder for %s: %w", what, err)
	}
	return dir, nil
}
