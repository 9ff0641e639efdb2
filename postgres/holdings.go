package postgres

import (
	"fmt"
	"slices"

	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/google/uuid"
)

// change is a row on its way into the table names.
type change struct {
	partition int32
	state     byte
	*processor.Change
	first uuid.UUID // the claim that first held a name that is new
	key   names.Key // as it is stored
	other names.Key // the key's other form
}

func newChange(partition int32, c *processor.Change, eraser *names.Eraser) (change, error) {
	key, other := c.Ref.Key, names.Key("")
	if eraser != nil {
		if other = eraser.Ref(c.Ref).Key; c.Hidden() {
			key, other = other, key
		}
	} else if c.Hidden() {
		return change{}, errNoSecret
	}
	state, err := states.letter(c.State)
	if err != nil {
		return change{}, err
	}
	if c.PolicyVersion != int(int32(c.PolicyVersion)) {
		return change{}, fmt.Errorf("%w: policy version %d is too large", processor.ErrData, c.PolicyVersion)
	}
	return change{partition: partition, state: state, Change: c, key: key, other: other}, nil
}

// nameColumns are written in this order for a name without a row, and behind the version that was read for one with a
// row (the function change_names).
var nameColumns = []column[change]{
	{"version", oidInt8, "bigint[]", func(b []byte, c *change) []byte { return appendInt8(b, c.Holding.Version) }},
	{"since", oidTimestamptz, "timestamptz[]", func(b []byte, c *change) []byte { return appendTime(b, c.Since) }},
	{"partition", oidInt4, "integer[]", func(b []byte, c *change) []byte { return appendInt4(b, c.partition) }},
	{"policy_version", oidInt4, "integer[]", func(b []byte, c *change) []byte { return appendInt4(b, int32(c.PolicyVersion)) }},
	{"state", oidChar, `"char"[]`, func(b []byte, c *change) []byte { return appendChar(b, c.state) }},
	{"claim_id", oidUUID, "uuid[]", func(b []byte, c *change) []byte { return appendUUIDOrNull(b, c.ClaimID) }},
	{"space", oidText, "text[]", func(b []byte, c *change) []byte { return appendText(b, c.Ref.Space) }},
	{"key", oidText, "text[]", func(b []byte, c *change) []byte { return appendText(b, c.key) }},
	{"name", oidText, "text[]", func(b []byte, c *change) []byte {
		if c.Name == string(c.Ref.Key) {
			return appendNull(b)
		}
		return appendText(b, c.Name)
	}},
	{"owner", oidText, "text[]", func(b []byte, c *change) []byte { return appendTextOrNull(b, c.Owner) }},
}

// rareNameColumns come behind them: for a name without a row only in a batch that has something to say there.
var rareNameColumns = []column[change]{
	{"expires_at", oidTimestamptz, "timestamptz[]", func(b []byte, c *change) []byte { return appendTime(b, c.ExpiresAt) }},
	{"settled", oidBool, "boolean[]", func(b []byte, c *change) []byte { return appendTrueOrNull(b, c.Settled) }},
	{"previous", oidText, "text[]", func(b []byte, c *change) []byte { return appendTextOrNull(b, c.Previous) }},
	{"replaces", oidText, "text[]", func(b []byte, c *change) []byte { return appendTextOrNull(b, c.Replaces) }},
	{"replaces_version", oidInt8, "bigint[]", func(b []byte, c *change) []byte { return appendInt8OrNull(b, c.ReplacesVersion) }},
	{"signup", oidUUID, "uuid[]", func(b []byte, c *change) []byte { return appendUUIDOrNull(b, c.Signup) }},
	{"ballot", oidText, "text[]", func(b []byte, c *change) []byte { return appendTextOrNull(b, c.Ballot) }},
}

// firstClaimColumn is that of a name without a row; change_names sees by itself when a name loses its first claim.
var firstClaimColumn = []column[change]{
	{"first_claim", oidUUID, "uuid[]", func(b []byte, c *change) []byte { return appendUUIDOrNull(b, c.first) }},
}

// erasedColumn is that of a name without a row, and of one in a partition in which something was erased.
var erasedColumn = []column[change]{
	{"erased", oidBool, "boolean[]", func(b []byte, c *change) []byte { return appendTrueOrNull(b, c.Erased) }},
}

func (c *change) usual() bool {
	return !c.Erased && c.ExpiresAt.IsZero() && !c.Settled && c.Previous == "" && c.Replaces == "" && c.ReplacesVersion == 0 && c.first == uuid.Nil &&
		c.Signup == uuid.Nil && c.Ballot == ""
}

var changeColumns = slices.Concat([]column[change]{
	{"was", oidInt8, "bigint[]", func(b []byte, c *change) []byte { return appendInt8(b, c.Change.Version) }},
}, nameColumns, rareNameColumns)

// moveColumns are those of change_names, and by which other key the row may be found.
var moveColumns = slices.Concat(changeColumns, erasedColumn, []column[change]{
	{"other", oidText, "text[]", func(b []byte, c *change) []byte { return appendText(b, c.other) }},
})

var otherColumns = []column[change]{
	{"space", oidText, "text[]", func(b []byte, c *change) []byte { return appendText(b, c.Ref.Space) }},
	{"other", oidText, "text[]", func(b []byte, c *change) []byte { return appendText(b, c.other) }},
}

// holdingFields is what readHolding reads, of the table or alias n.
const (
	holdingFields = `n.version, n.since, n.partition, n.policy_version, n.state, n.claim_id, n.name, n.owner,
	n.expires_at, n.settled, n.previous, n.replaces, n.replaces_version, n.erased, n.signup, n.ballot`
	holdingWidth = 16
)

// readHolding reads the holding of a key.
func readHolding(f fields, key string) (h registrations.Holding, err error) {
	h = registrations.Holding{
		Version: f.int8(0), Since: f.time(1), Partition: f.int4(2), PolicyVersion: int(f.int4(3)),
		ClaimID: f.uuid(5), Name: f.text(6), Owner: f.text(7),
		ExpiresAt: f.time(8), Settled: f.bool(9), Previous: f.text(10), Replaces: names.Key(f.text(11)), ReplacesVersion: f.int8(12), Erased: f.bool(13),
		Signup: f.uuid(14), Ballot: f.text(15),
	}
	if f[6] == nil {
		h.Name = key
	}
	h.State, err = states.value(f.char(4))
	return h, err
}
