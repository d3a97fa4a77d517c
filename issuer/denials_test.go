package issuer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/test/softtpm"
)

// lasting is a state that all requests meet from then on.
func lasting(change func(*issuertest.World)) func(*issuertest.World) issuertest.Spoil {
	return func(w *issuertest.World) issuertest.Spoil {
		change(w)
		return issuertest.Spoil{}
	}
}

// device is a copy of the host whose TPM is changed.
func device(change func(*softtpm.TPM)) func(*issuertest.World) issuertest.Spoil {
	return func(w *issuertest.World) issuertest.Spoil {
		h := *w.Host
		tpm := *h.TPM
		change(&tpm)
		h.TPM = &tpm
		return issuertest.Spoil{Host: &h}
	}
}

// by is a request of an initiator who is registered and in no rule.
func by(id string, edit func(*artifact.RequestClaims)) func(*issuertest.World) issuertest.Spoil {
	return func(w *issuertest.World) issuertest.Spoil {
		if w.Keys[id] == nil {
			w.EnrolInitiator(id)
		}
		return issuertest.Spoil{Initiator: id, Claims: edit}
	}
}

const mallory = "spiffe://example/initiator/mallory"

func revoked(c record.Cause, target func(*issuertest.World) string) func(*issuertest.World) issuertest.Spoil {
	return lasting(func(w *issuertest.World) { w.Revoke(c, target(w)) })
}

var unknownDigest = artifact.SHA256Digest(statement.DigestOf([]byte("another program")))

// strangers are refusals of callers of whom nothing has verified.
var strangers = []refusal{
	{name: "limits: evidence too large", spoil: plain(issuertest.Spoil{Evidence: func([]byte) []byte { return make([]byte, attest.MaxEvidence+1) }}),
		reason: denial.RequestLimit, stage: denial.StageLimits},
	{name: "decode: request is noise", spoil: plain(issuertest.Spoil{Request: func([]byte) []byte { return []byte("noise") }}), reason: denial.WrongType, stage: denial.StageDecode},
	{name: "decode: request too large", spoil: plain(issuertest.Spoil{Request: func([]byte) []byte { return make([]byte, 8<<10+1) }}), reason: denial.StructureLimit, stage: denial.StageDecode},
	{name: "decode: no evidence", spoil: plain(issuertest.Spoil{Evidence: func([]byte) []byte { return nil }}), reason: denial.NoEvidence, stage: denial.StageDecode},
	{name: "decode: bytes follow the evidence", spoil: plain(issuertest.Spoil{Evidence: func(e []byte) []byte { return append(e, 0) }}), reason: denial.TrailingData, stage: denial.StageDecode},
	{name: "decode: the zero challenge", spoil: plain(issuertest.Spoil{Parts: func(e *softtpm.Evidence) { e.Challenge = attest.Nonce{} }}), reason: denial.NoChallenge, stage: denial.StageDecode},
	{name: "caller: AK of nobody", spoil: func(w *issuertest.World) issuertest.Spoil {
		return issuertest.Spoil{Host: w.NewHost(issuertest.HostURI, issuertest.Gate)}
	}, reason: denial.NotEnrolled, stage: denial.StageCaller},
	{name: "caller: initiator key of nobody", spoil: func(w *issuertest.World) issuertest.Spoil {
		w.Keys["urn:x:nobody"] = issuertest.NewKey(w)
		return issuertest.Spoil{Initiator: "urn:x:nobody"}
	}, reason: denial.KeyUnknown, stage: denial.StageCaller},
	{name: "caller: signature of the request", spoil: plain(issuertest.Spoil{Request: func(r []byte) []byte { r[len(r)-1] ^= 1; return r }}), reason: denial.SignatureInvalid, stage: denial.StageCaller},
}

