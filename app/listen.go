package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// listen takes the address before anything else is built on it. The error of one that is in use says what to do.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use: stop what listens there, or name another address: %w", addr, err)
	}
	return ln, err
}
