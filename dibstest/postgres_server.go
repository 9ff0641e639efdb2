package dibstest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/dibs-hq/dibs/dev"
)

// oldestPostgres is the oldest major version that dibs supports.
const oldestPostgres = 14

// postgresServer is a server, whoever runs it.
type postgresServer struct {
	kind  Kind
	about string
	dsn   string

	// own and config are set where the server is a process of ours.
	own    *dev.Postgres
	config dev.PostgresConfig

	// cleanup ends what own does not, and removes the data.
	cleanup func() error
}

// choosePostgres finds or starts a server: the first choice that is to be had.
func choosePostgres(ctx context.Context) (*postgresServer, error) {
	switch dsn := os.Getenv(postgresVariable); dsn {
	case "":
	case embeddedWord:
		return chooseOwnPostgres(ctx)
	default:
		return postgresOfEnvironment(ctx, dsn)
	}
	server, err := dockerPostgres(ctx)
	if err == nil {
		return server, nil
	}
	own, ownErr := chooseOwnPostgres(ctx)
	if ownErr != nil {
		return nil, errors.Join(err, ownErr)
	}
	own.about += noted([]string{err.Error()})
	return own, nil
}

// chooseOwnPostgres starts a server that may be restarted: a process of ours.
func chooseOwnPostgres(ctx context.Context) (*postgresServer, error) {
	server := &postgresServer{kind: Local}
	install, missing := findPostgres()
	if missing != nil {
		server.kind = Embedded
		cache, err := CacheDir()
		if err != nil {
			return nil, err
		}
		server.config.BinariesDir = filepath.Join(cache, "postgres-"+dev.PostgresVersion)
	}
	server.config.InstallDir = install
	dir, err := serverDir("postgres")
	if err != nil {
		return nil, err
	}
	server.config.DataDir = filepath.Join(dir, "postgres")
	server.cleanup = func() error { return os.RemoveAll(dir) }
	if err := server.start(ctx); err != nil {
		return nil, errors.Join(err, server.cleanup())
	}
	server.about = fmt.Sprintf("Postgres %s, ", server.own.Version())
	if install != "" {
		server.about += "installed in " + install
	} else {
		server.about += "embedded, because " + missing.Error()
	}
	server.about += fmt.Sprintf(", at 127.0.0.1:%d", server.own.Port())
	return server, nil
}

func postgresOfEnvironment(ctx context.Context, dsn string) (*postgresServer, error) {
	ctx, cancel := context.WithTimeout(ctx, environmentWithin)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", postgresVariable, err)
	}
	defer func() { _ = conn.Close(ctx) }()
	cfg := conn.Config()
	return &postgresServer{
		kind: Environment, dsn: dsn,
		about: fmt.Sprintf("given by %s, %s at %s:%d", postgresVariable, conn.PgConn().ParameterStatus("server_version"), cfg.Host, cfg.Port),
	}, nil
}

// start starts a server of our own, at the second time on the same port.
func (s *postgresServer) start(ctx context.Context) error {
	if s.config.DataDir == "" {
		return errNotOurs
	}
	own, err := dev.StartPostgres(ctx, s.config)
	if err != nil {
		return err
	}
	s.own, s.dsn, s.config.Port = own, own.DSN(), own.Port()
	return nil
}

// running says that the server is a process of ours, and there.
func (s *postgresServer) running() bool {
	if s.own == nil {
		return false
	}
	select {
	case <-s.own.Done():
		return false
	default:
		return true
	}
}

func (s *postgresServer) close() error {
	var err error
	if s.own != nil {
		err = s.own.Stop()
	}
	if s.cleanup != nil {
		err = errors.Join(err, s.cleanup())
	}
	if err != nil {
		return fmt.Errorf("end postgres: %w", err)
	}
	return nil
}

// findPostgres is the folder above the bin of an installed server: of the PATH, else the newest of Debian's.
func findPostgres() (string, error) {
	if os.Getenv(postgresVariable) == embeddedWord {
		return "", errors.New("the embedded one is asked for")
	}
	var installs []string
	if initdb, err := exec.LookPath("initdb"); err == nil {
		if initdb, err = filepath.EvalSymlinks(initdb); err == nil {
			installs = append(installs, filepath.Dir(filepath.Dir(initdb)))
		}
	}
	debian, err := filepath.Glob("/usr/lib/postgresql/*")
	if err != nil {
		return "", fmt.Errorf("look for an installed postgres: %w", err)
	}
	slices.SortFunc(debian, func(a, b string) int { return majorOf(b) - majorOf(a) })
	for _, install := range append(installs, debian...) {
		if isServer(install) {
			return install, nil
		}
	}
	return "", errors.New("no postgres is installed")
}

func majorOf(install string) int {
	major, err := strconv.Atoi(filepath.Base(install))
	if err != nil {
		return 0
	}
	return major
}

// isServer says whether install has all of a server's programs, in a version dibs supports.
func isServer(install string) bool {
	for _, program := range []string{"initdb", "pg_ctl", "postgres"} {
		if _, err := os.Stat(filepath.Join(install, "bin", program)); err != nil {
			return false
		}
	}
	out, err := exec.Command(filepath.Join(install, "bin", "postgres"), "--version").Output()
	if err != nil {
		return false
	}
	var major int
	_, err = fmt.Sscanf(string(out), "postgres (PostgreSQL) %d", &major)
	return err == nil && major >= oldestPostgres
}
