package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	describeapi "github.com/segmentio/kafka-go/protocol/describeconfigs"
)

// Severity says what a finding means for a start.
type Severity string

// The severities.
const (
	// Error: dibs does not start.
	Error Severity = "error"
	// Warning: dibs starts and says so.
	Warning Severity = "warning"
	// Unverified: the broker hides the setting, or is known to store it without keeping it.
	Unverified Severity = "cannot be verified"
)

// Finding is something that is not as it should be.
type Finding struct {
	Severity Severity
	// Topic is the full name; empty where it is about the brokers.
	Topic, Setting string
	Want, Have     string
	// Why says what goes wrong otherwise.
	Why string
	// Fix is the command to run, or what to change where no command will do.
	Fix string
}

// Missing reports whether the finding is that the topic does not exist, as far as the broker knows that was asked: one
// that has just started may not know it yet.
func (f Finding) Missing() bool { return f.Setting == existence && f.Severity == Error }

// existence is what a finding about a missing topic has for a setting.
const existence = "existence"

func (f Finding) String() string {
	where := f.Setting
	if f.Topic != "" {
		where = f.Topic + ": " + f.Setting
	}
	return fmt.Sprintf("%s: %s is %s, want %s: %s. Fix: %s", f.Severity, where, f.Have, f.Want, f.Why, f.Fix)
}

// CheckConfig says what the topics are compared with.
type CheckConfig struct {
	// Partitions is the count pinned in Postgres; 0 where nothing is pinned yet.
	Partitions int
}

// embeddedClusterID is that of the broker of `dibs dev`. It keeps records like a broker, but enforces no bounds on times.
const embeddedClusterID = "dibs-dev-not-for-production"

// groupSession is the session time-out that our consumer group asks for.
const groupSession = 6 * time.Second

// CheckTopics compares the topics' and brokers' live settings with what dibs needs. The error means that nobody could
// be asked.
func (c *Client) CheckTopics(ctx context.Context, cfg CheckConfig) ([]Finding, error) {
	v, err := c.metadata.ask(ctx, c.topics())
	if err != nil {
		return nil, fmt.Errorf("check topics: %w", err)
	}
	k := checker{client: c, view: v}
	for _, name := range []string{claimsName, registrationsName, deadLettersName} {
		if k.exists(c.cfg.TopicPrefix + name) {
			live, err := c.describe(ctx, resourceTopic, c.cfg.TopicPrefix+name, anyBroker)
			if err != nil {
				return nil, fmt.Errorf("check topic %s: %w", c.cfg.TopicPrefix+name, err)
			}
			k.topic(name, live)
		}
	}
	k.partitions(cfg.Partitions)
	for id := range v.brokers {
		live, err := c.describe(ctx, resourceBroker, strconv.Itoa(int(id)), id)
		if err != nil {
			return nil, fmt.Errorf("check broker %d: %w", id, err)
		}
		k.broker(id, live)
	}
	slices.SortStableFunc(k.findings, func(a, b Finding) int { return rank(a.Severity) - rank(b.Severity) })
	return k.findings, nil
}

func rank(s Severity) int { return slices.Index([]Severity{Error, Warning, Unverified}, s) }

