package postgres

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"
)

// pool is connections that are made when they are first needed. It is safe for concurrent use.
type pool struct {
	config *pgxpool.Config

	mu     sync.Mutex // guards the fields below
	conns  *pgxpool.Pool
	closed bool
}

// acquire returns a connection, as soon as there is one. Release it.
func (p *pool) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	if p.conns == nil {
		conns, err := pgxpool.NewWithConfig(ctx, p.config)
		if err != nil {
			p.mu.Unlock()
			return nil, err
		}
		p.conns = conns
	}
	conns := p.conns
	p.mu.Unlock()
	return conns.Acquire(ctx)
}

// close waits for calls that are under way and closes the connections.
func (p *pool) close() {
	p.mu.Lock()
	conns := p.conns
	p.conns, p.closed = nil, true
	p.mu.Unlock()
	if conns != nil {
		conns.Close()
	}
}

// Deciding is how many of Config.MaxConns connections deciding has to itself. The others are for reading; a single one is for
// both.
func Deciding(maxConns int) int { return maxConns - maxConns/2 }
