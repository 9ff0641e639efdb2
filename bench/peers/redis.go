package peers

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/bench"
	"github.com/dibs-hq/dibs/dev/child"
	"github.com/redis/rueidis"
)

// redis is SET name owner NX. The server writes every claim to its log and syncs that before it answers (appendfsync
// always), for all who asked meanwhile at once; it takes no snapshots. Its client puts the commands of all who wait into few
// writes (automatic pipelining), which is the fastest way to use it.
type redis struct{ client rueidis.Client }

func openRedis(ctx context.Context, o *opening) (bench.Peer, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errLeft("no redis-server in PATH")
	}
	dir, err := o.folder()
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	server, err := o.process(ctx, child.Command{
		Path: path, Dir: dir, LogFile: filepath.Join(dir, "log"), Grace: 5 * time.Second,
		Args: []string{
			"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir, "--save", "",
			"--appendonly", "yes", "--appendfsync", "always", "--no-appendfsync-on-rewrite", "no",
		},
	})
	if err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	client, err := dialRedis(ctx, "127.0.0.1:"+strconv.Itoa(port), server)
	if err != nil {
		return nil, err
	}
	o.onClose(func(context.Context) error {
		client.Close()
		return nil
	})
	return &redis{client}, nil
}

// dialRedis waits until the server answers, which must be ours: one that syncs.
func dialRedis(ctx context.Context, addr string, server *child.Process) (rueidis.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true})
		if err == nil {
			var settings map[string]string
			settings, err = client.Do(ctx, client.B().ConfigGet().Parameter("appendfsync").Build()).AsStrMap()
			if err == nil && settings["appendfsync"] != "always" {
				err = fmt.Errorf("another server answers: appendfsync is %q", settings["appendfsync"])
			}
			if err == nil {
				return client, nil
			}
			client.Close()
		}
		select {
		case <-tick.C:
		case <-server.Done():
			return nil, fmt.Errorf("redis-server: %w", server.Failure())
		case <-ctx.Done():
			return nil, fmt.Errorf("redis-server does not answer: %w", err)
		}
	}
}

// Name implements bench.Peer.
func (*redis) Name() string { return RedisName }

// Claim implements bench.Peer.
func (r *redis) Claim(ctx context.Context, name, owner string) (bool, error) {
	err := r.client.Do(ctx, r.client.B().Set().Key(strings.ToLower(name)).Value(owner).Nx().Build()).Error()
	if err != nil && rueidis.IsRedisNil(err) {
		return false, nil // it is there
	}
	return err == nil, err
}
