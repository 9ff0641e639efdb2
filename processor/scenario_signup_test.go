package processor_test

import (
	"regexp"
	"strings"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
)

var signupLine = regexp.MustCompile(`^(\d\d:\d\d:\d\d\.\d{3}) +(\S+): (\S+) signs up (\S+(?: and \S+)*)$`)

// signUp puts a sign-up on the topic.
func (s *stage) signUp(m []string) {
	id := s.id(m[2])
	body := &claims.SignupRequested{About: claims.About{Space: claims.Signup, Spelling: id.String()}, Owner: m[3]}
	for name := range strings.SplitSeq(m[4], " and ") {
		body.Names = append(body.Names, claims.SignupName{Space: names.Username, Spelling: name})
	}
	r := claims.NewRecord(body, cloudevents.Event{ID: id, Source: "test"}, claims.SignupRef(id))
	r.Time = s.time(m[1])
	s.append(claims.Partition(string(r.Key), s.rules.Partitions), r)
}

// sent names what a sign-up leads to.
func (s *stage) sent(r *processor.Sent) string {
	of := " of " + r.Ref.String() + " for " + s.labels[r.Signup]
	switch {
	case r.Request == "":
		return "claim" + of
	case r.Request == "SignupVoted" && r.Reason != "":
		return "vote against, " + string(r.Reason) + "," + of
	case r.Request == "SignupVoted":
		return "vote" + of
	}
	return strings.ToLower(strings.TrimSuffix(r.Request, "Requested")) + of
}
