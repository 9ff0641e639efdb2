package checker

import (
	"crypto/hmac"
	"crypto/sha1" // UUID version 5 asks for it; it guards nothing
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// ownPrincipal is who dibs' own requests come from.
const ownPrincipal = "dibs"

// signed reports whether a record has a signature that holds under one of the secrets: "<key id>:<hex>", HMAC-SHA-256 over
// the record's key and value and its id, type and principal, each behind its length.
func signed(r *Record, secrets map[string][]byte) bool {
	text, ok := r.header("ce_dibssig")
	if !ok {
		return false
	}
	id, sum, ok := strings.Cut(text, ":")
	secret, known := secrets[id]
	return ok && known && hmac.Equal([]byte(strings.ToLower(sum)), []byte(signatureOf(r, string(secret))))
}

func signatureOf(r *Record, secret string) string {
	h := hmac.New(sha256.New, []byte(secret))
	part := func(b []byte) { h.Write(append(binary.AppendUvarint(nil, uint64(len(b))), b...)) }
	part(r.Key)
	part(r.Value)
	for _, name := range []string{"ce_id", "ce_type", "ce_dibsprincipal"} {
		v, _ := r.header(name)
		part([]byte(v))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// releaseID is the id of the release that follows the claim of a name.
func releaseID(claim, recordKey string) string { return derived("release", claim, []byte(recordKey)) }

// expiryID is the id of the question whether what a claim got is over.
func expiryID(claim string, at time.Time) string {
	return derived("expiry", claim, binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli())))
}

// derived is an id of version 8, of what it is for, of a claim and more.
func derived(what, claim string, more []byte) string {
	b := append([]byte("dibs/"+what+"\x00"), uuidBytes(claim)...)
	sum := sha256.Sum256(append(b, more...))
	return uuidText(sum[:16], 8)
}

// eventID is the id of an outcome or a fact: UUID version 5 of the request's id and type and number.
func eventID(o *Outcome) string {
	sum := sha1.Sum(append(uuidBytes(o.RequestID), "dibs."+o.Type+".v1/"+strconv.Itoa(o.Seq)...))
	return uuidText(sum[:16], 5)
}

func uuidBytes(text string) []byte {
	b, _ := hex.DecodeString(strings.ReplaceAll(text, "-", "")) // it was read before
	return b
}

func uuidText(b []byte, version byte) string {
	b[6], b[8] = b[6]&0x0f|version<<4, b[8]&0x3f|0x80
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
