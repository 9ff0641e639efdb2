package dibstest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/dibs-hq/dibs/dev"
	"github.com/dibs-hq/dibs/dev/child"
)

// kafkaReadyWithin is how long a broker may take to answer after its process has started.
const kafkaReadyWithin = time.Minute

// environmentWithin is how long a server that the environment names may take to answer: it should be there already.
const environmentWithin = 10 * time.Second

// errNotOurs says that a server can't be restarted or killed because this test did not start it.
var errNotOurs = errors.New("not a server of this test's own: use OwnKafka or OwnPostgres")

// kafkaServer is a broker, whoever runs it.
type kafkaServer struct {
	kind  Kind
	about string
	addrs []string
	// real is false for the embedded fake, wherever it runs.
	real bool

	// launch starts the broker's process, again and again on the same port and data. nil where it isn't ours.
	launch  func(context.Context) (*child.Process, int, error)
	process *child.Process // of our child
	pid     int            // of the broker itself, to send signals to

	// dir holds its data and its log, where they are ours.
	dir string
	// cleanup ends what launch does not own, and removes the data.
	cleanup func() error
}

// chooseKafka finds or starts a broker: the first choice that is to be had. What it says of itself tells why the
// others were not.
func chooseKafka(ctx context.Context) (*kafkaServer, error) {
	switch list := os.Getenv(kafkaVariable); list {
	case "":
	case embeddedWord:
		return embeddedKafka(ctx)
	default:
		return kafkaOfEnvironment(ctx, list)
	}
	var notes []string
	for _, choice := range []func(context.Context) (*kafkaServer, error){dockerKafka, jarsKafka} {
		server, err := choice(ctx)
		if err == nil {
			server.about += noted(notes)
			return server, nil
		}
		notes = append(notes, err.Error())
	}
	server, err := embeddedKafka(ctx)
	if err != nil {
		return nil, err
	}
	server.about += ", a FALL-BACK" + noted(notes)
	return server, nil
}

// chooseOwnKafka starts a broker that may be restarted: a process of ours.
func chooseOwnKafka(ctx context.Context) (*kafkaServer, error) {
	if os.Getenv(kafkaVariable) == embeddedWord {
		return embeddedKafka(ctx)
	}
	server, err := jarsKafka(ctx)
	if err == nil {
		return server, nil
	}
	fake, fakeErr := embeddedKafka(ctx)
	if fakeErr != nil {
		return nil, errors.Join(err, fakeErr)
	}
	fake.about += ", a FALL-BACK" + noted([]string{err.Error()})
	return fake, nil
}

func noted(notes []string) string {
	if len(notes) == 0 {
		return ""
	}
	return " (" + strings.ReplaceAll(strings.Join(notes, "; "), "\n", " ") + ")"
}

func kafkaOfEnvironment(ctx context.Context, list string) (*kafkaServer, error) {
	var addrs []string
	for addr := range strings.SplitSeq(list, ",") {
		if addr = strings.TrimSpace(addr); addr != "" {
			addrs = append(addrs, addr)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, environmentWithin)
	defer cancel()
	clusterID, err := kafkaReady(ctx, addrs, nil)
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", kafkaVariable, list, err)
	}
	server := &kafkaServer{kind: Environment, addrs: addrs, real: clusterID != dev.KafkaClusterID}
	server.about = "given by " + kafkaVariable + ", at " + strings.Join(addrs, ",")
	if !server.real {
		server.about += ", the embedded fake: a FALL-BACK"
	}
	return server, nil
}

// embeddedKafka runs the fake in a process of its own, so that it can be killed and stopped like a real one.
func embeddedKafka(ctx context.Context) (*kafkaServer, error) {
	dir, err := serverDir("kafka")
	if err != nil {
		return nil, err
	}
	server := &kafkaServer{kind: Embedded, dir: dir, cleanup: func() error { return os.RemoveAll(dir) }}
	cfg := dev.KafkaConfig{DataDir: dir, Addr: "127.0.0.1:0"}
	server.launch = func(ctx context.Context) (*child.Process, int, error) {
		var started dev.KafkaStarted
		process, err := child.Start(ctx, dev.RoleKafka, cfg, &started, child.Options{Dir: dir})
		if err != nil {
			return nil, 0, err
		}
		cfg.Addr = started.Addr // the same port at the next start
		server.addrs = []string{started.Addr}
		return process, process.PID(), nil
	}
	if err := server.start(ctx); err != nil {
		return nil, errors.Join(err, server.close())
	}
	server.about = "the embedded fake (kfake) at " + server.addrs[0]
	return server, nil
}

