package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func serve(t *testing.T, h http.HandlerFunc) (client *HTTPClient, connections *atomic.Int64) {
	t.Helper()
	connections = new(atomic.Int64)
	server := httptest.NewUnstartedServer(h)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	client = NewHTTPClient(server.Listener.Addr().String())
	t.Cleanup(server.Close)
	t.Cleanup(client.Close)
	return client, connections
}

// TestHTTPClientKeepsConnections: as many as are used at once, but not those that the server closes.
func TestHTTPClientKeepsConnections(t *testing.T) {
	client, connections := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.URL.Path != "/v1/x" || r.Header.Get("X-Y") != "z" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("got %s %s, %v", r.Method, r.URL, r.Header)
		}
		if string(body) == "close" {
			w.Header().Set("Connection", "close")
		}
		if string(body) == "long" {
			w.WriteHeader(http.StatusConflict)
			for range 100 { // in chunks
				_, _ = w.Write([]byte(strings.Repeat("x", 100)))
				w.(http.Flusher).Flush()
			}
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write(body)
	})
	post := func(body string, status, length int) {
		t.Helper()
		s, answer, err := client.Post(t.Context(), "/v1/x", "X-Y: z\r\n", []byte(body))
		if err != nil || s != status || len(answer) != length {
			t.Errorf("%s: %d, %d bytes, %v", body, s, len(answer), err)
		}
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				post("{}", http.StatusCreated, 2)
			}
		})
	}
	wg.Wait()
	if n := connections.Load(); n < 1 || n > 4 {
		t.Errorf("%d connections for 4 at once", n)
	}
	before := connections.Load()
	post("long", http.StatusConflict, 10_000)
	post("close", http.StatusCreated, 5)
	post("{}", http.StatusCreated, 2)
	if n := connections.Load() - before; n > 1 {
		t.Errorf("%d more connections for three in turn, one of which was closed", n)
	}
}

func TestHTTPClientEndsWithItsContext(t *testing.T) {
	come, gone := make(chan struct{}), make(chan struct{})
	client, _ := serve(t, func(http.ResponseWriter, *http.Request) {
		close(come)
		<-gone
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-come
		cancel()
	}()
	_, _, err := client.Post(ctx, "/", "", nil)
	close(gone)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	client.Close()
	if _, _, err := client.Post(t.Context(), "/", "", nil); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("a closed client: %v", err)
	}
}

func TestHTTPClientOutOfReach(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, _, err := NewHTTPClient(address).Post(ctx, "/", "", nil); !errors.As(err, new(*net.OpError)) {
		t.Errorf("got %v", err)
	}
}
