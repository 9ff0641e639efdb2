package bench

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The names of the servers, and of what they write.
const (
	Kafka    = "kafka"
	Postgres = "postgres"
	// WAL is what Postgres has written to its log; KafkaDisk is what Kafka's process has had written to disks, in pages.
	WAL       = "postgres wal"
	KafkaDisk = "kafka disk"
)

// Server is a server on this machine.
type Server struct {
	Version  string            `json:"version,omitempty"`
	PID      int               `json:"pid,omitempty"` // 0 where its process cannot be seen
	Command  string            `json:"command,omitempty"`
	Settings map[string]string `json:"settings,omitempty"`
}

// Machine is where it was measured. It is the Meter of the processes that can be seen there. Close it.
type Machine struct {
	OS         string            `json:"os"`
	Kernel     string            `json:"kernel,omitempty"`
	Processor  string            `json:"processor,omitempty"`
	Cores      int               `json:"cores"`
	GOMAXPROCS int               `json:"gomaxprocs"`
	Memory     int64             `json:"memory_bytes,omitempty"`
	Go         string            `json:"go"`
	Servers    map[string]Server `json:"servers,omitempty"`

	pool *pgxpool.Pool
}

var _ Meter = (*Machine)(nil)

// thisMachine is what can be told of it without asking a server.
func thisMachine() *Machine {
	m := &Machine{
		OS: runtime.GOOS + "/" + runtime.GOARCH, Kernel: kernel(), Cores: runtime.NumCPU(), GOMAXPROCS: runtime.GOMAXPROCS(0),
		Go: runtime.Version(), Servers: make(map[string]Server),
	}
	m.Processor, m.Memory = processor()
	return m
}

// Look looks at the machine and at the servers: their processes, where they are on this machine, and their versions.
func Look(ctx context.Context, brokers []string, dsn string) (*Machine, error) {
	m := thisMachine()
	for _, broker := range brokers {
		if pid, command := serverAt(ctx, broker); pid != 0 {
			m.Servers[Kafka] = Server{PID: pid, Command: filepath.Base(command[0]), Version: kafkaVersion(command)}
			break
		}
	}
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("postgres.dsn: %w", err)
	}
	cfg.MaxConns = 1
	if m.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	s := Server{Settings: make(map[string]string)}
	rows, err := m.pool.Query(ctx, `SELECT name, setting FROM pg_settings WHERE name IN ('server_version', 'synchronous_commit', 'fsync', 'shared_buffers')`)
	if err == nil {
		var name, setting string
		_, err = pgx.ForEachRow(rows, []any{&name, &setting}, func() error {
			s.Settings[name] = setting
			return nil
		})
	}
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("ask Postgres for its settings: %w", err)
	}
	s.Version = s.Settings["server_version"]
	delete(s.Settings, "server_version")
	host := cfg.ConnConfig.Host
	if filepath.IsAbs(host) { // the folder of its socket
		host = "127.0.0.1"
	}
	if pid, command := serverAt(ctx, net.JoinHostPort(host, strconv.Itoa(int(cfg.ConnConfig.Port)))); pid != 0 {
		s.PID, s.Command = pid, filepath.Base(command[0])
	}
	m.Servers[Postgres] = s
	return m, nil
}

// Close disconnects.
func (m *Machine) Close() {
	if m.pool != nil {
		m.pool.Close()
	}
}

// kafkaVersion finds it in the names of the jars that a broker runs from.
func kafkaVersion(command []string) string {
	for _, arg := range command {
		for _, entry := range filepath.SplitList(arg) {
			jars := []string{entry}
			if filepath.Base(entry) == "*" { // a folder's jars, in a class path
				jars, _ = filepath.Glob(filepath.Join(filepath.Dir(entry), "kafka-clients-*.jar"))
			}
			for _, jar := range jars {
				if found := kafkaJar.FindStringSubmatch(jar); found != nil {
					return found[1]
				}
			}
		}
	}
	return ""
}

var kafkaJar = regexp.MustCompile(`kafka-clients-([0-9][0-9.]*[0-9])\.jar`)

// serverAt is the process behind an address of this machine; 0 where it is another's, or cannot be seen. A proxy in front
// of a container is not the server.
func serverAt(ctx context.Context, address string) (pid int, command []string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, nil
	}
	number, err := strconv.Atoi(port)
	if err != nil || !here(ctx, host) {
		return 0, nil
	}
	if pid, command = listener(number); pid == 0 || filepath.Base(command[0]) == "docker-proxy" {
		return 0, nil
	}
	return pid, command
}

// here reports whether a host is this one.
func here(ctx context.Context, host string) bool {
	addresses, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return false
	}
	ours, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addresses {
		if a.IP.IsLoopback() {
			return true
		}
		for _, our := range ours {
			if n, ok := our.(*net.IPNet); ok && n.IP.Equal(a.IP) {
				return true
			}
		}
	}
	return false
}

// Read implements Meter.
func (m *Machine) Read(ctx context.Context) Usage {
	u := Usage{CPU: make(map[string]time.Duration), Bytes: make(map[string]int64)}
	if own, children := ownCPU(); own > 0 {
		u.CPU[OwnCPU], u.CPU[ChildrenCPU] = own, children
	}
	for name, s := range m.Servers {
		if s.PID == 0 {
			continue
		}
		if cpu, ok := serverCPU(s.PID, name == Postgres); ok {
			u.CPU[name] = cpu
		}
	}
	if kafka := m.Servers[Kafka]; kafka.PID != 0 {
		if n, ok := written(kafka.PID); ok {
			u.Bytes[KafkaDisk] = n
		}
	}
	if m.pool != nil {
		var n int64
		if m.pool.QueryRow(ctx, `SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint`).Scan(&n) == nil {
			u.Bytes[WAL] = n
		}
	}
	return u
}
