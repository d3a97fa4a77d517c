package server

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/issuer/client"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

func TestWholePathOverTLS(t *testing.T) {
	s := open(t, Limits{}, nil)
	session := s.dial()
	raw := issuertest.Must(s.mint(session, issuertest.Spoil{}))(t)
	c, _, err := artifact.Inspect(raw)
	if err != nil {
		t.Fatal(err)
	}
	token := issuertest.Must(s.client.Status(s.Ctx, c.Status.List.URI))(t)
	list := issuertest.Must(artifact.VerifyStatus(token, s.Trust(), s.Now(), 0))(t)
	issuertest.Must(artifact.Verify(raw, artifact.Want{Trust: s.Trust(), Now: s.Now(), Status: list}))(t)
	issuertest.Must(s.mint(session, issuertest.Spoil{}))(t) // again on the same connection

	if act := issuertest.Must(s.client.Genesis(s.Ctx))(t); len(act) != len(s.Act) || !bytes.Equal(act[0], s.Act[0]) {
		t.Error("another genesis")
	}
	e := s.Initiator("urn:x:initiator")
	out := issuertest.Must(s.client.Apply(s.Ctx, statement.Enrolment, s.Sign(statement.Enrolment, e, issuertest.Alice, issuertest.Bob)))(t)
	if len(out) != 2 {
		t.Errorf("got %d transparent statements, want 2", len(out))
	}
	if _, err := artifact.Verify(out[0], artifact.Want{Trust: s.Trust(), Now: s.Now(), Status: list}); err == nil {
		t.Error("an act passes for an artifact")
	}
}

// A session that asks again and again gets each challenge with the artifact before, and no other way. It is for one use on its
// connection (F05, F11), as one that was asked for, and it is one of the few that live at once (F06).
func TestChallengeThatComesWithAnArtifactIsLikeAnyOther(t *testing.T) {
	var asked atomic.Int32
	s := open(t, Limits{}, func(s *Server) {
		inner := s.public.Handler
		s.public.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/challenges" {
				asked.Add(1)
			}
			inner.ServeHTTP(w, r)
		})
	})
	session, other := s.dial(), s.dial()
	issuertest.Must(s.mint(session, issuertest.Spoil{}))(t)
	issuertest.Must(s.mint(session, issuertest.Spoil{}))(t)
	if n := asked.Load(); n != 2 {
		t.Fatalf("challenges were asked for %d times, want 2 of a session that did not ask for more", n)
	}
	session.Ahead()
	for range 6 { // more than may live at once
		issuertest.Must(s.mint(session, issuertest.Spoil{}))(t)
	}
	ch := issuertest.Must(session.Challenge(s.Ctx))(t)
	if n := asked.Load(); n != 3 {
		t.Fatalf("challenges were asked for %d times, want 3", n)
	}
	stolen := s.prepare(other, ch, issuertest.Spoil{})
	_, err := other.Mint(s.Ctx, stolen.Request, stolen.Evidence)
	refused(t, err, denial.ChallengeUnknown)
	a := s.prepare(session, ch, issuertest.Spoil{})
	issuertest.Must(session.Mint(s.Ctx, a.Request, a.Evidence))(t)
	again := s.prepare(session, ch, issuertest.Spoil{})
	_, err = session.Mint(s.Ctx, again.Request, again.Evidence)
	refused(t, err, denial.ChallengeReused)
	issuertest.Must(session.Challenge(s.Ctx))(t) // that of the last artifact
	for range issuer.MaxChallenges - 1 {
		issuertest.Must(session.Challenge(s.Ctx))(t)
	}
	_, err = session.Challenge(s.Ctx)
	refusedAsStranger(t, err, denial.ConditionUndecidable)
}

func TestEnrolmentAndRecordsOverTLS(t *testing.T) {
	s := open(t, Limits{}, nil)
	h := s.NewHost(issuertest.OtherURI, issuertest.OtherGate)
	s.Approve(h)
	session := s.dial()
	request, key := h.TPM.GateRequest(t)
	cred := issuertest.Must(session.BeginEnrolment(s.Ctx, issuertest.Must(request.Encode())(t)))(t)
	secret := issuertest.Must(h.TPM.Activate(attest.Credential{Blob: cred.Blob, Secret: cred.Secret}))(t)
	issuertest.Must(session.FinishEnrolment(s.Ctx, secret))(t)
	h.Key = &issuertest.Key{Signer: issuertest.Must(statement.NewSigner(key))(t)}

	_, err := session.FinishEnrolment(s.Ctx, secret)
	refusedAsStranger(t, err, denial.ConditionReplay)
	minted := issuertest.Must(s.Ask(issuertest.Spoil{Host: h, Claims: func(c *artifact.RequestClaims) { c.Audience = issuertest.OtherGate }}))(t)
	leaf := s.Report(h, minted, record.EventStart, nil)
	env := issuertest.Must(statement.Decode(issuertest.Must(s.client.Record(s.Ctx, leaf))(t), statement.MaxStatement))(t)
	if receipts, err := env.Receipts(); err != nil || len(receipts) != 1 || !bytes.Equal(env.Leaf(), leaf) {
		t.Errorf("not the record with a receipt: %v", err)
	}
	_, err = s.client.Record(s.Ctx, s.Report(h, minted, record.EventStart, nil))
	refused(t, err, denial.StateRollback)
}

// refused returns the problem that a known caller got.
func refused(t *testing.T, err error, want denial.Reason) *denial.Problem {
	t.Helper()
	var r *client.RefusedError
	if !errors.As(err, &r) || !denial.Is(err, want) || r.Problem.Details == nil {
		t.Fatalf("got %v, want %d %s with details", err, want.Code(), want)
	}
	return r.Problem
}

