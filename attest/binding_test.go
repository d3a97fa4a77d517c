package attest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/softtpm"
)

func TestFreshness(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	raw := encode(t, w.evidence(t))
	rows := []struct {
		name string
		edit func(*attest.Want)
		want denial.Reason
	}{
		{"F02 old quote for a new challenge", func(w *attest.Want) { w.Challenge = attest.NewNonce() }, denial.ChallengeMismatch},
		{"F10 request changed after quoting", func(w *attest.Want) { w.Request = statement.DigestOf([]byte("another")) }, denial.ChallengeMismatch},
		{"F11 quote of another connection", func(w *attest.Want) { w.Exporter[31] ^= 1 }, denial.ChannelBinding},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			want := w.want
			row.edit(&want)
			facts, err := verify(raw, want)
			refusedAt(t, facts, err, row.want, denial.StageBinding)
		})
	}
}

// An attacker may write any challenge beside a quote. What was signed decides.
func TestF02_OldQuoteUnderANewName(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	e := w.evidence(t)
	want := w.want
	want.Challenge = attest.NewNonce()
	e.Challenge = want.Challenge
	facts, err := verify(encode(t, e), want)
	refusedAt(t, facts, err, denial.ChannelBinding, denial.StageBinding)
}

func TestF09_TruncatedQualifyingData(t *testing.T) {
	for name, n := range map[string]int{"16 bytes": 16, "31 bytes": 31, "none": 0} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, softtpm.Options{Edit: softtpm.Edit{Quote: func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = a.ExtraData.Buffer[:n] }}})
			facts, err := verify(encode(t, w.evidence(t)), w.want)
			refusedAt(t, facts, err, denial.ChallengeMismatch, denial.StageBinding)
		})
	}
	t.Run("33 bytes", func(t *testing.T) {
		w := newWorld(t, softtpm.Options{Edit: softtpm.Edit{Quote: func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = append(a.ExtraData.Buffer, 0) }}})
		facts, err := verify(encode(t, w.evidence(t)), w.want)
		refusedAt(t, facts, err, denial.ChallengeMismatch, denial.StageBinding)
	})
}

func TestF12_CNFKeyThatTheAKDidNotCertify(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	other := w.evidence(t) // another cnf key in the same TPM
	t.Run("a key beside the certified one", func(t *testing.T) {
		e := w.evidence(t)
		e.CNF = other.CNF
		facts, err := verify(encode(t, e), w.want)
		refusedAt(t, facts, err, denial.KeyBinding, denial.StageBinding)
	})
	t.Run("certified by itself", func(t *testing.T) {
		e := w.evidence(t)
		fake := w.vendor.New(t, softtpm.Options{})
		e.Certify.Signature = fake.Sign(t, e.Certify.Attest)
		facts, err := verify(encode(t, e), w.want)
		refusedAt(t, facts, err, denial.KeyBinding, denial.StageBinding)
	})
	t.Run("certified by another TPM's AK", func(t *testing.T) {
		e, theirs := w.evidence(t), w.vendor.New(t, softtpm.Options{}).Evidence(t, w.want, w.pcrs, w.log)
		e.CNF, e.Certify = theirs.CNF, theirs.Certify
		facts, err := verify(encode(t, e), w.want)
		refusedAt(t, facts, err, denial.KeyBinding, denial.StageBinding)
	})
	t.Run("the quote as certification", func(t *testing.T) {
		e := w.evidence(t)
		e.Certify = attest.Certification{Attest: e.Quote, Signature: e.Signature}
		facts, err := verify(encode(t, e), w.want)
		refusedAt(t, facts, err, denial.QuoteType, denial.StageBinding)
	})
	t.Run("certified by the AK that was enrolled before", func(t *testing.T) {
		w := newWorld(t, softtpm.Options{})
		before := w.evidence(t)
		w.tpm.NewAK(t, softtpm.P256)
		w.want.AK = w.tpm.AK
		e := w.evidence(t)
		e.CNF, e.Certify = before.CNF, before.Certify
		facts, err := verify(encode(t, e), w.want)
		refusedAt(t, facts, err, denial.KeyBinding, denial.StageBinding)
	})
	quoted, gate := attest.QualifyingData(w.want.Challenge, w.want.Request, w.want.Exporter), attest.GateQualifyingData(w.tpm.EKDigest())
	for name, extra := range map[string][]byte{"certified in answer to the challenge": quoted[:], "certified as a gate key": gate[:]} {
		t.Run(name, func(t *testing.T) {
			w.tpm.Edit.Certify = func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = extra }
			defer func() { w.tpm.Edit.Certify = nil }()
			facts, err := verify(encode(t, w.evidence(t)), w.want)
			refusedAt(t, facts, err, denial.KeyBinding, denial.StageBinding)
		})
	}
	for name, edit := range map[string]func(*tpm2.TPMSAttest){
		"signed by another key in name":  func(a *tpm2.TPMSAttest) { a.QualifiedSigner.Buffer[5] ^= 1 },
		"certified for another occasion": func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = a.ExtraData.Buffer[:31] },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, softtpm.Options{Edit: softtpm.Edit{Certify: func(a *tpm2.TPMSAttest) {
				a.QualifiedSigner.Buffer = append([]byte{}, a.QualifiedSigner.Buffer...)
				edit(a)
			}}})
			facts, err := verify(encode(t, w.evidence(t)), w.want)
			refusedAt(t, facts, err, denial.KeyBinding, denial.StageBinding)
		})
	}
}

