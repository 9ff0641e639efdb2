package checker

import (
	"strings"
	"time"
	"unicode/utf8"
)

// request is a record of claims, read by the checker's own rules.
type request struct {
	record *Record
	// dead says why it gets no outcome; then nothing else is set, but for the id where it can be read.
	dead      string
	malformed bool
	id        string
	kind      string // UsernameClaimed, …
	principal string
	rerouted  bool
	signed    bool
	// space and key are of the name it is about: computed, else taken from the record's key.
	space, key string
	// canonical tells the names with one key apart. It is empty where the key is all that is asked about.
	canonical string
	byKey     bool // the value has it, in place of a name
	laws      *laws
	nameOK    bool // computed: a known space and a valid name
	// outgrown: it is one, and no policy of now lets anybody claim it. It may be held since an earlier one.
	outgrown bool

	asked
	// hash is the request hash, as far as it is defined: of a request whose name has a key.
	hash string
	// print tells requests with one id apart; also has those that it would have had under another policy.
	print string
	also  []string
	// activation is what a PolicyActivated says.
	activation activation
}

// asked is what the values of requests say. What a type of request does not have is not read.
type asked struct {
	name, owner, newOwner, mode, onConflict string
	claimID, actor, reason                  string
	ttl, expectedVersion                    *int64
	replaces                                *replaces
	expiresAt, deadline                     time.Time
	metadata                                map[string]string
	names                                   []wanted
	of                                      [2]string
	detail, signup                          string
}

type replaces struct {
	name    string
	key     string // in place of a name
	version int64
}

func (r *replaces) asked() string {
	if r.key != "" {
		return r.key
	}
	return r.name
}

// The types of requests.
const (
	typeClaim      = "UsernameClaimed"
	typeConfirm    = "ConfirmRequested"
	typeExtend     = "ExtendRequested"
	typeRelease    = "ReleaseRequested"
	typeWithdraw   = "WithdrawRequested"
	typeDeactivate = "DeactivateRequested"
	typeReactivate = "ReactivateRequested"
	typeTransfer   = "TransferRequested"
	typeBlock      = "BlockRequested"
	typeUnblock    = "UnblockRequested"
	typeErase      = "ErasureRequested"
	typeExpiry     = "ExpiryDue"
	typePolicy     = "PolicyActivated"
)

// fieldsOf says which fields a type of request has besides space, name and deadline; those before the bar must be there.
var fieldsOf = map[string]string{
	typeClaim:      "owner mode | ttl_seconds replaces expected_version on_conflict metadata signup",
	typeSignup:     "owner names | ttl_seconds",
	typeVote:       "claim_id owner of | reason detail",
	typeConfirm:    "claim_id owner",
	typeExtend:     "claim_id owner ttl_seconds",
	typeRelease:    "| owner expected_version actor reason",
	typeWithdraw:   "claim_id owner",
	typeDeactivate: "owner | expected_version",
	typeReactivate: "owner | expected_version",
	typeTransfer:   "new_owner | owner expected_version actor reason",
	typeBlock:      "actor reason",
	typeUnblock:    "actor reason",
	typeErase:      "owner actor reason",
	typeExpiry:     "claim_id expires_at",
	typePolicy:     "",
}

// read reads a record of claims under the laws that hold where it lies.
func read(r *Record, l *laws) request {
	q := request{record: r, laws: l}
	id, _ := r.header("ce_id")
	validID := false
	q.id, validID = uuidOf(id)
	contentType, _ := r.header("content-type")
	version, _ := r.header("ce_specversion")
	kind, _ := r.header("ce_type")
	known := false
	if name, ok := strings.CutPrefix(kind, "dibs."); ok {
		q.kind, ok = strings.CutSuffix(name, ".v1")
		_, known = fieldsOf[q.kind]
		known = known && ok
	}
	principal, _ := r.header("ce_dibsprincipal")
	q.principal, q.signed = principal, signed(r, l.secrets)
	switch {
	case strings.HasPrefix(strings.ToLower(contentType), "application/cloudevents"):
		q.dead = "structured mode"
	case !validID:
		q.dead = "no id"
	case version != "1.0":
		q.dead = "spec version"
	case !known:
		q.dead = "type"
	case strings.IndexByte("4578", q.id[14]) < 0 || strings.IndexByte("89ab", q.id[19]) < 0:
		q.dead = "version of the id"
	case q.kind == typePolicy && q.id[14] != '8', q.id[14] == '8' && (!q.signed || principal != ownPrincipal):
		q.dead = "not dibs' own"
	case q.kind == typePolicy:
		ok := false
		if q.activation, ok = l.activated(r.Value); !ok {
			q.dead = "no policy"
		}
		return q
	}
	if q.dead != "" {
		return q
	}
	_, q.rerouted = r.header("dibs-rerouted")
	q.malformed = len(r.Key)+len(r.Value) > 8<<10 || !q.value(r.Value)
	if q.principal != "" && !printable(q.principal) {
		q.principal, q.malformed = "", true
	}
	policy, known := l.policies[q.space]
	own, asked := q.id[14] == '8', q.subject()
	q.malformed = q.malformed || q.byKey && !own && (q.space == spaceSignup || known && !policy.Private()) || !q.signupFits()
	if q.ofSignup() && !q.malformed {
		if !q.byKey {
			q.key = q.name
		}
		id, ok := uuidOf(q.key)
		q.nameOK = ok && id == q.key
	} else if !q.malformed && q.byKey && own && q.kind != typeClaim && (known || q.kind == typeErase) {
		q.nameOK = true
	} else if !q.malformed && q.byKey == policy.Private() {
		var form Form
		form, q.nameOK = l.canonical(q.space, asked)
		if known && !q.nameOK && q.kind != typeClaim {
			form, q.nameOK = l.form(q.space, asked)
			q.outgrown = q.nameOK
		}
		q.key, q.canonical = form.Key, form.Canonical
	}
	if !q.nameOK {
		if len(r.Key) == 0 || len(r.Key) > 512 || !utf8.Valid(r.Key) || strings.IndexByte(string(r.Key), 0) >= 0 {
			q.dead = "record key"
			return q
		}
	}
	switch {
	case q.malformed:
		q.print = strings.Join([]string{"unread", kind, principal, string(r.Key), string(r.Value)}, "\x00")
	default:
		typed := strings.Join([]string{"unnamed", q.requestHash(string(r.Key)), asked}, "\x00")
		q.print, q.also = typed, nil
		if form, ok := l.form(q.space, asked); ok && (!q.byKey || policy.Private()) {
			q.also = []string{q.requestHash(q.space + "/" + form.Key), typed}
		}
		if q.nameOK { // else there is no key that could stand for the name
			q.hash = q.requestHash(q.recordKey())
			q.print = q.hash
		}
		if q.outgrown { // by which key it is hashed is nobody's business
			q.hash = ""
		}
	}
	return q
}