// known are refusals of callers whose initiator key, and from the bindings on whose AK, has verified.
var known = []refusal{
	{name: "caller: request expired", spoil: claims(func(c *artifact.RequestClaims) { c.IssuedAt, c.Expires = c.IssuedAt-120, c.IssuedAt }), reason: denial.Expired, stage: denial.StageCaller, unread: true},
	{name: "caller: request from the future", spoil: claims(func(c *artifact.RequestClaims) { c.IssuedAt, c.Expires = c.IssuedAt+90, c.IssuedAt+180 }), reason: denial.NotYetValid, stage: denial.StageCaller, unread: true},
	{name: "caller: request lives too long", spoil: claims(func(c *artifact.RequestClaims) { c.Expires = c.IssuedAt + 601 }), reason: denial.LifetimeTooLong, stage: denial.StageCaller, unread: true},
	{name: "caller: key of another initiator", spoil: claims(func(c *artifact.RequestClaims) { c.Initiator = mallory }), reason: denial.IdentityConflict, stage: denial.StageCaller},
	{name: "caller: request for another host", spoil: claims(func(c *artifact.RequestClaims) { c.Host = issuertest.OtherURI }), reason: denial.HostMismatch, stage: denial.StageCaller},
	{name: "F08 challenge: of another connection", spoil: plain(issuertest.Spoil{}), after: func(a *issuertest.Attempt) { a.Conn = issuer.NewConnection() },
		reason: denial.ChallengeUnknown, stage: denial.StageChallenge},
	{name: "F07 challenge: too late", spoil: plain(issuertest.Spoil{}), after: func(a *issuertest.Attempt) { a.World.Advance(issuer.ChallengeLife) },
		reason: denial.ChallengeExpired, stage: denial.StageChallenge},
	{name: "quote: magic", spoil: device(func(t *softtpm.TPM) { t.Edit.Quote = func(a *tpm2.TPMSAttest) { a.Magic = 0x11223344 } }), reason: denial.QuoteMagic, stage: denial.StageQuote},
	{name: "quote: signature", spoil: plain(issuertest.Spoil{Parts: func(e *softtpm.Evidence) { e.Signature[len(e.Signature)-1] ^= 1 }}), reason: denial.QuoteSignature, stage: denial.StageQuote},
	{name: "quote: a required PCR is missing", spoil: want(func(w *attest.Want) { w.Selection.PCRs, w.Bind = []int{0, 7, 11}, []int{7} }), reason: denial.RequiredPCRAbsent, stage: denial.StageQuote},
	{name: "quote: a PCR more", spoil: want(func(w *attest.Want) { w.Selection.PCRs = []int{0, 2, 4, 7, 11} }), reason: denial.PCRSelectionMismatch, stage: denial.StageQuote},
	{name: "quote: another PCR value", spoil: plain(issuertest.Spoil{Parts: func(e *softtpm.Evidence) { e.PCRs[0] = append([]byte{e.PCRs[0][0] ^ 1}, e.PCRs[0][1:]...) }}),
		reason: denial.PCRDigestMismatch, stage: denial.StageQuote},
	{name: "F10 binding: quoted for another request", spoil: want(func(w *attest.Want) { w.Request = statement.DigestOf(nil) }), reason: denial.ChallengeMismatch, stage: denial.StageBinding, quoted: true},
	{name: "F02 binding: an old quote beside the new challenge", spoil: func(w *issuertest.World) issuertest.Spoil {
		var old attest.Nonce
		return issuertest.Spoil{Want: func(want *attest.Want) { old, want.Challenge = want.Challenge, attest.NewNonce() }, Parts: func(e *softtpm.Evidence) { e.Challenge = old }}
	}, reason: denial.ChannelBinding, stage: denial.StageBinding, quoted: true},
	{name: "F11 binding: quoted for another connection", spoil: want(func(w *attest.Want) { w.Exporter[0] ^= 1 }), reason: denial.ChannelBinding, stage: denial.StageBinding, quoted: true},
	{name: "F24 binding: the cnf key's policy binds less", spoil: want(func(w *attest.Want) { w.Bind = w.Bind[1:] }), reason: denial.KeyBinding, stage: denial.StageBinding, quoted: true},
	{name: "F24 binding: a password may use the cnf key", spoil: device(func(t *softtpm.TPM) {
		t.Edit.CNF = func(p *tpm2.TPMTPublic) { p.ObjectAttributes.UserWithAuth = true }
	}), reason: denial.KeyBinding, stage: denial.StageBinding, quoted: true},
	{name: "F12 binding: the request names another cnf key", spoil: claims(func(c *artifact.RequestClaims) { c.Confirmation.Key = issuertest.Random(32) }),
		reason: denial.KeyBinding, stage: denial.StageBinding, quoted: true, decided: true},
	{name: "F17 facts: the clock is not safe", spoil: device(func(t *softtpm.TPM) { t.Clock.Safe = false }), reason: denial.EvidenceStale, stage: denial.StageFacts, quoted: true},
	{name: "facts: the log of another boot", spoil: plain(issuertest.Spoil{Parts: func(e *softtpm.Evidence) { e.BootLog = bootlog.New(bootlog.Options{Image: []byte("x")}).Log }}),
		reason: denial.LogReplayMismatch, stage: denial.StageFacts, quoted: true},
	{name: "F14 facts: the reset count goes back", spoil: func(w *issuertest.World) issuertest.Spoil {
		w.Permit()
		return device(func(t *softtpm.TPM) { t.Clock.ResetCount-- })(w)
	}, reason: denial.BootRollback, stage: denial.StageFacts, quoted: true, decided: true},
	{name: "P12 revocation: host", spoil: revoked(record.CauseHost, func(w *issuertest.World) string { return w.Host.URI }),
		reason: denial.HostRevoked, stage: denial.StageRevocation, quoted: true, decided: true, alone: true},
	{name: "P12 revocation: initiator", spoil: revoked(record.CauseInitiator, func(*issuertest.World) string { return issuertest.Robot }),
		reason: denial.InitiatorRevoked, stage: denial.StageRevocation, quoted: true, decided: true, alone: true},
	{name: "appraisal: requirements", spoil: plain(issuertest.Spoil{Boot: bootlog.New(bootlog.Options{NoSecureBoot: true, Image: []byte("another kernel")})}),
		reason: denial.SecureBootOff, stage: denial.StageAppraisal, quoted: true, decided: true, require: []string{"boot-programs", "secure-boot-on"}},
	{name: "F18 appraisal: evidence too old", spoil: plain(issuertest.Spoil{}), after: func(a *issuertest.Attempt) { a.World.Advance(31 * time.Second) },
		reason: denial.EvidenceStale, stage: denial.StageAppraisal, quoted: true, decided: true},
	{name: "P02 appraisal: policy expired", spoil: lasting(func(w *issuertest.World) {
		w.Publish(strings.Replace(w.Appraisal(), "2030-01-01T00:00:00Z", w.Now().Add(time.Second).Format(time.RFC3339), 1))
		w.Advance(time.Second)
	}), reason: denial.PolicyExpired, stage: denial.StageAppraisal, quoted: true, decided: true, alone: true},
	{name: "authorization: policy expired", spoil: lasting(func(w *issuertest.World) {
		w.Publish(strings.Replace(w.Authorization(), "2030-01-01T00:00:00Z", w.Now().Add(time.Second).Format(time.RFC3339), 1))
		w.Advance(time.Second)
	}), reason: denial.PolicyExpired, stage: denial.StageAuthorization, quoted: true, decided: true, alone: true},
	{name: "authorization: initiator", spoil: by(mallory, nil), reason: denial.InitiatorDenied, stage: denial.StageAuthorization, quoted: true, decided: true},
	{name: "authorization: audience", spoil: claims(func(c *artifact.RequestClaims) { c.Audience = "https://gate.example/none" }), reason: denial.AudienceMismatch, stage: denial.StageAuthorization, quoted: true, decided: true},
	{name: "authorization: target", spoil: claims(func(c *artifact.RequestClaims) { c.Scope[0].Target += "2" }), reason: denial.ScopeDenied, stage: denial.StageAuthorization, quoted: true, decided: true},
	{name: "authorization: code", spoil: claims(func(c *artifact.RequestClaims) { c.Scope[0].Terms.Code = []artifact.Digest{unknownDigest} }), reason: denial.ScopeDenied, stage: denial.StageAuthorization, quoted: true, decided: true},
	{name: "authorization: operation", spoil: claims(func(c *artifact.RequestClaims) { c.Scope[0].Terms.Operations |= artifact.Net }), reason: denial.ScopeDenied, stage: denial.StageAuthorization, quoted: true, decided: true},
	{name: "authorization: lifetime", spoil: claims(func(c *artifact.RequestClaims) { c.Lifetime = 601 }), reason: denial.LifetimeTooLong, stage: denial.StageAuthorization, quoted: true, decided: true},
	{name: "authorization: uses", spoil: claims(func(c *artifact.RequestClaims) { c.Limits.Uses = 3 }), reason: denial.ScopeDenied, stage: denial.StageAuthorization, quoted: true, decided: true},
	{name: "authorization: depth", spoil: claims(func(c *artifact.RequestClaims) { c.Limits.Depth = 1 }), reason: denial.DelegationExceeded, stage: denial.StageAuthorization, quoted: true, decided: true},
	{name: "authorization: parents", spoil: claims(func(c *artifact.RequestClaims) { c.Parents = []artifact.ParentDigest{issuertest.Random(32)} }), reason: denial.LineageChainInvalid, stage: denial.StageAuthorization, quoted: true, decided: true},
	{name: "authorization: host labels", spoil: lasting(func(w *issuertest.World) {
		w.Host.Labels = map[string]string{"env": "office"}
		w.Approve(w.Host)
		w.Activate(w.Host)
	}), reason: denial.HostMismatch, stage: denial.StageAuthorization, quoted: true, decided: true, alone: true},
}

