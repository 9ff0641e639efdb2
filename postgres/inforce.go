package postgres

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/dibs-hq/dibs/api"
	"github.com/dibs-hq/dibs/names"
	"github.com/dibs-hq/dibs/processor"
	"github.com/dibs-hq/dibs/registrations"
	"github.com/jackc/pgx/v5"
)

// inForceCache keeps what was read of the column policies: it is the same in nearly every row, and at every look, and as
// large as its lists of reserved words. So a look gets the text only where it does not know its hash.
type inForceCache struct {
	mu     sync.Mutex
	byHash map[string]*processor.InForce
}

// hashOfPolicies is an expression of partitions p. (Not md5: a Postgres that goes by FIPS has none.)
const hashOfPolicies = `sha256(jsonb_send(p.policies))`

// mostInForce is how many are kept: more than hold at once in any deployment.
const mostInForce = 256

// known returns what was read so far, and its hashes.
func (c *inForceCache) known() (map[string]*processor.InForce, [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	hashes := make([][]byte, 0, len(c.byHash))
	for hash := range c.byHash {
		hashes = append(hashes, []byte(hash))
	}
	return maps.Clone(c.byHash), hashes
}

// read never fails: what cannot be read is its partition's trouble, which is halted with it, and not that of all others
// that are looked at along with it.
func (c *inForceCache) read(hash []byte, text string) *processor.InForce {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.byHash[string(hash)]; ok {
		return f
	}
	f, err := processor.ReadInForce([]byte(text))
	if err != nil {
		f = &processor.InForce{Unreadable: err.Error()}
	}
	if len(c.byHash) >= mostInForce || c.byHash == nil {
		c.byHash = make(map[string]*processor.InForce)
	}
	c.byHash[string(hash)] = f
	return f
}

// inForce is what holds in a partition, on its way into its row.
type inForce struct {
	partition int32
	json      []byte
}

var inForceColumns = []column[inForce]{
	{"partition", oidInt4, "integer[]", func(b []byte, f *inForce) []byte { return appendInt4(b, f.partition) }},
	{"policies", oidText, "text[]", func(b []byte, f *inForce) []byte { return appendBytes(b, f.json) }},
}

// putInForce comes behind the fence, which has locked the rows. Only a batch with an activation has it.
var putInForce = &statement{"put_in_force", `
	UPDATE partitions p SET policies = f.policies::jsonb
	FROM unnest($2::integer[], $3::text[]) AS f (partition, policies)
	WHERE p.topic = $1::text AND p.partition = f.partition`}

// policy is one that was activated, on its way into the table spaces.
type policy struct {
	space   names.Space
	version int32
	json    []byte
}

var policyColumns = []column[policy]{
	{"space", oidText, "text[]", func(b []byte, p *policy) []byte { return appendText(b, p.space) }},
	{"version", oidInt4, "integer[]", func(b []byte, p *policy) []byte { return appendInt4(b, p.version) }},
	{"policy", oidText, "text[]", func(b []byte, p *policy) []byte { return appendBytes(b, p.json) }},
}

// putPolicies writes the same from each partition: the first to come has written it. In one order, so that two writers
// never wait for each other in a circle.
var putPolicies = &statement{"put_policies", `
	INSERT INTO spaces (space, version, policy)
	SELECT p.space, p.version, p.policy::jsonb FROM unnest($1::text[], $2::integer[], $3::text[]) AS p (space, version, policy)
	ON CONFLICT DO NOTHING`}

// activated appends what a transaction with activations writes besides.
func (w *writing) activated(steps []step, topic string) []step {
	if len(w.inForce) == 0 {
		return steps
	}
	slices.SortFunc(w.policies, func(a, b policy) int {
		return cmp.Or(cmp.Compare(a.space, b.space), cmp.Compare(a.version, b.version))
	})
	return append(steps,
		step{putInForce, append([][]byte{[]byte(topic)}, arrays(inForceColumns, w.inForce)...), nil},
		step{putPolicies, arrays(policyColumns, w.policies), nil})
}

// activate takes in what a batch makes hold.
func (w *writing) activate(b *processor.Batch) {
	if b.InForce == nil {
		return
	}
	w.inForce = append(w.inForce, inForce{b.Partition, b.InForce.JSON()})
	for _, p := range b.Activated {
		w.policies = append(w.policies, policy{p.Space, int32(p.Version), p.AppendJSON(nil)})
	}
}

// UsedNames calls f for every name of a space that is not free, in order of the keys, until it returns an error.
func (r *Record) UsedNames(ctx context.Context, space names.Space, f func(api.Owned) error) error {
	const page = 5_000
	after := ""
	for {
		var all []api.Owned
		params := [][]byte{[]byte(space), []byte(after), appendInt8(nil, page)[4:]}
		err := r.read(ctx, fmt.Sprintf("read the names of space %s", space), func(ctx context.Context, c *pgx.Conn) error {
			all = all[:0]
			return pipeline(ctx, c, step{usedNames, params, func(f fields) error {
				if err := f.must(1 + holdingWidth); err != nil {
					return err
				}
				ref := names.Ref{Space: space, Key: names.Key(f.text(0))}
				h, err := readHolding(f[1:], string(ref.Key))
				all = append(all, api.Owned{Ref: ref, Holding: h})
				return err
			}})
		})
		if err != nil {
			return err
		}
		for _, o := range all {
			after = string(o.Key)
			if o.State == registrations.Free {
				continue
			}
			if err := f(o); err != nil {
				return err
			}
		}
		if len(all) < page {
			return nil
		}
	}
}

// usedNames reads names of all spaces in the order of the primary key, and passes over those of others: spaces are few.
var usedNames = &statement{"used_names", `
	SELECT n.key, ` + holdingFields + `
	FROM names n
	WHERE n.key > $2::text AND n.space = $1::text
	ORDER BY n.key
	LIMIT $3::bigint`}
