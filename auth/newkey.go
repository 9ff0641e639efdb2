package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"time"

	"go.yaml.in/yaml/v3"
)

// KeySpec is what a new key should be.
type KeySpec struct {
	ID, Principal          string
	Scopes, Spaces, Owners []string
	Expires                time.Time // zero: never
}

// NewKey makes a key with a secret of 256 random bits. token is what the caller sends, <id>.<secret>: to be shown once,
// it cannot be had again. yamlEntry is what belongs into the list "keys" of the key file, indented to be pasted there.
func NewKey(spec KeySpec) (token, yamlEntry string, err error) {
	var random [32]byte
	rand.Read(random[:]) // never fails
	secret := base64.RawURLEncoding.EncodeToString(random[:])
	hash := sha256.Sum256([]byte(secret))
	e := entry{
		ID: spec.ID, Principal: spec.Principal, SHA256: hex.EncodeToString(hash[:]),
		Scopes: spec.Scopes, Spaces: spec.Spaces, Owners: spec.Owners,
	}
	if !spec.Expires.IsZero() {
		e.Expires = &yamlTime{spec.Expires.UTC()}
	}
	if _, err := e.key(); err != nil {
		return "", "", fmt.Errorf("new key: %w", err)
	}
	text, err := yaml.Marshal([]entry{e})
	if err != nil {
		return "", "", fmt.Errorf("new key: %w", err)
	}
	return spec.ID + "." + secret, string(text), nil
}
