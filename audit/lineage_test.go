package audit_test

import (
	"bytes"
	"encoding/hex"
	"encoding/xml"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
)

// tell verifies a bundle as the auditor, and keeps what it tells.
func (s *stage) tell(raw []byte) *audit.Account {
	s.Helper()
	return must(audit.Tell(s.Ctx, bytes.NewReader(raw), s.trust(), audit.Options{Now: s.Now()}))(s)
}

func claimsOf(tb testing.TB, m *issuer.Minted) artifact.Claims {
	tb.Helper()
	c, _, err := artifact.Inspect(m.Artifact)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestLineageReachesPeopleAndSilicon(t *testing.T) {
	s := newStage(t)
	permits, _ := s.story()
	c := claimsOf(t, permits[0])
	id := hex.EncodeToString(c.Execution.ID)
	a := s.tell(s.export(audit.Query{Execution: c.Execution.ID}))
	if a.Report.Verdict != audit.Proved {
		t.Fatal(a.Report.Text())
	}
	l := must(audit.Trace(a.Items, a.People, id))(t)
	ek := s.Host.TPM.EKDigest()
	text := l.Text()
	for _, want := range []string{robotURI, "registration of an initiator: service, signed by " + alice + ", " + bob, "authorization policy version 1, signed by " + alice,
		"appraisal policy version 1, signed by", "on host " + hostURI, "Secure Boot on", hex.EncodeToString(ek[:]), "approval of a host, signed by " + alice,
		"started, use 1", "started, use 2", "ended with status 0", "denied: 404 SCOPE_DENIED", "EK trusted by its certificate chain", "proved]"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the lineage:\n%s", want, text)
		}
	}
	if len(l.Origin) != 1 || len(l.Origin[0].Next) != 4 {
		t.Errorf("got %d artifacts", len(l.Origin))
	}
	wellFormed(t, l.SVG(func(i uint64) string { return "/decisions/" }))
	if path := os.Getenv("WRIT_LINEAGE_SVG"); path != "" {
		if err := os.WriteFile(path, []byte(l.SVG(nil)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, other := range []string{hex.EncodeToString(c.ID), "0"} {
		got, err := audit.Trace(a.Items, a.People, other)
		if other == "0" {
			if !denial.Is(err, denial.NoArtifact) {
				t.Errorf("genesis has a lineage: %v", err)
			}
		} else if err != nil || got.Execution != id {
			t.Errorf("by %s: %v", other, err)
		}
	}
}

func wellFormed(t *testing.T, svg string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatalf("the picture is not XML: %v", err)
		}
	}
}

// Artifacts that descend from each other are found in both directions, and a circle, which only a forger makes, ends.
func TestLineageFollowsParentsAndChildren(t *testing.T) {
	item := func(n uint64, cti, execution string, parents ...string) *audit.Item {
		return &audit.Item{Index: n, Digest: cti + "d", Kind: "artifact", Artifact: cti, Execution: execution, Initiator: "urn:x:" + cti, Parents: parents}
	}
	items := []*audit.Item{item(1, "a1", "e1", "c3"), item(2, "b2", "e2", "a1"), item(3, "c3", "e3", "b2")}
	l := must(audit.Trace(items, nil, "e2"))(t)
	text := l.Text()
	from, to, _ := strings.Cut(text, "led to\n")
	if !strings.Contains(from, "artifact a1") || !strings.Contains(from, "asked for by urn:x:a1") || !strings.Contains(to, "led to artifact c3") {
		t.Errorf("got\n%s", text)
	}
	wellFormed(t, l.SVG(nil))
}

// A bundle of one execution, found by the index, holds exactly what a search of the whole log finds, and one of a host
// all that names it.
func TestIndexFindsWhatASearchFinds(t *testing.T) {
	s := newStage(t)
	permits, _ := s.story()
	c := claimsOf(t, permits[0])
	all := s.tell(s.export(audit.Query{})).Items
	one := s.tell(s.export(audit.Query{Execution: c.Execution.ID}))
	host := s.tell(s.export(audit.Query{Host: hostURI}))
	wantProved(t, host.Report)
	has := func(a *audit.Account, index uint64) bool {
		for _, it := range a.Items {
			if it.Index == index {
				return true
			}
		}
		return false
	}
	id, cti := hex.EncodeToString(c.Execution.ID), hex.EncodeToString(c.ID)
	for _, it := range all {
		context := it.Act != nil || it.Enrolled != nil || it.Birth != nil
		if it.Kind == "manifest" {
			continue
		}
		if got, want := has(one, it.Index), context || it.Execution == id || it.Artifact == cti; got != want {
			t.Errorf("execution: entry %d, %s: in the bundle %t, want %t", it.Index, it.Name(), got, want)
		}
		if got, want := has(host, it.Index), context || it.Host == hostURI; got != want {
			t.Errorf("host: entry %d, %s: in the bundle %t, want %t", it.Index, it.Name(), got, want)
		}
	}
	if none := s.tell(s.export(audit.Query{Host: "spiffe://example/nobody"})); has(none, permits[0].Index) {
		t.Error("a host that is none has a permit")
	}
}
