package main

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/dibs-hq/dibs/bench"
	"github.com/dibs-hq/dibs/bench/peers"
	"github.com/dibs-hq/dibs/config"
)

// others opens the direct INSERT, and the peers that --peers asks for. What cannot run here is left out, with the reason in
// left.
func (b *benching) others(ctx context.Context, own config.Config, log *slog.Logger, left map[string]string) ([]bench.Peer, func(context.Context) error, error) {
	wanted := b.wanted()
	if len(wanted) == 0 {
		return nil, func(context.Context) error { return nil }, nil
	}
	set, err := peers.Open(ctx, peers.Config{
		Brokers: own.Kafka.Brokers, DSN: own.Postgres.DSN, Partitions: b.partitions[0], Only: wanted, Log: log,
	})
	if err != nil {
		return nil, nil, err
	}
	maps.Copy(left, set.Left())
	return set.Peers(), set.Close, nil
}

// wanted are the peers that --peers and --only ask for: one that nobody asks for need not be built and started.
func (b *benching) wanted() []string {
	all := []string{peers.InsertName}
	if b.peers {
		all = peers.Names()
	}
	if len(b.only) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(name string) bool {
		return !slices.ContainsFunc(b.only, func(part string) bool { return contains(name, part) })
	})
}

// contains compares as people do who type a part of a name.
func contains(name, part string) bool {
	return strings.Contains(strings.ToLower(name), strings.ToLower(part))
}
