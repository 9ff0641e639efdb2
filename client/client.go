// Package client claims names over HTTP, and does what else can be done with them.
//
//	c, err := client.New("http://127.0.0.1:8080", client.WithKey(key))
//	result, err := c.Claim(ctx, client.Claim{Name: "Alice", Owner: "u-17"})
//
// It promises that a request is repeated under one identity only, so that trying again never makes two of it; that a
// rejection is a result, not an error; and that an error says whether the claim may still be decided (ErrUndecided). It
// keeps nothing: whoever may crash between asking and hearing gives the claim an IdempotencyKey or ID of its own and asks
// again.
package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/dibs-hq/dibs/client/internal/wire"
)

// Client asks one API. It is safe for concurrent use.
type Client struct {
	wire    wire.ClientInterface
	timeout time.Duration
	dials   int // 0: as many as there is time for
}

// Option changes how a Client works.
type Option func(*settings)

type settings struct {
	key     string
	http    *http.Client
	timeout time.Duration
	dials   int
}

// WithKey sends the key, <id>.<secret>, with every request.
func WithKey(key string) Option { return func(s *settings) { s.key = key } }

// WithHTTPClient uses this HTTP client. Its Timeout, if it has one, must be longer than the longest wait of the API.
func WithHTTPClient(c *http.Client) Option { return func(s *settings) { s.http = c } }

// WithTimeout is how long a call tries, and waits, whose ctx has no deadline. Defaults to one minute.
func WithTimeout(d time.Duration) Option { return func(s *settings) { s.timeout = d } }

// WithDialTries is how many times in a row a call tries to connect where nobody has ever answered: for a person who may
// have mistyped the address. Once anybody has, it tries for as long as there is time, as it does without this option: an
// API that is restarted is back soon.
func WithDialTries(n int) Option { return func(s *settings) { s.dials = n } }

const (
	defaultTimeout = time.Minute
	longestWait    = 30 * time.Second // what the API allows
	// tryReserve is how much longer than the wait one try may take before the connection counts as lost.
	tryReserve = 15 * time.Second
	userAgent  = "dibs-client"
)

// New makes a client of the API at an address such as https://dibs.example.org. It connects to nothing.
func New(address string, options ...Option) (*Client, error) {
	s := settings{timeout: defaultTimeout}
	for _, o := range options {
		o(&s)
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("client: address: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("client: address %q is not like http://host:port", u.Redacted())
	}
	if s.http == nil {
		s.http = newHTTPClient()
	}
	c, err := wire.NewClient(address, wire.WithHTTPClient(s.http), wire.WithRequestEditorFn(
		func(_ context.Context, r *http.Request) error {
			r.Header.Set("User-Agent", userAgent)
			if s.key != "" {
				r.Header.Set("Authorization", "Bearer "+s.key)
			}
			return nil
		}))
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return &Client{wire: c, timeout: s.timeout, dials: s.dials}, nil
}

// newHTTPClient keeps enough idle connections for many claims at once to one host.
func newHTTPClient() *http.Client {
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        1024,
		MaxIdleConnsPerHost: 1024,
		IdleConnTimeout:     50 * time.Second, // shorter than the API's, which would close them under us
		TLSHandshakeTimeout: 5 * time.Second,
	}
	return &http.Client{Transport: t}
}

// What went wrong, besides a *Problem.
var (
	// ErrUndecided says that the claim is in the log, or may be, and that its outcome is not known. Ask again with the
	// same IdempotencyKey or ID, or Await it.
	ErrUndecided = errors.New("not decided yet")
	// ErrUnreachable says that the API does not answer, or that what it needs is away.
	ErrUnreachable = errors.New("dibs cannot be reached")
)

// Problem is why the API refused a request.
type Problem struct {
	Status        int
	Reason        string // such as invalid_name: the last part of the problem's type
	Title, Detail string
	Errors        []FieldError
	// ClaimID is the claim that is, or may be, in the log, or that what is there is about; RequestID is what is there.
	ClaimID    string
	RequestID  string
	RetryAfter time.Duration
}

// FieldError names what was wrong with a request.
type FieldError struct{ Field, Detail string }

func (p *Problem) Error() string {
	s := fmt.Sprintf("%d %s", p.Status, p.Reason)
	if p.Reason == "" {
		s = fmt.Sprintf("%d %s", p.Status, http.StatusText(p.Status))
	}
	if len(p.Errors) > 0 {
		for _, e := range p.Errors {
			s += ": " + e.Field + " " + e.Detail
		}
		return s
	}
	if p.Detail != "" {
		s += ": " + p.Detail
	}
	return s
}

// Unwrap makes a problem that is nobody's fault ErrUnreachable.
func (p *Problem) Unwrap() error {
	if p.transient() {
		return ErrUnreachable
	}
	return nil
}

// transient reports whether the same request may go well later without anybody's doing.
func (p *Problem) transient() bool {
	switch p.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusGatewayTimeout:
		return true
	case http.StatusServiceUnavailable:
		return p.Reason != "partition_halted" // waits for an operator
	}
	return false
}
