package auth_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/auth"
	"github.com/dibs-hq/dibs/cloudevents"
)

func TestRequestKeysAreMadeAndRead(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first.yaml"), filepath.Join(dir, "second.yaml")
	for path, id := range map[string]string{first: "k1", second: "k2"} {
		if err := auth.MakeRequestKeys(path, id); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
	}
	old := readRequestKeys(t, first)
	if old.Signing.ID != "k1" || len(old.Signing.Secret) != 32 || len(old.All) != 1 {
		t.Errorf("read %d keys, signing with %q of %d bytes", len(old.All), old.Signing.ID, len(old.Signing.Secret))
	}
	signed := old.Signing.Sign(cloudevents.Record{Key: []byte("username/alice"), Value: []byte("{}")})
	next := readRequestKeys(t, second)
	if !old.All.Signed(signed) || next.All.Signed(signed) {
		t.Error("a signature holds under its own key, and under no other")
	}

	// A new key is put first, and what was signed before still holds.
	before, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	both := filepath.Join(dir, "both.yaml")
	if err := os.WriteFile(both, append(after, strings.TrimPrefix(string(before), "keys:\n")...), 0o600); err != nil {
		t.Fatal(err)
	}
	if keys := readRequestKeys(t, both); keys.Signing.ID != "k2" || !keys.All.Signed(signed) {
		t.Errorf("behind a new key: signing with %q, the old signature holds: %t", keys.Signing.ID, keys.All.Signed(signed))
	}

	if err := auth.MakeRequestKeys(first, "k9"); !errors.Is(err, os.ErrExist) {
		t.Errorf("over a file that is there: %v", err)
	}
	if again := readRequestKeys(t, first); again.Signing.ID != "k1" {
		t.Errorf("the file that was there is overwritten: %q", again.Signing.ID)
	}
	if err := auth.MakeRequestKeys(filepath.Join(dir, "x.yaml"), "K 1"); err == nil {
		t.Error("an id that is none is taken")
	}
}

func readRequestKeys(t *testing.T, path string) auth.RequestKeys {
	t.Helper()
	keys, err := auth.ReadRequestKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestRequestKeysRefused(t *testing.T) {
	secret := strings.Repeat("ab", 32)
	for name, test := range map[string]struct {
		text string
		mode os.FileMode
		says string
	}{
		"readable by others": {"keys: [{id: k1, secret: " + secret + "}]", 0o644, "chmod 0640"},
		"empty":              {"", 0o600, "there are no keys"},
		"no keys":            {"keys: []", 0o600, "there are no keys"},
		"another field":      {"keys: [{id: k1, sekret: " + secret + "}]", 0o600, "sekret"},
		"no YAML":            {"keys: [", 0o600, "key file"},
		"an id that is none": {"keys: [{id: K_1, secret: " + secret + "}]", 0o600, "id: must be"},
		"an id twice":        {"keys: [{id: k1, secret: " + secret + "}, {id: k1, secret: " + secret + "}]", 0o600, "entry 2"},
		"a short secret":     {"keys: [{id: k1, secret: abcd}]", 0o600, "secret: must be 32 bytes"},
		"no hexadecimal":     {"keys: [{id: k1, secret: " + strings.Repeat("xy", 32) + "}]", 0o600, "dibs keys request"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys.yaml")
			if err := os.WriteFile(path, []byte(test.text), test.mode); err != nil {
				t.Fatal(err)
			}
			_, err := auth.ReadRequestKeys(path)
			if !errors.Is(err, auth.ErrKeyFile) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v, want %q", err, test.says)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Error("the error tells the secret")
			}
		})
	}
	if _, err := auth.ReadRequestKeys(filepath.Join(t.TempDir(), "none")); !errors.Is(err, auth.ErrKeyFile) {
		t.Errorf("no file: %v", err)
	}
}
