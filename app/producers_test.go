package app_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dibs-hq/dibs/claims"
	"github.com/dibs-hq/dibs/dev/filelock"
	"github.com/dibs-hq/dibs/dibstest"
	"github.com/google/uuid"
)

const producersDir = "../docs/producers/"

// foreign is a program of docs/producers, in another language.
type foreign struct {
	language string
	tools    []string // on the PATH
	manifest string   // what it needs, in its folder
	program  string
	// install gets what the manifest asks for into a folder, which is moved when it is there; run is how the program is
	// run with that.
	install func(dir string) [][]string
	run     func(dir, program string) (command, env []string)
}

var foreigners = []foreign{
	{
		language: "java", tools: []string{"java", "mvn"}, manifest: "pom.xml", program: "Claim.java",
		install: func(dir string) [][]string {
			return [][]string{{"mvn", "--quiet", "--batch-mode", "--no-transfer-progress", "dependency:copy-dependencies", "-DoutputDirectory=" + dir}}
		},
		run: func(dir, program string) (command, env []string) {
			return []string{"java", "-cp", filepath.Join(dir, "*"), program}, nil
		},
	},
	{
		language: "python", tools: []string{"python3"}, manifest: "requirements.txt", program: "claim.py",
		install: func(dir string) [][]string {
			return [][]string{
				{"python3", "-m", "venv", "venv"},
				{filepath.Join(dir, "venv", "bin", "python"), "-m", "pip", "install", "--quiet", "-r", "requirements.txt"},
			}
		},
		run: func(dir, program string) (command, env []string) {
			return []string{filepath.Join(dir, "venv", "bin", "python"), program}, nil
		},
	},
	{
		language: "node", tools: []string{"node", "npm"}, manifest: "package.json", program: "claim.js",
		install: func(string) [][]string {
			return [][]string{{"npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error", "--fetch-retry-mintimeout=1000"}}
		},
		run: func(dir, program string) (command, env []string) {
			return []string{"node", program}, []string{"NODE_PATH=" + filepath.Join(dir, "node_modules")}
		},
	},
}

// installed returns how to run the program. What it needs is kept in the cache of the tests, by what asks for it. The
// error says what cannot be had here.
func (f foreign) installed(ctx context.Context) (command, env []string, err error) {
	sum := sha256.New()
	for _, tool := range f.tools {
		path, err := exec.LookPath(tool)
		if err != nil {
			return nil, nil, err
		}
		version, err := exec.CommandContext(ctx, path, "--version").Output()
		if err != nil {
			return nil, nil, fmt.Errorf("%s --version: %w", tool, err)
		}
		fmt.Fprintf(sum, "%s %s\n", path, version)
	}
	manifest, err := os.ReadFile(producersDir + f.language + "/" + f.manifest)
	if err != nil {
		return nil, nil, err
	}
	sum.Write(manifest)
	cache, err := dibstest.CacheDir()
	if err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, nil, err
	}
	program, err := filepath.Abs(producersDir + f.language + "/" + f.program)
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(cache, fmt.Sprintf("producer-%s-%x", f.language, sum.Sum(nil)[:6]))
	command, env = f.run(dir, program)
	lock, err := filelock.Wait(ctx, dir+".lock")
	if err != nil {
		return nil, nil, err
	}
	defer lock.Release() //nolint:errcheck // it is held by an open file, and ends with us
	if _, err := os.Stat(dir); err == nil {
		return command, env, nil
	}
	fresh, err := os.MkdirTemp(cache, "fetching-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(fresh) //nolint:errcheck // it is in a cache
	if err := os.WriteFile(filepath.Join(fresh, f.manifest), manifest, 0o600); err != nil {
		return nil, nil, err
	}
	for _, args := range f.install(fresh) {
		get := exec.CommandContext(ctx, args[0], args[1:]...)
		get.Dir, get.WaitDelay = fresh, 10*time.Second
		if out, err := get.CombinedOutput(); err != nil {
			return nil, nil, fmt.Errorf("%s: %w: %.500s", strings.Join(args, " "), err, bytes.TrimSpace(out))
		}
	}
	return command, env, os.Rename(fresh, dir)
}

// speaker is a program that can be run here.
type speaker struct {
	d            *deployment
	language     string
	command, env []string
}

// say runs the program, and returns what it prints.
func (s speaker) say(t testing.TB, args ...string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.command[0], append(s.command[1:], args...)...)
	cmd.Env, cmd.WaitDelay = append(append(os.Environ(), s.d.env(s.language)...), s.env...), 10*time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Errorf("%s: %v", s.language, err)
	}
	if said := strings.TrimSpace(stderr.String()); said != "" {
		t.Logf("%s: %.2000s", s.language, said)
	}
	return stdout.String(), cmd.ProcessState.ExitCode()
}

