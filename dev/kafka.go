package dev

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/dibs-hq/dibs/dev/child"
	"github.com/dibs-hq/dibs/dev/filelock"
)

// KafkaClusterID is the cluster id that the embedded Kafka gives in its metadata, by which others tell that it is one.
const KafkaClusterID = "dibs-dev-not-for-production"

// ErrInUse says that another process uses the data folder.
var ErrInUse = errors.New("data folder is in use by another process")

// ErrNotLoopback says that an embedded server was asked to listen where others could reach it.
var ErrNotLoopback = errors.New("an embedded server listens on loopback only")

// KafkaConfig says where the embedded Kafka listens and keeps its data.
type KafkaConfig struct {
	// Addr is a loopback IP address with a port; port 0 takes a free one. Defaults to 127.0.0.1:0.
	Addr string
	// DataDir keeps topics, records and group offsets over restarts. One process at a time may use it.
	DataDir string
	// Partitions is the count for a topic created without one. Defaults to 12.
	Partitions int
	// Logger takes the broker's own errors and warnings. Defaults to discarding them.
	Logger *slog.Logger `json:"-"`
}

// Kafka is a running embedded broker.
type Kafka struct {
	cluster *kfake.Cluster
	addr    string
	lock    *filelock.Lock
	closing sync.Once
}

// StartKafka starts the broker in this process. It creates no topic and lets nobody create one by accident. ctx is
// looked at before the start only; Close ends the broker.
func StartKafka(ctx context.Context, cfg KafkaConfig) (*Kafka, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start embedded kafka: %w", err)
	}
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.Partitions == 0 {
		cfg.Partitions = 12
	}
	port, err := loopbackPort(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("start embedded kafka on %s: %w", cfg.Addr, err)
	}
	dir, err := makeDataDir(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("start embedded kafka: %w", err)
	}
	lock, err := filelock.Try(filepath.Join(dir, "lock"))
	if errors.Is(err, filelock.ErrHeld) {
		return nil, fmt.Errorf("start embedded kafka: %w: %s", ErrInUse, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("start embedded kafka: %w", err)
	}
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.Ports(port),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) { return net.Listen(network, cfg.Addr) }),
		kfake.ClusterID(KafkaClusterID),
		kfake.DefaultNumPartitions(cfg.Partitions),
		kfake.DataDir(filepath.Join(dir, "log")),
		kfake.SyncWrites(), // an acknowledged record survives kill -9, as with a real broker
		kfake.WithLogger(kafkaLogger{cfg.Logger}),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start embedded kafka on %s with data in %s: %w", cfg.Addr, dir, err), lock.Release())
	}
	return &Kafka{cluster: cluster, addr: cluster.ListenAddrs()[0], lock: lock}, nil
}

// Addr is the host and port the broker listens on.
func (k *Kafka) Addr() string {
	return k.addr
}

// Close writes what is not on disk yet and stops the broker. It may be called more than once.
func (k *Kafka) Close() error {
	var err error
	k.closing.Do(func() {
		k.cluster.Close()
		err = k.lock.Release()
	})
	return err
}

// KafkaStarted is the answer of the role RoleKafka.
type KafkaStarted struct {
	Addr string
}

// serveKafka is the role RoleKafka.
func serveKafka(ctx context.Context, job *child.Job) error {
	var cfg KafkaConfig
	if err := job.Task(&cfg); err != nil {
		return err
	}
	kafka, err := StartKafka(ctx, cfg)
	if err != nil {
		return err
	}
	if err := job.Ready(KafkaStarted{Addr: kafka.Addr()}); err != nil {
		return errors.Join(err, kafka.Close())
	}
	<-ctx.Done()
	return kafka.Close()
}

// loopbackPort is the port of addr, whose host must be a loopback IP address.
func loopbackPort(addr string) (int, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return 0, ErrNotLoopback
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0, err
	}
	return int(number), nil
}

// kafkaLogger passes the broker's complaints on. Its lower levels report every request.
type kafkaLogger struct {
	logger *slog.Logger
}

func (l kafkaLogger) Logf(level kfake.LogLevel, format string, args ...any) {
	if l.logger == nil || level > kfake.LogLevelWarn || level == kfake.LogLevelNone {
		return
	}
	to := slog.LevelWarn
	if level == kfake.LogLevelError {
		to = slog.LevelError
	}
	l.logger.Log(context.Background(), to, "embedded kafka: "+fmt.Sprintf(format, args...))
}
