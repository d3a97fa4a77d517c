package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/stock"
)

// sends has people sign a draft, and sends it.
func (l *live) sends(file string, who ...statement.Signer) error {
	l.Helper()
	b := must(must(record.DecodeDraft(must(os.ReadFile(l.path(file)))(l)))(l).Sign(l.Context(), who[0]))(l)
	for _, p := range who[1:] {
		b = must(b.Cosign(l.Context(), p))(l)
	}
	_, err := l.client.Apply(l.Context(), statement.KeyChange, b)
	return err
}

// stranger reports whether an act was refused as one of somebody whom the issuer does not know, and so tells nothing.
func stranger(err error) bool { return err != nil && strings.Contains(err.Error(), "bad proof") }

// TestAuthoritiesChange: one person goes and one comes, while writd serves, and relying parties follow.
func TestAuthoritiesChange(t *testing.T) {
	l := newLive(t, softTable(softToken(t)))
	l.serve()
	l.admit()
	old := l.trust()
	m := l.enrol("spiffe://example/host/a")
	defer m.close()
	before := m.asked()

	gone, stays, comes := l.people[0], l.people[1], stock.Signer(t)
	l.write("carol.pub", must(comes.Key().PEM())(t))
	args := []string{"authorities", "change", "--remove", person(0), "--add", person(2) + "=" + l.path("carol.pub"), "--why", "alice has left", "--draft", l.path("change")}
	var drafted struct {
		Authorities peopleView
		Sequence    uint64
	}
	if err := json.Unmarshal([]byte(l.must(append(args, "--json")...)), &drafted); err != nil || drafted.Sequence != 1 || len(drafted.Authorities.Authorities) != 2 {
		t.Fatalf("got %+v, %v", drafted, err)
	}
	for name, who := range map[string][]statement.Signer{"who goes and who stays": {gone, stays}, "who stays and who comes": {stays, comes}, "who comes": {comes}} {
		if err := l.sends("change", who...); !denial.Is(err, denial.ThresholdNotMet) {
			t.Errorf("signed by %s: got %v", name, err)
		}
	}
	if err := l.sends("change", gone, stays, comes); err != nil {
		t.Fatal(err)
	}
	if err := l.sends("change", gone, stays, comes); err == nil {
		t.Error("the same change a second time")
	}
	if out := l.must("authorities", "list"); strings.Contains(out, person(0)) || !strings.Contains(out, "policy      2 of "+person(1)+", "+person(2)) {
		t.Errorf("got %s", out)
	}

	// Acts are now for those who are there.
	l.must("keys", "rotate", "artifact", "--why", "cryptoperiod", "--draft", l.path("rotate"))
	if err := l.sends("rotate", gone, stays); !stranger(err) {
		t.Errorf("a key change signed by who is gone: got %v", err)
	}
	l.stop()
	l.must("fsck")
	l.serve() // who the authorities are stands in the log
	if err := l.sends("rotate", stays, comes); err != nil {
		t.Errorf("a key change signed by who is there: got %v", err)
	}
	lost := record.Revocation{Version: record.Version, Cause: record.CauseHost, Target: "spiffe://example/host/z", Time: uint64(time.Now().Unix()), Why: "lost", Nonce: stock.Random(16)}
	l.people = []statement.Signer{gone, stays}
	if err := l.apply(statement.Revocation, lost); !stranger(err) {
		t.Errorf("a revocation signed by who is gone: got %v", err)
	}
	// What was given out before, and after, is good by a trust file of before.
	l.people = []statement.Signer{stays, comes}
	n := l.enrol("spiffe://example/host/b")
	defer n.close()
	l.relying(old, before, n.asked())

	for _, bad := range []struct {
		why  string
		args []string
	}{
		{"no authority is called so", []string{"--remove", person(0)}},
		{"wants PERSON=FILE", []string{"--add", person(3)}},
		{"reading authority key", []string{"--add", person(3) + "=" + l.path("none")}},
		{"--role wants", []string{"--role", "king=1"}},
		{"409 DUAL_CONTROL_MISSING", []string{"--role", "root=1"}},
		{"326 THRESHOLD_NOT_MET", []string{"--remove", person(1)}},
		{"326 THRESHOLD_NOT_MET", []string{"--role", "break-glass=2"}},
		{"306 KEY_AMBIGUOUS", []string{"--add", person(3) + "=" + l.path("carol.pub")}},
		{"312 PAYLOAD_FORM", []string{"--reset", "everything"}},
		{"give --why TEXT", []string{"--remove", person(1), "--why", " "}},
	} {
		if status, out := l.status(append([]string{"authorities", "change", "--why", "a test", "--draft", l.path("bad")}, bad.args...)...); status == 0 || !strings.Contains(out, bad.why) {
			t.Errorf("writd authorities change %v: exit status %d\n%s", bad.args, status, out)
		}
	}
	if _, err := os.Stat(l.path("bad")); err == nil {
		t.Error("a draft was written all the same")
	}
	l.stop()
	l.must("fsck")
}
