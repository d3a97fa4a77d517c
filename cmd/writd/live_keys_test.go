package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer/client"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/stock"
)

// signed has both authorities sign a draft, and sends it.
func (l *live) signed(file string) error {
	l.Helper()
	draft := must(record.DecodeDraft(must(os.ReadFile(l.path(file)))(l)))(l)
	b := must(draft.Sign(l.Context(), l.people[0]))(l)
	b = must(b.Cosign(l.Context(), l.people[1]))(l)
	_, err := l.client.Apply(l.Context(), statement.KeyChange, b)
	return err
}

// change drafts a key change, and has it signed and applied.
func (l *live) change(args ...string) {
	l.Helper()
	l.must(append([]string{"keys"}, append(args, "--why", "a test", "--draft", l.path("change"))...)...)
	if err := l.signed("change"); err != nil {
		l.Fatalf("writd keys %s: %v", strings.Join(args, " "), err)
	}
}

// keys returns what writd keys list says.
func (l *live) keys() (all []keyView) {
	l.Helper()
	if err := json.Unmarshal([]byte(l.must("keys", "list", "--json")), &all); err != nil {
		l.Fatal(err)
	}
	return all
}

// key returns the key of a purpose that is in a state.
func (l *live) key(purpose string, state record.KeyState) keyView {
	l.Helper()
	for _, k := range l.keys() {
		if k.Purpose == purpose && k.State == state.String() {
			return k
		}
	}
	l.Fatalf("no %s key is %s: %v", purpose, state, l.keys())
	return keyView{}
}

// relying verifies artifacts with a trust file and the keys that have followed from its genesis.
func (l *live) relying(trust *artifact.Trust, artifacts ...[]byte) (bad int) {
	l.Helper()
	followed := must(trust.Follow(must(l.client.Keys(l.Context()))(l)))(l)
	c, _, err := artifact.Inspect(artifacts[0])
	if err != nil {
		l.Fatal(err)
	}
	status := must(artifact.VerifyStatus(must(l.client.Status(l.Context(), c.Status.List.URI))(l), followed, time.Now(), 0))(l)
	for _, raw := range artifacts {
		if _, err := artifact.Verify(raw, artifact.Want{Trust: followed, Now: time.Now(), Status: status}); err != nil {
			if bad++; bad < 5 {
				l.Errorf("an artifact that was given out does not verify: %v", err)
			}
		}
	}
	return bad
}

func (l *live) trust() *artifact.Trust {
	l.Helper()
	return must(artifact.ParseTrust([]byte(l.must("trust", "--audience", liveGate))))(l)
}

// rotationCount is how many artifacts are minted while every key is replaced: ROTATION_COUNT, or few enough for every run of the tests.
func rotationCount(tb testing.TB) int {
	n, err := strconv.Atoi(os.Getenv("ROTATION_COUNT"))
	if err != nil && os.Getenv("ROTATION_COUNT") != "" {
		tb.Fatal(err)
	}
	return max(n, 200)
}

// TestP18_KeysRotateUnderLoad replaces each key, twice, while machines ask without pause: no request is refused, and every
// artifact verifies with a trust file from before, and with one from after.
func TestP18_KeysRotateUnderLoad(t *testing.T) {
	l := newLive(t, softTable(softToken(t)))
	l.serve()
	l.admit()
	old := l.trust()
	w := l.load(machines(l, 8)...) // each stays below the rate of one AK
	count, rounds := rotationCount(t), 2*len(record.Purposes())
	limit := time.Now().Add(time.Minute + time.Duration(count)*50*time.Millisecond)
	reach := func(n int) {
		t.Helper()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for given, refused := w.count(); given < n; given, refused = w.count() {
			if refused > 0 || time.Now().After(limit) {
				w.stop()
				t.Fatalf("%d artifacts of %d, refused: %v, broken: %v", given, n, w.refused, w.broken)
			}
			<-tick.C
		}
	}
	for round := range rounds {
		reach(count * (round + 1) / (rounds + 1))
		l.change("rotate", record.Purposes()[round%len(record.Purposes())])
	}
	reach(count)
	w.stop()
	if len(w.refused) > 0 {
		t.Fatalf("refused: %v", w.refused)
	}
	for _, err := range w.broken { // on a busy machine HTTP may give up a connection; a host begins a new one then
		if !strings.Contains(err.Error(), "start over with a fresh challenge") {
			t.Errorf("neither an artifact nor a denial: %v", err)
		}
	}
	if bad := l.relying(old, w.given...); bad > 0 {
		t.Errorf("%d of %d artifacts do not verify", bad, len(w.given))
	}
	l.verify(w.given...)
	t.Logf("%d artifacts over %d changes of keys, all verified with a trust file from before and from after; %d connections began anew", len(w.given), rounds, len(w.broken))
	if text := l.must("keys", "list"); strings.Count(text, " retired since ") != rounds || strings.Count(text, " active since ") != 4 {
		t.Errorf("got %s", text)
	}
	l.stop()
	l.must("fsck")
	l.serve()
	m := l.enrol("spiffe://example/host/late")
	defer m.close()
	l.relying(old, m.asked())
}

