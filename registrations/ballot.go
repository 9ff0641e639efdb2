package registrations

import (
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/names"
	"github.com/google/uuid"
)

// Ballot is what a sign-up asks for, and what the partitions of its names have said. It is kept with the sign-up, as text.
type Ballot struct {
	// Hash and Principal are of the request.
	Hash      claims.Hash
	Principal string
	Names     []Candidate
}

// Candidate is one of the names.
type Candidate struct {
	Ref  names.Ref
	Name string // as typed
	// Vote is VoteYes where the name is reserved for the sign-up, else the reason why not; empty before the vote.
	Vote string
}

// VoteYes says that a name is reserved.
const VoteYes = "yes"

// candidate is how one is stored.
type candidate struct {
	Space names.Space `json:"space"`
	Key   names.Key   `json:"key"`
	Name  string      `json:"name"`
	Vote  string      `json:"vote,omitempty"`
}

type ballot struct {
	Hash      string      `json:"hash"`
	Principal string      `json:"principal,omitempty"`
	Names     []candidate `json:"names"`
}

// Text is how a ballot is stored: the same ballot gives the same bytes.
func (b *Ballot) Text() string {
	w := ballot{Hash: hex.EncodeToString(b.Hash[:]), Principal: b.Principal}
	for _, c := range b.Names {
		w.Names = append(w.Names, candidate{c.Ref.Space, c.Ref.Key, c.Name, c.Vote})
	}
	text, _ := json.Marshal(w) // of strings
	return string(text)
}

// ReadBallot reads what Text wrote.
func ReadBallot(text string) (Ballot, error) {
	var w ballot
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		return Ballot{}, fmt.Errorf("read the ballot of a sign-up: %w", err)
	}
	hash, err := hex.DecodeString(w.Hash)
	if err != nil || len(hash) != len(claims.Hash{}) {
		return Ballot{}, fmt.Errorf("read the ballot of a sign-up: its hash is %.80q", w.Hash)
	}
	b := Ballot{Hash: claims.Hash(hash), Principal: w.Principal}
	for _, c := range w.Names {
		b.Names = append(b.Names, Candidate{names.Ref{Space: c.Space, Key: c.Key}, c.Name, c.Vote})
	}
	return b, nil
}

// Find returns the place of the name that a claim of the sign-up is about; -1 for none.
func (b *Ballot) Find(signup, claim uuid.UUID) int {
	for i := range b.Names {
		if claims.SignupClaimID(signup, b.Names[i].Ref) == claim {
			return i
		}
	}
	return -1
}

// Complete reports whether every name is reserved.
func (b *Ballot) Complete() bool {
	for i := range b.Names {
		if b.Names[i].Vote != VoteYes {
			return false
		}
	}
	return true
}