// One certification serves every later request, while the PCRs that the key is bound to hold.
func TestCNFKeyCertifiedOnceServesLaterRequests(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	first := w.evidence(t)
	w.want.Challenge, w.want.Request, w.want.Exporter = attest.NewNonce(), statement.DigestOf([]byte("another request")), [32]byte{8}
	w.tpm.Clock.ResetCount++
	e := w.evidence(t)
	e.CNF, e.Certify = first.CNF, first.Certify
	facts, err := verify(encode(t, e), w.want)
	if err != nil {
		t.Fatal(err)
	}
	key, name, _ := facts.CNF()
	if want, err := attest.Name(first.CNF); err != nil || !bytes.Equal(name, want) {
		t.Errorf("name %x, want %x (%v)", name, want, err)
	}
	if want, err := statement.NewKey(first.CNFKey.Public()); err != nil || !key.Equal(want) {
		t.Errorf("another key than the one certified first (%v)", err)
	}
	again, err := verify(encode(t, first), w.want)
	refusedAt(t, again, err, denial.ChallengeMismatch, denial.StageBinding)

	w.pcrs[4] = bytes.Repeat([]byte{4}, 32)
	e = w.evidence(t)
	e.CNF, e.Certify = first.CNF, first.Certify
	facts, err = verify(encode(t, e), w.want)
	refusedAt(t, facts, err, denial.KeyBinding, denial.StageBinding)
}