// TestLifeOfAKey takes a key through its states by the commands, while writd serves and while it does not.
func TestLifeOfAKey(t *testing.T) {
	l := newLive(t, softTable(softToken(t)))
	first := l.key("artifact", record.KeyActive)
	if !first.OnToken || !first.Good || first.Token["serial"] == "" {
		t.Errorf("got %+v", first)
	}
	l.must("keys", "new", "artifact") // before writd serves
	made := l.keys()
	spare := made[len(made)-1]
	if spare.State != "not in use" || !spare.OnToken || !spare.Good || len(made) != 5 {
		t.Fatalf("got %+v", made)
	}
	l.serve()
	l.admit()
	old := l.trust()
	m := l.enrol("spiffe://example/host/a")
	defer m.close()
	before := m.asked()

	l.change("rotate", "artifact", "--key", spare.Thumbprint)
	if k := l.key("artifact", record.KeyActive); k.Thumbprint != spare.Thumbprint {
		t.Errorf("got %+v", k)
	}
	l.relying(old, before, m.asked())

	l.change("state", spare.Thumbprint, "suspended")
	if _, err := m.ask(t.Context()); !denial.Is(err, denial.KeyRevoked) {
		t.Errorf("with a suspended key: got %v", err)
	}
	l.change("state", spare.Thumbprint, "active")
	l.relying(old, before, m.asked())

	l.change("new", "artifact", "--from", time.Now().Add(-time.Second).UTC().Format(time.RFC3339)) // announced, while writd serves
	next := l.key("artifact", record.KeyPreActive)
	l.change("rotate", "artifact", "--key", next.Thumbprint, "--compromised", time.Now().UTC().Format(time.RFC3339))
	l.key("artifact", record.KeyCompromised)
	l.relying(old, before, m.asked())

	l.change("state", first.Thumbprint, "destroyed")
	for _, bad := range [][]string{
		{"rotate", "artifact", "--key", spare.Thumbprint},        // it fell
		{"rotate", "status", "--key", next.Thumbprint},           // it has another purpose
		{"rotate", "artifact", "--key", strings.Repeat("1", 64)}, // the token has no such key
		{"state", first.Thumbprint, "active"},                    // it is destroyed
		{"state", strings.Repeat("1", 64), "suspended"},          // nobody knows it
		{"state", next.Thumbprint, "destroyed"},                  // it is in use
	} {
		if status, out := l.status(append([]string{"keys"}, append(bad, "--why", "a test", "--draft", l.path("bad"))...)...); status != 1 {
			t.Errorf("writd keys %s: exit status %d\n%s", strings.Join(bad, " "), status, out)
		}
	}
	// What follows from a draft that another change has overtaken.
	l.must("keys", "rotate", "status", "--why", "a test", "--draft", l.path("late"))
	l.change("rotate", "record")
	if err := l.signed("late"); !denial.Is(err, denial.DualControlMissing) {
		t.Errorf("a change that was overtaken: got %v", err)
	}
	m.asked()
	l.stop()
	l.must("fsck")
}

// hold has participants hold a ceremony by a script, until it is over.
func (l *live) hold(script string, who []statement.Signer) {
	l.Helper()
	for l.must("ceremony", "run", l.path(script+".toml")); ; l.must("ceremony", "run", l.path(script+".toml")) {
		data, err := os.ReadFile(l.path(script + ".step"))
		if errors.Is(err, os.ErrNotExist) {
			return
		}
		b := must(must(record.DecodeDraft(data))(l).Sign(l.Context(), who[0]))(l)
		for _, p := range who[1:] {
			b = must(b.Cosign(l.Context(), p))(l)
		}
		l.write(script+".step", must(b.Encode())(l))
	}
}

