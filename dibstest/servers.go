package dibstest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Servers is one Kafka and one Postgres for several test binaries, as with-servers starts them.
type Servers struct {
	kafka    *kafkaServer
	postgres *postgresServer
	dir      string // of the report
}

// StartServers starts, or finds, the pair that tests would get, and stops at ctx' end while it does so. Its caller must
// have called dev.ChildMain.
func StartServers(ctx context.Context) (*Servers, error) {
	words, err := requireWords(os.Getenv(requireVariable))
	if err != nil {
		return nil, err
	}
	s := &Servers{}
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	if s.dir, err = os.MkdirTemp("", "dibs-test-report-"); err != nil {
		return nil, fmt.Errorf("report of skipped tests: %w", err)
	}
	if s.kafka, err = chooseKafka(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if words["kafka"] && !s.kafka.real {
		return nil, errors.Join(fmt.Errorf("%s asks for a real kafka, but there is only %s", requireVariable, s.kafka.about), s.Close())
	}
	if s.postgres, err = choosePostgres(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// About says in a line each which Kafka and which Postgres they are.
func (s *Servers) About() []string {
	return []string{"Kafka: " + s.kafka.about, "Postgres: " + s.postgres.about}
}

// Environ is what a test binary's environment needs to use them.
func (s *Servers) Environ() []string {
	return []string{
		kafkaVariable + "=" + strings.Join(s.kafka.addrs, ","),
		postgresVariable + "=" + s.postgres.dsn,
		reportVariable + "=" + s.reportFile(),
	}
}

// Skipped says in a line each what the tests that have run meanwhile left out.
func (s *Servers) Skipped() ([]string, error) {
	raw, err := os.ReadFile(s.reportFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("report of skipped tests: %w", err)
	}
	var lines []string
	for what, n := range sumReport(string(raw)) {
		lines = append(lines, skippedLine(n, what))
	}
	return lines, nil
}

// Sweep looks for private values in what tests have left in the topics, tables, data and logs of servers that
// StartServers has started.
func (s *Servers) Sweep() error {
	return newSweep().servers(s.kafka, s.postgres)
}

// Close ends what StartServers has started.
func (s *Servers) Close() error {
	var errs []error
	if s.kafka != nil {
		errs = append(errs, s.kafka.close())
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.close())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

func (s *Servers) reportFile() string {
	return filepath.Join(s.dir, "skipped")
}
