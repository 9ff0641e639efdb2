package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/dibs-hq/dibs/bench"
)

// insertHTTP is the direct INSERT behind an HTTP server, the way people write it: net/http, encoding/json, one handler. It
// listens on loopback, in this process; its caller is the one that dibs over HTTP has, and takes as little of the processors.
type insertHTTP struct{ client *bench.HTTPClient }

type (
	claimBody  struct{ Name, Owner string }
	answerBody struct {
		Name     string `json:"name"`
		Owner    string `json:"owner"`
		Accepted bool   `json:"accepted"`
	}
)

func openInsertHTTP(ctx context.Context, o *opening) (bench.Peer, error) {
	in, err := newInsert(ctx, o)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /claims", in.serve)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	client := bench.NewHTTPClient(listener.Addr().String())
	o.onClose(func(context.Context) error {
		client.Close()
		err := server.Close()
		if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	})
	return &insertHTTP{client}, nil
}

// serve is the handler.
func (in *insert) serve(w http.ResponseWriter, r *http.Request) {
	var body claimBody
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&body); err != nil || body.Name == "" || body.Owner == "" {
		http.Error(w, "name and owner are needed, in JSON", http.StatusBadRequest)
		return
	}
	got, err := in.Claim(r.Context(), body.Name, body.Owner)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if got {
		w.WriteHeader(http.StatusCreated)
	} else {
		w.WriteHeader(http.StatusConflict)
	}
	_ = json.NewEncoder(w).Encode(answerBody{body.Name, body.Owner, got}) // the client is gone: there is nobody to tell
}

// Name implements bench.Peer.
func (*insertHTTP) Name() string { return InsertHTTPName }

// Claim implements bench.Peer.
func (p *insertHTTP) Claim(ctx context.Context, name, owner string) (bool, error) {
	body := append(strconv.AppendQuote(append(make([]byte, 0, 128), `{"name":`...), name), `,"owner":`...)
	status, answer, err := p.client.Post(ctx, "/claims", "", append(strconv.AppendQuote(body, owner), '}'))
	if err != nil {
		return false, err
	}
	if status != http.StatusCreated && status != http.StatusConflict {
		return false, fmt.Errorf("a claim was answered with %d: %.200s", status, answer)
	}
	return status == http.StatusCreated, nil
}
