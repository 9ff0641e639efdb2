package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/app"
	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/bench"
	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/config"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
)

// entrance is where claims come in, in a process that decides them.
type entrance struct {
	claimer  *api.Claimer
	settings config.Config
	log      *slog.Logger
	wait     time.Duration // for an outcome
}

// ways are the ways in that --through names.
var ways = map[string]func(entrance) bench.Peer{
	"process": func(e entrance) bench.Peer { return inProcess{e.claimer, "dibs, in process"} },
	"kafka":   func(e entrance) bench.Peer { return &overKafka{entrance: e} },
	"http":    func(e entrance) bench.Peer { return &overHTTP{entrance: e} },
}

// benchWait is how long a claim is waited for; one that takes longer ends the benchmark.
const benchWait = 30 * time.Second

var errUndecided = errors.New("a claim was not decided in time")

// inProcess is dibs as a peer of the benchmark.
type inProcess struct {
	claimer *api.Claimer
	name    string
}

func (p inProcess) Name() string { return p.name }

func (p inProcess) Claim(ctx context.Context, name, owner string) (bool, error) {
	return p.ask(ctx, api.Request{Name: name, Owner: owner})
}

func (p inProcess) ask(ctx context.Context, asked api.Request) (bool, error) {
	asked.Space, asked.Mode = names.Username, claims.ModeRegister
	r, err := p.claimer.Claim(ctx, "bench", asked, benchWait)
	switch {
	case err != nil:
		return false, err
	case r.Outcome == nil:
		return false, errUndecided
	}
	return r.Outcome.Type == registrations.Accepted, nil
}

// overKafka is a backend service that publishes claims and reads their outcomes, with connections of its own.
type overKafka struct {
	entrance
	d      *app.Deployment
	policy *names.Policy
	sign   func(cloudevents.Record) cloudevents.Record
}

var _ bench.Hosted = (*overKafka)(nil)

func (*overKafka) Name() string { return "dibs, through Kafka" }

func (p *overKafka) Host(ctx context.Context, f func(context.Context) error) error {
	return app.WithClaims(ctx, p.settings, p.log, maxBenchWaiting, func(ctx context.Context, d *app.Deployment) error {
		held, err := d.Held(ctx)
		if err != nil {
			return err
		}
		p.d, p.policy, p.sign = d, held.Policies[names.Username], d.Signer(func() api.Holding { return held })
		return f(ctx)
	})
}

func (p *overKafka) Claim(ctx context.Context, name, owner string) (bool, error) {
	id, partition, record, err := claimRecord(p.policy, p.d.Contract.Partitions, name, owner)
	if err != nil {
		return false, err
	}
	if p.sign != nil {
		record = p.sign(record)
	}
	ticket, err := p.d.Waiter.Expect(id, partition) // before publishing: no outcome can slip past
	if err != nil {
		return false, err
	}
	defer ticket.Release()
	published, err := p.d.Claims.Start(partition, record)
	if err != nil {
		return false, err
	}
	timer := time.NewTimer(p.wait)
	defer timer.Stop()
	select {
	case <-ticket.Done():
		return ticket.Outcome().Type == registrations.Accepted, nil
	case <-published.Failed():
		_, err := published.Result()
		return false, err
	case <-timer.C:
		_, _ = published.GiveUp(errUndecided)
		return false, errUndecided
	case <-ctx.Done():
		_, _ = published.GiveUp(ctx.Err())
		return false, ctx.Err()
	}
}

// claimRecord makes a claim as a producer does.
func claimRecord(policy *names.Policy, partitions int, name, owner string) (uuid.UUID, int32, cloudevents.Record, error) {
	key, err := policy.Key(name)
	if err != nil {
		return uuid.Nil, 0, cloudevents.Record{}, err
	}
	ref, id := names.Ref{Space: names.Username, Key: key}, uuid.Must(uuid.NewV7())
	claim := claims.UsernameClaimed{Space: names.Username, Spelling: name, Owner: owner, Mode: claims.ModeRegister}
	record := claim.Record(cloudevents.Event{ID: id, Source: "dibs/bench", Principal: "bench", Time: time.Now()}, ref)
	return id, claims.Partition(ref.String(), partitions), record, nil
}

// overHTTP is the API on loopback, in the process that decides, and a client with as many connections as claims wait.
type overHTTP struct {
	entrance
	client *bench.HTTPClient
}

var _ bench.Hosted = (*overHTTP)(nil)

func (*overHTTP) Name() string { return "dibs, over HTTP" }

func (p *overHTTP) Host(ctx context.Context, f func(context.Context) error) error {
	server, err := api.NewServer(api.Config{
		Addr: "127.0.0.1:0", WaitDefault: benchWait, WaitMax: benchWait, MaxConnections: 2 * maxBenchWaiting, Registerer: prometheus.NewRegistry(), Log: p.log,
	}, p.claimer, auth.None{})
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen on loopback: %w", err)
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(serving, listener) }()
	p.client = bench.NewHTTPClient(listener.Addr().String())
	err = f(ctx)
	p.client.Close()
	stop()
	return errors.Join(err, <-ended)
}

func (p *overHTTP) Claim(ctx context.Context, name, owner string) (bool, error) {
	body := append(strconv.AppendQuote(append(make([]byte, 0, 128), `{"name":`...), name), `,"owner":`...)
	status, answer, err := p.client.Post(ctx, "/v1/claims", "", append(strconv.AppendQuote(body, owner), '}'))
	switch {
	case err != nil:
		return false, err
	case status == http.StatusCreated:
		return true, nil
	case status == http.StatusConflict:
		return false, nil
	case status == http.StatusAccepted:
		return false, errUndecided
	}
	return false, fmt.Errorf("a claim was answered with %d: %.300s", status, answer)
}
