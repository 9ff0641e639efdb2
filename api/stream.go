package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/registrations"
)

const (
	// heartbeat is how often something is sent: proxies cut connections that are silent for a minute or less.
	heartbeat = 15 * time.Second
	// keyCheck is how often the caller's key is looked at again.
	keyCheck = time.Second
	// openTimeout is how long Kafka has to say where a stream begins.
	openTimeout = 5 * time.Second
	// writeTimeout is how long a caller may take to make room for what it is sent. One that does not keep up is read for no
	// faster, and is cut only where it makes none.
	writeTimeout = 10 * time.Second
	// sendBuffer is how much the system is to hold for a caller (Linux: twice that). It says that there is room when a third
	// is gone, and by itself it would hold some 4 MB: by then who reads slowly is cut.
	sendBuffer = 128 << 10
	// reconnect is when a client should come back.
	reconnect = time.Second
	// writeSize is about how much is written at once.
	writeSize = 32 << 10
)

// streamRegistrations is GET /v1/registrations.
//
// Each stream reads the topic for itself, from its own place, and only as fast as its caller takes it. So catching up and
// going on are the same, a slow caller costs memory for one answer of Kafka and no more, and the tail that claims wait for
// knows nothing of streams. The price is that every stream reads every outcome, which the number of streams bounds.
func (s *Server) streamRegistrations(w http.ResponseWriter, r *http.Request) {
	p := principalOf(r.Context())
	from, space, err := s.streamParams(r, p)
	switch {
	case err != nil:
	case s.streams.source == nil:
		err = unavailable(errors.New("nothing reads registrations here"))
	case r.Method == http.MethodHead:
		w.Header().Set("Content-Type", eventStream)
		return
	default:
		if err = s.streams.take(p.Name); err != nil {
			break
		}
		defer s.streams.release(p.Name)
		err = s.openStream(w, r, from, &streaming{w: w, control: http.NewResponseController(w), streams: s.streams, principal: p, space: space})
	}
	if err != nil {
		s.writeProblem(w, r, err)
	}
}

const eventStream = "text/event-stream"

// streamParams reads where a stream is to begin, nil for now, and what it is to tell of.
func (s *Server) streamParams(r *http.Request, p *auth.Principal) (from *Place, space names.Space, err error) {
	query := r.URL.Query() // it can be read: that was checked
	field, id := "last_event_id", []string(nil)
	if query.Has(field) {
		id = query[field]
	}
	if header := r.Header.Values("Last-Event-ID"); header != nil { // a browser sends it beside the address it was given
		field, id = "Last-Event-ID", header
	}
	if id != nil {
		place, err := ParsePlace(id[0])
		switch {
		case len(id) > 1:
			return nil, "", badRequest(field, "is given "+strconv.Itoa(len(id))+" times")
		case err != nil:
			return nil, "", badRequest(field, err.Error())
		}
		from = &place
	}
	if space, err = s.spaceParam(query, p); err != nil {
		return nil, "", err
	}
	return from, space, nil
}

func (s *Server) spaceParam(query url.Values, p *auth.Principal) (names.Space, error) {
	switch values := query["space"]; {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", badRequest("space", "is given "+strconv.Itoa(len(values))+" times")
	}
	space := names.Space(query.Get("space"))
	return space, checkSpace(space, s.policies(), p)
}

// checkSpace refuses a space in a query that the key does not cover, or that there is not.
func checkSpace(space names.Space, policies names.Policies, p *auth.Principal) error {
	switch {
	case !p.InSpace(string(space)):
		return notAllowed("space", "the key is limited to other spaces")
	case policies[space] == nil:
		return &Refused{Reason: UnknownSpace, Errors: []FieldError{{Field: "space", Detail: "there is no such space"}}}
	}
	return nil
}

// openStream streams until somebody ends it. An error says that there was no stream.
func (s *Server) openStream(w http.ResponseWriter, r *http.Request, from *Place, to *streaming) error {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.streams.stopped, cancel)()
	opening, opened := context.WithTimeout(ctx, openTimeout)
	stream, place, err := s.streams.source.Open(opening, from)
	opened()
	switch {
	case errors.Is(err, ErrGone):
		return &Refused{Reason: PositionGone, Err: err}
	case err != nil:
		return unavailable(err)
	}
	defer stream.Close()
	boundSending(r.Context())
	h := w.Header()
	h.Set("Content-Type", eventStream)
	h.Set("X-Accel-Buffering", "no") // or nginx would collect events
	to.place, to.check = place.clone(), func() bool {
		p, err := s.keys.Authenticate(r.Header.Get("Authorization"))
		if err != nil || !p.Has(auth.ScopeRead) {
			return false
		}
		to.principal = p
		return true
	}
	why := to.run(ctx, stream)
	s.streams.ended.WithLabelValues(string(why)).Inc()
	s.log.DebugContext(ctx, "stream has ended", "reason", string(why), "principal", to.principal.Name)
	return nil
}

