package checker

import "strings"

// spaceUsername is the one space there is.
const spaceUsername = "username"

// reserved are the words nobody gets: the mailboxes of RFC 2142 (business, network, services) and the design's own.
var reserved = strings.Fields("info marketing sales support abuse noc security postmaster hostmaster usenet news webmaster www uucp ftp" +
	" root admin system null undefined")

// canonical is the key of a name in the space username, and whether it is a name at all: ASCII letters, digits and
// . _ -, 3 to 32 of them, a letter or digit first and last, compared in lower case.
func canonical(name string) (string, bool) {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	key := []byte(name)
	for i, c := range key {
		if 'A' <= c && c <= 'Z' {
			key[i] = c + 32
		}
		if strings.IndexByte(letters+"._-", key[i]) < 0 {
			return "", false
		}
	}
	if n := len(key); n < 3 || n > 32 || strings.IndexByte(letters, key[0]) < 0 || strings.IndexByte(letters, key[n-1]) < 0 {
		return "", false
	}
	return string(key), true
}

// validSpace: [a-z][a-z0-9-]{0,31}.
func validSpace(s string) bool {
	if s == "" || len(s) > 32 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// partitionOf is where the Java client's default partitioner puts a key: murmur2, sign bit dropped, modulo.
func partitionOf(key string, partitions int) int32 {
	const m uint32 = 0x5bd1e995
	n := len(key)
	h := uint32(0x9747b28c) ^ uint32(n)
	for i := 0; i+4 <= n; i += 4 {
		k := uint32(key[i]) + uint32(key[i+1])<<8 + uint32(key[i+2])<<16 + uint32(key[i+3])<<24
		k *= m
		k = (k ^ k>>24) * m
		h = h*m ^ k
	}
	if rest := n % 4; rest > 0 {
		for j := rest - 1; j >= 0; j-- {
			h ^= uint32(key[n-rest+j]) << (8 * j)
		}
		h *= m
	}
	h = (h ^ h>>13) * m
	h ^= h >> 15
	return int32(h & 0x7fffffff % uint32(partitions))
}
