package api

import (
	"html/template"
	"net/http"

	"github.com/dibs-hq/dibs/registrations"
)

// kind is what all problems with one reason have in common.
type kind struct {
	// rejected is the status of an outcome of the log with this reason, refused that of a refusal by the API; 0 where
	// there is none.
	rejected, refused int
	title             string
	// advice is what the page says to do, and a refusal's detail where there is nothing more particular to say.
	advice string
}

// kinds has every reason that an answer may have.
var kinds = map[Reason]kind{
	Reason(registrations.Taken): {409, 0, "The name is taken",
		"Somebody holds the name, maybe the same owner. Choose another one, or claim it with on_conflict: return_existing if it may be the owner's already."},
	ReservedWord: {409, 422, "The name is reserved",
		"Nobody gets this name: it is one that mail systems or programs give a meaning to. Choose another one."},
	Reason(registrations.Confusable): {409, 0, "The name looks like another one",
		"Somebody holds a name that looks the same. Choose another one."},
	Reason(registrations.CoolingDown): {409, 0, "The name was given up not long ago",
		"Until its cool-down is over, only its previous owner may have it, if the policy of the space says so."},
	Reason(registrations.NameBlocked): {409, 0, "The name is blocked",
		"Nobody gets this name until it is unblocked."},
	InvalidName: {409, 422, "The name is not valid",
		"The space has rules for its names, such as length and characters; the detail says which one is broken."},
	InvalidRequest: {409, 422, "The request cannot be had",
		"It can be read, but a field asks for something that is not possible; the errors name it."},
	UnknownSpace: {409, 422, "There is no such space",
		"The space is spelt wrongly, or this deployment does not have it."},
	AnotherVersion: {412, 412, "The name has another version",
		"It was changed since the version that was asked for. Read it again, look whether the claim still makes sense, and repeat it with current_version."},
	NotOwner: {403, 403, "The name is somebody else's",
		"Only the owner of a name may do this."},
	NotAllowed: {403, 403, "This is not allowed",
		"The key has not the scope for this, or is limited to other spaces or owners."},
	UnknownClaim: {404, 404, "There is no such claim",
		"The id is wrong, the claim was decided so long ago that it is no longer kept, or it is not decided yet: the Location of a 202 can tell, because it says where in the log the claim is."},
	Reason(registrations.ReservationExpired): {409, 0, "The reservation has expired",
		"It was not confirmed in time. Claim the name again."},
	WrongState: {409, 409, "The name is not in a state for this",
		"What was asked for cannot be done to the name as it is now. Read the name."},
	Reason(registrations.LimitExceeded): {409, 0, "The owner holds as many names as it may",
		"Give one up first."},
	Reason(registrations.DeadlinePassed): {409, 0, "The request came after its deadline",
		"This is final for its id or Idempotency-Key: use a new one."},
	Reason(registrations.Malformed): {409, 0, "The record could not be read",
		"This is final for its id or Idempotency-Key: use a new one."},
	Reason(registrations.ClaimWithdrawn): {409, 0, "The claim was withdrawn",
		"This is final for its id or Idempotency-Key: use a new one."},

	BadRequest400: {0, 400, "The request cannot be read",
		"It is not JSON, or a field, a header or a parameter is unknown or malformed; the errors name it. Nothing was published."},
	NoKey: {0, 401, "A valid key is required",
		"Send Authorization: Bearer <id>.<secret>. The key may have expired or been replaced."},
	NoSuchPage: {0, 404, "There is nothing at this address",
		"The description of this API is at /openapi.yaml."},
	MethodNotAllowed: {0, 405, "The method is not possible here",
		"The header Allow says which ones are."},
	AmbiguousID: {0, 409, "The id stands for two claims",
		"It was used to claim two names, each of which has an outcome of its own. Read the names instead, and give each claim its own id."},
	PositionGone: {0, 410, "The place in the log is gone",
		"What came behind that id is not kept any more, or the id is of another log: something may have been missed. Ask for the stream without an id first, then read the names that matter, and go on with the stream."},
	BodyTooLarge: {0, 413, "The body is too large",
		"A request is at most 4 KiB. Nothing was published."},
	WrongMediaType: {0, 415, "The body is not JSON",
		"Send Content-Type: application/json, without a Content-Encoding. Nothing was published."},
	IdempotencyMismatch: {0, 422, "The id was used for another request",
		"An earlier request had the same Idempotency-Key and name, or the same claim_id, but asked for something else. That one stands. Use a new Idempotency-Key or claim_id."},
	OverRate: {0, 429, "Too many requests",
		"The caller asks more often than it may. Nothing was published; ask again after Retry-After."},
	InternalFault: {0, 500, "The server has a fault",
		"It was logged. Repeat a claim with the same Idempotency-Key only: it may have been published."},
	NotConfigured: {0, 501, "The server is not set up for this",
		"It lacks a setting that this needs, which the detail names. Nothing was published."},
	TooBusy: {0, 503, "Too many are waiting",
		"Nothing was published. Repeat the claim after Retry-After."},
	NotAvailable: {0, 503, "Something that is needed is away",
		"Kafka or Postgres cannot be reached. Nothing was published. Repeat the claim after Retry-After."},
	PartitionHalted: {0, 503, "The partition is halted",
		"The part of the log that the name belongs to does not go on until an operator lets it. Nothing was published. Other names may be on other parts."},
	OutcomeUnknown: {0, 503, "The outcome is not known",
		"Whether the claim was published could not be found out in time. It may be decided, now or later: repeat it with the same Idempotency-Key or claim_id, or read it by its claim_id."},
}

var problemPage = template.Must(template.New("problem").Parse(`<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{{.Title}} · dibs</title></head>
<body>
<h1>{{.Title}}</h1>
<p><code>{{.Reason}}</code></p>
<p>{{.Advice}}</p>
{{- with .Rejected}}<p>As the outcome of a claim the status is {{.}}. The claim was decided, and this is final for it.</p>
{{end}}
{{- with .Refused}}<p>As a refusal by the API the status is {{.}}.</p>
{{end -}}
</body>
</html>
`))

// getProblem serves the page of a problem.
func (s *Server) getProblem(w http.ResponseWriter, r *http.Request) {
	reason := Reason(r.PathValue("reason"))
	k, ok := kinds[reason]
	if !ok {
		s.writeProblem(w, r, &Refused{Reason: NoSuchPage})
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=3600")
	err := problemPage.Execute(w, struct {
		Reason            Reason
		Title, Advice     string
		Rejected, Refused int
	}{reason, k.title, k.advice, k.rejected, k.refused})
	if err != nil {
		s.log.DebugContext(r.Context(), "page not sent", "err", err)
	}
}
