package dibstest_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/dev"
	"github.com/dibs-hq/dibs/dibstest"
)

// runSelf runs one test of this binary in another process, with the environment given, and returns its output.
func runSelf(t *testing.T, test string, environ ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(append(os.Environ(), "DIBS_TEST_REPORT="), environ...) // its skips are not this run's
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func mustContain(t *testing.T, out string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("not in the output: %q\n%s", w, out)
		}
	}
}

func TestSkipIsLoudAndCounted(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "skipped")
	out, err := runSelf(t, "TestKafkaHoldsTheClockBound", "DIBS_TEST_KAFKA=embedded", "DIBS_TEST_REQUIRE=", "DIBS_TEST_REPORT="+file)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	mustContain(t, out, "dibstest: Kafka: the embedded fake", "dibstest: 1 test SKIPPED, NOT TESTED: need a real Kafka")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if sums := dibstest.SumReport(string(raw) + string(raw)); sums["a real Kafka"] != 2 || len(sums) != 1 {
		t.Fatalf("report of two binaries: %v", sums)
	}
}

func TestRequireTurnsASkipIntoAFailure(t *testing.T) {
	t.Parallel()
	for _, test := range []string{"TestKafkaHoldsTheClockBound", "TestKafkaSmoke", "TestOwnKafkaKeepsRecords"} {
		out, err := runSelf(t, test, "DIBS_TEST_KAFKA=embedded", "DIBS_TEST_REQUIRE=postgres,kafka")
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Errorf("%s passed on the fake under DIBS_TEST_REQUIRE: %v\n%s", test, err, out)
		}
		mustContain(t, out, "DIBS_TEST_REQUIRE=postgres,kafka, but there is only the embedded fake")
	}
}

func TestTheEmbeddedPairIsEnough(t *testing.T) {
	t.Parallel()
	out, err := runSelf(t, "Test(KafkaSmoke|OwnKafkaKeepsRecords|EachTestHasItsOwnTopics|PostgresSchema|OwnPostgresKeepsRows)",
		"DIBS_TEST_KAFKA=embedded", "DIBS_TEST_POSTGRES=embedded", "DIBS_TEST_REQUIRE=")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	mustContain(t, out, "dibstest: Postgres: Postgres "+dev.PostgresVersion+", embedded")
}

func TestUnreachableServersOfTheEnvironmentFail(t *testing.T) {
	t.Parallel()
	out, err := runSelf(t, "Test(KafkaSmoke|PostgresSchema)", "DIBS_TEST_KAFKA=127.0.0.1:1", "DIBS_TEST_POSTGRES=postgres://127.0.0.1:1/x")
	if err == nil {
		t.Fatalf("passed with servers that are not there\n%s", out)
	}
	mustContain(t, out, "DIBS_TEST_KAFKA=127.0.0.1:1", "DIBS_TEST_POSTGRES: ")
}

// TestToolThatIsNotHere is run by the one below.
func TestToolThatIsNotHere(t *testing.T) {
	if os.Getenv("DIBS_TEST_LACKING") != "" {
		dibstest.Needs(t, "a loom", errors.New("there is none"))
	}
}

func TestNeedsIsSeen(t *testing.T) {
	t.Parallel()
	out, err := runSelf(t, "TestToolThatIsNotHere", "DIBS_TEST_LACKING=yes", "DIBS_TEST_REQUIRE=")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	mustContain(t, out, "dibstest: 1 test SKIPPED, NOT TESTED: need a loom")
	out, err = runSelf(t, "TestToolThatIsNotHere", "DIBS_TEST_LACKING=yes", "DIBS_TEST_REQUIRE=producers")
	if err == nil {
		t.Error("it passed under DIBS_TEST_REQUIRE")
	}
	mustContain(t, out, "DIBS_TEST_REQUIRE=producers, but this test needs a loom: there is none")
}

func TestRequireWords(t *testing.T) {
	t.Parallel()
	words, err := dibstest.RequireWords(" kafka ,postgres,")
	if err != nil || !words["kafka"] || !words["postgres"] || len(words) != 2 {
		t.Fatalf("%v, %v", words, err)
	}
	if _, err := dibstest.RequireWords("kakfa"); err == nil {
		t.Fatal("a misspelt word passed")
	}
}

func TestFakeOfTheEnvironmentIsKnownAsOne(t *testing.T) {
	t.Parallel()
	fake, err := dibstest.EmbeddedKafka(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fake.Close(); err != nil {
			t.Error(err)
		}
	})
	out, err := runSelf(t, "TestKafkaHoldsTheClockBound", "DIBS_TEST_KAFKA="+fake.Addrs()[0], "DIBS_TEST_REQUIRE=")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	mustContain(t, out, "1 test SKIPPED, NOT TESTED", "the embedded fake: a FALL-BACK")
}
