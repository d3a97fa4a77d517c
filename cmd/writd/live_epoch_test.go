package main

import (
	"archive/tar"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer/client"
	"github.com/governed-execution/writ/monitor"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/softhsm"
	"github.com/governed-execution/writ/test/stock"
	"github.com/governed-execution/writ/test/swtpm"
)

// bundle pulls a bundle of the whole log, and returns it with its seal.
func (l *live) bundle() []byte {
	l.Helper()
	d := must(client.NewAdmin(l.path("admin.sock")).Export(l.Context(), url.Values{}, "", 0))(l)
	defer d.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(d.Body); err != nil {
		l.Fatal(err)
	}
	return b.Bytes()
}

// audited verifies a bundle with the trust file that writd prints.
func (l *live) audited(bundle []byte, known ...[]byte) *audit.Report {
	l.Helper()
	trust := must(artifact.ParseTrust([]byte(l.must("trust"))))(l)
	return must(audit.Verify(l.Context(), bytes.NewReader(bundle), trust, audit.Options{Now: time.Now(), Known: known}))(l)
}

// look looks at the log once, as a monitor that keeps what it has seen.
func (l *live) look() (*monitor.Report, error) {
	l.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(must(os.ReadFile(l.path("tls.pem")))(l))
	trust := must(artifact.ParseTrust([]byte(l.must("trust"))))(l)
	trust = must(trust.Follow(must(l.client.Keys(l.Context()))(l)))(l)
	o := monitor.Options{Log: l.url + "/log", Keys: trust.NoteKeys(uint64(time.Now().Unix())), Earlier: trust.NoteKeys(0), Dir: l.path("monitor")}
	for _, e := range trust.Epochs() {
		o.Epochs = append(o.Epochs, monitor.Epoch{Number: e.Number, Size: e.Size, Root: receipt.Hash(e.Root), Covers: e.Covers, Words: e.Words()})
	}
	o.Web.Client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	return monitor.Look(l.Context(), o)
}

// epochAct writes an act over the draft, as it is changed, and returns its file.
func (l *live) epochAct(draft record.Draft, signers []statement.Signer, change func(*record.Draft, *record.Epoch)) string {
	l.Helper()
	var e record.Epoch
	if err := statement.Unmarshal(draft.Payload, &e); err != nil {
		l.Fatal(err)
	}
	draft.Drafted -= 120 // so that no request of this test was signed before
	if change != nil {
		change(&draft, &e)
	}
	draft.Payload = must(statement.Marshal(e))(l)
	b := must(draft.Sign(l.Context(), signers[0]))(l)
	for _, s := range signers[1:] {
		b = must(b.Cosign(l.Context(), s))(l)
	}
	l.write("epoch.act", must(b.Encode())(l))
	return l.path("epoch.act")
}

