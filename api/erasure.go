package api

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// ErasureConfig is what erasures need. Without an Eraser they are refused.
type ErasureConfig struct {
	// Eraser has the secret that erased names are kept under.
	Eraser *names.Eraser
	Traces Traces
	// Topics says how long the topics keep what an owner was named in.
	Topics func(ctx context.Context) []KeptTopic
}

// Traces is what is recorded of owners. It is safe for concurrent use.
type Traces interface {
	// Held returns the names that an owner has.
	Held(ctx context.Context, owner string) ([]Trace, error)
	// Named returns the names of all decisions that name an owner, by space and key. It may take long.
	Named(ctx context.Context, owner string) ([]Trace, error)
	// Erased returns what was erased of an owner so far.
	Erased(ctx context.Context, owner string) (Erased, error)
}

// Trace is a name that something is recorded of together with an owner.
type Trace struct {
	names.Ref
	// Version is that of the name, where it is held.
	Version int64
	// LogEpoch and Offset are of the last decision.
	LogEpoch, Offset int64
}

// Erased is what was erased of an owner so far.
type Erased struct {
	Pending, Done          int   // requests that are decided: to be wiped behind, and wiped
	Signups                int   // of Done, those about sign-ups
	Decisions, DeadLetters int64 // rows that were wiped
	// Last is the log time of the last request; zero for none.
	Last time.Time
}

// KeptTopic is how long a topic keeps a record, or why that is not known. A negative time is for ever.
type KeptTopic struct {
	Topic string
	Keeps time.Duration
	Err   error
}

// searchWithin bounds the search for an owner in all decisions.
const searchWithin = 25 * time.Second

// mostRequests is how many requests one call publishes.
const mostRequests = 1000

// erasing is an erasure: what its id says. There is no row of it: any process that has the secret can go on with it.
type erasing struct {
	Owner  string `json:"o"`
	Actor  string `json:"a"`
	Reason string `json:"r"`
}

// errNoErasure says that an id is none that was made with this secret.
var errNoErasure = errors.New("not an erasure of this deployment")

// sealer encrypts ids. The nonce is of what is encrypted, so that the same erasure has the same id.
func (c *ErasureConfig) sealer() (cipher.AEAD, []byte) {
	block, err := aes.NewCipher(c.Eraser.Derive("erasure id"))
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead, c.Eraser.Derive("erasure nonce")
}

// seal makes the id of an erasure.
func (c *ErasureConfig) seal(e erasing) string {
	aead, nonceKey := c.sealer()
	text, _ := json.Marshal(e) // of strings
	h := hmac.New(sha256.New, nonceKey)
	h.Write(text)
	nonce := h.Sum(nil)[:aead.NonceSize()]
	return base64.RawURLEncoding.EncodeToString(aead.Seal(nonce, nonce, text, nil))
}

// open reads the id of an erasure.
func (c *ErasureConfig) open(id string) (e erasing, err error) {
	aead, _ := c.sealer()
	sealed, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil || len(sealed) < aead.NonceSize() {
		return e, errNoErasure
	}
	text, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], nil)
	if err != nil || json.Unmarshal(text, &e) != nil {
		return e, errNoErasure
	}
	return e, nil
}

// EraseOwner asks for everything to be erased that is recorded of an owner, as far as it can be found now, and reports how far
// that is. To be called again, or its id given to Erasure, until nothing is left.
func (c *Claimer) EraseOwner(ctx context.Context, principal, owner, actor, reason string) (ErasureReport, error) {
	if err := c.canErase(); err != nil {
		return ErasureReport{}, err
	}
	found := newFindings()
	found.owner("owner", owner)
	found.actor(actor, reason)
	if refusal := found.refused(); refusal != nil {
		return ErasureReport{}, refusal
	}
	e := erasing{owner, actor, reason}
	return c.erase(ctx, principal, c.cfg.Erasure.seal(e), e)
}

// Erasure goes on with an erasure, and reports how far it is.
func (c *Claimer) Erasure(ctx context.Context, principal, id string) (ErasureReport, error) {
	if err := c.canErase(); err != nil {
		return ErasureReport{}, err
	}
	e, err := c.cfg.Erasure.open(id)
	if err != nil {
		return ErasureReport{}, &Refused{Reason: NoSuchPage, Detail: "there is no such erasure, or it was begun under another security.erasure_secret_file"}
	}
	return c.erase(ctx, principal, id, e)
}

func (c *Claimer) canErase() error {
	switch {
	case c.cfg.Erasure.Eraser == nil:
		return &Refused{Reason: NotConfigured, Detail: "security.erasure_secret_file is not set on this server: make one with dibs keys erasure FILE, " +
			"give it to every API and processor, and restart them; nothing was erased"}
	case c.cfg.Sign == nil:
		return &Refused{Reason: NotConfigured, Detail: "security.request_keys_file is not set on this server: an erasure has to be signed; nothing was erased"}
	}
	return nil
}