// outcome is one as it is on registrations.
type outcome struct {
	RequestID string `json:"request_id"`
	Outcome   string `json:"outcome"`
	Reason    string `json:"reason"`
	Key       string `json:"key"`
	Owner     string `json:"owner"`
	Partition int32  `json:"partition"`
}

// claim claims a name under a request id.
func (s speaker) claim(t testing.TB, name, owner, id string) (o outcome, text string) {
	t.Helper()
	text, code := s.say(t, "claim", name, owner, id)
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Errorf("%s: exit code %d, it says %q", s.language, code, text)
		return o, text
	}
	if o.RequestID != id || code != map[string]int{"Accepted": 0, "Rejected": 3}[o.Outcome] {
		t.Errorf("%s: exit code %d, it says %s", s.language, code, text)
	}
	return o, text
}

// TestProducers runs the programs of docs/producers.md: they compute the keys and partitions of the vectors file, and claim
// one name at once, which one of them gets.
func TestProducers(t *testing.T) {
	t.Parallel()
	dibstest.NeedRealKafka(t) // their clients ask for more than the fake knows
	d := deploy(t, 12)
	d.calm = true
	p := d.start("processor").ready()
	lines, err := os.ReadFile(producersDir + "vectors.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var speakers []speaker
	t.Run("vectors", func(t *testing.T) {
		for _, f := range foreigners {
			t.Run(f.language, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
				defer cancel()
				command, env, err := f.installed(ctx)
				if err != nil {
					dibstest.Needs(t, "the producer in "+f.language, err)
				}
				s := speaker{d, f.language, command, env}
				mu.Lock()
				speakers = append(speakers, s)
				mu.Unlock()
				out, code := s.say(t, "vectors", producersDir+"vectors.jsonl")
				t.Logf("%s: %s", f.language, out)
				keys := bytes.Count(lines, []byte(`"space":"username"`)) + bytes.Count(lines, []byte(`"key":"h1:`))
				if want := fmt.Sprintf("%d partitions and %d keys computed, 0 differ\n", bytes.Count(lines, []byte("\n")), keys); code != 0 || out != want {
					t.Errorf("exit code %d, %q; want %q", code, out, want)
				}
				// And it sees where they differ.
				wrong := filepath.Join(t.TempDir(), "vectors")
				if err := os.WriteFile(wrong, bytes.Replace(lines, []byte(`"partition":1}`), []byte(`"partition":2}`), 1), 0o600); err != nil {
					t.Fatal(err)
				}
				if out, code := s.say(t, "vectors", wrong); code != 1 || !strings.HasSuffix(out, " 1 differ\n") {
					t.Errorf("of a wrong line: exit code %d, %q", code, out)
				}
			})
		}
	})
	if len(speakers) == 0 {
		dibstest.Needs(t, "a producer in another language", errors.New("there is none"))
	}
	d.assigned(time.Minute, p)

	// All of them at once.
	const name = "Jean-Luc"
	belongs := claims.Partition("username/jean-luc", d.partitions)
	ids, outcomes, texts := make([]string, len(speakers)), make([]outcome, len(speakers)), make([]string, len(speakers))
	var all sync.WaitGroup
	for i, s := range speakers {
		ids[i] = uuid.NewString()
		all.Go(func() { outcomes[i], texts[i] = s.claim(t, name, "u-"+s.language, ids[i]) })
	}
	all.Wait()
	accepted := 0
	for i, o := range outcomes {
		t.Logf("%s: %s", speakers[i].language, strings.TrimSpace(texts[i]))
		switch {
		case o.Key != "jean-luc" || o.Partition != belongs:
			t.Errorf("%s: the claim was decided on partition %d; it belongs on %d: %s", speakers[i].language, o.Partition, belongs, texts[i])
		case o.Outcome == "Accepted" && o.Owner == "u-"+speakers[i].language:
			accepted++
		case o.Outcome != "Rejected" || o.Reason != "taken":
			t.Errorf("%s: %s", speakers[i].language, texts[i])
		}
	}
	if accepted != 1 {
		t.Errorf("%d of %d were accepted", accepted, len(outcomes))
	}
	for _, r := range d.topic.read(d.topic.claims) {
		if r.Partition != belongs {
			t.Errorf("a record of %s is on partition %d; it belongs on %d", headers(r)["ce_source"], r.Partition, belongs)
		}
	}
	// The same request once more has the same outcome.
	for i, s := range speakers {
		all.Go(func() {
			if _, text := s.claim(t, name, "u-"+s.language, ids[i]); text != texts[i] {
				t.Errorf("%s: asked again it says\n%swhere it said\n%s", s.language, text, texts[i])
			}
			if out, code := s.say(t, "claim", "no name", "u-1"); code != 3 || out != "" {
				t.Errorf("%s: what is no name: exit code %d, %q", s.language, code, out)
			}
		})
	}
	all.Wait()
	if n := p.metrics()[`dibs_rows_total{kind="forwarded"}`]; n != 0 {
		t.Errorf("%v records were forwarded", n)
	}

	// What a client of librdkafka does that is not told: its records are forwarded.
	for _, s := range speakers {
		if s.language == "python" {
			d.untold(t, s, p)
		}
	}
	d.settled(30 * time.Second)
	d.check()
}