// P20: TestP20_RestoreIsANewEpoch restores a backup from before a revocation and lets the log go on by an act of its authorities alone.
func TestP20_RestoreIsANewEpoch(t *testing.T) {
	tpm := swtpm.New(t, swtpm.Options{})
	l := newLive(t, softTable(softhsm.New(t)), "tpm = \""+tpm.Socket+"\"")
	l.serve()
	l.admit()
	a, b := l.enrol("spiffe://example/host/a"), l.enrol("spiffe://example/host/b")
	before := a.asked()
	monday := l.path("backup-monday")
	l.must("backup", monday)

	// What will be lost: a revocation, an artifact that was given out, a bundle, and what a monitor has seen.
	l.stop()
	l.serve()
	a.close()
	revocation := record.Revocation{Version: record.Version, Cause: record.CauseHost, Target: a.uri, Time: uint64(time.Now().Unix()), Why: "stolen", Nonce: stock.Random(16)}
	l.applied(statement.Revocation, revocation)
	b.close()
	lost := b.asked()
	seal := sealOf(t, l.bundle())
	l.stop()
	l.serve() // the checkpoint over all of it is published
	if _, err := l.look(); err != nil {
		t.Fatal(err)
	}
	b.close()
	l.stop()
	newest := must(os.ReadFile(l.path("log.db.checkpoint")))(t)
	seen := l.path("seen.checkpoint")
	l.write("seen.checkpoint", newest)

	// Without the act it does not start, whatever is put in place.
	l.restore(monday)
	l.refuses(denial.StateRollback)
	if status, out := l.status("restore"); status != exitMisuse {
		t.Errorf("got exit status %d of restore without a file: %s", status, out)
	}
	if out := l.must("restore", "--draft", l.path("epoch.draft"), "--why", "the disk is gone", "--seen", seen); !strings.Contains(out, "epoch 1 drafted") || !strings.Contains(out, "are lost") {
		t.Errorf("got %s", out)
	}
	draft := *must(record.DecodeDraft(must(os.ReadFile(l.path("epoch.draft")))(t)))(t)
	if status, out := l.status("restore", "--act", l.path("epoch.draft")); status == 0 {
		t.Errorf("a draft that nobody signed restores: %s", out)
	}

	for _, c := range []struct {
		name   string
		people []statement.Signer
		change func(*record.Draft, *record.Epoch)
		want   denial.Reason
	}{
		{"one person", l.people[:1], nil, denial.ThresholdNotMet},
		{"one person twice", []statement.Signer{l.people[0], l.people[0]}, nil, denial.KeyAmbiguous},
		{"a stranger", []statement.Signer{l.people[0], stock.Signer(t)}, nil, denial.KeyUnknown},
		{"another log", l.people, func(_ *record.Draft, e *record.Epoch) { e.Genesis[0] ^= 1 }, denial.IdentityConflict},
		{"another log URI", l.people, func(_ *record.Draft, e *record.Epoch) { e.Log += "/other" }, denial.IdentityConflict},
		{"a longer log", l.people, func(_ *record.Draft, e *record.Epoch) { e.Size++ }, denial.StateRollback},
		{"a shorter log", l.people, func(_ *record.Draft, e *record.Epoch) { e.Size-- }, denial.LogInconsistent},
		{"another head", l.people, func(_ *record.Draft, e *record.Epoch) { e.Root[0] ^= 1 }, denial.LogInconsistent},
		{"another counter", l.people, func(_ *record.Draft, e *record.Epoch) { e.Counter++ }, denial.StateRollback},
		{"no counter", l.people, func(_ *record.Draft, e *record.Epoch) { e.Counter = 0 }, denial.StateRollback},
		{"expired", l.people, func(d *record.Draft, _ *record.Epoch) { d.Expires = d.Drafted + 60 }, denial.Expired},
		{"from the future", l.people, func(d *record.Draft, _ *record.Epoch) { d.Drafted = d.Expires - 60 }, denial.NotYetValid},
		{"a later epoch", l.people, func(d *record.Draft, e *record.Epoch) { d.Sequence, e.Number = 2, 2 }, denial.DualControlMissing},
		{"a number that is not the act's", l.people, func(_ *record.Draft, e *record.Epoch) { e.Number = 2 }, denial.DualControlMissing},
	} {
		size := len(must(os.ReadFile(l.path("log.db")))(t))
		status, out := l.status("restore", "--act", l.epochAct(draft, c.people, c.change))
		if status != exitDenied || !strings.Contains(out, c.want.String()) {
			t.Errorf("%s: got exit status %d, want %d with %s:\n%s", c.name, status, exitDenied, c.want, out)
		}
		if len(must(os.ReadFile(l.path("log.db")))(t)) != size {
			t.Errorf("%s: the log has changed", c.name)
		}
	}
	l.refuses(denial.StateRollback)

	// A mark, or a checkpoint, of more than the act admits: somebody knows of more loss than the authorities do.
	act := l.epochAct(draft, l.people, func(_ *record.Draft, e *record.Epoch) {
		e.Lost = &record.Lost{Size: e.Size + 1, Root: stock.Random(32)}
	})
	l.write("log.db.checkpoint", newest)
	if status, out := l.status("restore", "--act", act); status != exitDenied || !strings.Contains(out, denial.StateRollback.String()) {
		t.Errorf("a checkpoint that the act does not cover: got exit status %d: %s", status, out)
	}

	// With it, and with the lost revocation in its hands, it does. The revocation is signed anew with the number that is next.
	act = l.epochAct(draft, l.people, nil)
	raw := must(statement.Marshal(revocation))(t)
	claims := statement.Claims{Issuer: liveIssuer, Subject: must(record.SubjectOf(statement.Revocation, liveIssuer, raw))(t),
		IssuedAt: uint64(time.Now().Unix()), Expires: uint64(time.Now().Unix()) + 3600, Sequence: 1}
	var again record.Bundle
	for _, p := range l.people {
		again = must(record.SignAct(t.Context(), again, p, statement.Revocation, claims, raw))(t)
	}
	l.write("again.act", must(again.Encode())(t))
	l.must("restore", "--act", act)
	if out := l.must("restore", "--act", act, "--again", l.path("again.act")); !strings.Contains(out, "ALARM: epoch 1") || !strings.Contains(out, "1 act(s) logged again") {
		t.Errorf("a run as after one that was cut short: got %s", out)
	}
	l.must("fsck")
	begun := time.Now().Unix()
	l.serve()
	within(t, "the journal tells of the epoch", func() bool { return strings.Contains(l.said.String(), "ALARM: the log goes on behind a backup") })
	within(t, "requests of the second in which the epoch began are past", func() bool { return time.Now().Unix() > begun })
	a.close()
	if _, err := a.ask(t.Context()); !denial.Is(err, denial.HostRevoked) {
		t.Errorf("got %v of a host whose revocation was logged again, want %d", err, denial.HostRevoked.Code())
	}
	trust := must(artifact.ParseTrust([]byte(l.must("trust", "--audience", liveGate))))(t)
	for name, raw := range map[string][]byte{"of before the backup": before, "of what is lost": lost} {
		c, _, err := artifact.Inspect(raw)
		if err != nil {
			t.Fatal(err)
		}
		status := must(artifact.VerifyStatus(must(l.client.Status(t.Context(), c.Status.List.URI))(t), trust, time.Now(), 0))(t)
		if _, err := artifact.Verify(raw, artifact.Want{Trust: trust, Now: time.Now(), Status: status}); !denial.Is(err, denial.ArtifactRevoked) {
			t.Errorf("an artifact %s: got %v, want %d", name, err, denial.ArtifactRevoked.Code())
		}
	}
	b.asked()

	// Auditors and monitors see what has become of it.
	r := l.audited(l.bundle(), seal, lost, newest)
	if len(r.Epochs) != 1 || r.Epochs[0].Number != 1 || !r.Epochs[0].Known || len(r.Epochs[0].Given) != 3 || r.Verdict == audit.Refuted || !strings.Contains(r.Text(), "ALARM: epoch 1") {
		t.Errorf("got %+v\n%s", r.Epochs, r.Text())
	}
	l.stop()
	l.serve() // the mark and the counter have gone on
	look := must(l.look())(t)
	if look.Epoch != 1 || len(look.Lost) != 1 || look.Since != nil {
		t.Errorf("got %+v", look)
	}
	if look = must(l.look())(t); len(look.Lost) != 0 || look.Since == nil {
		t.Errorf("the look after: got %+v", look)
	}
	l.stop()

	// The act is good once: neither the same backup nor a later one starts with it.
	l.restore(monday)
	l.refuses(denial.StateRollback)
	if status, out := l.status("restore", "--act", act); status != exitDenied || !strings.Contains(out, denial.StateRollback.String()) {
		t.Errorf("the act again: got exit status %d: %s", status, out)
	}
}

// sealOf returns manifest.cose of a bundle.
func sealOf(tb testing.TB, bundle []byte) []byte {
	tb.Helper()
	for r := tar.NewReader(bytes.NewReader(bundle)); ; {
		h, err := r.Next()
		if err != nil {
			tb.Fatal(err)
		}
		if h.Name == "manifest.cose" {
			return must(io.ReadAll(r))(tb)
		}
	}
}
