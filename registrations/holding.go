package registrations

import (
	"time"

	"github.com/google/uuid"
)

// Holding is what is recorded of a name. The zero Holding is that of a name never held.
type Holding struct {
	State         State
	Name          string // as typed
	Owner         string
	ClaimID       uuid.UUID
	Version       int64
	PolicyVersion int
	Since         time.Time // log time of the last change
	Partition     int32     // whose writer may change it
}

// Held reports whether somebody has the name.
func (h *Holding) Held() bool { return h.State != "" && h.State != Free }
