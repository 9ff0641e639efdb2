package dibstest

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/dibs-hq/dibs/dev"
	"github.com/dibs-hq/dibs/dev/child"
	"github.com/dibs-hq/dibs/dev/filelock"
)

// kafkaVersion is the Apache Kafka that tests run on, from jars (kafkajars/pom.xml says the same) and in Docker.
const kafkaVersion = "4.3.1"

// oldestJava is what that broker asks for.
const oldestJava = 17

//go:embed kafkajars
var kafkaJarsFiles embed.FS

// jarsKafka starts an Apache Kafka from its jars: one node, broker and controller in one.
func jarsKafka(ctx context.Context) (*kafkaServer, error) {
	java, err := findJava(ctx)
	if err != nil {
		return nil, err
	}
	jars, err := fetchKafkaJars(ctx)
	if err != nil {
		return nil, err
	}
	// A port that was free may be taken when the broker asks for it.
	for attempt := 1; ; attempt++ {
		server, err := startJars(ctx, java, jars)
		if err == nil || attempt == 3 || !strings.Contains(err.Error(), "Address already in use") {
			return server, err
		}
	}
}

func startJars(ctx context.Context, java, jars string) (*kafkaServer, error) {
	dir, err := serverDir("kafka")
	if err != nil {
		return nil, err
	}
	broker, controller, err := twoFreePorts()
	if err != nil {
		return nil, err
	}
	properties := filepath.Join(dir, "server.properties")
	if err := os.WriteFile(properties, []byte(serverProperties(dir, broker, controller)), 0o600); err != nil {
		return nil, fmt.Errorf("kafka from jars: %w", err)
	}
	run := func(class string, args ...string) []string {
		return append([]string{
			"-Xmx1G", "-cp", filepath.Join(jars, "*"), "-Dlog4j2.configurationFile=" + filepath.Join(jars, "log4j2.properties"), class,
		}, args...)
	}
	format := exec.CommandContext(ctx, java, run("kafka.tools.StorageTool", "format", "-t", uuid.NewString(), "-c", properties)...)
	if out, err := format.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("kafka from jars: format its storage: %w\n%s", err, out)
	}

	log := filepath.Join(dir, "server.log")
	server := &kafkaServer{
		kind:    Jars,
		about:   fmt.Sprintf("Apache Kafka %s from its jars at 127.0.0.1:%d", kafkaVersion, broker),
		addrs:   []string{fmt.Sprintf("127.0.0.1:%d", broker)},
		real:    true,
		dir:     dir,
		cleanup: func() error { return os.RemoveAll(dir) },
	}
	server.launch = func(ctx context.Context) (*child.Process, int, error) {
		var started child.CommandStarted
		process, err := child.Start(ctx, dev.RoleCommand, child.Command{
			Path: java, Args: run("kafka.Kafka", properties), Dir: dir, LogFile: log, Grace: 20 * time.Second,
		}, &started, child.Options{Dir: dir})
		return process, started.PID, err
	}
	if err := server.start(ctx); err != nil {
		err = fmt.Errorf("kafka from jars: %w; %s", err, tailOf(log))
		return nil, errors.Join(err, server.close())
	}
	return server, nil
}

// serverProperties are those of a broker as a careful operator would set it up, but for what one node can't have, and
// for what would make a test wait.
func serverProperties(dir string, broker, controller int) string {
	return fmt.Sprintf(`process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:%[3]d
listeners=CLIENT://127.0.0.1:%[2]d,CONTROLLER://127.0.0.1:%[3]d
advertised.listeners=CLIENT://127.0.0.1:%[2]d
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENT
log.dirs=%[1]s/data
auto.create.topics.enable=false
num.partitions=12
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=4000
`, dir, broker, controller)
}

var javaVersion = regexp.MustCompile(`version "(\d+)`)

// findJava is the path of a Java that can run the broker.
func findJava(ctx context.Context) (string, error) {
	java, err := exec.LookPath("java")
	if err != nil {
		return "", errors.New("no java on the PATH")
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, java, "-version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("java does not run: %w", err)
	}
	match := javaVersion.FindSubmatch(out)
	if match == nil {
		return "", fmt.Errorf("java of an unknown version: %.80q", out)
	}
	if major, err := strconv.Atoi(string(match[1])); err != nil || major < oldestJava {
		return "", fmt.Errorf("java is %s, kafka %s asks for %d", match[1], kafkaVersion, oldestJava)
	}
	return java, nil
}

// fetchKafkaJars has Maven copy the jars into the cache, once for all test binaries, and returns their folder.
func fetchKafkaJars(ctx context.Context) (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	jars := filepath.Join(cache, "kafka-"+kafkaVersion)
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("kafka's jars: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	lock, err := filelock.Wait(ctx, jars+".lock")
	if err != nil {
		return "", fmt.Errorf("kafka's jars: %w", err)
	}
	defer func() { _ = lock.Release() }()
	if _, err := os.Stat(jars); err == nil {
		return jars, nil
	}
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return "", errors.New("no mvn on the PATH to fetch kafka's jars with")
	}
	fresh, err := os.MkdirTemp(cache, "fetching-")
	if err != nil {
		return "", fmt.Errorf("kafka's jars: %w", err)
	}
	defer func() { _ = os.RemoveAll(fresh) }()
	for _, name := range []string{"pom.xml", "log4j2.properties"} {
		raw, err := kafkaJarsFiles.ReadFile("kafkajars/" + name)
		if err == nil {
			err = os.WriteFile(filepath.Join(fresh, name), raw, 0o600)
		}
		if err != nil {
			return "", fmt.Errorf("kafka's jars: %w", err)
		}
	}
	fetch := exec.CommandContext(ctx, mvn, "--quiet", "--batch-mode", "--no-transfer-progress",
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+fresh)
	fetch.Dir = fresh
	if out, err := fetch.CombinedOutput(); err != nil {
		return "", fmt.Errorf("mvn can't fetch kafka's jars: %w: %.300s", err, out)
	}
	// Under its name only when it is whole.
	if err := os.Rename(fresh, jars); err != nil {
		return "", fmt.Errorf("kafka's jars: %w", err)
	}
	return jars, nil
}

func twoFreePorts() (first, second int, err error) {
	var ports [2]int
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, 0, fmt.Errorf("find a free port: %w", err)
		}
		defer func() { _ = l.Close() }() // held until both are found, so that they differ
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports[0], ports[1], nil
}
