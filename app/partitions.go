package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dibs-hq/dibs/processor"
)

// stuckAfter is for how long a partition may wait for one call before it is said to be stuck. A batch takes less.
const stuckAfter = 3 * time.Second

// PartitionStatus is how a partition is doing, as the process says that should own it. It is served at /partitions of that
// process's ops address.
type PartitionStatus struct {
	Partition int32  `json:"partition"`
	State     string `json:"state"`
	// StuckSince and StuckBecause are set where it has got nowhere for a while.
	StuckSince   time.Time `json:"stuck_since,omitzero"`
	StuckBecause string    `json:"stuck_because,omitempty"`
}

func partitionStatus(status []processor.Status, now time.Time) []PartitionStatus {
	all := make([]PartitionStatus, len(status))
	for i, s := range status {
		all[i] = PartitionStatus{Partition: s.Partition, State: s.State}
		if why := stuck(&s, now); why != "" {
			all[i].StuckSince, all[i].StuckBecause = s.Since.UTC(), why
		}
	}
	return all
}

// stuck says why a partition has got nowhere for a while; empty where it has.
func stuck(s *processor.Status, now time.Time) string {
	if s.Since.IsZero() || now.Sub(s.Since) < stuckAfter {
		return ""
	}
	return cmp.Or(s.Trouble, s.Doing)
}

// AskPartitions asks the process at an ops address how its partitions are doing.
func AskPartitions(ctx context.Context, addr string) (map[int32]PartitionStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/partitions", http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask the processor: %w", err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the processor: %s answers %s", addr, answer.Status)
	}
	var all []PartitionStatus
	if err := json.NewDecoder(io.LimitReader(answer.Body, 16<<20)).Decode(&all); err != nil {
		return nil, fmt.Errorf("ask the processor: %s answers what is no list of partitions: %w", addr, err)
	}
	found := make(map[int32]PartitionStatus, len(all))
	for _, s := range all {
		found[s.Partition] = s
	}
	return found, nil
}

// databaseFault says which partitions the database has not let us work on for a while, and what it answers. Unlike the other
// faults of partitions it is not one of theirs: whoever sends claims here may find a replica that can decide, and an
// update must not go on to the next.
func databaseFault(status []processor.Status, now time.Time) error {
	var partitions, troubles []string // partitions by trouble: several are often in the same
	since := now
	for _, s := range status {
		if s.Trouble == "" || stuck(&s, now) == "" {
			continue
		}
		if s.Since.Before(since) {
			since = s.Since
		}
		partitions = append(partitions, strconv.Itoa(int(s.Partition)))
		if !slices.Contains(troubles, s.Trouble) {
			troubles = append(troubles, s.Trouble)
		}
	}
	if len(partitions) == 0 {
		return nil
	}
	return fmt.Errorf("partitions %s: nothing is decided for %s: %s", strings.Join(partitions, ", "), now.Sub(since).Truncate(time.Second), strings.Join(troubles, "; "))
}

// partitionFault says which partitions are not running, or are stuck in a call that is not answered.
func partitionFault(status []processor.Status, now time.Time) error {
	var faults []error
	for _, s := range status {
		if s.State == "halted" {
			faults = append(faults, fmt.Errorf("partition %d is halted: %s", s.Partition, s.Reason))
			continue
		}
		var parts []string
		if s.State != "running" {
			parts = append(parts, s.State)
		}
		if why := stuck(&s, now); why != "" {
			parts = append(parts, fmt.Sprintf("stuck for %s: %s", now.Sub(s.Since).Truncate(time.Second), why))
		}
		if len(parts) > 0 {
			faults = append(faults, fmt.Errorf("partition %d: %s", s.Partition, strings.Join(parts, ", ")))
		}
	}
	return errors.Join(faults...)
}