// byDefault produces each of its lines, a record key and a value, with the partitioner of librdkafka.
const byDefault = `
import json, os, sys, uuid
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": os.environ["DIBS_KAFKA_BROKERS"]})
for line in sys.argv[1:]:
    name = line.split("/")[1]
    producer.produce(os.environ["DIBS_KAFKA_TOPIC_PREFIX"] + "claims", key=line,
        value=json.dumps({"space": "username", "name": name, "owner": "u-default", "mode": "register"}),
        headers={"content-type": "application/json", "ce_specversion": "1.0", "ce_id": str(uuid.uuid4()),
            "ce_type": "dibs.UsernameClaimed.v1", "ce_source": "by-default"})
print(producer.flush(30))
`

// untold has confluent-kafka put records where it likes.
func (d *deployment) untold(t *testing.T, python speaker, p *process) {
	t.Helper()
	var keys []string
	astray := 0
	for i := range 20 {
		key := fmt.Sprintf("username/untold-%d", i)
		keys = append(keys, key)
		if byCRC(key, d.partitions) != claims.Partition(key, d.partitions) {
			astray++
		}
	}
	python.command = append(python.command[:1:1], "-c", byDefault)
	if out, code := python.say(t, keys...); code != 0 || out != "0\n" {
		t.Fatalf("exit code %d, %q", code, out)
	}
	d.settled(30 * time.Second)
	for _, r := range d.topic.read(d.topic.claims) {
		if h := headers(r); h["ce_source"] == "by-default" && h["dibs-rerouted"] == "" && r.Partition != byCRC(string(r.Key), d.partitions) {
			t.Errorf("librdkafka puts %s on partition %d, not on %d", r.Key, r.Partition, byCRC(string(r.Key), d.partitions))
		}
	}
	d.forwarded(t, p, "by-default", keys, astray)
}

// byCRC is where librdkafka puts a key unless it is told otherwise.
func byCRC(key string, partitions int) int32 {
	return int32(crc32.ChecksumIEEE([]byte(key)) % uint32(partitions))
}

// forwarded fails the test unless names were accepted once each, where they belong, so many of them after they were
// forwarded, and what is wrong was said.
func (d *deployment) forwarded(t *testing.T, p *process, source string, keys []string, astray int) {
	t.Helper()
	if astray == 0 {
		t.Fatal("none of the records is astray")
	}
	for _, key := range keys {
		type row struct {
			Partition int32
			Outcome   string
		}
		found := rows[row](d, `SELECT partition, outcome::text FROM decisions WHERE kind = 'o' AND key = $1`, strings.TrimPrefix(key, "username/"))
		if len(found) != 1 || found[0].Partition != claims.Partition(key, d.partitions) || !strings.HasPrefix(strings.ToLower(found[0].Outcome), "a") {
			t.Errorf("%s: %v; it belongs on partition %d", key, found, claims.Partition(key, d.partitions))
		}
	}
	if n := p.metrics()[`dibs_rows_total{kind="forwarded"}`]; n != float64(astray) {
		t.Errorf("%v records are counted as forwarded, want %d", n, astray)
	}
	if said := p.errors(); !strings.Contains(said, `"source":"`+source+`","fix":"set partitioner=murmur2_random in that producer: `) {
		t.Errorf("the log does not say how to mend the producer:\n%s", said)
	}
}

// TestLibrdkafkaByDefault: a producer that hashes keys as librdkafka does by default has its claims forwarded, decided
// once, and counted, and the log says what to change.
func TestLibrdkafkaByDefault(t *testing.T) {
	t.Parallel()
	d := deploy(t, 5)
	d.calm = true
	p := d.start("processor").ready()
	d.assigned(time.Minute, p)
	var keys []string
	astray := 0
	for i := range 50 {
		r := newClaim(d.partitions, fmt.Sprintf("default-%d", i), "u-1")
		keys = append(keys, string(r.Key))
		if at := byCRC(string(r.Key), d.partitions); at != r.Partition {
			r.Partition = at
			astray++
		}
		d.topic.append(d.topic.client, r.Record)
	}
	d.settled(30 * time.Second)
	d.forwarded(t, p, "tests", keys, astray)
	d.check()
}