func TestEveryCheckRefusesWithItsCodeTwice(t *testing.T) {
	shared := issuertest.New(t)
	for _, r := range strangers {
		t.Run(r.name, func(t *testing.T) {
			w := shared.For(t)
			checkRefusal(w, r)
			checkRefusal(w, r)
			checkSummary(w, map[denial.Reason]uint64{r.reason: 2})
		})
	}
	for _, r := range known {
		r.known = true
		t.Run(r.name, func(t *testing.T) {
			w := shared.For(t)
			if r.alone {
				w = issuertest.New(t)
			}
			checkRefusal(w, r)
			checkRefusal(w, r)
			checkSummary(w, nil)
		})
	}
	shared.Permit() // all the while
}

// checkSummary has the refusals summarised and compares the counts; nil means that there must be nothing to summarise.
func checkSummary(w *issuertest.World, want map[denial.Reason]uint64) *record.Record {
	w.Helper()
	size := w.Size()
	if err := w.Issuer.Summarise(w.Ctx); err != nil {
		w.Fatal(err)
	}
	if want == nil {
		if w.Size() != size {
			w.Errorf("a summary of %v", w.Record(size).Counts)
		}
		return nil
	}
	if w.Size() != size+1 {
		w.Fatalf("got %d entries after %d, want one summary", w.Size(), size)
	}
	r := w.Record(size)
	if r.Event != record.EventSummary || r.Since == 0 || r.Since > r.Time || len(r.Counts) != len(want) {
		w.Errorf("got summary %+v, want %v", r, want)
	}
	for reason, n := range want {
		if got := r.Counts[uint64(reason.Code())]; got != n {
			w.Errorf("got %d refusals with %s, want %d", got, reason, n)
		}
	}
	return r
}

