package dibstest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/modules/postgres"
	"github.com/testcontainers/testcontainers-go/wait"
)

const (
	kafkaImage    = "apache/kafka:" + kafkaVersion
	postgresImage = "postgres:18"

	// dockerProbe is how long an engine may take to answer a ping. Without asking first, testcontainers looks for one
	// for more than a minute.
	dockerProbe = time.Second
	// dockerStart bounds pulling an image and starting it.
	dockerStart = 4 * time.Minute
)

var errNoDocker = errors.New("no Docker engine answers")

// dockerAnswers says whether an engine answers within a second.
func dockerAnswers(ctx context.Context) error {
	for _, endpoint := range dockerEndpoints() {
		if pingDocker(ctx, endpoint) == nil {
			return nil
		}
	}
	return errNoDocker
}

// dockerEndpoints are the places an engine listens at: where DOCKER_HOST says, else the usual sockets.
func dockerEndpoints() []*url.URL {
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		endpoint, err := url.Parse(host)
		if err != nil {
			return nil
		}
		return []*url.URL{endpoint}
	}
	sockets := []string{"/var/run/docker.sock"}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		sockets = append(sockets, filepath.Join(dir, "docker.sock"))
	}
	if home, err := os.UserHomeDir(); err == nil {
		sockets = append(sockets, filepath.Join(home, ".docker", "run", "docker.sock"))
	}
	var endpoints []*url.URL
	for _, socket := range sockets {
		if _, err := os.Stat(socket); err == nil {
			endpoints = append(endpoints, &url.URL{Scheme: "unix", Path: socket})
		}
	}
	return endpoints
}

func pingDocker(ctx context.Context, endpoint *url.URL) error {
	ctx, cancel := context.WithTimeout(ctx, dockerProbe)
	defer cancel()
	network, addr := "tcp", endpoint.Host
	if endpoint.Scheme == "unix" {
		network, addr = "unix", endpoint.Path
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	// With TLS the engine answers 400 to plain HTTP: it is there, and testcontainers knows the certificates.
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusBadRequest {
		return fmt.Errorf("ping: %s", resp.Status)
	}
	return nil
}

// silent keeps testcontainers' own chatter out of the tests' output.
var silent = testcontainers.WithLogger(log.New(io.Discard, "", 0))

// startScript is where the broker's container waits for the script that starts it. The script comes in when the
// container runs, because the port the broker has to advertise is known only then.
const startScript = "/dibs-start.sh"

// dockerKafka starts the official image as one node. Inside, the broker talks to itself over a listener of its own.
func dockerKafka(ctx context.Context) (server *kafkaServer, err error) {
	if err := dockerAnswers(ctx); err != nil {
		return nil, err
	}
	defer dockerPanic(&err)
	ctx, cancel := context.WithTimeout(ctx, dockerStart)
	defer cancel()
	var addr string
	start := func(ctx context.Context, c testcontainers.Container) (err error) {
		if addr, err = c.PortEndpoint(ctx, "9092/tcp", ""); err != nil {
			return err
		}
		script := "#!/bin/sh\nexport KAFKA_ADVERTISED_LISTENERS=CLIENT://" + addr + ",INSIDE://localhost:9094\nexec /etc/kafka/docker/run\n"
		if err := c.CopyToContainer(ctx, []byte(script), startScript, 0o755); err != nil {
			return err
		}
		return wait.ForLog("Kafka Server started").WithStartupTimeout(time.Minute).WaitUntilReady(ctx, c)
	}
	container, err := testcontainers.Run(ctx, kafkaImage, silent,
		testcontainers.WithExposedPorts("9092/tcp"),
		testcontainers.WithEntrypoint("sh", "-c", "until [ -x "+startScript+" ]; do sleep 0.1; done; exec "+startScript),
		testcontainers.WithEnv(map[string]string{
			"KAFKA_NODE_ID":                                          "1",
			"KAFKA_PROCESS_ROLES":                                    "broker,controller",
			"KAFKA_CONTROLLER_QUORUM_VOTERS":                         "1@localhost:9093",
			"KAFKA_CONTROLLER_LISTENER_NAMES":                        "CONTROLLER",
			"KAFKA_LISTENERS":                                        "CLIENT://0.0.0.0:9092,CONTROLLER://localhost:9093,INSIDE://localhost:9094",
			"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP":                   "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT",
			"KAFKA_INTER_BROKER_LISTENER_NAME":                       "INSIDE",
			"KAFKA_AUTO_CREATE_TOPICS_ENABLE":                        "false",
			"KAFKA_NUM_PARTITIONS":                                   "12",
			"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":                 "1",
			"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR":         "1",
			"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":                    "1",
			"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS":                 "0",
			"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
			"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR":            "1",
		}),
		testcontainers.WithAdditionalLifecycleHooks(testcontainers.ContainerLifecycleHooks{
			PostStarts: []testcontainers.ContainerHook{start},
		}),
	)
	terminate := func() error { return testcontainers.TerminateContainer(container) }
	if err == nil {
		_, err = kafkaReady(ctx, []string{addr}, nil)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("Docker can't run %s: %w", kafkaImage, err), terminate())
	}
	return &kafkaServer{
		kind: Docker, about: fmt.Sprintf("Docker's %s at %s", kafkaImage, addr), addrs: []string{addr}, real: true, cleanup: terminate,
	}, nil
}

// dockerPostgres starts the official image.
func dockerPostgres(ctx context.Context) (server *postgresServer, err error) {
	if err := dockerAnswers(ctx); err != nil {
		return nil, err
	}
	defer dockerPanic(&err)
	ctx, cancel := context.WithTimeout(ctx, dockerStart)
	defer cancel()
	container, err := postgres.Run(ctx, postgresImage, silent, postgres.BasicWaitStrategies(),
		postgres.WithDatabase("dibs"), postgres.WithUsername("dibs"), postgres.WithPassword("dibs"),
		testcontainers.WithCmd("postgres")) // the module would switch fsync off
	terminate := func() error {
		if container == nil {
			return nil
		}
		return testcontainers.TerminateContainer(container)
	}
	var dsn string
	if err == nil {
		dsn, err = container.ConnectionString(ctx, "sslmode=disable")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("Docker can't run %s: %w", postgresImage, err), terminate())
	}
	return &postgresServer{kind: Docker, about: "Docker's " + postgresImage, dsn: dsn, cleanup: terminate}, nil
}

// dockerPanic makes an error of the panic by which testcontainers says that it finds no engine after all.
func dockerPanic(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("Docker: %v", r)
	}
}
