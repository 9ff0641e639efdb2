package kafka

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/dibs-hq/dibs/dev"
	"github.com/dibs-hq/dibs/dibstest"
)

func check(t testing.TB, c *Client, cfg CheckConfig) []Finding {
	t.Helper()
	findings, err := c.CheckTopics(within(t, 20*time.Second), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

// find returns the findings about a setting of a topic, or of the brokers where topic is empty.
func find(findings []Finding, topic, setting string) (out []Finding) {
	for _, f := range findings {
		if f.Topic == topic && strings.HasSuffix(f.Setting, setting) {
			out = append(out, f)
		}
	}
	return out
}

func worst(findings []Finding) (s Severity) {
	for _, f := range findings {
		if s == "" || rank(f.Severity) < rank(s) {
			s = f.Severity
		}
	}
	return s
}

func TestCreateTopics(t *testing.T) {
	t.Parallel()
	b := dibstest.Kafka(t)
	c := connect(t, Config{Brokers: b.Addrs, TopicPrefix: b.Prefix})
	report, err := c.CreateTopics(t.Context(), TopicsConfig{Partitions: 5})
	if err != nil {
		t.Fatal(err)
	}
	same(t, []CreatedTopic{
		{Topic: c.Claims(), Partitions: 5, ReplicationFactor: 1, MinInSyncCount: 1},
		{Topic: c.Registrations(), Partitions: 5, ReplicationFactor: 1, MinInSyncCount: 1},
		{Topic: c.DeadLetters(), Partitions: 5, ReplicationFactor: 1, MinInSyncCount: 1},
	}, report.Topics)
	if len(report.Notes) != 1 || !strings.Contains(report.Notes[0], "replication factor 1") {
		t.Errorf("notes are %q", report.Notes)
	}
	for _, f := range check(t, c, CheckConfig{Partitions: 5}) {
		t.Log(f)
		if f.Severity == Error {
			t.Error("an error about topics that were just created")
		}
		if f.Fix == "" || f.Why == "" || f.Want == "" || f.Have == "" {
			t.Errorf("finding %+v leaves something out", f)
		}
	}

	if bound, err := c.ClockBound(t.Context()); err != nil || bound != MaxClockBound {
		t.Errorf("the clock bound is %s, %v", bound, err)
	}

	report, err = c.CreateTopics(t.Context(), TopicsConfig{Partitions: 7})
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range report.Topics {
		if !topic.Existed || topic.Partitions != 5 {
			t.Errorf("%+v", topic)
		}
	}
	if err := c.DeleteTopics(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteTopics(t.Context()); err != nil {
		t.Error("delete what is not there:", err)
	}
}

func TestCreateTopicsRefuses(t *testing.T) {
	t.Parallel()
	c := connectFake(t, fake(t, 1))
	for _, cfg := range []TopicsConfig{
		{Partitions: -1}, {ReplicationFactor: -1}, {ClockBound: time.Minute}, {Retention: time.Hour}, {DeadLetterRetention: time.Hour},
	} {
		_, err := c.CreateTopics(t.Context(), cfg)
		wantIs(t, err, ErrConfig)
	}
	b := dibstest.Kafka(t)
	if _, err := connect(t, Config{Brokers: b.Addrs, TopicPrefix: b.Prefix}).CreateTopics(within(t, 10*time.Second), TopicsConfig{ReplicationFactor: 3}); err == nil {
		t.Error("three replicas on one broker")
	}
}

// Creating topics survives a controller that moves and an answer that is lost.
func TestCreateTopicsIsPatient(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.NotController, Count: 2})
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: registrationsName, Err: kerr.LeaderNotAvailable, Count: 9})
	c := connectFake(t, cluster)
	report, err := c.CreateTopics(within(t, 20*time.Second), TopicsConfig{Partitions: 3})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.metadata.current().led(c.topics()); err != nil {
		t.Errorf("the topics cannot be used yet: %v", err)
	}
	for _, topic := range report.Topics {
		if topic.Existed || topic.ReplicationFactor != 3 || topic.MinInSyncCount != 2 {
			t.Errorf("%+v", topic)
		}
	}
	if len(report.Notes) != 0 {
		t.Errorf("notes are %q", report.Notes)
	}
}

