package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/dibs-hq/dibs/config"
)

func load(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{"../docker-compose.yml"}, cli.WithWorkingDirectory(".."))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// TestEveryServiceWaitsForHealth: nothing starts against a server that is not ready.
func TestEveryServiceWaitsForHealth(t *testing.T) {
	project := load(t)
	for name, s := range project.Services {
		for dep, d := range s.DependsOn {
			of, err := project.GetService(dep)
			if err != nil {
				t.Fatalf("%s depends on %s: %v", name, dep, err)
			}
			if d.Condition == types.ServiceConditionHealthy && of.HealthCheck == nil {
				t.Errorf("%s waits for %s to be healthy, which has no health check", name, dep)
			}
		}
	}
	for name, want := range map[string]map[string]string{
		"migrate": {"postgres": types.ServiceConditionHealthy},
		"topics":  {"kafka": types.ServiceConditionHealthy, "migrate": types.ServiceConditionCompletedSuccessfully},
		"dibs":    {"migrate": types.ServiceConditionCompletedSuccessfully, "topics": types.ServiceConditionCompletedSuccessfully},
	} {
		s, err := project.GetService(name)
		if err != nil {
			t.Fatal(err)
		}
		for dep, condition := range want {
			if got := s.DependsOn[dep].Condition; got != condition {
				t.Errorf("%s waits for %s to be %q, want %q", name, dep, got, condition)
			}
		}
	}
}

// TestImagesAreOfficial: the servers are those that their projects publish, at a version that is said.
func TestImagesAreOfficial(t *testing.T) {
	project := load(t)
	for name, image := range map[string]string{"kafka": `^apache/kafka:4\.\d+\.\d+$`, "postgres": `^postgres:\d+$`, "prometheus": `^prom/prometheus:v\d`} {
		s, err := project.GetService(name)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(image).MatchString(s.Image) {
			t.Errorf("%s runs %q", name, s.Image)
		}
	}
}

// TestSettingsAreKnown: every variable that the file gives to dibs is a setting, and they load.
func TestSettingsAreKnown(t *testing.T) {
	for name, s := range load(t).Services {
		if s.Image != "dibs" {
			continue
		}
		var environ []string
		for k, v := range s.Environment {
			if v == nil {
				t.Errorf("%s: %s has no value", name, k)
				continue
			}
			environ = append(environ, k+"="+*v)
		}
		l, err := config.Load(nil, environ, "", nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if l.Kafka.Brokers[0] != "kafka:9094" {
			t.Errorf("%s talks to %v: inside the network the broker is kafka:9094", name, l.Kafka.Brokers)
		}
	}
}

// TestNothingIsOpenToTheNetwork: passwords are in the open here, so ports are on loopback only.
func TestNothingIsOpenToTheNetwork(t *testing.T) {
	for name, s := range load(t).Services {
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is published on %q", name, p.Published, p.HostIP)
			}
		}
	}
}

// TestDockerfile: the image is built from the files there are, runs without rights, and has nothing but the binary.
func TestDockerfile(t *testing.T) {
	b, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, want := range []string{"CGO_ENABLED=0", "\nFROM scratch\n", "\nUSER 65532:65532\n", `ENTRYPOINT ["/dibs"]`, "./cmd/dibs"} {
		if !strings.Contains(text, want) {
			t.Errorf("Dockerfile lacks %q", want)
		}
	}
	mod, err := os.ReadFile(filepath.Join("..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	goVersion := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	if image := regexp.MustCompile(`FROM golang:(\d+\.\d+)`).FindStringSubmatch(text); image == nil || image[1] != string(goVersion[1]) {
		t.Errorf("Dockerfile builds with %v, go.mod asks for %s", image, goVersion[1])
	}
}
