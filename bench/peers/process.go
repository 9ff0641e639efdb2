package peers

import (
	"context"
	"fmt"
	"net"
	"os"

	"github.com/dibs-hq/dibs/dev"
	"github.com/dibs-hq/dibs/dev/child"
)

// folder makes a temporary folder that is removed when the set is closed.
func (o *opening) folder() (string, error) {
	dir, err := os.MkdirTemp("", "dibs-"+o.id+"-"+word(o.name)+"-")
	if err != nil {
		return "", fmt.Errorf("make a folder: %w", err)
	}
	o.onClose(func(context.Context) error { return os.RemoveAll(dir) })
	return dir, nil
}

// process runs a program that ends when the set is closed, and with this process, however that ends.
func (o *opening) process(ctx context.Context, c child.Command) (*child.Process, error) {
	var started child.CommandStarted
	p, err := child.Start(ctx, dev.RoleCommand, c, &started, child.Options{Dir: c.Dir, Logger: o.Log})
	if err != nil {
		return nil, err
	}
	o.onClose(func(context.Context) error { return p.Stop() })
	return p, nil
}

// freePort is one that nobody listened on a moment ago.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}
