package dibstest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// Canary is a word in every value of a private space that a test claims. Nobody may write such a value down, so the
// word is looked for in whatever tests leave behind: topics and tables before they are deleted, the data and the logs of
// servers before they end, and what processes and APIs say.
const Canary = "canary7f3a91"

// CanaryAda is an address as people type it, and CanaryAdaTidy the same one in its canonical form.
const (
	CanaryAda     = "Canary7f3a91.Ada+tag@Example.COM"
	CanaryAdaTidy = "Canary7f3a91.Ada+tag@example.com"
)

// Address is an e-mail address that may not be written down. Tests on servers make all of theirs here: those of
// example.org are no secret.
func Address(who string) string { return Canary + "." + who + "@example.com" }

// Trace says what of a private value there is in some bytes, and what stands around it; it is empty where there is none.
func Trace(text []byte) string { return canaryTraces.in(text) }

// traces are what is left of a word where it was written down, as it is or spelt otherwise; all in lower case.
type traces [][]byte

var canaryTraces = tracesOf(Canary, CanaryAda, CanaryAdaTidy, Address("ada"), Address("bob"), Address("carol"))

// tracesOf takes a word, and values with it in them: a hash without a secret can be guessed.
func tracesOf(word string, values ...string) traces {
	all := traces{[]byte(strings.ToLower(word))}
	add := func(text string) { all = append(all, []byte(strings.ToLower(text))) }
	for _, spelt := range []string{word, strings.ToUpper(word), strings.ToUpper(word[:1]) + word[1:]} {
		add(hex.EncodeToString([]byte(spelt)))
		add(strings.Trim(fmt.Sprintf("%x", []rune(spelt)), "[]"))
		for shift := range 3 { // where it begins in a group of base64
			encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("-", shift) + spelt))
			add(encoded[4 : len(encoded)-4])
		}
	}
	for _, value := range values {
		sum := sha256.Sum256([]byte(value))
		add(hex.EncodeToString(sum[:]))
		all = append(all, lowered(sum[:]))
	}
	return all
}

func (s traces) in(text []byte) string {
	lower := lowered(text)
	for _, trace := range s {
		if i := bytes.Index(lower, trace); i >= 0 {
			return fmt.Sprintf("%.60q is in …%.400q", trace, text[max(0, i-160):min(len(text), i+240)])
		}
	}
	return ""
}

// longest is how far a trace can reach over the end of what is looked at.
func (s traces) longest() (n int) {
	for _, trace := range s {
		n = max(n, len(trace))
	}
	return n
}

// lowered has ASCII letters in lower case and everything else as it is, at the same place: bytes need not be text.
func lowered(text []byte) []byte {
	lower := make([]byte, len(text))
	for i, b := range text {
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		lower[i] = b
	}
	return lower
}
