package auth_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dibs-hq/dibs/auth"
)

func TestPeppersAreMadeAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "peppers.yaml")
	if err := auth.MakePeppers(path, "email"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("it has mode %v, %v", info.Mode(), err)
	}
	peppers, err := auth.ReadPeppers(path)
	if err != nil || len(peppers) != 1 || len(peppers["email"][1]) != 32 || peppers.Latest("email") != 1 {
		t.Errorf("read %d spaces, %v", len(peppers), err)
	}
	if err := auth.MakePeppers(path, "email"); !errors.Is(err, os.ErrExist) {
		t.Errorf("over a file that is there: %v", err)
	}
	entry, err := auth.NewPepper("email", 2)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, entry...), 0o600); err != nil {
		t.Fatal(err)
	}
	both, err := auth.ReadPeppers(path)
	if err != nil || both.Latest("email") != 2 || string(both["email"][1]) != string(peppers["email"][1]) || string(both["email"][2]) == string(both["email"][1]) {
		t.Errorf("with a second one: %v", err)
	}
	if err := auth.MakePeppers(filepath.Join(t.TempDir(), "x.yaml"), "E-Mail"); err == nil {
		t.Error("for a space that is none")
	}
}

func TestPeppersThatCannotBeUsed(t *testing.T) {
	secret := strings.Repeat("ab", 32)
	good := "peppers:\n- {space: email, version: 1, secret: " + secret + "}\n"
	for what, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"readable by others": {good, 0o644, "chmod 0640"},
		"empty":              {"", 0o600, "there are no peppers"},
		"a typo":             {"pepers: []\n", 0o600, "pepers"},
		"a typo within":      {strings.Replace(good, "version", "vershun", 1), 0o600, "vershun"},
		"twice":              {good + strings.TrimPrefix(good, "peppers:\n"), 0o600, "entry 2"},
		"version 0":          {strings.Replace(good, "1", "0", 1), 0o600, "version: must be"},
		"no space":           {strings.Replace(good, "email", "E Mail", 1), 0o600, "space: is not spelt"},
		"short":              {strings.Replace(good, secret, secret[2:], 1), 0o600, "secret: must be 32 bytes"},
		"no digits":          {strings.Replace(good, secret, strings.Repeat("xy", 32), 1), 0o600, "secret: must be 32 bytes"},
	} {
		path := filepath.Join(t.TempDir(), "peppers.yaml")
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := auth.ReadPeppers(path)
		if !errors.Is(err, auth.ErrKeyFile) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "abab") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := auth.ReadPeppers(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