type connKey struct{}

// withConn keeps a request's connection, for boundSending.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// boundSending keeps what waits to be sent small, where the connection is one that has such a bound.
func boundSending(ctx context.Context) {
	if c, ok := ctx.Value(connKey{}).(interface{ SetWriteBuffer(bytes int) error }); ok {
		_ = c.SetWriteBuffer(sendBuffer) // else it is as before
	}
}

// streaming is one stream on its way to its caller.
type streaming struct {
	w         http.ResponseWriter
	control   *http.ResponseController
	streams   *streams
	principal *auth.Principal
	space     names.Space // empty: all that the principal may see
	check     func() bool // whether the key is still good; it renews principal

	place   Place
	moved   bool // since its id was last sent
	out     []byte
	events  int // in out
	scratch []byte
}

// run sends events until the caller goes, or may not stay.
func (t *streaming) run(ctx context.Context, stream Stream) ending {
	t.out = append(t.out, "retry: "+strconv.Itoa(int(reconnect.Milliseconds()))+"\n"...)
	t.appendID()
	t.out = append(t.out, '\n')
	now := time.Now()
	sent, checked := now, now
	for {
		if len(t.out) > 0 {
			if why := t.flush(); why != "" {
				return why
			}
			sent = time.Now()
		}
		wait := min(keyCheck, max(0, heartbeat-time.Since(sent)))
		batch, err := stream.Next(ctx, wait)
		if ctx.Err() == nil && time.Since(checked) >= keyCheck {
			if !t.check() { // before what has come is sent
				return t.farewell(endKey)
			}
			checked = time.Now()
		}
		for i := range batch {
			t.take(&batch[i])
			if len(t.out) >= writeSize {
				if why := t.flush(); why != "" {
					return why
				}
				sent = time.Now()
			}
		}
		switch {
		case errors.Is(err, ErrGone):
			return t.farewell(endGone)
		case ctx.Err() != nil && t.streams.stopped.Err() != nil:
			return t.farewell(endStopping)
		case err != nil:
			return endClient
		case len(t.out) == 0 && time.Since(sent) >= heartbeat:
			t.beat()
		}
	}
}

// take adds a record's event to what will be sent, if it is for this caller.
func (t *streaming) take(r *Published) {
	t.place.passed(r.Partition, r.Offset, r.Value)
	t.moved = true
	o, err := registrations.Decode(cloudevents.Record{Value: r.Value})
	if err != nil || o.Type == "" { // not ours: the tail has said so
		return
	}
	if t.space != "" && t.space != o.Ref.Space || !t.principal.InSpace(string(o.Ref.Space)) || !t.principal.ForOwner(o.Owner) {
		return
	}
	data := r.Value
	if bytes.ContainsAny(data, "\r\n") { // not by our encoder
		var line bytes.Buffer
		if json.Compact(&line, data) != nil {
			return
		}
		data = line.Bytes()
	}
	t.appendID()
	t.out = append(append(t.out, "event: "...), shortType(o.Type)...)
	t.out = append(append(t.out, "\ndata: "...), data...)
	t.out = append(t.out, "\n\n"...)
	t.events++
}

// shortType is the type as the name of an event: what cannot be in a line is left out.
func shortType(t registrations.Type) string {
	for _, c := range t {
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return "message"
		}
	}
	return string(t)
}

func (t *streaming) appendID() {
	t.out = append(t.out, "id: "...)
	t.out, t.scratch = t.place.appendTo(t.out, t.scratch)
	t.out = append(t.out, '\n')
	t.moved = false
}

// beat says that we are there; and where, if that has changed by what was not for this caller.
func (t *streaming) beat() {
	if t.moved {
		t.appendID()
	}
	t.out = append(t.out, ":\n\n"...)
}

// farewell sends what is left, and why that is all.
func (t *streaming) farewell(why ending) ending {
	t.out = append(append(append(t.out, ": "...), farewells[why]...), "\n\n"...)
	_ = t.flush() // who does not hear it sees the stream end
	return why
}

// flush sends what there is. It returns why that is not possible.
func (t *streaming) flush() ending {
	if err := t.control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return endClient
	}
	_, err := t.w.Write(t.out)
	if err == nil {
		err = t.control.Flush()
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return endSlow
	case err != nil:
		return endClient
	}
	t.streams.events.Add(float64(t.events))
	t.out, t.events = t.out[:0], 0
	return ""
}
