package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

// KeysConfig says where keys are. Path is required.
type KeysConfig struct {
	Path string
	// Every is how often the file is read again. Defaults to 10 s; a key that was taken out works at most that long.
	Every time.Duration
	// Now is the clock that keys expire by. Defaults to time.Now.
	Now func() time.Time
	// Log gets what changes. Nil discards.
	Log *slog.Logger
}

const defaultReload = 10 * time.Second

// Keys authenticates by the keys of a file. Load must have succeeded before it is used. It is safe for concurrent use.
type Keys struct {
	cfg  KeysConfig
	text []byte // what the file said last; of Load and Run only
	keys atomic.Pointer[map[string]*key]
}

// NewKeys makes Keys; it reads nothing.
func NewKeys(cfg KeysConfig) *Keys {
	if cfg.Every <= 0 {
		cfg.Every = defaultReload
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	k := &Keys{cfg: cfg}
	k.keys.Store(&map[string]*key{})
	return k
}

// Load reads the file. Where it is wrong the keys stay as they were. The error is an ErrKeyFile. It must not be called
// while Run runs.
func (k *Keys) Load() error {
	text, err := readKeyFile(k.cfg.Path)
	if err != nil {
		return err
	}
	if k.text != nil && bytes.Equal(text, k.text) {
		return nil
	}
	keys, err := parseKeys(text)
	if err != nil {
		return err
	}
	k.text = text
	k.keys.Store(&keys)
	k.cfg.Log.Info("keys are read", "file", k.cfg.Path, "keys", len(keys))
	return nil
}

// Run reads the file again and again, until ctx ends. A file that has become wrong is reported and changes nothing: the
// last good keys stay valid, until they expire.
func (k *Keys) Run(ctx context.Context) error {
	tick := time.NewTicker(k.cfg.Every)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			err := k.Load()
			switch {
			case err == nil:
				said = ""
			case err.Error() != said:
				said = err.Error()
				k.cfg.Log.ErrorContext(ctx, "keys cannot be read again; the ones before stay valid", "err", err)
			}
		}
	}
}

// Authenticate reads an Authorization header. The error is ErrUnauthenticated, whatever is wrong.
func (k *Keys) Authenticate(header string) (*Principal, error) {
	scheme, token, _ := strings.Cut(header, " ")
	id, secret, ok := strings.Cut(strings.TrimSpace(token), ".")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return nil, ErrUnauthenticated
	}
	found := (*k.keys.Load())[id]
	if found == nil {
		found = nobody // compared as well: an unknown id takes as long as a wrong secret
	}
	hash := sha256.Sum256([]byte(secret))
	same := subtle.ConstantTimeCompare(hash[:], found.hash[:]) == 1
	if !same || found == nobody || !found.expires.IsZero() && !k.cfg.Now().Before(found.expires) {
		return nil, ErrUnauthenticated
	}
	return found.principal, nil
}

// nobody has a key that no secret opens.
var nobody = &key{principal: &Principal{}}