// TestAKeyOfACeremonyIsPutInUse: the birth before witnesses of a key that replaces another is in the log and in the act.
func TestAKeyOfACeremonyIsPutInUse(t *testing.T) {
	l := newLive(t, softTable(softToken(t)))
	who := append(slices.Clone(l.people), stock.Signer(t))
	writeScript := func(name, issuer, purpose string) {
		s := fmt.Sprintf("schema = 1\ntitle = \"Another key\"\nplace = \"Room 4\"\nissuer = %q\n", issuer)
		for i, role := range []string{"custodian", "custodian", "witness"} {
			s += fmt.Sprintf("[[participant]]\nperson = %q\nrole = %q\nkey = \"\"\"\n%s\"\"\"\n", person(i), role, must(who[i].Key().PEM())(t))
		}
		s += "[[step]]\ndo = \"confirm\"\nsay = \"All are present.\"\n"
		s += fmt.Sprintf("[[step]]\ndo = \"make-key\"\npurpose = %q\nreplaces = %q\n", purpose, l.key(purpose, record.KeyActive).Thumbprint)
		for _, do := range []string{"read-back", "birth"} {
			s += fmt.Sprintf("[[step]]\ndo = %q\npurpose = %q\n", do, purpose)
		}
		l.write(name+".toml", []byte(s))
	}
	refused := func(why string, args ...string) {
		t.Helper()
		if status, out := l.status(append([]string{"keys", "rotate", "--why", "a test", "--draft", l.path("bad")}, args...)...); status != 1 || !strings.Contains(out, why) {
			t.Errorf("writd keys rotate %s: exit status %d\n%s", strings.Join(args, " "), status, out)
		}
	}
	writeScript("first", liveIssuer, "status")
	refused("409 DUAL_CONTROL_MISSING: the ceremony is not complete", "status", "--ceremony", l.path("first.toml"))
	l.hold("first", who) // nobody serves
	refused("409 DUAL_CONTROL_MISSING: the ceremony is for another issuer, or made no log key", "log", "--ceremony", l.path("first.toml"))
	l.must("keys", "rotate", "status", "--ceremony", l.path("first.toml"), "--why", "a test", "--draft", l.path("change"))
	l.serve()
	l.admit()
	old := l.trust()
	if err := l.signed("change"); err != nil {
		t.Fatal(err)
	}
	refused("306 KEY_AMBIGUOUS", "status", "--ceremony", l.path("first.toml"))

	writeScript("second", liveIssuer, "artifact")
	l.hold("second", who) // while writd serves
	before := l.key("artifact", record.KeyActive)
	l.change("rotate", "artifact", "--ceremony", l.path("second.toml"))
	var c record.KeyChange
	if err := statement.Unmarshal(must(record.DecodeDraft(must(os.ReadFile(l.path("change")))(t)))(t).Payload, &c); err != nil {
		t.Fatal(err)
	}
	if b := c.Births(); len(b) != 1 || b[0].Ceremony == nil || len(b[0].Ceremony.Persons) != 3 {
		t.Errorf("the births of the act: got %+v", b)
	}
	if l.key("artifact", record.KeyActive).Thumbprint == before.Thumbprint {
		t.Error("the key of the ceremony is not in use")
	}
	writeScript("elsewhere", "https://other.example", "artifact")
	l.hold("elsewhere", who)
	refused("409 DUAL_CONTROL_MISSING: the ceremony is for another issuer", "artifact", "--ceremony", l.path("elsewhere.toml"))
	// writd itself holds a birth against the token, whatever the operator's command says.
	other := must(birthIn(l.path("elsewhere.toml"), "https://other.example", "artifact"))(t)
	for what, spoil := range map[string]func(b *record.Birth){
		"an attribute": func(b *record.Birth) { b.Attributes["CKA_SENSITIVE"] = "false" },
		"the serial":   func(b *record.Birth) { b.Token["serial"] = "1" },
		"the purpose":  func(b *record.Birth) { b.Purpose = "log" },
	} {
		b := *other
		b.Attributes, b.Token = maps.Clone(b.Attributes), maps.Clone(b.Token)
		spoil(&b)
		if _, err := client.NewAdmin(l.path("admin.sock")).PrepareKey(t.Context(), "artifact", "", &b); !denial.Is(err, denial.HSMKeyPolicy) {
			t.Errorf("with %s changed: got %v", what, err)
		}
	}

	m := l.enrol("spiffe://example/host/a")
	defer m.close()
	l.relying(old, m.asked())
	l.stop()
	l.must("fsck")
}
