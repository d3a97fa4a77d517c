package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"maps"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/denial"
)

// QuoteFiles are a quote and what is to be held against it, for whoever has files and no enrolment. A nil field beyond
// the first three is not checked.
type QuoteFiles struct {
	Attest    []byte                      // TPMS_ATTEST or TPM2B_ATTEST
	Signature []byte                      // TPMT_SIGNATURE
	AK        []byte                      // TPM2B_PUBLIC, TPMT_PUBLIC, or a public key as PEM
	Nonce     []byte                      // qualifying data that the quote should answer
	PCRs      map[string]map[int64][]byte // bank to PCR to value; those that the quote does not cover are passed over
	Log       []byte                      // boot log, which needs PCRs
}

// QuoteReport is what CheckQuote found. It proves no more than its checks: whose key signed, when, and for what, only the
// one who enrolled it and gave the nonce can know.
type QuoteReport struct {
	Quote     *Attestation
	Hierarchy string  // of which the AK is a primary key: "endorsement", "owner" or "platform"; "" if the key came as PEM
	Bank      string  // of the quote
	PCRs      []int   // that the quote covers
	Boot      *Claims // the facts of the log alone, as Compare gives them; nil without one
	Uncovered []int   // PCRs of those that the log says nothing of: 10, where an operating system measures with IMA
}

// CheckQuote checks a quote with the checks of Verify, as far as they need no enrolment, challenge or cnf key, in this order:
//   - the key: a TPM's public area is that of a restricted signing key, made in its TPM and fixed to it (317, 319); of a
//     key as PEM only type and size are known (317, 319), and its scheme is what the signature says, with SHA-256 or
//     SHA-384 (317, 302);
//   - the attestation: magic (314), type quote (315), size (313), one strict encoding (317);
//   - its qualified signer is the key as a primary key of the endorsement, owner or platform hierarchy (320). A child of
//     another key can be checked as PEM only, since its qualified name rests on keys that are not here;
//   - it covers PCRs (707) of one bank with a bitmap of three bytes (317), and the bank is SHA-256 or SHA-384 (611);
//   - the values of all PCRs that it covers are there (317) and hash to the quoted digest (601);
//   - the signature, as Verify checks it (317, 302, 316);
//   - the nonce is not empty (103), and the quote answers it (506);
//   - the log replays to every quoted PCR, as in Verify (603 to 607, 609, 611, 612, 908), but for PCR 10 where it has no
//     event: IMA keeps a log of its own.
//
// Verify demands more: an AK of the endorsement hierarchy, the policy's selection, a log of every PCR, and a clock that is
// safe.
func CheckQuote(f QuoteFiles) (*QuoteReport, error) {
	return guarded(func() (*QuoteReport, error) { return f.check() })
}

func (f QuoteFiles) check() (*QuoteReport, error) {
	raw := withoutSize(f.Attest)
	ak, primaries, err := f.key()
	if err != nil {
		return nil, err
	}
	attest, err := parseAttest(raw, tpm2.TPMSTAttestQuote)
	if err != nil {
		return nil, err
	}
	r := &QuoteReport{}
	if r.Hierarchy, err = hierarchyOf(attest.QualifiedSigner.Buffer, primaries); err != nil {
		return nil, err
	}
	q := &quote{ak: ak, attest: attest}
	if err := f.checkPCRs(q, r); err != nil {
		return nil, err
	}
	if err := ak.verify(raw, f.Signature, denial.QuoteSignature, denial.QuoteSignature); err != nil {
		return nil, err
	}
	if err := f.checkNonce(attest.ExtraData.Buffer); err != nil {
		return nil, err
	}
	r.Quote = explain(attest)
	return r, f.checkLog(q, r)
}

// checkPCRs checks the selection, and the values where there are any.
func (f QuoteFiles) checkPCRs(q *quote, r *QuoteReport) error {
	info, err := q.attest.Attested.Quote()
	if err != nil {
		return denial.New(denial.QuoteMalformed, "the attestation quotes nothing")
	}
	want := Selection{Bank: "sha256"} // for a quote of another bank or of none, which matches refuses
	if s := info.PCRSelect.PCRSelections; len(s) > 0 {
		quoted := explainSelection(s[0])
		if _, ok := bankNamed(quoted.Bank); ok {
			want.Bank = quoted.Bank
		}
		want.PCRs = quoted.PCRs
	}
	if err := want.matches(info.PCRSelect); err != nil {
		return err
	}
	r.Bank, r.PCRs = want.Bank, want.PCRs
	if f.PCRs == nil {
		return nil
	}
	sent := bankValues{Alg: want.bank().cose, Values: map[int64][]byte{}}
	for _, p := range want.PCRs {
		if v, ok := f.PCRs[want.Bank][int64(p)]; ok {
			sent.Values[int64(p)] = v
		}
	}
	return q.checkPCRs(sent, want)
}

