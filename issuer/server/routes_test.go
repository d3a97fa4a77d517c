package server

import (
	"net/http"
	"strings"
	"testing"

	"github.com/governed-execution/writ/issuer/wire"
)

// TestEveryRouteAnswersBadInputWithItsStatus goes through both route tables: a path that is not there, a method that the path does not
// have, a parameter that is malformed, a body of another type, and one that is too long.
func TestEveryRouteAnswersBadInputWithItsStatus(t *testing.T) {
	s := open(t, Limits{}, nil)
	type ask = func(string) heard
	public, admin := s.say, func(text string) heard { return s.toAdmin(strings.Replace(text, "Host: issuer", "Host: admin", 1)) }
	expect := func(name string, a heard, status int) {
		t.Helper()
		if a.status != status {
			t.Errorf("%s: got HTTP %d %q, want %d", name, a.status, a.body, status)
		}
		if allow := a.header.Get("Allow"); (status == http.StatusMethodNotAllowed) != (allow != "") {
			t.Errorf("%s: HTTP %d with Allow: %q", name, a.status, allow)
		}
	}
	filled := strings.NewReplacer(":kind", "policy", ":list", "0", ":id", "00", ":kid", "x", ":purpose", "log", "*", "0/000")
	for which, table := range map[string]struct {
		routes map[string]http.HandlerFunc
		ask    ask
	}{"public": {s.server.publicTable(), public}, "admin": {s.server.adminTable(), admin}} {
		for route := range table.routes {
			method, path, _ := strings.Cut(route, " ")
			path = filled.Replace(path)
			expect(which+" PATCH "+path, table.ask(bare("PATCH", path)), http.StatusMethodNotAllowed)
			below := strings.Replace(path, "0/000", "x", 1) + "/none/none"
			if a := table.ask(bare(method, below)); a.status != http.StatusMethodNotAllowed { // for echo another method's parameter takes the whole rest
				expect(which+" nothing below "+path, a, http.StatusNotFound)
			}
			if method == "POST" && !strings.HasSuffix(path, "challenges") && !strings.Contains(path, "/keys/") {
				expect(which+" another type to "+path, table.ask(post(path, "text/plain", "x")), http.StatusUnsupportedMediaType)
			}
		}
	}
	long := "Content-Length: 99999999"
	for _, row := range []struct {
		ask    ask
		text   string
		status int
	}{
		{public, bare("POST", "/v1/artifacts", "Content-Type: "+wire.MediaMint, long), http.StatusRequestEntityTooLarge},
		{public, bare("POST", "/v1/attestations", "Content-Type: "+wire.MediaMint, long), http.StatusRequestEntityTooLarge},
		{public, bare("POST", "/v1/enrol", "Content-Type: "+wire.MediaEnrol, long), http.StatusRequestEntityTooLarge},
		{public, bare("POST", "/v1/enrol/activate", "Content-Type: "+wire.MediaActivation, long), http.StatusRequestEntityTooLarge},
		{public, bare("POST", "/v1/acts/policy", "Content-Type: "+wire.MediaAct, long), http.StatusRequestEntityTooLarge},
		{public, bare("POST", "/v1/records", "Content-Type: "+wire.MediaStatement, long), http.StatusRequestEntityTooLarge},
		{public, bare("POST", "/entries", "Content-Type: "+wire.MediaCOSE, long), http.StatusRequestEntityTooLarge},
		{public, bare("POST", "/v1/challenges", long), http.StatusRequestEntityTooLarge},
		{public, bare("GET", "/v1/acts/policy"), http.StatusBadRequest},
		{public, bare("GET", "/v1/acts/none?subject=x"), http.StatusNotFound},
		{public, post("/v1/acts/none", wire.MediaAct, "x"), http.StatusNotFound},
		{public, bare("GET", "/v1/status/x"), http.StatusNotFound},
		{public, bare("GET", "/v1/status/9999"), http.StatusNotFound},
		{public, bare("GET", "/v1/status/"+strings.Repeat("9", 4000)), http.StatusNotFound},
		{public, bare("GET", "/entries/xyz"), http.StatusBadRequest},
		{public, bare("GET", "/entries/"+strings.Repeat("0", 64)), http.StatusNotFound},
		{public, bare("GET", "/.well-known/scitt-keys/x"), http.StatusNotFound},
		{public, bare("GET", "/log/tile/x"), http.StatusNotFound},
		{public, bare("GET", "/log/tile/0/999"), http.StatusNotFound},
		{public, bare("GET", "/log/checkpoint"), http.StatusNotFound}, // none is published here
		{admin, post("/v1/holds", "application/json", "{"), http.StatusBadRequest},
		{admin, post("/v1/holds", "application/json", `{"name":"x","more":1}`), http.StatusBadRequest},
		{admin, bare("POST", "/v1/holds", "Content-Type: application/json", long), http.StatusRequestEntityTooLarge},
		{admin, bare("GET", "/v1/exports?from=x"), http.StatusBadRequest},
		{admin, bare("GET", "/v1/exports?nothing=1"), http.StatusBadRequest},
	} {
		first, _, _ := strings.Cut(row.text, "\r\n")
		expect(first[:min(len(first), 60)], row.ask(row.text), row.status)
	}
	s.alive()
}