// ClockBound is how far a record of claims may lie before the broker's clock, as the topic has it now; MaxClockBound where
// the broker does not show it.
func (c *Client) ClockBound(ctx context.Context) (time.Duration, error) {
	live, err := c.describe(ctx, resourceTopic, c.Claims(), anyBroker)
	if err != nil {
		return 0, fmt.Errorf("read the settings of topic %s: %w", c.Claims(), err)
	}
	ms, err := strconv.ParseInt(live.values[timestampAfter], 10, 64)
	if err != nil || ms < 0 || ms > MaxClockBound.Milliseconds() {
		return MaxClockBound, nil
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// checker collects findings.
type checker struct {
	client   *Client
	view     *view
	findings []Finding
}

func (k *checker) found(f Finding) { k.findings = append(k.findings, f) }

// exists looks whether a topic is there.
func (k *checker) exists(topic string) bool {
	t, ok := k.view.topics[topic]
	switch {
	case ok && t.err == nil:
		return true
	case ok && !errors.Is(t.err, kafkago.UnknownTopicOrPartition):
		k.found(Finding{Severity: Unverified, Topic: topic, Setting: existence, Want: "a topic that we may see", Have: t.err.Error(),
			Why: "nothing about it can be told", Fix: "allow our principal to DESCRIBE and DESCRIBE_CONFIGS it"})
	default:
		k.found(Finding{Severity: Error, Topic: topic, Setting: existence, Want: "a topic", Have: "missing",
			Why: "dibs never creates topics by the way, and a broker that does gives them wrong settings", Fix: "dibs topics create"})
	}
	return false
}

// topic checks the settings of one topic.
func (k *checker) topic(name string, live settingsView) {
	topic := k.client.cfg.TopicPrefix + name
	if live.err != nil {
		k.found(Finding{Severity: Unverified, Topic: topic, Setting: "settings", Want: "settings that we may see", Have: live.err.Error(),
			Why: "wrong ones would go unnoticed", Fix: "allow our principal to DESCRIBE_CONFIGS it"})
		return
	}
	wanted := TopicsConfig{}.withDefaults()
	check := func(severity Severity, setting, want string, good func(string) bool, set, why string) {
		have, ok := live.values[setting]
		f := Finding{Severity: severity, Topic: topic, Setting: setting, Want: want, Have: have, Why: why, Fix: k.alter(topic, setting, set)}
		switch {
		case !ok:
			f.Severity, f.Have = Unverified, "not shown by the broker"
			k.found(f)
		case !good(have):
			k.found(f)
		}
	}
	is := func(want string) func(string) bool { return func(have string) bool { return have == want } }
	atMost := func(most int64) func(string) bool {
		return func(have string) bool { n, err := strconv.ParseInt(have, 10, 64); return err == nil && n <= most }
	}
	atLeast := func(least int64, unlimited bool) func(string) bool {
		return func(have string) bool {
			n, err := strconv.ParseInt(have, 10, 64)
			return err == nil && (n >= least || unlimited && n == -1)
		}
	}
	check(Error, cleanupPolicy, "delete", is("delete"), "delete", "compaction removes records that are not decided or not read yet; those that are gone do not come back")
	check(Error, timestampType, "CreateTime", is("CreateTime"), "CreateTime", "an outcome would not be byte-identical when it is published again")
	retention, keep := Warning, wanted.Retention
	switch name {
	case claimsName:
		retention = Error
		bound, age := MaxClockBound.Milliseconds(), maxAge.Milliseconds()
		check(Error, timestampAfter, fmt.Sprintf("%d or less", bound), atMost(bound), strconv.FormatInt(bound, 10),
			"a producer whose clock runs ahead would end reservations early by as much; it is the default of a topic that nobody created on purpose")
		check(Error, timestampBefore, fmt.Sprintf("%d or less", age), atMost(age), strconv.FormatInt(age, 10),
			"a request that was delayed for longer would be decided")
		if k.view.clusterID == embeddedClusterID {
			k.found(Finding{Severity: Unverified, Topic: topic, Setting: timestampAfter, Want: "kept", Have: "stored, not enforced",
				Why: "this is the embedded broker of dibs dev", Fix: "use Apache Kafka in production"})
		}
	case deadLettersName:
		keep = wanted.DeadLetterRetention
	}
	if name != claimsName {
		check(Error, timestampBefore, strconv.Itoa(math.MaxInt64), atLeast((365*day).Milliseconds(), false), strconv.Itoa(math.MaxInt64),
			"outcomes carry the time of their decision and may be published again much later")
		check(Error, timestampAfter, fmt.Sprintf("%d or more", MaxClockBound.Milliseconds()), atLeast(MaxClockBound.Milliseconds(), false),
			strconv.FormatInt(time.Hour.Milliseconds(), 10), "an outcome has the time of its claim, which may lie before the clock by its topic's bound")
	}
	check(retention, retentionMS, fmt.Sprintf("%d or more", keep.Milliseconds()), atLeast(keep.Milliseconds(), true),
		strconv.FormatInt(keep.Milliseconds(), 10), "what is deleted before it is decided or read is lost, and so is the replay after a database fail-over")
	check(Warning, retentionBytes, "-1", is("-1"), "-1", "records may go before their time")
	check(Error, maxMessageBytes, "1048576 or more", atLeast(1<<20, false), strconv.Itoa(1<<20+12), "batches of 900,000 bytes would be refused")
	check(Warning, uncleanElection, "false", is("false"), "false", "a replica that lacks acknowledged records may become leader: they are lost")
	k.replication(topic, live)
}

// replication checks that an acknowledged record is on more than one disk.
func (k *checker) replication(topic string, live settingsView) {
	replicas := k.view.topics[topic].replicas()
	isr, err := strconv.Atoi(live.values[minInSync])
	switch {
	case err != nil:
		k.found(Finding{Severity: Unverified, Topic: topic, Setting: minInSync, Want: "2", Have: "not shown by the broker",
			Why: "an acknowledged record may be on one disk only", Fix: k.alter(topic, minInSync, "2")})
	case replicas >= 3 && isr < 2:
		k.found(Finding{Severity: Error, Topic: topic, Setting: minInSync, Want: "2", Have: strconv.Itoa(isr),
			Why: "an acknowledged record may be on one disk only, for all its replicas", Fix: k.alter(topic, minInSync, "2")})
	case replicas > 1 && isr >= replicas:
		k.found(Finding{Severity: Warning, Topic: topic, Setting: minInSync, Want: strconv.Itoa(replicas - 1), Have: strconv.Itoa(isr),
			Why: "one broker that is away stops all writing", Fix: k.alter(topic, minInSync, strconv.Itoa(replicas-1))})
	}
	if replicas < 3 {
		k.found(Finding{Severity: Warning, Topic: topic, Setting: "replication factor", Want: "3", Have: strconv.Itoa(replicas),
			Why: "losing a disk may lose acknowledged claims",
			Fix: "kafka-reassign-partitions.sh --bootstrap-server " + k.brokers() + " --execute --reassignment-json-file <a plan with 3 replicas>"})
	}
}

// partitions compares the counts with each other and with the pinned one.
func (k *checker) partitions(pinned int) {
	count := func(topic string) int { return len(k.view.topics[topic].partitions) }
	claims, registrations, letters := count(k.client.Claims()), count(k.client.Registrations()), count(k.client.DeadLetters())
	grow := func(topic string, to int) string {
		return fmt.Sprintf("kafka-topics.sh --bootstrap-server %s --alter --topic %s --partitions %d", k.brokers(), topic, to)
	}
	if claims == 0 {
		return // said already
	}
	switch {
	case pinned > 0 && claims < pinned:
		k.found(Finding{Severity: Error, Topic: k.client.Claims(), Setting: "partitions", Want: strconv.Itoa(pinned), Have: strconv.Itoa(claims),
			Why: "routing is pinned to the count it began with; this is not the topic that was pinned",
			Fix: "restore the topic, or look at it with: dibs partitions"})
	case pinned > 0 && claims > pinned:
		k.found(Finding{Severity: Warning, Topic: k.client.Claims(), Setting: "partitions", Want: strconv.Itoa(pinned), Have: strconv.Itoa(claims),
			Why: "routing stays with the count it began with; producers that use the new count send their records to the wrong partition, from where they are forwarded",
			Fix: fmt.Sprintf("tell every producer to use %d partitions", pinned)})
	}
	need := claims
	if pinned > 0 {
		need = pinned // what is above is forwarded, and has its outcome there
	}
	for topic, have := range map[string]int{k.client.Registrations(): registrations, k.client.DeadLetters(): letters} {
		if have == 0 || have == need || have == claims && have > need {
			continue
		}
		f := Finding{Severity: Error, Topic: topic, Setting: "partitions", Want: strconv.Itoa(need), Have: strconv.Itoa(have),
			Why: "an outcome goes to the partition number of its claim", Fix: grow(topic, need)}
		if have > need {
			f.Severity, f.Fix = Warning, "none is needed: the partitions above stay empty"
		}
		k.found(f)
	}
}

// broker checks what only brokers have.
func (k *checker) broker(id int32, live settingsView) {
	setting := func(name string) string { return fmt.Sprintf("broker %d: %s", id, name) }
	if live.err != nil {
		k.found(Finding{Severity: Unverified, Setting: setting("settings"), Want: "settings that we may see", Have: live.err.Error(),
			Why: "wrong ones would go unnoticed", Fix: "allow our principal to DESCRIBE_CONFIGS the cluster"})
		return
	}
	const auto, session = "auto.create.topics.enable", "group.min.session.timeout.ms"
	switch have, ok := live.values[auto]; {
	case !ok:
		k.found(Finding{Severity: Unverified, Setting: setting(auto), Want: "false", Have: "not shown by the broker",
			Why: "a topic that is deleted by mistake may come back with wrong settings", Fix: auto + "=false in server.properties"})
	case have != "false":
		k.found(Finding{Severity: Warning, Setting: setting(auto), Want: "false", Have: have,
			Why: "a topic that is deleted by mistake comes back with wrong settings, by whoever asks for it first",
			Fix: auto + "=false in server.properties, then restart the broker"})
	}
	if have, ok := live.values[session]; ok {
		if n, err := strconv.ParseInt(have, 10, 64); err == nil && n > groupSession.Milliseconds() {
			k.found(Finding{Severity: Error, Setting: setting(session), Want: fmt.Sprintf("%d or less", groupSession.Milliseconds()), Have: have,
				Why: "processors could not join their group", Fix: fmt.Sprintf("%s=%d in server.properties, then restart the broker", session, groupSession.Milliseconds())})
		}
	}
}

func (k *checker) brokers() string { return strings.Join(k.client.cfg.Brokers, ",") }

func (k *checker) alter(topic, name, value string) string {
	return fmt.Sprintf("kafka-configs.sh --bootstrap-server %s --alter --entity-type topics --entity-name %s --add-config %s=%s",
		k.brokers(), topic, name, value)
}

// Keeps returns how long a topic keeps a record: its retention, and the longest that the segment which the record is in may stay
// open. A negative time is for ever.
func (c *Client) Keeps(ctx context.Context, topic string) (time.Duration, error) {
	live, err := c.describe(ctx, resourceTopic, topic, anyBroker)
	if err == nil {
		err = live.err
	}
	if err != nil {
		return 0, fmt.Errorf("read the settings of %s: %w", topic, err)
	}
	var sum time.Duration
	for _, name := range []string{retentionMS, "segment.ms"} {
		n, err := strconv.ParseInt(live.values[name], 10, 64)
		switch {
		case err != nil && name == retentionMS:
			return 0, fmt.Errorf("read the settings of %s: the broker does not say %s", topic, name)
		case err != nil:
		case n < 0, n > int64(math.MaxInt64/2/time.Millisecond):
			return -1, nil
		default:
			sum += time.Duration(n) * time.Millisecond
		}
	}
	return sum, nil
}

// settingsView is what a broker shows of a topic's or its own settings.
type settingsView struct {
	err    error // why it shows nothing
	values map[string]string
}

// What DescribeConfigs can be asked about.
const (
	resourceTopic  int8 = 2
	resourceBroker int8 = 4
)

// describe asks for all settings of a topic or broker. It tries again for as long as ctx lets it.
func (c *Client) describe(ctx context.Context, kind int8, name string, broker int32) (settingsView, error) {
	for b := (backoff{min: 50 * time.Millisecond, max: time.Second}); ; {
		live, err := c.describeOnce(ctx, kind, name, broker)
		if err == nil {
			return live, nil
		}
		c.metrics.failed("describe", err)
		if !isTransient(err) || !b.sleep(ctx) {
			return settingsView{}, err
		}
	}
}

func (c *Client) describeOnce(ctx context.Context, kind int8, name string, broker int32) (settingsView, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	body, _, err := c.roundTrip(ctx, &exchange{to: broker, request: &describeapi.Request{
		Resources: []describeapi.RequestResource{{ResourceType: kind, ResourceName: name}},
	}})
	if err != nil {
		return settingsView{}, err
	}
	for _, r := range body.(*describeapi.Response).Resources {
		if r.ResourceName != name {
			continue
		}
		switch err := codeError(r.ErrorCode); {
		case errors.Is(err, kafkago.TopicAuthorizationFailed), errors.Is(err, kafkago.ClusterAuthorizationFailed):
			return settingsView{err: err}, nil
		case err != nil:
			return settingsView{}, err
		}
		live := settingsView{values: make(map[string]string, len(r.ConfigEntries))}
		for _, e := range r.ConfigEntries {
			live.values[e.ConfigName] = e.ConfigValue
		}
		return live, nil
	}
	return settingsView{}, errNoAnswer
}
