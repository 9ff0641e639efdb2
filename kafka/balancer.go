package kafka

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
	"sync"

	kafkago "github.com/segmentio/kafka-go"
)

// balancer shares partitions out evenly and leaves each where it is, as far as that goes: a partition that moves is
// taken over, which costs its new owner a look at the log and its claims a pause. Members tell the leader what they
// have, as Kafka's own sticky assignors do.
//
// It is for groups of one topic.
type balancer struct {
	mu         sync.Mutex
	generation int32
	owned      []int32
}

var _ kafkago.GroupBalancer = (*balancer)(nil)

// ProtocolName implements kafkago.GroupBalancer. Its version counts the formats of the user data.
func (*balancer) ProtocolName() string { return "dibs-sticky-1" }

// has notes what this member was given.
func (b *balancer) has(generation int32, partitions []int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.generation, b.owned = generation, slices.Clone(partitions)
}

// UserData implements kafkago.GroupBalancer: the generation, then the partitions of this member.
func (b *balancer) UserData() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	data := binary.BigEndian.AppendUint32(nil, uint32(b.generation))
	for _, p := range b.owned {
		data = binary.BigEndian.AppendUint32(data, uint32(p))
	}
	return data, nil
}

// member is what the leader knows of one.
type member struct {
	id         string
	generation int32
	owned      []int
	given      []int
}

func newMember(m kafkago.GroupMember) *member {
	out := &member{id: m.ID, generation: -1}
	if len(m.UserData) < 4 || len(m.UserData)%4 != 0 {
		return out
	}
	out.generation = int32(binary.BigEndian.Uint32(m.UserData))
	for b := m.UserData[4:]; len(b) > 0; b = b[4:] {
		out.owned = append(out.owned, int(int32(binary.BigEndian.Uint32(b))))
	}
	return out
}

// AssignGroups implements kafkago.GroupBalancer.
func (*balancer) AssignGroups(joined []kafkago.GroupMember, all []kafkago.Partition) kafkago.GroupMemberAssignments {
	if len(joined) == 0 {
		return nil
	}
	var partitions []int
	topic := ""
	for _, p := range all {
		topic = p.Topic
		partitions = append(partitions, p.ID)
	}
	members := make([]*member, len(joined))
	for i, m := range joined {
		members[i] = newMember(m)
	}
	share(members, partitions)
	out := kafkago.GroupMemberAssignments{}
	for _, m := range members {
		out[m.id] = map[string][]int{}
		if len(m.given) > 0 {
			slices.Sort(m.given)
			out[m.id][topic] = m.given
		}
	}
	return out
}

// share gives every partition to one member, so that no member has two more than another.
func share(members []*member, partitions []int) {
	owners := owners(members)
	free := map[int]bool{}
	for _, p := range partitions {
		free[p] = true
	}
	// Who has most keeps the odd one.
	slices.SortFunc(members, func(a, b *member) int {
		return cmp.Or(cmp.Compare(len(b.owned), len(a.owned)), cmp.Compare(a.id, b.id))
	})
	each, odd := len(partitions)/len(members), len(partitions)%len(members)
	quota := func(m *member) int { // how much m may have by now
		if len(m.given) >= each && odd > 0 {
			return each + 1
		}
		return each
	}
	give := func(m *member, p int) {
		if len(m.given) == each {
			odd--
		}
		m.given = append(m.given, p)
		delete(free, p)
	}
	for _, m := range members {
		for _, p := range m.owned {
			if free[p] && owners[p] == m && len(m.given) < quota(m) {
				give(m, p)
			}
		}
	}
	left := slices.Sorted(maps.Keys(free))
	slices.SortFunc(members, func(a, b *member) int {
		return cmp.Or(cmp.Compare(len(a.given), len(b.given)), cmp.Compare(a.id, b.id))
	})
	for _, level := range []int{each, each + 1} {
		for _, m := range members {
			for len(left) > 0 && len(m.given) < min(level, quota(m)) {
				give(m, left[0])
				left = left[1:]
			}
		}
	}
}

// owners says whose claim to a partition counts: that of the latest generation.
func owners(members []*member) map[int]*member {
	out := map[int]*member{}
	for _, m := range members {
		for _, p := range m.owned {
			if o := out[p]; o == nil || m.generation > o.generation || m.generation == o.generation && m.id < o.id {
				out[p] = m
			}
		}
	}
	return out
}
