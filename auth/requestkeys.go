package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"

	"github.com/dibs-hq/dibs/claims"
	"go.yaml.in/yaml/v3"
)

// RequestKeys are the secrets that requests are signed with: the processor's, the API's and the command line's are the
// same file.
type RequestKeys struct {
	Signing claims.SigningKey // the first of the file
	All     claims.Keys       // what a signature may be made with
	Order   []string          // their ids, as the file has them
}

// requestKey is an entry of the file as written.
type requestKey struct {
	ID     string `yaml:"id"`
	Secret string `yaml:"secret"`
}

// requestSecret is how many bytes a secret has.
const requestSecret = 32

var requestIDForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// ReadRequestKeys reads a file of request keys. The error is an ErrKeyFile.
func ReadRequestKeys(path string) (RequestKeys, error) {
	text, err := readKeyFile(path)
	if err != nil {
		return RequestKeys{}, err
	}
	var file struct {
		Keys []requestKey `yaml:"keys"`
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return RequestKeys{}, fmt.Errorf("%w %s: %w", ErrKeyFile, path, err)
	}
	if len(file.Keys) == 0 {
		return RequestKeys{}, fmt.Errorf("%w %s: there are no keys: it needs a list \"keys\" with id and secret", ErrKeyFile, path)
	}
	keys := RequestKeys{All: make(claims.Keys, len(file.Keys))}
	for i, k := range file.Keys {
		wrong := func(what string) (RequestKeys, error) {
			return RequestKeys{}, fmt.Errorf("%w %s: entry %d (id %q): %s", ErrKeyFile, path, i+1, k.ID, what)
		}
		secret, err := hex.DecodeString(k.Secret)
		switch {
		case !requestIDForm.MatchString(k.ID):
			return wrong("id: must be 1 to 32 of a to z, digits and -")
		case keys.All[k.ID] != nil:
			return wrong("id: an entry before has it already")
		case err != nil || len(secret) != requestSecret:
			return wrong(fmt.Sprintf("secret: must be %d bytes in hexadecimal digits: dibs keys request makes one", requestSecret))
		}
		if i == 0 {
			keys.Signing = claims.SigningKey{ID: k.ID, Secret: secret}
		}
		keys.All[k.ID] = secret
		keys.Order = append(keys.Order, k.ID)
	}
	return keys, nil
}

// MakeRequestKeys makes a file with one request key of 256 random bits, for its owner's eyes only. A file that is there is
// left as it is; the error is os.ErrExist.
func MakeRequestKeys(path, id string) error {
	if !requestIDForm.MatchString(id) {
		return errors.New("id: must be 1 to 32 of a to z, digits and -")
	}
	var secret [requestSecret]byte
	rand.Read(secret[:]) // never fails
	text, err := yaml.Marshal(map[string][]requestKey{"keys": {{id, hex.EncodeToString(secret[:])}}})
	if err != nil {
		return fmt.Errorf("make a file of request keys: %w", err)
	}
	return makeSecretFile(path, string(text))
}