// Every setting that matters is found when it is wrong, with a command that puts it right.
func TestCheckTopics(t *testing.T) {
	t.Parallel()
	b := dibstest.Kafka(t)
	c := created(t, connect(t, Config{Brokers: b.Addrs, TopicPrefix: b.Prefix}), 4)
	admin := kadm.NewClient(other(t, c))
	for _, tt := range []struct {
		topic, setting, value string
		want                  Severity
	}{
		{c.Claims(), cleanupPolicy, "compact", Error},
		{c.Claims(), cleanupPolicy, "compact,delete", Error},
		{c.Registrations(), cleanupPolicy, "compact", Error},
		{c.Claims(), timestampType, "LogAppendTime", Error},
		{c.Registrations(), timestampType, "LogAppendTime", Error},
		{c.Claims(), timestampAfter, "3600000", Error},
		{c.Claims(), timestampBefore, "9223372036854775807", Error},
		{c.Registrations(), timestampBefore, "600000", Error},
		{c.Registrations(), timestampAfter, "1000", Error},
		{c.Claims(), retentionMS, "3600000", Error},
		{c.Registrations(), retentionMS, "3600000", Warning},
		{c.DeadLetters(), retentionMS, "604800000", Warning},
		{c.Claims(), retentionBytes, "1000000", Warning},
		{c.Claims(), maxMessageBytes, "100000", Error},
		{c.Registrations(), maxMessageBytes, "100000", Error},
		{c.Registrations(), uncleanElection, "true", Warning},
	} {
		set := func(op kadm.IncrementalOp, value string) {
			r, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: op, Name: tt.setting, Value: &value}}, tt.topic)
			if err != nil || r[0].Err != nil {
				t.Fatal(tt, err, r)
			}
		}
		before := find(check(t, c, CheckConfig{}), tt.topic, tt.setting)
		was := TopicsConfig{}.withDefaults().settings(strings.TrimPrefix(tt.topic, c.cfg.TopicPrefix), 1)
		if worst(before) == tt.want {
			t.Errorf("%s of %s: before %v", tt.setting, tt.topic, before)
		}
		set(kadm.SetConfig, tt.value)
		var after []Finding
		await(t, tt.setting+"="+tt.value+" of "+tt.topic+" is found", 10*time.Second, func() bool { // a broker may show it a little later
			after = find(check(t, c, CheckConfig{}), tt.topic, tt.setting)
			return worst(after) == tt.want
		})
		if i := slices.IndexFunc(after, func(f Finding) bool { return f.Severity == tt.want }); i >= 0 && !strings.Contains(after[i].Fix, tt.setting+"=") {
			t.Errorf("fix is %q", after[i].Fix)
		}
		set(kadm.SetConfig, was[slices.IndexFunc(was, func(s setting) bool { return s.name == tt.setting })].value)
		await(t, tt.setting+" is as it was", 10*time.Second, func() bool {
			return worst(find(check(t, c, CheckConfig{}), tt.topic, tt.setting)) == worst(before)
		})
	}
}

func TestCheckPartitions(t *testing.T) {
	t.Parallel()
	b := dibstest.Kafka(t)
	c := created(t, connect(t, Config{Brokers: b.Addrs, TopicPrefix: b.Prefix}), 4)
	if f := find(check(t, c, CheckConfig{Partitions: 5}), c.Claims(), "partitions"); worst(f) != Error {
		t.Errorf("fewer than pinned: %v", f)
	}
	admin := kadm.NewClient(other(t, c))
	grow := func(topic string, n int) {
		if r, err := admin.UpdatePartitions(t.Context(), n, topic); err != nil || r.Error() != nil {
			t.Fatal(err, r.Error())
		}
		await(t, "the partitions are known", 10*time.Second, func() bool {
			have, err := c.Partitions(t.Context(), topic)
			return err == nil && have == n
		})
	}
	grow(c.Claims(), 6)
	findings := check(t, c, CheckConfig{Partitions: 4})
	if f := find(findings, c.Claims(), "partitions"); worst(f) != Warning {
		t.Errorf("more than pinned: %v", f)
	}
	if f := find(findings, c.Registrations(), "partitions"); len(f) != 0 {
		t.Errorf("as many as pinned: %v", f)
	}
	for pinned, want := range map[int]string{0: "--partitions 6", 5: "--partitions 5"} {
		f := find(check(t, c, CheckConfig{Partitions: pinned}), c.Registrations(), "partitions")
		if worst(f) != Error || !strings.Contains(f[0].Fix, want) {
			t.Errorf("fewer than needed: %v", f)
		}
	}
	grow(c.Registrations(), 8)
	if f := find(check(t, c, CheckConfig{}), c.Registrations(), "partitions"); worst(f) != Warning {
		t.Errorf("more than claims: %v", f)
	}
}

