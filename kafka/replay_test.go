package kafka_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/kafka"
	"github.com/dibs-hq/dibs/processor"
)

// TestReplayOfNobody: who does not answer is waited for, for as long as was said.
func TestReplayOfNobody(t *testing.T) {
	t.Parallel()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := nobody.Addr().String()
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	client, err := kafka.New(kafka.Config{Brokers: []string{addr}}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	const patience = 500 * time.Millisecond
	r := kafka.NewReplay(client, client.Claims(), patience)
	read := func(ctx context.Context) error {
		return r.Read(ctx, 0, 0, 10, func([]processor.Message, int64) error { return nil })
	}
	for what, call := range map[string]func(context.Context) error{
		"Bounds": func(ctx context.Context) error { _, _, err := r.Bounds(ctx, 0); return err },
		"At":     func(ctx context.Context) error { _, _, err := r.At(ctx, 0, 1); return err },
		"Read":   read,
	} {
		began := time.Now()
		if err := call(t.Context()); !errors.Is(err, kafka.ErrSilent) || time.Since(began) < patience {
			t.Errorf("%s: %v after %s, want %v", what, err, time.Since(began), kafka.ErrSilent)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, kafka.ErrSilent) {
			t.Errorf("%s, called off: %v", what, err)
		}
		cancel()
	}
}
