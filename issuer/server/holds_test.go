package server

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/governed-execution/writ/test/issuertest"
)

// toAdmin says something to the admin socket.
func (s *site) toAdmin(text string) heard {
	s.Helper()
	conn := issuertest.Must(net.Dial("unix", s.socket))(s)
	defer conn.Close()
	issuertest.Must(io.WriteString(conn, text))(s)
	return s.hear(conn)
}

func TestHoldsArePlacedAndLiftedOnTheAdminSocket(t *testing.T) {
	s := open(t, Limits{}, nil)
	size := s.Size()
	const good = `{"name":"case 7","from":3,"reason":"litigation"}`
	for name, text := range map[string]string{
		"nothing":        post("/v1/holds", "application/json", ""),
		"no name":        post("/v1/holds", "application/json", `{"from":3}`),
		"unknown field":  post("/v1/holds", "application/json", `{"name":"x","form":3}`),
		"two values":     post("/v1/holds", "application/json", good+good),
		"other type":     post("/v1/holds", "text/plain", good),
		"not there":      "DELETE /v1/holds?name=other HTTP/1.1\r\nHost: admin\r\n\r\n",
		"nameless":       "DELETE /v1/holds HTTP/1.1\r\nHost: admin\r\n\r\n",
		"another route":  "GET /v1/other HTTP/1.1\r\nHost: admin\r\n\r\n",
		"a long name":    post("/v1/holds", "application/json", `{"name":"`+strings.Repeat("x", 300)+`"}`),
		"a long reason":  post("/v1/holds", "application/json", `{"name":"x","reason":"`+strings.Repeat("x", 3000)+`"}`),
		"a negative one": post("/v1/holds", "application/json", `{"name":"x","from":-1}`),
	} {
		if a := s.toAdmin(text); a.status < 400 {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
	}
	if s.Size() != size {
		t.Errorf("%d entries were logged", s.Size()-size)
	}
	if a := s.toAdmin(post("/v1/holds", "application/json", good)); a.status != 201 {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if a := s.admin("/v1/holds"); a.status != 200 || !strings.Contains(string(a.body), `"name":"case 7","from":3`) {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if a := s.toAdmin("DELETE /v1/holds?name=case+7 HTTP/1.1\r\nHost: admin\r\n\r\n"); a.status != 200 {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if a := s.admin("/v1/holds"); string(a.body) != "[]" {
		t.Errorf("got %s", a.body)
	}
	if got := s.Size() - size; got != 2 { // T23: each act of the operator is one record
		t.Errorf("%d records of two acts", got)
	}
	if a := s.say("GET /v1/holds HTTP/1.1\r\nHost: issuer\r\n\r\n"); a.status == 200 {
		t.Error("the public listener tells of holds")
	}
}

// TestT23_EveryRouteThatChangesSomethingIsLogged goes through the route tables: what is not GET is one of these, each of
// which has a test that counts its records; so a new one cannot be added without one.
func TestT23_EveryRouteThatChangesSomethingIsLogged(t *testing.T) {
	s := open(t, Limits{}, nil)
	logged := map[string]bool{"POST /v1/artifacts": true, "POST /v1/acts/:kind": true, "POST /v1/records": true, "POST /v1/enrol/activate": true,
		"POST /entries": true, "POST /v1/attestations": true, "POST /v1/holds": true, "DELETE /v1/holds": true, "POST /v1/keys/:purpose": true}
	harmless := map[string]bool{"POST /v1/challenges": true, "POST /v1/enrol": true} // they change nothing but their connection
	for _, table := range []map[string]http.HandlerFunc{s.server.publicTable(), s.server.adminTable()} {
		for route := range table {
			if !strings.HasPrefix(route, "GET ") && !logged[route] && !harmless[route] {
				t.Errorf("%s changes something, and nothing says that it is logged", route)
			}
		}
	}
}