func TestCheckMissingTopics(t *testing.T) {
	t.Parallel()
	b := dibstest.Kafka(t)
	c := connect(t, Config{Brokers: b.Addrs, TopicPrefix: b.Prefix})
	findings := check(t, c, CheckConfig{Partitions: 4})
	for _, topic := range c.topics() {
		f := find(findings, topic, "existence")
		if worst(f) != Error || f[0].Fix != "dibs topics create" {
			t.Errorf("missing %s: %v", topic, f)
		}
	}
	if f := findings[0]; f.Severity != Error {
		t.Errorf("errors do not come first: %v", f)
	}
}

// What is not shown is said to be so, instead of being taken for right.
func TestCheckWithoutPermission(t *testing.T) {
	cluster := fake(t, 3)
	c := connectFake(t, cluster)
	cluster.Fault(
		kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Resource: claimsName, Err: kerr.TopicAuthorizationFailed, Count: -1},
		kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Resource: "0", Err: kerr.ClusterAuthorizationFailed, Count: -1},
	)
	findings := check(t, c, CheckConfig{})
	if f := find(findings, claimsName, "settings"); worst(f) != Unverified {
		t.Errorf("hidden settings: %v", findings)
	}
	if f := find(findings, "", "broker 0: settings"); worst(f) != Unverified {
		t.Errorf("hidden broker: %v", findings)
	}
}

// A topic that a broker has made by the way has the settings of nobody's choice.
func TestCheckAutoCreatedTopic(t *testing.T) {
	t.Parallel()
	b := dibstest.Kafka(t)
	c := connect(t, Config{Brokers: b.Addrs, TopicPrefix: b.Prefix})
	r, err := kadm.NewClient(other(t, c)).CreateTopics(t.Context(), 3, 1, nil, c.topics()...)
	if err == nil {
		err = r.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the topics are known", 10*time.Second, func() bool {
		n, err := c.Partitions(t.Context(), c.DeadLetters())
		return err == nil && n == 3
	})
	want := Error
	if !b.Real {
		want = Unverified // it does not show what nobody has set
	}
	if f := find(check(t, c, CheckConfig{}), c.Claims(), timestampAfter); worst(f) != want {
		t.Errorf("found %v", f)
	}
}

// The embedded broker is known by its name.
func TestCheckEmbedded(t *testing.T) {
	if embeddedClusterID != dev.KafkaClusterID {
		t.Fatalf("the embedded broker is %q", dev.KafkaClusterID)
	}
	c := created(t, connectFake(t, fake(t, 1, kfake.ClusterID(dev.KafkaClusterID))), 1)
	id, err := c.ClusterID(t.Context())
	if err != nil || id != dev.KafkaClusterID {
		t.Errorf("cluster id is %q, %v", id, err)
	}
	if f := find(check(t, c, CheckConfig{}), c.Claims(), timestampAfter); !slices.ContainsFunc(f, func(f Finding) bool { return f.Severity == Unverified }) {
		t.Errorf("found %v", f)
	}
}

// TestClockBound: it is what the topic says, and the largest where nothing is said.
func TestClockBound(t *testing.T) {
	cluster := fake(t, 1) // whose topics say nothing
	if bound, err := connectFake(t, cluster).ClockBound(t.Context()); err != nil || bound != MaxClockBound {
		t.Errorf("the clock bound is %s, %v", bound, err)
	}
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Resource: claimsName, Err: kerr.TopicAuthorizationFailed, Count: -1})
	if bound, err := connectFake(t, cluster).ClockBound(t.Context()); err != nil || bound != MaxClockBound {
		t.Errorf("the clock bound that is not shown is %s, %v", bound, err)
	}
	b := dibstest.Kafka(t)
	c := connect(t, Config{Brokers: b.Addrs, TopicPrefix: b.Prefix})
	if _, err := c.CreateTopics(t.Context(), TopicsConfig{Partitions: 1, ClockBound: 1500 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if bound, err := c.ClockBound(t.Context()); err != nil || bound != 1500*time.Millisecond {
		t.Errorf("the clock bound is %s, %v", bound, err)
	}
}