func TestWithdrawnPolicyRefuses(t *testing.T) {
	w := issuertest.New(t)
	r := refusal{spoil: revoked(record.CausePolicy, policyHash), reason: denial.PolicyWithdrawn, stage: denial.StageRevocation, known: true, quoted: true, decided: true}
	checkRefusal(w, r)
	r.spoil = plain(issuertest.Spoil{})
	checkRefusal(w, r)
	w.Publish(w.Authorization()) // another document takes its place
	w.Permit()
}

func TestNothingIsMintedWithoutBothPolicies(t *testing.T) {
	w := issuertest.New(t)
	ch := issuertest.Must(w.Issuer.Challenge(w.Ctx, issuer.NewConnection()))(t)
	bare := issuertest.Bare(t)
	bare.EnrolInitiator(issuertest.Robot)
	bare.Host = bare.EnrolHost(issuertest.HostURI, issuertest.Gate)
	bare.Publish(bare.Appraisal())
	_, err := bare.Issuer.Challenge(bare.Ctx, issuer.NewConnection())
	bare.Refusal(err, denial.NoActivePolicy)
	checkRefusal(bare, refusal{spoil: plain(issuertest.Spoil{Challenge: ch}), reason: denial.NoActivePolicy, stage: denial.StageChallenge, known: true})
}
