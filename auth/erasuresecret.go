package auth

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

// erasureSecret is how many bytes the secret has that erased names are kept under.
const erasureSecret = 32

// ReadErasureSecret reads the file of the secret that erased names are kept under: all processes of a deployment have the same.
// The error is an ErrKeyFile.
func ReadErasureSecret(path string) ([]byte, error) {
	text, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(secret) != erasureSecret {
		return nil, fmt.Errorf("%w %s: must be %d bytes in hexadecimal digits and nothing else: dibs keys erasure makes one", ErrKeyFile, path, erasureSecret)
	}
	return secret, nil
}

// MakeErasureSecret makes such a file of 256 random bits, for its owner's eyes only. A file that is there is left as it is; the
// error is os.ErrExist.
func MakeErasureSecret(path string) error {
	var secret [erasureSecret]byte
	rand.Read(secret[:]) // never fails
	return makeSecretFile(path, hex.EncodeToString(secret[:])+"\n")
}