// What is remembered of a certification saves the check of its signature, and nothing else.
func TestKnownCertificationNeverChangesAVerdict(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	w.want.Known = attest.NewMemory(1 << 20)
	good := w.evidence(t)
	raw := encode(t, good)
	for range 2 {
		if _, err := verify(raw, w.want); err != nil {
			t.Fatal(err)
		}
	}
	if hits, misses := w.want.Known.Counts(); hits != 2 || misses != 2 { // of certification and log
		t.Fatalf("%d hits and %d misses, want 2 and 2", hits, misses)
	}
	other := w.evidence(t)
	for name, edit := range map[string]func(e *softtpm.Evidence){
		"F12 another key":                 func(e *softtpm.Evidence) { e.CNF = other.CNF },
		"F12 another key's certification": func(e *softtpm.Evidence) { e.Certify = other.Certify },
		"F12 another signature":           func(e *softtpm.Evidence) { e.Certify.Signature = other.Certify.Signature },
	} {
		for range 2 { // a refusal is not remembered
			e := good
			edit(&e)
			facts, err := verify(encode(t, e), w.want)
			refusedAt(t, facts, err, denial.KeyBinding, denial.StageBinding)
		}
		if _, err := verify(raw, w.want); err != nil {
			t.Errorf("%s: the good certification is refused afterwards: %v", name, err)
		}
	}
	for i := range good.Certify.Attest {
		e := good
		e.Certify.Attest = bytes.Clone(e.Certify.Attest)
		e.Certify.Attest[i] ^= 1
		if facts, err := verify(encode(t, e), w.want); err == nil || facts != nil {
			t.Errorf("accepted with another byte %d of the attestation", i)
		}
	}
	for i := range good.Certify.Signature {
		e := good
		e.Certify.Signature = bytes.Clone(e.Certify.Signature)
		e.Certify.Signature[i] ^= 1
		if facts, err := verify(encode(t, e), w.want); err == nil || facts != nil {
			t.Errorf("accepted with another byte %d of the signature", i)
		}
	}
	w.tpm.NewAK(t, softtpm.P256)
	w.want.AK = w.tpm.AK
	e := w.evidence(t)
	e.CNF, e.Certify = good.CNF, good.Certify
	facts, err := verify(encode(t, e), w.want)
	refusedAt(t, facts, err, denial.KeyBinding, denial.StageBinding)
}

// eccScheme gives an ECC key a scheme.
func eccScheme(scheme tpm2.TPMAlgID, hash tpm2.TPMIAlgHash) func(*tpm2.TPMTPublic) {
	return func(p *tpm2.TPMTPublic) {
		parms, err := p.Parameters.ECCDetail()
		if err != nil {
			panic(err)
		}
		parms.Scheme = tpm2.TPMTECCScheme{}
		if scheme == tpm2.TPMAlgECDSA {
			parms.Scheme = tpm2.TPMTECCScheme{Scheme: scheme, Details: tpm2.NewTPMUAsymScheme(scheme, &tpm2.TPMSSigSchemeECDSA{HashAlg: hash})}
		}
	}
}

// onCurve puts another point and curve into an ECC key.
func onCurve(id tpm2.TPMECCCurve, x, y []byte) func(*tpm2.TPMTPublic) {
	return func(p *tpm2.TPMTPublic) {
		parms, err := p.Parameters.ECCDetail()
		if err != nil {
			panic(err)
		}
		parms.CurveID = id
		p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: x}, Y: tpm2.TPM2BECCParameter{Buffer: y},
		})
	}
}

func point(tb testing.TB, c elliptic.Curve) (x, y []byte) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	b, err := key.PublicKey.Bytes()
	if err != nil {
		tb.Fatal(err)
	}
	return b[1 : 1+len(b)/2], b[1+len(b)/2:]
}

