package registrations

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/cloudevents"
	"github.com/dibs-hq/dibs/names"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// AppendJSON appends the outcome as the value of its record. This is the encoder of rules version 1: what it writes for
// an outcome never changes, because a committed outcome may be published again by a later version.
func (o *Outcome) AppendJSON(b []byte) []byte {
	if o.Fact {
		b = append(b, `{"cause":"`...)
	} else {
		b = append(b, `{"request_id":"`...)
	}
	b = append(cloudevents.AppendUUID(b, o.RequestID), '"')
	if o.ClaimID != uuid.Nil {
		b = append(cloudevents.AppendUUID(append(b, `,"claim_id":"`...), o.ClaimID), '"')
	}
	b = appendText(b, `,"space":`, string(o.Ref.Space))
	b = appendText(b, `,"key":`, string(o.Ref.Key))
	b = appendText(b, `,"name":`, o.Name)
	b = appendText(b, `,"owner":`, o.Owner)
	b = appendText(b, `,"request":`, o.Request)
	b = appendText(b, `,"outcome":`, string(o.Type))
	if o.Type == Rejected {
		b = appendText(b, `,"reason":`, string(o.Reason))
		b = appendText(b, `,"detail":`, o.FullDetail())
		if o.Reason == VersionConflict {
			b = strconv.AppendInt(append(b, `,"current_version":`...), o.CurrentVersion, 10)
		}
	} else {
		b = appendText(b, `,"state":`, string(o.State))
		b = strconv.AppendInt(append(b, `,"version":`...), o.Version, 10)
		if !o.ExpiresAt.IsZero() {
			b = append(cloudevents.AppendTime(append(b, `,"expires_at":"`...), o.ExpiresAt), '"')
		}
	}
	b = cloudevents.AppendTime(append(b, `,"log_time":"`...), o.LogTime)
	b = strconv.AppendInt(append(b, `","policy_version":`...), int64(o.PolicyVersion), 10)
	b = hex.AppendEncode(append(b, `,"request_hash":"`...), o.RequestHash[:])
	b = strconv.AppendInt(append(b, `","partition":`...), int64(o.Partition), 10)
	b = strconv.AppendInt(append(b, `,"log_epoch":`...), o.LogEpoch, 10)
	b = strconv.AppendInt(append(b, `,"offset":`...), o.Offset, 10)
	return append(b, '}')
}

// appendText appends a labelled string, or nothing for an empty one.
func appendText(b []byte, label, s string) []byte {
	if s == "" {
		return b
	}
	b, _ = jsontext.AppendQuote(append(b, label...), s)
	return b
}

// wire is the value of a record, for reading.
type wire struct {
	RequestID      string `json:"request_id"`
	Cause          string `json:"cause"`
	ClaimID        string `json:"claim_id"`
	Space          string `json:"space"`
	Key            string `json:"key"`
	Name           string `json:"name"`
	Owner          string `json:"owner"`
	Request        string `json:"request"`
	Outcome        string `json:"outcome"`
	Reason         string `json:"reason"`
	Detail         string `json:"detail"`
	CurrentVersion int64  `json:"current_version"`
	State          string `json:"state"`
	Version        int64  `json:"version"`
	ExpiresAt      string `json:"expires_at"`
	LogTime        string `json:"log_time"`
	PolicyVersion  int    `json:"policy_version"`
	RequestHash    string `json:"request_hash"`
	Partition      int32  `json:"partition"`
	LogEpoch       int64  `json:"log_epoch"`
	Offset         int64  `json:"offset"`
}

// Decode reads a record of the topic. Seq is not part of the value and stays 0.
func Decode(r cloudevents.Record) (Outcome, error) {
	if o, ok := readPlain(r.Value); ok {
		return o, nil
	}
	return decode(r)
}

// decode reads any value that is one.
func decode(r cloudevents.Record) (Outcome, error) {
	var w wire
	if err := json.Unmarshal(r.Value, &w); err != nil {
		return Outcome{}, fmt.Errorf("decode outcome of %.64q: %w", r.Key, err)
	}
	o := Outcome{
		Type: Type(w.Outcome), Fact: w.RequestID == "", Request: w.Request,
		Ref:  names.Ref{Space: names.Space(w.Space), Key: names.Key(w.Key)},
		Name: w.Name, Owner: w.Owner, State: State(w.State), Version: w.Version,
		Reason: Reason(w.Reason), Detail: w.Detail, CurrentVersion: w.CurrentVersion,
		PolicyVersion: w.PolicyVersion, Partition: w.Partition, LogEpoch: w.LogEpoch, Offset: w.Offset,
	}
	if o.Detail == defaultDetail[o.Reason] {
		o.Detail = ""
	}
	id := w.RequestID
	if o.Fact {
		id = w.Cause
	}
	var err error
	if o.RequestID, err = uuid.Parse(id); err != nil {
		return Outcome{}, fmt.Errorf("decode outcome of %.64q: request_id: %w", r.Key, err)
	}
	if w.ClaimID != "" {
		if o.ClaimID, err = uuid.Parse(w.ClaimID); err != nil {
			return Outcome{}, fmt.Errorf("decode outcome of %.64q: claim_id: %w", r.Key, err)
		}
	}
	if o.LogTime, err = time.Parse(time.RFC3339Nano, w.LogTime); err != nil {
		return Outcome{}, fmt.Errorf("decode outcome of %.64q: log_time: %w", r.Key, err)
	}
	if w.ExpiresAt != "" {
		if o.ExpiresAt, err = time.Parse(time.RFC3339Nano, w.ExpiresAt); err != nil {
			return Outcome{}, fmt.Errorf("decode outcome of %.64q: expires_at: %w", r.Key, err)
		}
	}
	hash, err := hex.DecodeString(w.RequestHash)
	if err != nil || len(hash) != len(o.RequestHash) {
		return Outcome{}, fmt.Errorf("decode outcome of %.64q: request_hash is not %d bytes in hex", r.Key, len(claims.Hash{}))
	}
	o.RequestHash = claims.Hash(hash)
	return o, nil
}

const uuidLength = 36

var requestIDPrefix = []byte(`{"request_id":"`)

// PeekRequestID reads the request id of an outcome without decoding the rest: a replica reads every outcome, and most of
// them are waited for elsewhere. It reports false for a fact and for a value that no processor of ours wrote.
func PeekRequestID(value []byte) (uuid.UUID, bool) {
	rest, ok := bytes.CutPrefix(value, requestIDPrefix)
	if !ok || len(rest) <= uuidLength || rest[uuidLength] != '"' {
		return uuid.Nil, false
	}
	id, err := uuid.ParseBytes(rest[:uuidLength])
	return id, err == nil
}
