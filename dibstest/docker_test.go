package dibstest_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/dibstest"
)

// These tests set DOCKER_HOST, so they don't run in parallel.

// dockerEngine is an engine that answers a ping, and everything else with 500.
func dockerEngine(t *testing.T, ping func(http.ResponseWriter)) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/_ping" {
			ping(w)
			return
		}
		http.Error(w, `{"message": "no such thing here"}`, http.StatusInternalServerError)
	}))
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	t.Setenv("DOCKER_HOST", "unix://"+socket)
}

func TestDockerAnswers(t *testing.T) {
	dockerEngine(t, func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK) })
	if err := dibstest.DockerAnswers(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestDockerThatHangsIsNoDocker(t *testing.T) {
	wait, cancel := context.WithCancel(context.Background())
	defer cancel()
	dockerEngine(t, func(http.ResponseWriter) { <-wait.Done() })
	began := time.Now()
	if err := dibstest.DockerAnswers(t.Context()); err == nil {
		t.Fatal("an engine that does not answer was taken")
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Fatalf("it took %s to see that", took)
	}
}

func TestNoDocker(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "none.sock"))
	if err := dibstest.DockerAnswers(t.Context()); err == nil {
		t.Fatal("no engine was taken for one")
	}
}

// TestDockerWithoutTheImageFallsOn has an engine that can't give an image, and must not hang on it.
func TestDockerWithoutTheImageFallsOn(t *testing.T) {
	dockerEngine(t, func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK) })
	began := time.Now()
	out, err := runSelf(t, "Test(KafkaSmoke|PostgresSchema)", "DIBS_TEST_KAFKA=", "DIBS_TEST_POSTGRES=", "DIBS_TEST_REQUIRE=")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	mustContain(t, out, "Docker can't run apache/kafka", "Docker can't run postgres")
	t.Logf("took %s:\n%s", time.Since(began).Round(time.Millisecond), out)
}
