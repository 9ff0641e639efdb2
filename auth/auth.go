// Package auth says who calls and what they may do: keys in a file, each for a principal, with scopes, spaces, owners and
// an expiry.
//
// It promises that a secret is compared in constant time and never kept, that a key that is taken out of the file stops
// working within half a minute, and that a file which is wrong, or which others can read, is refused with the line and
// the fix. It reads its file and nothing else, and knows no HTTP beyond the text of one header.
package auth

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Scope is a kind of thing that a key may do.
type Scope string

// The scopes.
const (
	ScopeClaim  Scope = "claim"  // ask for names
	ScopeRead   Scope = "read"   // read claims and names
	ScopeLookup Scope = "lookup" // compute the keys of private names
	ScopeAdmin  Scope = "admin"  // act on anybody's names
)

var scopes = []Scope{ScopeClaim, ScopeRead, ScopeLookup, ScopeAdmin}

// All stands for every space or every owner.
const All = "*"

// Anonymous is the principal of callers that nobody asked for a key.
const Anonymous = "anonymous"

// reserved is the principal of the requests that dibs makes itself. No key can have it.
const reserved = "dibs"

// ErrUnauthenticated says that there is no key, or none that is valid; never which of these. (401)
var ErrUnauthenticated = errors.New("a valid key is required: Authorization: Bearer <id>.<secret>")

// Principal is an authenticated caller. It is shared, never changed.
type Principal struct {
	// Name stays the same when keys are replaced: it travels with claims and is part of their identity.
	Name   string
	scopes []Scope
	spaces []string // names, or All
	owners []string // prefixes, or All
}

// Has reports whether the principal has a scope.
func (p *Principal) Has(s Scope) bool {
	for _, has := range p.scopes {
		if has == s {
			return true
		}
	}
	return false
}

// InSpace reports whether the principal may act in a space.
func (p *Principal) InSpace(space string) bool {
	for _, s := range p.spaces {
		if s == All || s == space {
			return true
		}
	}
	return false
}

// Spaces are those that the principal may use; nil for all.
func (p *Principal) Spaces() []string {
	if slices.Contains(p.spaces, All) {
		return nil
	}
	return append(make([]string, 0, len(p.spaces)), p.spaces...)
}

// ForOwner reports whether the principal may act for an owner, and be told of what that owner holds.
func (p *Principal) ForOwner(owner string) bool {
	for _, prefix := range p.owners {
		if prefix == All || strings.HasPrefix(owner, prefix) {
			return true
		}
	}
	return false
}

// ForAnyOwner reports whether the principal is limited to no owners.
func (p *Principal) ForAnyOwner() bool { return slices.Contains(p.owners, All) }

// None asks nobody for a key: everybody is Anonymous and may do everything. Only for an address of this machine.
type None struct{}

var anonymous = &Principal{Name: Anonymous, scopes: scopes, spaces: []string{All}, owners: []string{All}}

// Authenticate takes any header.
func (None) Authenticate(string) (*Principal, error) { return anonymous, nil }

// CheckAddr checks that the address to listen on can only be reached from this machine.
func (None) CheckAddr(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("without keys (api.auth: none) the API listens on loopback only, not on %q: "+
		"use 127.0.0.1, or api.auth: keys with an api.keys_file", addr)
}
