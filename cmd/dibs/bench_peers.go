package main

import (
	"context"
	"log/slog"

	"github.com/dibs-hq/dibs/bench"
	"github.com/dibs-hq/dibs/config"
)

// others opens the peers that --peers asks for. What cannot run here is left out, with the reason in left.
func (b *benching) others(ctx context.Context, own config.Config, log *slog.Logger, left map[string]string) (peers []bench.Peer, closeAll func(context.Context) error, err error) {
	return nil, func(context.Context) error { return nil }, nil
}
