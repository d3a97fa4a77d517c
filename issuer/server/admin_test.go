package server

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer/wire"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// powers says of each route of the admin socket what whoever holds the socket alone can do with it. None is a power over permits:
// those are acts of authorities, and come in through the public routes with their quorum, or not at all.
var powers = map[string]string{
	"GET /v1/exports":        "read the log, and have a manifest of it signed and logged",
	"GET /v1/keys":           "read public keys",
	"POST /v1/keys/:purpose": "have the token make a key, whose birth is logged; it signs nothing until the role keys puts it in use",
	"GET /v1/hosts":          "read enrolments",
	"GET /v1/holds":          "read legal holds",
	"POST /v1/holds":         "keep payloads; logged",
	"DELETE /v1/holds":       "let payloads of age be deleted; logged, and statements stay",
	"GET /metrics":           "read counts",
	"GET /healthz":           "read health",
}

// A15: the admin socket has these routes and no others, beside those of the log, and answers none of the public ones: nothing can be minted,
// enrolled, published, revoked or put in use over it, whoever sends it.
func TestA15_TheAdminSocketAloneHasNoPowerOverPermits(t *testing.T) {
	s := open(t, Limits{}, nil)
	for route := range s.server.adminTable() {
		if _, path, _ := strings.Cut(route, " "); powers[route] == "" && !strings.HasPrefix(path, "/log/") && !strings.HasPrefix(path, "/entries") && !strings.HasPrefix(path, "/.well-known/") {
			t.Errorf("what can be done with %s is not written down", route)
		}
	}
	if admin := s.server.adminTable(); !slices.ContainsFunc(slices.Collect(maps.Keys(admin)), func(r string) bool { return strings.Contains(r, "/log/") }) {
		t.Error("the table is not that of the socket")
	}
	for route := range powers {
		if s.server.adminTable()[route] == nil {
			t.Errorf("there is no %s", route)
		}
	}
	size := s.Size()
	r := s.Revocation(record.CauseHost, issuertest.HostURI)
	good := string(issuertest.Must(s.Sign(statement.Revocation, r, s.Persons...).Encode())(t)) // what the public route would take
	for _, path := range []string{"/v1/challenges", "/v1/artifacts", "/v1/attestations", "/v1/enrol", "/v1/enrol/activate", "/v1/acts/revocation",
		"/v1/acts/key-change", "/v1/acts/policy", "/v1/acts/epoch", "/v1/acts/genesis", "/v1/records", "/v1/unseal", "/v1/rekey", "/v1/cancel", "/v1/keys", "/v1/epochs"} {
		status := http.StatusNotFound
		if path == "/v1/keys" { // which is there to be read
			status = http.StatusMethodNotAllowed
		}
		wantStatus(t, s.toAdmin(strings.Replace(post(path, wire.MediaAct, good), "Host: issuer", "Host: admin", 1)), denial.NotPermitted, status)
	}
	if s.Size() != size {
		t.Errorf("%d entries came in over the socket", s.Size()-size)
	}
	s.alive()                                                             // the host is not revoked
	for _, path := range []string{"/v1/acts/epoch", "/v1/acts/genesis"} { // nor have these another way in
		wantStatus(t, s.say(post(path, wire.MediaAct, good)), denial.NotPermitted, http.StatusNotFound)
	}
}

// A15: a key that is made, as the socket can have it, and that the key in use has named, signs nothing until the quorum puts it in use.
func TestA15_AKeyThatNobodyPutInUseSignsNothing(t *testing.T) {
	s := open(t, Limits{}, nil)
	next, steps := s.Replacement(record.PurposeArtifact, record.KeyRetired) // made, announced by the key in use, and not put in use
	key := func() statement.Thumbprint {
		t.Helper()
		raw := issuertest.Must(s.mint(s.dial(), issuertest.Spoil{}))(t)
		env := issuertest.Must(statement.Decode(raw, 1<<20))(t)
		id, ok := env.KeyID()
		if _, _, err := artifact.Inspect(raw); err != nil || !ok {
			t.Fatal(err)
		}
		return id
	}
	before := key()
	if before == next.Key().Thumbprint() {
		t.Error("a key that nobody has put in use signs")
	}
	change := s.KeyChange(steps...)
	one := s.Sign(statement.KeyChange, change, s.Persons[0])
	answer := s.say(post("/v1/acts/key-change", wire.MediaAct, string(issuertest.Must(one.Encode())(t))))
	if answer.status != 403 || s.Ring().Sequence() != 0 {
		t.Errorf("one person alone: got %d %s", answer.status, answer.body)
	}
	if key() != before {
		t.Error("one person alone has put a key in use")
	}
	issuertest.Must(s.client.Apply(s.Ctx, statement.KeyChange, s.Sign(statement.KeyChange, change, s.Persons...)))(t)
	if key() != next.Key().Thumbprint() {
		t.Error("the quorum has not put the key in use")
	}
}
