package app

import (
	"testing"
	"time"

	"github.com/dibs-hq/dibs/processor"
)

// TestPartitionFault: what readiness says of partitions, one fault for each that is not running or is stuck.
func TestPartitionFault(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, c := range []struct {
		status processor.Status
		want   string
	}{
		{processor.Status{State: "running"}, ""},
		{processor.Status{State: "running", Doing: "deciding", Since: ago(2 * time.Second)}, ""},
		{processor.Status{State: "running", Doing: "deciding", Since: ago(12500 * time.Millisecond)}, "partition 7: stuck for 12s: deciding"},
		{processor.Status{State: "running", Doing: "publishing", Since: ago(time.Hour)}, "partition 7: stuck for 1h0m0s: publishing"},
		{processor.Status{State: "taking over"}, "partition 7: taking over"},
		{processor.Status{State: "taking over", Doing: "taking over partition 3", Since: ago(4 * time.Second)}, "partition 7: taking over, stuck for 4s: taking over partition 3"},
		{processor.Status{State: "taking over", Trouble: "gone", Since: ago(4 * time.Second)}, "partition 7: taking over, stuck for 4s: gone"},
		{processor.Status{State: "running", Doing: "deciding", Trouble: "gone", Since: ago(2 * time.Second)}, ""},
		{processor.Status{State: "halted", Reason: "lost", Doing: "publishing", Since: ago(time.Hour)}, "partition 7 is halted: lost"},
	} {
		c.status.Partition = 7
		got := ""
		if err := partitionFault([]processor.Status{{State: "running"}, c.status}, now); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("of %+v it says %q, not %q", c.status, got, c.want)
		}
	}
}

// TestDatabaseFault: what the database does not let us do makes a process unready, and says of which partitions and why.
func TestDatabaseFault(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	refused := func(n int32, d time.Duration, what string) processor.Status {
		return processor.Status{Partition: n, State: "running", Doing: "deciding", Since: now.Add(-d), Trouble: what}
	}
	for _, c := range []struct {
		status []processor.Status
		want   string
	}{
		{[]processor.Status{{Partition: 1, State: "running"}, {Partition: 2, State: "running", Doing: "publishing", Since: now.Add(-time.Hour)}}, ""},
		{[]processor.Status{refused(1, 2*time.Second, "gone"), {State: "halted"}}, ""},
		{[]processor.Status{refused(1, 5*time.Second, "gone"), refused(2, 2*time.Second, "gone"), refused(3, 12*time.Second, "gone"), refused(4, 4*time.Second, "full")},
			"partitions 1, 3, 4: nothing is decided for 12s: gone; full"},
	} {
		got := ""
		if err := databaseFault(c.status, now); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("of %+v it says %q, not %q", c.status, got, c.want)
		}
	}
	told := partitionStatus([]processor.Status{refused(1, 5*time.Second, "gone"), refused(2, time.Second, "gone")}, now)
	if told[0].StuckBecause != "gone" || !told[0].StuckSince.Equal(now.Add(-5*time.Second)) || told[1].StuckBecause != "" {
		t.Errorf("%+v", told)
	}
}
