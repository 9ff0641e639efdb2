package postgres

import (
	"fmt"

	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
)

// Closed lists are stored as one letter each ("char"): one byte, never aligned, still legible in psql, and a new one
// needs no change of the schema, as an enum would. Reasons are stored as they are spelt: few rows have one.

// codes translates a closed list to letters and back.
type codes[T ~string] struct {
	what    string
	letters map[T]byte
	values  map[byte]T
}

func newCodes[T ~string](what string, letters map[T]byte) codes[T] {
	c := codes[T]{what, letters, make(map[byte]T, len(letters))}
	for v, l := range letters {
		c.values[l] = v
	}
	return c
}

var (
	kinds = newCodes("kind", map[processor.Kind]byte{
		processor.KindOutcome: 'o', processor.KindFact: 'f', processor.KindDuplicate: 'd', processor.KindForwarded: 'w', processor.KindDead: 'x',
		processor.KindMark: 'm', processor.KindPolicy: 'p', processor.KindSent: 's', processor.KindPending: 'g',
	})
	types = newCodes("outcome", map[registrations.Type]byte{
		registrations.Accepted: 'A', registrations.Rejected: 'R', registrations.Confirmed: 'C', registrations.Extended: 'X',
		registrations.Released: 'L', registrations.Withdrawn: 'W', registrations.Deactivated: 'D', registrations.Reactivated: 'V',
		registrations.Transferred: 'T', registrations.Blocked: 'B', registrations.Unblocked: 'U', registrations.Expired: 'E',
		registrations.Erased: 'Z', registrations.Unchanged: 'N', registrations.Begun: 'G', registrations.Voted: 'O', registrations.Abandoned: 'Y',
	})
	states = newCodes("state", map[registrations.State]byte{
		registrations.Free: 'f', registrations.Registered: 'r', registrations.Reserved: 's', registrations.Inactive: 'i',
		registrations.Cooling: 'c', registrations.StateBlocked: 'b',
	})
)

// letter returns the code of a value.
func (c *codes[T]) letter(v T) (byte, error) {
	if l, ok := c.letters[v]; ok {
		return l, nil
	}
	return 0, fmt.Errorf("%w: %s %q has no code", processor.ErrData, c.what, v)
}

// value returns what a code stands for.
func (c *codes[T]) value(l byte) (T, error) {
	if v, ok := c.values[l]; ok {
		return v, nil
	}
	return "", fmt.Errorf("%s %q was written by a newer dibs", c.what, l)
}
