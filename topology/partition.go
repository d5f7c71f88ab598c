package topology

// DefaultPartitions is how many partitions the topics of a LiveSynchronization
// are created with. The number can never change afterwards: the partition of a
// key is a function of it.
const DefaultPartitions = 12

// PartitionOf returns the partition of a record key among n: murmur2 as Kafka's
// default partitioner computes it, so that any Kafka client finds the same one.
// (Source: org.apache.kafka.common.utils.Utils#murmur2 and toPositive.)
func PartitionOf(key string, n int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % n
}

func murmur2(data string) uint32 {
	const (
		seed uint32 = 0x9747b28c
		m    uint32 = 0x5bd1e995
		r           = 24
	)
	h := seed ^ uint32(len(data))
	for len(data) >= 4 {
		k := uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16 | uint32(data[3])<<24
		k *= m
		k ^= k >> r
		k *= m
		h *= m
		h ^= k
		data = data[4:]
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(data[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}