func TestF24_CNFKeyThatIsNotBound(t *testing.T) {
	x384, y384 := point(t, elliptic.P384())
	rows := map[string]func(*tpm2.TPMTPublic){
		"userWithAuth":        func(p *tpm2.TPMTPublic) { p.ObjectAttributes.UserWithAuth = true },
		"adminWithPolicy":     func(p *tpm2.TPMTPublic) { p.ObjectAttributes.AdminWithPolicy = true },
		"restricted":          func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = true },
		"decrypt":             func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Decrypt = true },
		"no fixedTPM":         func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false },
		"no fixedParent":      func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedParent = false },
		"imported":            func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SensitiveDataOrigin = false },
		"no sign":             func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SignEncrypt = false },
		"a reserved bit":      func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SetReservedBit(31, true) },
		"another policy":      func(p *tpm2.TPMTPublic) { p.AuthPolicy.Buffer[0] ^= 1 },
		"no policy":           func(p *tpm2.TPMTPublic) { p.AuthPolicy.Buffer = nil },
		"SHA-384 name":        func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgSHA384 },
		"scheme with SHA-384": eccScheme(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA384),
		"on P-384":            onCurve(tpm2.TPMECCNistP384, x384, y384),
		"not on its curve":    onCurve(tpm2.TPMECCNistP256, make([]byte, 32), make([]byte, 32)),
	}
	for name, edit := range rows {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, softtpm.Options{Edit: softtpm.Edit{CNF: edit}})
			facts, err := verify(encode(t, w.evidence(t)), w.want)
			refusedAt(t, facts, err, denial.KeyBinding, denial.StageBinding)
		})
	}
	t.Run("a policy over fewer PCRs", func(t *testing.T) {
		w := newWorld(t, softtpm.Options{})
		less := w.want
		less.Bind = []int{4}
		facts, err := verify(encode(t, w.tpm.Evidence(t, less, w.pcrs, w.log)), w.want)
		refusedAt(t, facts, err, denial.KeyBinding, denial.StageBinding)
	})
	t.Run("without a scheme it is accepted", func(t *testing.T) {
		w := newWorld(t, softtpm.Options{Edit: softtpm.Edit{CNF: eccScheme(tpm2.TPMAlgNull, 0)}})
		if _, err := verify(encode(t, w.evidence(t)), w.want); err != nil {
			t.Error(err)
		}
	})
}

func TestF17_ClockNotSafe(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	w.tpm.Clock.Safe = false
	facts, err := verify(encode(t, w.evidence(t)), w.want)
	refusedAt(t, facts, err, denial.EvidenceStale, denial.StageFacts)
}

// The quote of the boot after an update, with the log of the boot before it.
func TestF13_LogOfAnotherBoot(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	next := make([]byte, 32)
	copy(next, w.pcrs[4])
	next[0] ^= 1
	w.pcrs[4] = next
	w.tpm.Clock.ResetCount++
	facts, err := verify(encode(t, w.evidence(t)), w.want)
	refusedAt(t, facts, err, denial.LogReplayMismatch, denial.StageFacts)
}

// A verifier that does not say what it wants gets nothing.
func TestWantThatDemandsTooLittle(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	raw := encode(t, w.evidence(t))
	rows := []struct {
		name string
		edit func(*attest.Want)
		want denial.Reason
	}{
		{"no challenge", func(w *attest.Want) { w.Challenge = attest.Nonce{} }, denial.NoChallenge},
		{"no exporter", func(w *attest.Want) { w.Exporter = [32]byte{} }, denial.ChannelBinding},
		{"no request", func(w *attest.Want) { w.Request = statement.Digest{} }, denial.Internal},
		{"no PCRs", func(w *attest.Want) { w.Selection.PCRs = nil }, denial.Internal},
		{"PCRs out of order", func(w *attest.Want) { w.Selection.PCRs = []int{1, 0} }, denial.Internal},
		{"PCR 24", func(w *attest.Want) { w.Selection.PCRs = []int{24} }, denial.Internal},
		{"bank SHA-1", func(w *attest.Want) { w.Selection.Bank = "sha1" }, denial.Internal},
		{"cnf key bound to nothing", func(w *attest.Want) { w.Bind = nil }, denial.Internal},
		{"cnf key bound to what is not quoted", func(w *attest.Want) { w.Bind = []int{8} }, denial.Internal},
		{"no AK", func(w *attest.Want) { w.AK = nil }, denial.AKSubstituted},
		{"nothing", func(w *attest.Want) { *w = attest.Want{} }, denial.NoChallenge},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			want := w.want
			row.edit(&want)
			facts, err := verify(raw, want)
			refusedAt(t, facts, err, row.want, denial.StageQuote)
		})
	}
	t.Run("no evidence", func(t *testing.T) {
		facts, err := attest.Verify(nil, w.want)
		refusedAt(t, facts, err, denial.NoEvidence, denial.StageQuote)
	})
}
