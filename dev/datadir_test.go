package dev_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/dibs-hq/dibs/dev"
)

func TestDefaultDataDir(t *testing.T) {
	home, data := t.TempDir(), t.TempDir()
	cases := []struct {
		name, home, xdg, want string
	}{
		{"home", home, "", filepath.Join(home, ".local", "share", "dibs", "dev")},
		{"data folder of the user's choice", home, data, filepath.Join(data, "dibs", "dev")},
		{"a relative one does not count", home, "data", filepath.Join(home, ".local", "share", "dibs", "dev")},
		{"no home", "", "", ""},
		{"the home of a system account", "/", "", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("HOME", c.home)
			t.Setenv("XDG_DATA_HOME", c.xdg)
			got, err := dev.DefaultDataDir()
			switch {
			case os.Geteuid() == 0: // whose home is closed to Postgres, whatever it is
				if got != "/var/lib/dibs/dev" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
			case c.want == "":
				if !errors.Is(err, dev.ErrNoDataDir) {
					t.Errorf("%q, %v, want ErrNoDataDir", got, err)
				}
			case got != c.want || err != nil:
				t.Errorf("%q, %v, want %q", got, err, c.want)
			}
		})
	}
}