func refusedAsStranger(t *testing.T, err error, want denial.Condition) {
	t.Helper()
	var r *client.RefusedError
	if !errors.As(err, &r) || r.Problem.Details != nil || r.Problem.Condition != want.String() {
		t.Fatalf("got %v, want the condition %s and nothing else", err, want)
	}
}

func TestKnownCallerIsToldEverything(t *testing.T) {
	s := open(t, Limits{}, nil)
	a := issuertest.Attempt{}
	session := s.dial()
	a = s.prepare(session, issuertest.Must(session.Challenge(s.Ctx))(t), issuertest.Spoil{Claims: func(c *artifact.RequestClaims) { c.Lifetime = 601 }})
	_, err := session.Mint(s.Ctx, a.Request, a.Evidence)
	p := refused(t, err, denial.LifetimeTooLong)
	if !p.Logged || p.LogIndex != s.Size()-1 || !bytes.Equal(p.RequestID, a.Claims.ID) || p.Hint == "" || p.Stage != denial.StageAuthorization {
		t.Errorf("got problem %+v", p.Details)
	}
	env := issuertest.Must(statement.Decode(p.Statement, statement.MaxStatement))(t)
	if !bytes.Equal(env.Leaf(), issuertest.Must(s.Tree.Leaf(s.Ctx, p.LogIndex))(t)) {
		t.Error("another statement than the one in the log")
	}
	_, err = session.Mint(s.Ctx, a.Request, a.Evidence)
	refused(t, err, denial.ChallengeReused)
	if _, err := s.mint(session, issuertest.Spoil{Host: s.NewHost(issuertest.HostURI, issuertest.Gate)}); err == nil {
		t.Fatal("a stranger gets an artifact")
	} else {
		refusedAsStranger(t, err, denial.ConditionMissing)
	}
}

func TestF11_EvidenceOfAnotherConnection(t *testing.T) {
	s := open(t, Limits{}, nil)
	one, two := s.dial(), s.dial()
	if one.Exporter() == two.Exporter() || one.Exporter() == ([32]byte{}) {
		t.Fatal("two connections have one exporter")
	}
	a := s.prepare(one, issuertest.Must(one.Challenge(s.Ctx))(t), issuertest.Spoil{})
	_, err := two.Mint(s.Ctx, a.Request, a.Evidence)
	refused(t, err, denial.ChallengeUnknown)
	relayed := s.prepare(one, issuertest.Must(two.Challenge(s.Ctx))(t), issuertest.Spoil{})
	_, err = two.Mint(s.Ctx, relayed.Request, relayed.Evidence)
	refused(t, err, denial.ChannelBinding)
	issuertest.Must(one.Mint(s.Ctx, a.Request, a.Evidence))(t)
}

func TestSessionEndsWithItsConnection(t *testing.T) {
	s := open(t, Limits{}, nil)
	session := s.dial()
	issuertest.Must(session.Challenge(s.Ctx))(t)
	if err := s.close(); err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if _, err := session.Challenge(s.Ctx); err == nil {
		t.Error("a challenge over a connection that is closed")
	}
}

func TestAdminSocket(t *testing.T) {
	s := open(t, Limits{}, nil)
	issuertest.Must(s.mint(s.dial(), issuertest.Spoil{}))(t)
	admin := client.NewAdmin(s.socket)
	if host := string(issuertest.Must(admin.Hosts(s.Ctx, s.Host.URI))(t)); !strings.Contains(host, s.Host.Gate) {
		t.Errorf("got host %s", host)
	}
	_, err := admin.Hosts(s.Ctx, "urn:x:nobody")
	refused(t, err, denial.NotEnrolled)
	whole := issuertest.Must(admin.Export(s.Ctx, url.Values{}, "", 0))(t)
	defer whole.Body.Close()
	data, err := io.ReadAll(whole.Body)
	if err != nil || len(data) < 1024 || whole.Total != int64(len(data)) || whole.From != 0 || whole.Tag == "" {
		t.Errorf("got a bundle of %d bytes of %d, and %v", len(data), whole.Total, err)
	}
	rest := issuertest.Must(admin.Export(s.Ctx, url.Values{}, whole.Tag, 1000))(t)
	defer rest.Body.Close()
	if again, err := io.ReadAll(rest.Body); err != nil || rest.From != 1000 || !bytes.Equal(again, data[1000:]) {
		t.Errorf("going on: %d bytes from %d, %v", len(again), rest.From, err)
	}
	other := issuertest.Must(admin.Export(s.Ctx, url.Values{"from": {"1"}}, whole.Tag, 1000))(t)
	defer other.Body.Close()
	if other.From != 0 || other.Tag == whole.Tag {
		t.Error("the bundle of one query goes on with that of another")
	}
	if _, err := admin.Export(s.Ctx, url.Values{"from": {"x"}}, "", 0); err == nil {
		t.Error("a query that is none gets a bundle")
	}
	if _, err := admin.Genesis(s.Ctx); err == nil { // a public route
		t.Error("the admin socket has public routes")
	}
	for path, want := range map[string]string{"/metrics": "writ_artifacts_minted_total 1", "/healthz": "ok"} {
		if got := string(s.admin(path).body); !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q in it", path, got, want)
		}
	}
	if _, err := admin.Dial(s.Ctx); err == nil {
		t.Error("the admin socket takes evidence")
	}
}

func TestHealthTellsOfAFault(t *testing.T) {
	s := open(t, Limits{}, func(s *Server) {
		s.ready = func() error { return denial.New(denial.HSMUnavailable, "the token is gone") }
	})
	if a := s.admin("/healthz"); a.status != 503 || !strings.Contains(string(a.body), "903") {
		t.Errorf("got HTTP %d %q", a.status, a.body)
	}
}
