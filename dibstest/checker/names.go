package checker

import "strings"

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
