package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/dibs-hq/dibs/names"
	"go.yaml.in/yaml/v3"
)

// pepper is an entry of the file as written.
type pepper struct {
	Space   names.Space `yaml:"space"`
	Version int         `yaml:"version"`
	Secret  string      `yaml:"secret"`
}

// pepperSecret is how many bytes a secret has.
const pepperSecret = 32

// ReadPeppers reads a file of the secrets that the keys of private spaces are made with. The error is an ErrKeyFile.
func ReadPeppers(path string) (names.Peppers, error) {
	text, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	var file struct {
		Peppers []pepper `yaml:"peppers"`
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w %s: %w", ErrKeyFile, path, err)
	}
	if len(file.Peppers) == 0 {
		return nil, fmt.Errorf("%w %s: there are no peppers: it needs a list \"peppers\" with space, version and secret", ErrKeyFile, path)
	}
	all := make(names.Peppers)
	for i, p := range file.Peppers {
		wrong := func(what string) (names.Peppers, error) {
			return nil, fmt.Errorf("%w %s: entry %d (space %.40q, version %d): %s", ErrKeyFile, path, i+1, p.Space, p.Version, what)
		}
		secret, err := hex.DecodeString(p.Secret)
		switch {
		case !p.Space.Valid():
			return wrong("space: is not spelt as one")
		case p.Version < 1 || p.Version > names.MaxVersion:
			return wrong(fmt.Sprintf("version: must be 1 to %d", names.MaxVersion))
		case all[p.Space][p.Version] != nil:
			return wrong("version: an entry before has it already")
		case err != nil || len(secret) != pepperSecret:
			return wrong(fmt.Sprintf("secret: must be %d bytes in hexadecimal digits: dibs keys pepper makes one", pepperSecret))
		}
		if all[p.Space] == nil {
			all[p.Space] = make(map[int][]byte)
		}
		all[p.Space][p.Version] = secret
	}
	return all, nil
}

// MakePeppers makes a file with one pepper of 256 random bits, version 1 of a space, for its owner's eyes only. A file that
// is there is left as it is; the error is os.ErrExist.
func MakePeppers(path string, space names.Space) error {
	if !space.Valid() {
		return errors.New("space: must be 1 to 32 of a to z, digits and -, and begin with a letter")
	}
	entry, err := NewPepper(space, 1)
	if err != nil {
		return err
	}
	return makeSecretFile(path, "peppers:\n"+entry)
}

// NewPepper makes an entry for the list "peppers" of such a file.
func NewPepper(space names.Space, version int) (yamlEntry string, err error) {
	var secret [pepperSecret]byte
	rand.Read(secret[:]) // never fails
	text, err := yaml.Marshal([]pepper{{space, version, hex.EncodeToString(secret[:])}})
	if err != nil {
		return "", fmt.Errorf("make a pepper: %w", err)
	}
	return string(text), nil
}
