package audit_test

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/test/softtpm"
	"github.com/governed-execution/writ/test/stock"
)

const (
	issuerURI = issuertest.Issuer
	hostURI   = issuertest.HostURI
	gateURI   = issuertest.Gate
	robotURI  = issuertest.Robot
	mallory   = "spiffe://example/initiator/mallory"
	alice     = issuertest.Alice
	bob       = issuertest.Bob
)

// stage is a World whose clock moves on with every act and request, and whose authorities let a second initiator ask.
type stage struct {
	*issuertest.World
	docs map[record.PolicyKind]*firmwarepolicy.Document // in force
}

func must[T any](v T, err error) func(testing.TB) T { return stock.Must(v, err) }

func nonce(n int) []byte { return issuertest.Random(n) }

// newStage bootstraps a log and an issuer, enrols a host with a gate and two initiators, and publishes both policies.
func newStage(tb testing.TB) *stage { tb.Helper(); return stageOf(issuertest.Bare(tb)) }

// stageOf does so with an issuer of which there is no more than a genesis.
func stageOf(w *issuertest.World) *stage {
	w.Helper()
	s := &stage{World: w, docs: map[record.PolicyKind]*firmwarepolicy.Document{}}
	s.EnrolInitiator(robotURI)
	s.EnrolInitiator(mallory)
	s.Host = s.NewHost(hostURI, gateURI)
	s.enrolHost()
	s.publish(s.Appraisal())
	s.publish(s.authorization("600s"))
	return s
}

// tick lets a second pass.
func (s *stage) tick() { s.Advance(time.Second) }

func (s *stage) apply(kind statement.Kind, payload any) {
	s.Helper()
	s.tick()
	s.Apply(kind, payload)
}

func (s *stage) approve() { s.Helper(); s.tick(); s.Approve(s.Host) }

func (s *stage) enrolHost() {
	s.Helper()
	s.approve()
	s.Host.Chain.Epoch = nonce(16)
	s.Activate(s.Host)
}

func (s *stage) publish(toml string) {
	s.Helper()
	doc := must(firmwarepolicy.ParseTOML([]byte(toml)))(s)
	s.docs[record.PolicyKind(doc.Kind())] = doc
	s.tick()
	s.Publish(toml)
}

// authorization is the next version of the authorization policy, for both initiators and with this lifetime.
func (s *stage) authorization(lifetime string) string {
	return strings.NewReplacer(`initiators = ["`, fmt.Sprintf(`initiators = [%q, "`, mallory), `"600s"`, `"`+lifetime+`"`).Replace(s.Authorization())
}

func (s *stage) revoke(c record.Cause, target string) { s.Helper(); s.tick(); s.Revoke(c, target) }

// asking is one attempt to get an artifact. The zero value is a good one.
type asking struct {
	initiator string
	edit      func(*artifact.RequestClaims)
	boot      *bootlog.Boot
	tpm       *softtpm.TPM
	want      func(*attest.Want)
	log       []byte // in place of the boot's
	foreign   bool   // the challenge is of another connection
	beside    bool   // something stands beside the request's signature
}

// ask asks for an artifact as a host does.
func (s *stage) ask(a asking) (*issuer.Minted, *artifact.RequestClaims, error) {
	s.Helper()
	s.tick()
	host, plain := *s.Host, []byte(nil)
	host.TPM = cmp.Or(a.tpm, s.Host.TPM)
	spoil := issuertest.Spoil{Host: &host, Initiator: a.initiator, Claims: a.edit, Boot: a.boot, Want: a.want}
	if a.log != nil {
		spoil.Parts = func(e *softtpm.Evidence) { e.BootLog = a.log }
	}
	if a.beside {
		spoil.Request = func(raw []byte) []byte { plain = raw; return must(statement.Attach(raw, []byte("noise")))(s) }
		spoil.Want = func(w *attest.Want) { w.Request = statement.DigestOf(plain) }
	}
	attempt := s.Prepare(spoil)
	if a.foreign {
		attempt.Conn = issuer.NewConnection()
	}
	minted, err := attempt.Send()
	return minted, &attempt.Claims, err
}

// permit gets an artifact.
func (s *stage) permit() (*issuer.Minted, *artifact.RequestClaims) {
	s.Helper()
	m, c, err := s.ask(asking{})
	if err != nil {
		s.Fatal(err)
	}
	return m, c
}

// refuse asks and must be refused, with a logged denial.
func (s *stage) refuse(want denial.Reason, a asking) {
	s.Helper()
	_, _, err := s.ask(a)
	if !denial.Is(err, want) {
		s.Fatalf("got %v, want %d %s", err, want.Code(), want)
	}
}

// report has the gate write a record about an artifact, and returns its digest.
func (s *stage) report(minted *issuer.Minted, event record.Event, edit func(*record.Record)) (statement.Digest, error) {
	s.Helper()
	s.tick()
	claims, _, err := artifact.Inspect(minted.Artifact)
	if err != nil {
		s.Fatal(err)
	}
	leaf := s.Report(s.Host, minted, event, func(r *record.Record) {
		r.Initiator, r.Policy = claims.Initiator.Principal, &record.PolicyRef{ID: claims.Policy.ID, Hash: claims.Policy.Hash.Value}
		if edit != nil {
			edit(r)
		}
	})
	own := statement.DigestOf(leaf)
	if _, err := s.Issuer.Take(s.Ctx, leaf); err != nil {
		return own, err
	}
	s.Host.Follow(leaf)
	return own, nil
}

// run has the gate record a start and an end.
func (s *stage) run(minted *issuer.Minted, use uint64) {
	s.Helper()
	start := must(s.report(minted, record.EventStart, func(r *record.Record) { r.Execution.Use = use }))(s)
	must(s.report(minted, record.EventEnd, func(r *record.Record) { r.Execution.Use, r.Execution.Start = use, start[:] }))(s)
}

// trust returns the auditor's trust file, which is for no gate.
func (s *stage) trust() *artifact.Trust {
	s.Helper()
	t := s.Trust()
	t.Audience = ""
	return t
}

// export returns the bundle of a query.
func (s *stage) export(q audit.Query) []byte {
	s.Helper()
	s.tick()
	b := must(audit.Build(s.Ctx, s.Tree, s.Issuer, q))(s)
	defer b.Close()
	var out, again bytes.Buffer
	if err := b.Write(s.Ctx, &out); err != nil {
		s.Fatal(err)
	}
	if err := b.Write(s.Ctx, &again); err != nil || !bytes.Equal(out.Bytes(), again.Bytes()) {
		s.Fatalf("writing the bundle again: %v, or other bytes", err)
	}
	return out.Bytes()
}

// verify verifies a bundle as the auditor.
func (s *stage) verify(raw []byte) *audit.Report {
	s.Helper()
	return must(audit.Verify(s.Ctx, bytes.NewReader(raw), s.trust(), audit.Options{Now: s.Now()}))(s)
}
