package checker

import (
	"encoding/binary"
	"fmt"
	"time"
)

// History is everything there is to judge.
type History struct {
	// Partitions is the pinned count of the routing contract.
	Partitions int
	// Topic is the full name of the topic claims, as dead letters cite it.
	Topic string
	// Claims, Registrations and DeadLetters are the topics' records. Those of one partition are in the order of offsets.
	Claims, Registrations, DeadLetters []Record
	// Logs says which part of each partition of claims there is to be decided.
	Logs []Log
	// Decisions, Names and Progress are the rows of the tables decisions, names and partitions.
	Decisions []Decision
	Names     []Name
	Progress  []Progress
	// Answers is what clients were told.
	Answers []Answer
	// Running is set where faults go on: then nothing is asked of what is still to be decided or published.
	Running bool
	// Unstorable says which requests the database refuses to store; nil for none.
	Unstorable func(Record) bool
	// Secrets are those of the keys that privileged requests are signed with, by key id.
	Secrets map[string][]byte
	// ErasureSecret is what is kept of erased names and owners is made with; nil where rows are never wiped. Where retention has
	// taken records of which rows are wiped, there is nothing to judge those by.
	ErasureSecret []byte
	// Policies hold from the start of every log, beside or in place of the built-in one. SignedAll asks a signature of every
	// request from the start.
	Policies  []Policy
	SignedAll bool
	// Forms says what policies make of names beyond ASCII: the checker has no tables of its own. Defaults to nil: to the
	// checker, such spaces have no names.
	Forms func(unicode, name string) (Form, bool)
	// Undeliverable says which dead letters their topic refuses; nil for none. It is asked with the record of claims.
	Undeliverable func(Record) bool
}

// Form is what a policy makes of a text that may be held as a name.
type Form struct {
	Canonical, Key string
	// Look is what reserved words are compared with, where the policy says so.
	Look string
	// Fits: somebody may ask for it, as far as its characters go.
	Fits bool
}

// Header is one header of a record.
type Header struct {
	Name  string
	Value []byte
}

// Record is one record of a topic.
type Record struct {
	Partition int32
	// LogEpoch counts the logs that a partition of claims has had, from 1 on. 0 counts as 1.
	LogEpoch int64
	Offset   int64
	Key      []byte
	Value    []byte
	Headers  []Header
	Time     time.Time
}

// Log is the part of one log of a partition of claims that must be decided.
type Log struct {
	Partition int32
	LogEpoch  int64
	// Start is the first offset whose record is in the history. Decisions below it are taken on trust.
	Start int64
	// End is behind the last record. Of a log that was given up (the next log epoch follows), it is where that happened.
	End int64
}

// Outcome is what a request got, or a fact that became true beside it.
type Outcome struct {
	Type           string // such as "Accepted", "Rejected", "Released"
	Reason         string
	Request        string // what was asked, such as "ConfirmRequested"; empty for a claim
	RequestID      string
	ClaimID        string
	Space, Key     string
	Name, Owner    string
	State          string
	Version        int64
	CurrentVersion int64
	ExpiresAt      time.Time
	LogTime        time.Time
	PolicyVersion  int
	RequestHash    string // in hex
	Partition      int32
	LogEpoch       int64
	Offset         int64
	Seq            int
}

// The kinds of decisions.
const (
	KindOutcome   = "outcome"
	KindFact      = "fact"
	KindDuplicate = "duplicate"
	KindForwarded = "forwarded"
	KindDead      = "dead"
	KindMark      = "mark"    // a claim that was withdrawn before it came
	KindPolicy    = "policy"  // a PolicyActivated
	KindSent      = "sent"    // a request that the decision leads to
	KindPending   = "pending" // a sign-up that has no outcome yet
)

// Decision is a row of decisions.
type Decision struct {
	Partition int32
	LogEpoch  int64
	Offset    int64
	Seq       int
	Kind      string
	RequestID string // empty for none; of a mark, the claim's
	Principal string
	Outcome   *Outcome // of an outcome or a fact
	Owner     string   // of a mark
	// Actor did it, and Why; empty for an owner.
	Actor, Why string
	// FollowKey is released behind it, at FollowVersion; empty for nothing.
	FollowKey     string
	FollowVersion int64
	// Sent is that of a sent row.
	Sent *Sent
	// Erased: the row is wiped.
	Erased bool
}

// Name is a row of names.
type Name struct {
	Space, Key    string
	Partition     int32
	State         string
	Name, Owner   string
	ClaimID       string
	Version       int64
	PolicyVersion int
	Since         time.Time
	// ExpiresAt is when a reservation or a cool-down is over.
	ExpiresAt time.Time
	// Settled: it is not any more what ClaimID registered.
	Settled bool
	// Erased: who had it last was erased.
	Erased bool
	// Previous may come back.
	Previous string
	// Replaces is given up when a reservation is confirmed.
	Replaces        string
	ReplacesVersion int64
	// Signup has the reservation; Ballot is that of a sign-up.
	Signup, Ballot string
}

// Progress is a row of partitions.
type Progress struct {
	Partition        int32
	LogEpoch         int64
	NextOffset       int64
	LogTime          time.Time
	WriterEpoch      int64
	PublishedThrough int64
	Halted           string
}

// Answer is what a client was told about a request.
type Answer struct {
	RequestID string
	// RecordKey is "<space>/<key>"; empty where the client was not told.
	RecordKey string
	// Outcome is the type of one, or "accepted" for one that is no rejection, or "withdrawn" for a claim that was accepted and
	// withdrawn; empty for an answer that leaves it open.
	Outcome string
	Reason  string
	Version int64 // of what was not rejected; 0 where the client was not told
}

// Violation is a promise that was not kept.
type Violation struct {
	// Promise is its number in the design, section 10.
	Promise int
	Text    string
}

func (v Violation) String() string { return fmt.Sprintf("promise %d: %s", v.Promise, v.Text) }

func (r *Record) header(name string) (string, bool) {
	for i := range r.Headers {
		if r.Headers[i].Name == name {
			return string(r.Headers[i].Value), true
		}
	}
	return "", false
}

// bytes is all of a record but its place: what a copy must have too.
func (r *Record) bytes(withTime bool) string {
	b := make([]byte, 0, 64+len(r.Key)+len(r.Value)+64*len(r.Headers))
	put := func(v []byte) {
		b = append(binary.AppendVarint(b, int64(len(v))), v...)
	}
	put(r.Key)
	put(r.Value)
	for i := range r.Headers {
		put([]byte(r.Headers[i].Name))
		put(r.Headers[i].Value)
	}
	if withTime {
		b = binary.AppendVarint(b, r.Time.UnixMilli())
	}
	return string(b)
}

// size is about what a record takes uncompressed: lengths and deltas at their longest.
func (r *Record) size() int {
	n := len(r.Key) + len(r.Value) + 32
	for i := range r.Headers {
		n += len(r.Headers[i].Name) + len(r.Headers[i].Value) + 10
	}
	return n
}

func (r *Record) epoch() int64 { return max(1, r.LogEpoch) }
