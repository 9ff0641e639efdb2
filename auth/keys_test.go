package auth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dibs-hq/dibs/auth"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func writeFile(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // past the umask
		t.Fatal(err)
	}
}

func keyFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.yaml")
	writeFile(t, path, text, 0o600)
	return path
}

func newKey(t *testing.T, spec auth.KeySpec) (token, entry string) {
	t.Helper()
	token, entry, err := auth.NewKey(spec)
	if err != nil {
		t.Fatal(err)
	}
	return token, entry
}

func spec(id string) auth.KeySpec {
	return auth.KeySpec{ID: id, Principal: "gateway", Scopes: []string{"claim"}, Spaces: []string{"username"}, Owners: []string{"u-"}}
}

func TestNewKeyAuthenticates(t *testing.T) {
	first, firstEntry := newKey(t, spec("first"))
	s := spec("second")
	s.Scopes, s.Spaces, s.Owners = []string{"read", "admin"}, []string{auth.All}, []string{auth.All}
	s.Expires = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	second, secondEntry := newKey(t, s)
	if strings.Contains(firstEntry, strings.TrimPrefix(first, "first.")) {
		t.Error("the entry holds the secret")
	}

	now := time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)
	keys := auth.NewKeys(auth.KeysConfig{Path: keyFile(t, "keys:\n"+firstEntry+secondEntry), Now: func() time.Time { return now }})
	if _, err := keys.Authenticate("Bearer " + first); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("before Load: %v", err)
	}
	if err := keys.Load(); err != nil {
		t.Fatal(err)
	}

	p, err := keys.Authenticate("Bearer " + first)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "gateway" || !p.Has(auth.ScopeClaim) || p.Has(auth.ScopeRead) || !p.InSpace("username") || p.InSpace("email") ||
		!p.ForOwner("u-17") || p.ForOwner("v-17") {
		t.Errorf("first key may do something else than its entry says: %+v", p)
	}
	p, err = keys.Authenticate("bearer " + second)
	if err != nil {
		t.Fatal(err)
	}
	if p.Has(auth.ScopeClaim) || !p.Has(auth.ScopeRead) || !p.Has(auth.ScopeAdmin) || !p.InSpace("email") || !p.ForOwner("v-17") {
		t.Errorf("second key may do something else than its entry says: %+v", p)
	}

	now = now.Add(time.Second)
	if _, err = keys.Authenticate("Bearer " + second); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("an expired key: %v", err)
	}
	if _, err = keys.Authenticate("Bearer " + first); err != nil {
		t.Errorf("a key that does not expire: %v", err)
	}

	secret := strings.TrimPrefix(first, "first.")
	for _, header := range []string{
		"", "Bearer", "Bearer ", "Basic " + first, "Bearer first", "Bearer first.", "Bearer ." + secret, "Bearer third." + secret,
		"Bearer second." + secret, "Bearer " + first + "x", "Bearer " + first[:len(first)-1], "Bearer" + first, first,
	} {
		if p, err := keys.Authenticate(header); !errors.Is(err, auth.ErrUnauthenticated) || err.Error() != auth.ErrUnauthenticated.Error() {
			t.Errorf("%q is %v with error %v", header, p, err)
		}
	}
}

func TestNewKeyRefusesWhatTheFileWould(t *testing.T) {
	bad := spec("a.b")
	if _, _, err := auth.NewKey(bad); err == nil {
		t.Error("an id with a dot was accepted")
	}
	bad = spec("a")
	bad.Scopes = []string{"release"}
	if _, _, err := auth.NewKey(bad); err == nil {
		t.Error("an unknown scope was accepted")
	}
}

const hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" // of "test"