// start launches the broker and waits until it serves.
func (s *kafkaServer) start(ctx context.Context) error {
	if s.launch == nil {
		return errNotOurs
	}
	process, pid, err := s.launch(ctx)
	if err != nil {
		return err
	}
	s.process, s.pid = process, pid
	_, err = kafkaReady(ctx, s.addrs, process.Done())
	if err != nil {
		return errors.Join(err, s.kill())
	}
	return nil
}

// stop ends the broker cleanly.
func (s *kafkaServer) stop() error {
	if s.process == nil {
		return errNotOurs
	}
	return s.process.Stop()
}

// kill ends it with SIGKILL.
func (s *kafkaServer) kill() error {
	if s.process == nil {
		return errNotOurs
	}
	if s.pid == s.process.PID() {
		if err := s.process.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill the broker: %w", err)
		}
		<-s.process.Done()
		return nil
	}
	if err := s.process.Send(child.KillCommand); err != nil {
		select {
		case <-s.process.Done(): // gone already
			return nil
		default:
			return err
		}
	}
	<-s.process.Done()
	return s.process.Stop()
}

// signal sends the broker itself a signal.
func (s *kafkaServer) signal(sig syscall.Signal) error {
	if s.process == nil {
		return errNotOurs
	}
	select {
	case <-s.process.Done(): // its pid may be somebody else's by now
		return fmt.Errorf("send the broker %s: %w", sig, os.ErrProcessDone)
	default:
	}
	if err := syscall.Kill(s.pid, sig); err != nil {
		return fmt.Errorf("send the broker %s: %w", sig, err)
	}
	return nil
}

// running says that the broker's process is there and not paused.
func (s *kafkaServer) running() bool {
	if s.process == nil {
		return false
	}
	select {
	case <-s.process.Done():
		return false
	default:
		return !stopped(s.pid)
	}
}

// pause stops the broker with SIGSTOP, and returns when the last of its threads has stopped.
func (s *kafkaServer) pause() error {
	if err := s.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	deadline := time.Now().Add(5 * time.Second)
	for !stopped(s.pid) {
		if time.Now().After(deadline) {
			return errors.New("the broker does not stop on SIGSTOP")
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// stopped says whether all threads of a process are stopped, as far as there is a /proc to ask.
func stopped(pid int) bool {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return true
	}
	for _, stat := range stats {
		raw, err := os.ReadFile(stat)
		if err != nil {
			continue // the thread has ended
		}
		// pid (name) state …, and a name may hold anything
		if i := strings.LastIndex(string(raw), ") "); i >= 0 && raw[i+2] != 'T' {
			return false
		}
	}
	return true
}

// close ends what is ours. The data goes with it, so there is nothing to end cleanly for.
func (s *kafkaServer) close() error {
	var err error
	if s.process != nil {
		err = s.kill()
	}
	if s.cleanup != nil {
		err = errors.Join(err, s.cleanup())
	}
	if err != nil {
		return fmt.Errorf("end kafka: %w", err)
	}
	return nil
}

// kafkaReady waits until a broker serves metadata and groups, and returns its cluster id. It gives up when gone is
// closed. A fresh broker answers NOT_COORDINATOR for a while after it serves metadata, and asking makes it ready.
func kafkaReady(ctx context.Context, addrs []string, gone <-chan struct{}) (clusterID string, err error) {
	ctx, cancel := context.WithTimeout(ctx, kafkaReadyWithin)
	defer cancel()
	transport := &kafka.Transport{MetadataTTL: 100 * time.Millisecond, DialTimeout: 2 * time.Second}
	defer transport.CloseIdleConnections()
	client := &kafka.Client{Addr: kafka.TCP(addrs...), Transport: transport, Timeout: 5 * time.Second}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		clusterID, err = askKafka(ctx, client)
		if err == nil {
			return clusterID, nil
		}
		select {
		case <-gone:
			return "", fmt.Errorf("kafka ended while it started: %w", err)
		case <-ctx.Done():
			return "", fmt.Errorf("kafka at %s does not answer: %w", strings.Join(addrs, ","), err)
		case <-tick.C:
		}
	}
}

func askKafka(ctx context.Context, client *kafka.Client) (clusterID string, err error) {
	meta, err := client.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return "", err
	}
	if len(meta.Brokers) == 0 {
		return "", errors.New("it knows no broker")
	}
	found, err := client.FindCoordinator(ctx, &kafka.FindCoordinatorRequest{Key: "dibs-test-ready", KeyType: kafka.CoordinatorKeyTypeConsumer})
	if err == nil {
		err = found.Error
	}
	return meta.ClusterID, err
}

// tailOf is the end of a log file, for an error message.
func tailOf(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	const most = 4 << 10
	return filepath.Base(path) + " ends with:\n" + string(raw[max(0, len(raw)-most):])
}
