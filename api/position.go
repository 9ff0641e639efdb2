package api

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dibs-hq/dibs/registrations"
)

// Position is a place in the topic claims.
type Position struct {
	Partition int32
	LogEpoch  int64
	Offset    int64
}

// positionOf is where what was decided is.
func positionOf(o *registrations.Outcome) Position {
	return Position{o.Partition, o.LogEpoch, o.Offset}
}

func (p Position) String() string { return fmt.Sprintf("%d-%d-%d", p.Partition, p.LogEpoch, p.Offset) }

// parsePosition reads what String writes, for a topic of that many partitions.
func parsePosition(s string, partitions int) (Position, bool) {
	parts := strings.Split(s, "-")
	if len(parts) != 3 {
		return Position{}, false
	}
	var n [3]int64
	for i, part := range parts {
		var err error
		if n[i], err = strconv.ParseInt(part, 10, 64); err != nil || n[i] < 0 || part[0] == '+' {
			return Position{}, false
		}
	}
	if n[0] >= int64(partitions) || n[1] == 0 {
		return Position{}, false
	}
	return Position{Partition: int32(n[0]), LogEpoch: n[1], Offset: n[2]}, true
}