func (f QuoteFiles) checkNonce(extra []byte) error {
	switch {
	case f.Nonce == nil:
		return nil
	case len(f.Nonce) == 0:
		return denial.New(denial.NoChallenge, "an empty nonce shows nothing")
	case !bytes.Equal(extra, f.Nonce):
		return denial.New(denial.ChallengeMismatch, "the quote answers other qualifying data")
	}
	return nil
}

func (f QuoteFiles) checkLog(q *quote, r *QuoteReport) error {
	if f.Log == nil {
		return nil
	}
	l, err := parseLog(f.Log)
	if err != nil {
		return err
	}
	pcrs := maps.Clone(q.pcrs)
	if _, quoted := pcrs[imaPCR]; quoted && !l.extends(imaPCR) {
		delete(pcrs, imaPCR)
		r.Uncovered = []int{imaPCR}
	}
	boot, err := bootLogs{firmware: f.Log}.replay(r.Bank, pcrs, nil)
	if err != nil {
		return err
	}
	c := boot.claims(r.Bank)
	r.Boot = &c
	return nil
}

// imaPCR is extended by the operating system, after the boot log has ended.
const imaPCR = 10

// extends reports whether an event of the log extends the PCR.
func (l *bootLog) extends(pcr uint32) bool {
	return slices.ContainsFunc(l.events, func(e logEvent) bool { return e.pcr == pcr && e.extends() })
}

// Covers reports whether an event of the log extends the PCR.
func (l *EventLog) Covers(pcr int64) bool {
	return pcr >= 0 && pcr < pcrCount && l.log.extends(uint32(pcr))
}

// primary is a qualified name that the AK has if it is a primary key of a hierarchy.
type primary struct {
	hierarchy string
	qualified []byte
}

// hierarchyOf finds the qualified signer among those that the key can be. Of a key as PEM none is known.
func hierarchyOf(signer []byte, primaries []primary) (string, error) {
	if primaries == nil {
		return "", nil
	}
	for _, p := range primaries {
		if bytes.Equal(signer, p.qualified) {
			return p.hierarchy, nil
		}
	}
	return "", denial.New(denial.AKSubstituted, "the attestation names another signer than this key as a primary key of a hierarchy")
}

// key reads the AK in any of its three forms.
func (f QuoteFiles) key() (*attestationKey, []primary, error) {
	if block, _ := pem.Decode(f.AK); block != nil {
		ak, err := f.bareKey(block)
		return ak, nil, err
	}
	public := f.AK
	if !bytes.Equal(withoutSize(public), public) {
		public = public[2:]
	}
	if len(public) > maxStructure {
		return nil, nil, denial.New(denial.StructureLimit, "a TPM structure has more than %d bytes", maxStructure)
	}
	public = append(binary.BigEndian.AppendUint16(nil, uint16(len(public))), public...)
	ak, err := checkAK(public)
	if err != nil {
		return nil, nil, err
	}
	primaries := []primary{{"endorsement", ak.qualified}}
	alg := tpm2.TPMIAlgHash(binary.BigEndian.Uint16(ak.name))
	h, _ := strongHash(alg)
	for _, parent := range []struct {
		hierarchy string
		handle    tpm2.TPMHandle
	}{{"owner", tpm2.TPMRHOwner}, {"platform", tpm2.TPMRHPlatform}} {
		handle := binary.BigEndian.AppendUint32(nil, uint32(parent.handle))
		primaries = append(primaries, primary{parent.hierarchy, nameWith(alg, h, handle, ak.name)})
	}
	return ak, primaries, nil
}

// bareKey reads a public key that nothing is known of but its numbers.
func (f QuoteFiles) bareKey(block *pem.Block) (*attestationKey, error) {
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil || block.Type != "PUBLIC KEY" {
		return nil, denial.New(denial.QuoteMalformed, "the PEM file holds no public key")
	}
	if !strongKey(pub) {
		return nil, denial.New(denial.AKAttributes, "the AK is %v", errWeakKey)
	}
	if len(f.Signature) < 4 {
		return nil, denial.New(denial.QuoteMalformed, "there is no signature")
	}
	ak := &attestationKey{pub: pub,
		scheme:  tpm2.TPMAlgID(binary.BigEndian.Uint16(f.Signature)),
		hashAlg: tpm2.TPMIAlgHash(binary.BigEndian.Uint16(f.Signature[2:]))}
	var ok bool
	if ak.hash, ok = strongHash(ak.hashAlg); !ok {
		return nil, denial.New(denial.AlgNotAllowed, "the signature's hash is neither SHA-256 nor SHA-384")
	}
	return ak, nil
}

// strongKey reports whether publicKey would take such a key from a public area.
func strongKey(pub crypto.PublicKey) bool {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		bits := k.N.BitLen()
		return k.E == 65537 && bits >= 2048 && bits <= 4096 && k.N.Bit(0) == 1
	case *ecdsa.PublicKey:
		return k.Curve == elliptic.P256() || k.Curve == elliptic.P384()
	}
	return false
}
