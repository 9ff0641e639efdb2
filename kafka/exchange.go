package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/segmentio/kafka-go/protocol"
)

// anyBroker sends a request to whichever broker answers.
const anyBroker int32 = -1

// errAbandoned ends an exchange on a connection that became ready after its caller had gone.
var errAbandoned = errors.New("request was given up before it was sent")

// exchange is one request and its answer on a connection of the transport. It implements protocol.RawExchanger, for
// three things that the transport does not do by itself:
//
//   - it goes to the broker that we name, not to the one the transport's cache takes for the leader;
//   - it knows whether the request was sent. A request that was not written in full cannot have had an effect, whatever
//     the error; one that was written may have, whatever the error;
//   - an answer may be read by a decoder of our own.
//
// The frame of the request is kafka-go's.
type exchange struct {
	to       int32
	clientID string
	request  protocol.Message
	// decode reads the body of the answer; nil for kafka-go's decoder.
	decode func(version int16, body []byte) (protocol.Message, error)

	// Set by the connection's goroutine.
	version int16
	state   atomic.Int32
}

// The states of an exchange. Only one side gets it out of waiting.
const (
	exchangeWaiting int32 = iota
	exchangeWriting
	exchangeSent
	exchangeAbandoned
)

var (
	_ protocol.BrokerMessage = (*exchange)(nil)
	_ protocol.RawExchanger  = (*exchange)(nil)
)

// answer hides the type of a response from the transport, which treats some of them in a way of its own.
type answer struct{ body protocol.Message }

func (a answer) ApiKey() protocol.ApiKey { //nolint:staticcheck // kafka-go's name
	return a.body.ApiKey()
}

// roundTrip sends a request and waits for its answer. sent says whether the broker may have got the request: it is
// exact where it is false. ctx must have a deadline: it is what ends a request to a broker that hangs. Where sent is
// true beside an error, the request may still be read by the connection's goroutine.
func (c *Client) roundTrip(ctx context.Context, x *exchange) (response protocol.Message, sent bool, err error) {
	x.clientID = c.cfg.ClientID
	r, err := c.transport.RoundTrip(ctx, c.addr, x)
	if err != nil {
		// A connection may still be on its way to this request: from now on it finds that nobody waits.
		sent = !x.state.CompareAndSwap(exchangeWaiting, exchangeAbandoned) && x.state.Load() != exchangeAbandoned
		return nil, sent, err
	}
	return r.(answer).body, true, nil
}

// ApiKey implements protocol.Message.
func (x *exchange) ApiKey() protocol.ApiKey { //nolint:staticcheck // kafka-go's name
	return x.request.ApiKey()
}

// Broker implements protocol.BrokerMessage.
func (x *exchange) Broker(protocol.Cluster) (protocol.Broker, error) {
	return protocol.Broker{ID: x.to}, nil
}

// Required implements protocol.RawExchanger.
func (x *exchange) Required(versions map[protocol.ApiKey]int16) bool {
	x.version = versions[x.request.ApiKey()]
	return true
}

// RawExchange implements protocol.RawExchanger. Any error makes the transport close the connection.
func (x *exchange) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if !x.state.CompareAndSwap(exchangeWaiting, exchangeWriting) {
		return nil, errAbandoned
	}
	const id = 1 // one request at a time: the answer to it is the next one on this connection
	if err := protocol.WriteRequest(rw, x.version, id, x.clientID, x.request); err != nil {
		// A request that is cut off is never acted upon.
		x.state.Store(exchangeAbandoned)
		return nil, fmt.Errorf("send %s request: %w", x.ApiKey(), err)
	}
	x.state.Store(exchangeSent)
	var got int32
	var body protocol.Message
	var err error
	if x.decode == nil {
		got, body, err = protocol.ReadResponse(rw, x.ApiKey(), x.version)
	} else {
		got, body, err = x.readBody(rw)
	}
	if err != nil {
		return nil, fmt.Errorf("receive %s response: %w", x.ApiKey(), err)
	}
	if got != id {
		return nil, fmt.Errorf("receive %s response: it answers request %d, not %d", x.ApiKey(), got, id)
	}
	return answer{body}, nil
}

// maxAnswer is how large an answer may claim to be. It is above what we ask for, and bounds what a broken peer can make
// us allocate.
const maxAnswer = 256 << 20

// readBody reads an answer's frame.
func (x *exchange) readBody(r io.Reader) (id int32, body protocol.Message, err error) {
	var head [8]byte // length of what follows it, then the id of the request
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int32(binary.BigEndian.Uint32(head[:]))
	if n < 4 || n > maxAnswer {
		return 0, nil, fmt.Errorf("%w: answer of %d bytes", errCorrupt, n)
	}
	b := make([]byte, n-4)
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, nil, err
	}
	body, err = x.decode(x.version, b)
	return int32(binary.BigEndian.Uint32(head[4:])), body, err
}