// subject is how the request says which name it is about.
func (q *request) subject() string {
	if q.byKey {
		return q.key
	}
	return q.name
}

// told is the name as outcomes repeat it: of a private space there is none, whatever somebody has put into the record.
func (q *request) told() string {
	if p := q.laws.policies[q.space]; p.Private() {
		return ""
	}
	return q.name
}

// recordKey is the key under which the request is decided.
func (q *request) recordKey() string {
	if q.nameOK && q.space == "" { // of dibs' own: an erasure of what was asked under a key that says no space
		return q.key
	}
	if q.nameOK {
		return q.space + "/" + q.key
	}
	return string(q.record.Key)
}

// privileged reports whether it is not for everybody to ask this.
func (q *request) privileged() bool {
	switch q.kind {
	case typeBlock, typeUnblock, typeExpiry, typeErase, typeVote:
		return true
	case typeRelease, typeTransfer:
		return q.actor != ""
	}
	return false
}

// short is the type as outcomes say it: nothing for a claim, and for what cannot be read.
func (q *request) short() string {
	if q.kind == typeClaim || q.malformed {
		return ""
	}
	return q.kind
}

// split is the space and key of a record key: the space is empty where it has none.
func split(recordKey string) (space, key string) {
	if s, k, ok := strings.Cut(recordKey, "/"); ok && validSpace(s) && k != "" {
		return s, k
	}
	return "", recordKey
}

// maxTTL is ten years: what lies behind is no time that anything could be kept for.
const maxTTL = 10 * 366 * 24 * 60 * 60

// invalid reports whether a readable request asks for something that cannot be had.
func (q *request) invalid(l *laws) bool {
	if q.expectedVersion != nil && *q.expectedVersion < 0 {
		return true
	}
	byActor := !printable(q.actor) || q.reason == "" || len(q.reason) > 500
	byEither := q.actor == "" && (q.reason != "" || !printable(q.owner)) || q.actor != "" && (q.owner != "" || byActor)
	switch q.kind {
	case typeClaim:
		return q.invalidClaim(l)
	case typeExtend:
		return !printable(q.owner) || *q.ttl < 1 || *q.ttl > maxTTL
	case typeRelease:
		return byEither
	case typeTransfer:
		return byEither || !printable(q.newOwner) || q.newOwner == q.owner
	case typeBlock, typeUnblock:
		return byActor
	case typeErase:
		return byActor || !printable(q.owner)
	case typeExpiry:
		return false
	}
	return !printable(q.owner)
}

func (q *request) invalidClaim(l *laws) bool {
	policy := l.policies[q.space]
	switch {
	case !printable(q.owner), q.mode != "register" && q.mode != "reserve",
		q.onConflict != "" && q.onConflict != "return_existing",
		len(q.metadata) > 0 && len(canonicalStrings(nil, q.metadata)) > 1<<10:
		return true
	case l.rules > 1 && q.onConflict != "" && q.replaces != nil:
		return true
	case q.ttl != nil && (q.mode == "register" || *q.ttl < 1 || *q.ttl > maxTTL):
		return true
	}
	if q.ttl != nil {
		if ttl := time.Duration(*q.ttl) * time.Second; ttl < policy.ShortestTTL || ttl > policy.LongestTTL {
			return true
		}
	}
	if r := q.replaces; r != nil {
		if (r.key != "") != policy.Private() {
			return true
		}
		form, ok := l.form(q.space, r.asked())
		return !ok || r.version < 1 || form.Key == q.key && form.Canonical == q.canonical && q.mode == "reserve"
	}
	return false
}

// printable: 1 to 255 printable ASCII characters.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return s != "" && len(s) <= 255
}

// uuidOf is a UUID in lower case, and whether the text is one in its 36-character form.
func uuidOf(text string) (string, bool) {
	text = strings.ToLower(text)
	if len(text) != 36 {
		return "", false
	}
	for i := range len(text) {
		if c := text[i]; i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return "", false
			}
		} else if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", false
		}
	}
	return text, true
}
