package claims

// Partition is the partition of a record key among n: the Java client's default partitioner, so that Java and
// kafka-python agree without settings, and librdkafka with partitioner=murmur2_random. n is the pinned count of the
// routing contract, never a count read from cached metadata.
func Partition(recordKey string, n int) int32 {
	return int32((murmur2(recordKey) & 0x7fffffff) % uint32(n))
}

// murmur2 is the 32-bit MurmurHash2 with the seed of Apache Kafka's clients.
func murmur2(s string) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := seed ^ uint32(len(s))
	for ; len(s) >= 4; s = s[4:] {
		k := uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
		k *= m
		k ^= k >> r
		k *= m
		h *= m
		h ^= k
	}
	switch len(s) {
	case 3:
		h ^= uint32(s[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(s[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(s[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}