// erase looks for what is recorded of the owner, and asks for each name that it be erased. What is asked for twice is the same
// request, as long as nothing new is recorded.
func (c *Claimer) erase(ctx context.Context, principal, id string, e erasing) (ErasureReport, error) {
	report := ErasureReport{ID: id, Owner: e.Owner, State: ErasureReportStateRunning, Remains: []ErasureRemains{}}
	traces, err := c.cfg.Erasure.Traces.Held(ctx, e.Owner)
	if err != nil {
		return report, unavailable(err)
	}
	search, cancel := context.WithTimeout(ctx, searchWithin)
	defer cancel()
	named, err := c.cfg.Erasure.Traces.Named(search, e.Owner)
	switch {
	case err == nil:
		report.Searched = true
	case search.Err() == nil || ctx.Err() != nil:
		return report, unavailable(err)
	}
	traces = together(traces, named)
	report.Found = len(traces)
	report.Requested, err = c.askToErase(ctx, id, e, traces)
	if len(traces) > 0 || err != nil {
		c.cfg.Log.InfoContext(ctx, "admin request", "principal", principal, "actor", e.Actor, "action", "erase", "owner", e.Owner,
			"names", report.Found, "requested", report.Requested)
	}
	if err != nil {
		return report, err
	}
	erased, err := c.cfg.Erasure.Traces.Erased(ctx, e.Owner)
	if err != nil {
		return report, unavailable(err)
	}
	report.Pending, report.Done, report.Signups = erased.Pending, erased.Done, erased.Signups
	report.DecisionsWiped, report.RecordsWiped = erased.Decisions, erased.DeadLetters
	if report.Searched && report.Found == 0 && report.Pending == 0 {
		report.State = ErasureReportStateDone
	}
	report.Remains = append(report.Remains, c.remains(ctx, erased.Last)...)
	return report, nil
}

// together adds the names of decisions to those that are held.
func together(held, named []Trace) []Trace {
	at := make(map[names.Ref]int, len(held)+len(named))
	var all []Trace
	for _, t := range append(append([]Trace(nil), held...), named...) {
		i, there := at[t.Ref]
		if !there {
			at[t.Ref] = len(all)
			all = append(all, t)
			continue
		}
		all[i].Version, all[i].LogEpoch, all[i].Offset = max(all[i].Version, t.Version), max(all[i].LogEpoch, t.LogEpoch), max(all[i].Offset, t.Offset)
	}
	return all
}

// askToErase publishes a request for each name, and waits until they are written.
func (c *Claimer) askToErase(ctx context.Context, id string, e erasing, traces []Trace) (n int, err error) {
	sum := sha256.Sum256([]byte(id))
	erasure := uuid.UUID(sum[:16])
	var published []Publication
	for _, t := range traces[:min(len(traces), mostRequests)] {
		partition := claims.Partition(t.RecordKey(), c.cfg.Partitions)
		if _, err := c.open(partition); err != nil {
			return n, err
		}
		request := claims.ErasureID(erasure, t.Ref, fmt.Sprintf("%d-%d-%d", t.Version, t.LogEpoch, t.Offset))
		event := cloudevents.Event{ID: request, Source: Source, Principal: claims.Principal, Time: c.cfg.Now()}
		body := &claims.ErasureRequested{About: claims.About{Space: t.Space, Key: t.Key}, Owner: e.Owner, Actor: e.Actor, Reason: e.Reason}
		record := claims.NewRecord(body, event, t.Ref)
		record.Key = []byte(t.RecordKey())
		pub, err := c.claims.Start(partition, c.cfg.Sign(record))
		if err != nil {
			return n, c.refused(request, err)
		}
		published = append(published, pub)
	}
	timeout := time.NewTimer(c.cfg.PublishTimeout)
	defer timeout.Stop()
	for _, pub := range published {
		select {
		case <-pub.Settled():
		case <-timeout.C:
			return n, &Refused{Reason: OutcomeUnknown, RetryAfter: time.Second, Detail: "Kafka has not taken all requests in time; ask again"}
		case <-ctx.Done():
			return n, ctx.Err()
		}
		if _, err := pub.Result(); err != nil {
			return n, c.refused(uuid.Nil, err)
		}
		n++
	}
	return n, nil
}

// remains says what topics keep, and until when: the last record that names the owner is the last request to erase something, or
// an outcome from before it.
func (c *Claimer) remains(ctx context.Context, last time.Time) []ErasureRemains {
	if c.cfg.Erasure.Topics == nil {
		return nil
	}
	if last.IsZero() {
		last = c.cfg.Now()
	}
	var all []ErasureRemains
	for _, t := range c.cfg.Erasure.Topics(ctx) {
		remains := ErasureRemains{Topic: t.Topic}
		switch {
		case t.Err != nil:
			detail := "how long it keeps records cannot be read"
			remains.Detail = &detail
		case t.Keeps < 0:
			detail := "it keeps records for ever"
			remains.Detail = &detail
		default:
			until := last.Add(t.Keeps).UTC()
			remains.Until = &until
		}
		all = append(all, remains)
	}
	return all
}