func TestKeyFileForms(t *testing.T) {
	for name, text := range map[string]string{
		"yaml":    "keys:\n- id: a\n  sha256: " + hash + "\n  principal: p\n  scopes: [claim]\n  spaces: ['*']\n  owners: ['*']\n  expires: 2099-01-01\n",
		"scalars": "keys:\n- {id: a, sha256: " + hash + ", principal: p, scopes: claim, spaces: '*', owners: u-, expires: 2099-01-01T00:00:00+02:00}\n",
		"json":    `{"keys": [{"id": "a", "sha256": "` + hash + `", "principal": "p", "scopes": ["claim"], "spaces": ["*"], "owners": ["*"]}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			keys := auth.NewKeys(auth.KeysConfig{Path: keyFile(t, text)})
			if err := keys.Load(); err != nil {
				t.Fatal(err)
			}
			if _, err := keys.Authenticate("Bearer a.test"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestKeyFileRefused(t *testing.T) {
	const good = "id: a, sha256: " + hash + ", principal: p, scopes: [claim], spaces: ['*'], owners: ['*']"
	with := func(old, new string) string {
		return "keys:\n- {" + strings.Replace(good, old, new, 1) + "}\n"
	}
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "there are no keys"},
		{"no keys", "keys: []", "there are no keys"},
		{"not yaml", "keys: [", "yaml"},
		{"unknown top", "key: []", "field key not found"},
		{"not a list", "keys: 1", "line 1"},
		{"not a mapping", "keys:\n- a", "line 2: is not a mapping"},
		{"unknown field", with("owners:", "colour: red, owners:"), `"colour" in line 2`},
		{"repeated field", with("id: a", "id: a, id: b"), "line 2"},
		{"no id", with("id: a, ", ""), "id: must be"},
		{"bad id", with("id: a", "id: a.b"), "id: must be"},
		{"duplicate id", "keys:\n- {" + good + "}\n- {" + good + "}", `entry 2 (id "a") in line 3: id: the key in line 2 has it already`},
		{"no hash", with("sha256: "+hash+", ", ""), "sha256: must be"},
		{"short hash", with(hash, hash[2:]), "sha256: must be"},
		{"a secret for a hash", with(hash, strings.Repeat("z", 64)), "sha256: must be"},
		{"empty secret", with(hash, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"), "empty secret"},
		{"no principal", with("principal: p, ", ""), "principal: must be"},
		{"odd principal", with("principal: p", `principal: "p\n"`), "principal: must be"},
		{"our principal", with("principal: p", "principal: dibs"), "what dibs calls itself"},
		{"no scopes", with("scopes: [claim], ", ""), "scopes: is missing"},
		{"unknown scope", with("[claim]", "[claim, release]"), `there is no scope "release"`},
		{"no spaces", with("spaces: ['*'], ", ""), "spaces: is missing"},
		{"no owners", with(", owners: ['*']", ""), "owners: is missing"},
		{"glob", with("owners: ['*']", "owners: ['u-*']"), `owners: "u-*" is neither`},
		{"empty prefix", with("owners: ['*']", "owners: ['']"), `owners: "" is neither`},
		{"bad expiry", with("id: a", "expires: tomorrow, id: a"), `expires: "tomorrow" is not`},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := auth.NewKeys(auth.KeysConfig{Path: keyFile(t, test.text)}).Load()
			if !errors.Is(err, auth.ErrKeyFile) || !strings.Contains(fmt.Sprint(err), test.want) {
				t.Errorf("%v, want an ErrKeyFile with %q", err, test.want)
			}
		})
	}
}

func TestKeyFileMode(t *testing.T) {
	_, entry := newKey(t, spec("a"))
	path := keyFile(t, "keys:\n"+entry)
	keys := auth.NewKeys(auth.KeysConfig{Path: path})
	for _, mode := range []os.FileMode{0o644, 0o604, 0o606, 0o666} {
		writeFile(t, path, "keys:\n"+entry, mode)
		if err := keys.Load(); !errors.Is(err, auth.ErrKeyFile) || !strings.Contains(err.Error(), "Fix: chmod 06") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	for _, mode := range []os.FileMode{0o600, 0o640, 0o400} {
		writeFile(t, path, "keys:\n"+entry, mode)
		if err := keys.Load(); err != nil {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if err := auth.NewKeys(auth.KeysConfig{Path: t.TempDir()}).Load(); !errors.Is(err, auth.ErrKeyFile) {
		t.Errorf("a directory: %v", err)
	}
	if err := auth.NewKeys(auth.KeysConfig{Path: path + "x"}).Load(); !errors.Is(err, auth.ErrKeyFile) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// log collects what is logged.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func TestKeysReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, oldEntry := newKey(t, spec("old"))
		new, newEntry := newKey(t, spec("new"))
		path := keyFile(t, "keys:\n"+oldEntry)
		var logged log
		keys := auth.NewKeys(auth.KeysConfig{Path: path, Log: slog.New(slog.NewTextHandler(&logged, nil))})
		if err := keys.Load(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- keys.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		valid := func(token string) bool {
			_, err := keys.Authenticate("Bearer " + token)
			return err == nil
		}

		// Two live keys of one principal while they are exchanged, then the old one goes.
		writeFile(t, path, "keys:\n"+oldEntry+newEntry, 0o600)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if !valid(old) || !valid(new) {
			t.Errorf("both in the file: old %t, new %t", valid(old), valid(new))
		}
		writeFile(t, path, "keys:\n"+newEntry, 0o600)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if valid(old) || !valid(new) {
			t.Errorf("old taken out: old %t, new %t", valid(old), valid(new))
		}

		// A broken file changes nothing and is said once.
		writeFile(t, path, "keys:\n- {}\n", 0o600)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !valid(new) {
			t.Error("a broken file took the keys away")
		}
		if n := logged.count("cannot be read again"); n != 1 {
			t.Errorf("a broken file was reported %d times", n)
		}
		writeFile(t, path, "keys:\n"+oldEntry, 0o600)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if !valid(old) || valid(new) {
			t.Errorf("mended: old %t, new %t", valid(old), valid(new))
		}
	})
}

func TestNone(t *testing.T) {
	var none auth.None
	p, err := none.Authenticate("")
	if err != nil || p.Name != auth.Anonymous || !p.Has(auth.ScopeAdmin) || !p.InSpace("email") || !p.ForOwner("u-17") {
		t.Errorf("%+v, %v", p, err)
	}
	for _, addr := range []string{"127.0.0.1:8080", "localhost:0", "[::1]:8080", "127.1.2.3:80"} {
		if err := none.CheckAddr(addr); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for _, addr := range []string{":8080", "0.0.0.0:8080", "[::]:8080", "192.168.1.7:8080", "example.org:80", "127.0.0.1", ""} {
		if err := none.CheckAddr(addr); err == nil {
			t.Errorf("%q was accepted", addr)
		}
	}
}

// Only a key for all owners is limited to none.
func TestForAnyOwner(t *testing.T) {
	for _, c := range []struct {
		owners []string
		want   bool
	}{{[]string{auth.All}, true}, {[]string{"u-", auth.All}, true}, {[]string{"u-", "v-"}, false}} {
		s := spec("k")
		s.Owners = c.owners
		token, entry := newKey(t, s)
		keys := auth.NewKeys(auth.KeysConfig{Path: keyFile(t, "keys:\n"+entry)})
		if err := keys.Load(); err != nil {
			t.Fatal(err)
		}
		if p, err := keys.Authenticate("Bearer " + token); err != nil || p.ForAnyOwner() != c.want {
			t.Errorf("owners %q: %+v, %v", c.owners, p, err)
		}
	}
	if p, err := (auth.None{}).Authenticate(""); err != nil || !p.ForAnyOwner() || new(auth.Principal).ForAnyOwner() {
		t.Errorf("nobody's key: %+v, %v", p, err)
	}
}
