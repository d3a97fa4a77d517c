package attest

import (
	"bytes"
	"slices"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Want is what the verifier demands of evidence. All of it comes from the verifier's own state, none from the evidence.
type Want struct {
	AK        []byte           // TPM2B_PUBLIC of the host's enrolled AK
	Challenge Nonce            // the one that was given out on this connection
	Request   statement.Digest // digest of the request that the evidence accompanies
	Exporter  [32]byte         // TLS exporter of this connection
	Selection Selection        // the PCRs that the policy wants quoted
	Bind      []int            // the PCRs among them that the cnf key's authPolicy must name, ascending
	Audit     bool             // an audit session must show which banks the TPM keeps, and what firmware measured into each
	IMA       IMAReference     // what the policy knows of measured files, where it selects PCR 10
	Known     *Memory          // what was verified before; nil: nothing
}

// check refuses a Want that would demand too little. It returns what checkIMA does.
func (w Want) check() (*imaReference, error) {
	if w.Challenge == (Nonce{}) {
		return nil, denial.New(denial.NoChallenge, "there is no challenge")
	}
	if w.Exporter == ([32]byte{}) {
		return nil, denial.New(denial.ChannelBinding, "there is no TLS exporter")
	}
	if w.Request == (statement.Digest{}) || !w.Selection.valid() || !ascending(w.Bind) {
		return nil, denial.New(denial.Internal, "the verifier does not say what it wants")
	}
	for _, p := range w.Bind {
		if !slices.Contains(w.Selection.PCRs, p) {
			return nil, denial.New(denial.Internal, "the cnf key is to be bound to PCR %d, which is not quoted", p)
		}
	}
	return w.checkIMA()
}

// Verify is the only maker of Facts. It checks, in this order:
//
// Stage quote: the quote is a quote of the wanted PCRs by the enrolled AK.
//   - want names a challenge (103), an exporter (703), a request, PCRs, a subset of them for the cnf key, with PCR 10 also
//     PCRs 0 to 9, and knows files of IMA only where PCR 10 is selected (901);
//   - the AK in the evidence is the enrolled one (320), and a restricted signing key fixed to its TPM (317, 319);
//   - the attestation: magic (314), type quote (315), size (313), one strict encoding (317);
//   - its qualified signer is the enrolled AK as a primary key of the endorsement hierarchy (320);
//   - its selection is one bank with a bitmap of three bytes (317), the wanted bank (611), and exactly the wanted PCRs
//     (none: 707, one missing: 107, another: 707);
//   - the PCR values are exactly those of the selection (317) and hash to the quoted digest (601);
//   - the signature: one strict encoding (317), SHA-256 or SHA-384 (302), of the AK's type (316), with the AK's scheme
//     (302), and it verifies (316).
//
// Stage key bindings: the quote answers this challenge, and the cnf key belongs to it.
//   - the evidence names the challenge and the request (506), and the quote's qualifying data is 32 bytes (506) that
//     bind it to both and to this connection (703);
//   - the cnf key is an unrestricted P-256 signing key made in its TPM and fixed to it, which neither a password nor an
//     admin role can use (317, 702), and whose authPolicy is TPM2_PolicyPCR over the quoted values of want.Bind (702);
//   - the AK certified that key as a cnf key (314, 315, 313, 317, 302, 702); of its signature, want.Known can tell that it
//     verified before;
//   - there is an audit session if want.Audit demands one (620), and one that is there was signed by the AK in answer to
//     the same qualifying data and is of the commands that AuditSession names (see audited: 314, 315, 313, 317, 302, 620).
//
// Stage event log and facts:
//   - the TPM's clock is safe (205);
//   - the event log, and then the log of the system if there is one, replay to every quoted PCR (603 to 607, 609, 611, 612,
//     908) but PCR 10, which the first does not extend (607), and to PCRs 0 to 7 of every other bank that an audit session
//     shows, each of which firmware has logged (612); want.Known can only tell that they did before;
//   - there is an IMA list exactly if PCR 10 is quoted (604), and a beginning of it replays to that PCR (see newIMAFacts:
//     603, 605, 606, 611, 614, 908).
//
// The certification of the cnf key may be older than the quote, so that one key serves several requests. Nothing is lost by it.
// Quote and audit session are fresh, and the quote binds the digest of a request that names the key by its thumbprint, which
// the decision compares. What is certified is the key's TPM Name, a digest of its attributes and its authPolicy among others,
// and the TPM says it of no key but one that it had loaded, with its private part. Made in that TPM and fixed to it, the private
// part has never been elsewhere since and can come to no other: what was true of the key stays true of it, whatever boots. Its
// authPolicy is compared with the values quoted now, and it is the TPM that holds the key to them at each use. An AK that is
// enrolled in place of an older one has certified nothing before: the signer's name would be the older one's. A key that
// TPM2_Clear has ended can be presented still, by nobody who could prove possession of it. And what says that a proof of
// possession is for one artifact is the proof, which names it, not the key.
//
// A denial names its stage; one of a stage after the first means that the enrolled AK did sign the quote. A panic in
// any check is the denial 901.
func Verify(ev *Evidence, want Want) (*Facts, error) {
	q, err := staged(denial.StageQuote, func() (*quote, error) { return checkQuote(ev, want) })
	if err != nil {
		return nil, err
	}
	bound, err := staged(denial.StageBinding, func() (*binding, error) { return checkBinding(ev, want, q) })
	if err != nil {
		return nil, err
	}
	return staged(denial.StageFacts, func() (*Facts, error) { return newFacts(ev, want, q, bound) })
}

// staged calls one stage of Verify and stamps its denials, also that of a panic.
func staged[T any](s denial.Stage, f func() (*T, error)) (*T, error) {
	v, err := guarded(f)
	if err != nil {
		return nil, denial.Of(err).At(s)
	}
	return v, nil
}

// binding is what a quote of this occasion comes with.
type binding struct {
	cnf *signer
	tpm tpmState // zero without an audit session
}

// checkBinding checks what Verify lists under its second stage.
func checkBinding(ev *Evidence, want Want, q *quote) (*binding, error) {
	if !bytes.Equal(ev.tpm.Challenge, want.Challenge[:]) || !bytes.Equal(ev.tpm.Request, want.Request[:]) {
		return nil, denial.New(denial.ChallengeMismatch, "the evidence answers another challenge or request")
	}
	bound, extra := QualifyingData(want.Challenge, want.Request, want.Exporter), q.attest.ExtraData.Buffer
	if len(extra) != len(bound) {
		return nil, denial.New(denial.ChallengeMismatch, "the quote's qualifying data does not have 32 bytes")
	}
	if !bytes.Equal(extra, bound[:]) {
		return nil, denial.New(denial.ChannelBinding, "the quote was not made for this connection")
	}
	cnf, err := checkSigner(ev.tpm.CNF, 0)
	if err != nil {
		return nil, err
	}
	policy, err := CNFPolicy(Selection{want.Selection.Bank, want.Bind}, q.pcrs)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(cnf.authPolicy, policy) {
		return nil, denial.New(denial.KeyBinding, "the cnf key's policy does not bind it to the quoted PCRs")
	}
	certified := CNFQualifyingData()
	if err := q.ak.certified(ev.tpm.Certify, cnf.name, certified[:], want.Known); err != nil {
		return nil, err
	}
	if ev.tpm.Session == nil {
		if want.Audit {
			return nil, denial.New(denial.TPMFirmware, "the policy wants an audited session of the TPM, and there is none")
		}
		return &binding{cnf: cnf}, nil
	}
	state, err := q.ak.audited(ev.tpm.Session, want.Selection.bank(), bound[:])
	if err != nil {
		return nil, err
	}
	return &binding{cnf: cnf, tpm: *state}, nil
}
