package audit

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// clockSkew is by how many seconds a decision may be dated after its entry in the log.
const clockSkew = 60

// MaxDelay is by how many seconds a decision, or a record of the issuer, may be dated before its entry in the log. Whoever
// dates further back could decide on old evidence, or on an enrolment or a policy of that time.
const MaxDelay = uint64(artifact.MaxLogDelay / time.Second)

// dated refuses what is dated after its entry in the log (202), or too long before it (205).
func dated(at, logged uint64) error {
	switch {
	case at > logged+clockSkew:
		return denial.New(denial.NotYetValid, "dated after its entry in the log")
	case logged > at+MaxDelay:
		return denial.New(denial.EvidenceStale, "dated more than %d s before its entry in the log", MaxDelay)
	}
	return nil
}

// permit checks an artifact, in this order: signed by the artifact key, header and payload naming the same (706), dated
// when it was logged (202, 205); its id was never used before (504), nor a delegation that it names (406); its capsule is signed by the record key and holds what
// the artifact names by digest (325); then all of decided, with the policies (402), the host's enrolment (106) and exactly
// the revocations (801 to 805) that were in force, and what the artifact descends from
// (see descends). The TPM's clock has not gone back since an earlier entry (507). Decided
// again, the input gives the payload byte for byte (the denial, or 325), and no earlier artifact answers the same request
// (509) or rests on the same delegation (406).
func (v *verifier) permit(e *entry, f *Finding) error {
	signed, err := v.issued(e)
	if err != nil {
		v.world.disbelieved.add(keyOf(string(e.claims.ID)))
		return err
	}
	c := e.claims
	if signed.Claims() != (statement.Claims{Issuer: c.Issuer, Subject: c.Subject}) {
		return denial.New(denial.IdentityConflict, "iss and sub of header and payload differ")
	}
	if err := dated(c.IssuedAt, e.logged); err != nil {
		return err
	}
	if v.issue(e) {
		return denial.New(denial.ArtifactReplayed, "an earlier artifact has the same id")
	}
	for _, p := range c.Lineage.Parents {
		if v.world.delegations.add(keyOf(string(p.Delegation))) {
			return denial.New(denial.DelegationExceeded, "an earlier artifact names the same delegation")
		}
	}
	caps, complete, err := v.capsule(e)
	if err != nil {
		return err
	}
	if !complete {
		f.leave("the issuer no longer has all that the artifact was decided on")
		return nil
	}
	d, err := v.decided(e, caps)
	if err != nil {
		return err
	}
	if err := v.inForce(d); err != nil {
		return err
	}
	if err := v.descends(d, f); err != nil {
		return err
	}
	if err := v.world.tick(d.in); err != nil {
		return err
	}
	again := decision.Decide(d.in, d.appraisal, d.authorization)
	if err := again.Denied(); err != nil {
		return err
	}
	payload, err := again.Claims().Encode()
	if err != nil {
		return err
	}
	if !bytes.Equal(payload, signed.Payload()) {
		return denial.New(denial.LogInconsistent, "decided again, the input leads to another artifact")
	}
	if v.world.requests.add(requestKey(d.in)) {
		return denial.New(denial.RequestReplayed, "an earlier artifact answers the same request")
	}
	return v.spend(d.in)
}

func requestKey(in *decision.Input) [32]byte { return keyOf(in.Initiator.ID, in.Request.ID...) }

// inForce checks what the transaction of an artifact guarantees: it was decided under the policies, the enrolment of the
// host and the revocations in force at its place in the log.
func (v *verifier) inForce(d *decided) error {
	if v.world.force[record.Appraisal] != d.appraisal || v.world.force[record.Authorization] != d.authorization {
		return denial.New(denial.PolicyRollback, "the artifact was decided under a policy that was not in force")
	}
	if v.world.current[d.in.Host.ID] != sum(d.in.Host.Enrolment) {
		return denial.New(denial.NotEnrolled, "the artifact was decided on an enrolment that was not in force")
	}
	if v.world.held[d.in.Host.ID] {
		return denial.New(denial.BootRollback, "the host was held, and authorities had not approved it anew")
	}
	want := v.world.causes(d.in.Host.ID, d.in.Initiator.ID, d.in.Appraisal.Hash, d.in.Authorization.Hash)
	if !slices.Equal(want, d.in.Revoked) {
		return denial.New(denial.LogInconsistent, "the artifact was decided on other revocations than those in the log")
	}
	return nil
}

// capsule reads the capsule of an outcome. It checks that it is signed by the record key, and that what it holds is
// what the outcome names: a part that is missing must be among the lacks of the manifest (102), a part that is there
// must have the digest that was named (325). It reports whether all parts are there.
func (v *verifier) capsule(e *entry) (c *capsule, complete bool, err error) {
	want, ok := partsOf(e)
	if !ok {
		return &capsule{}, true, nil
	}
	raw, err := v.read(nameCapsule(e.digest))
	if err != nil {
		return nil, false, err
	}
	if raw == nil {
		return nil, false, denial.New(denial.NoEvidence, "the bundle has no capsule of this statement")
	}
	env, err := statement.Decode(raw, maxCapsule)
	if err != nil {
		return nil, false, err
	}
	signed, err := env.Verify(v.keys, statement.Capsule)
	if err != nil {
		return nil, false, err
	}
	if !bytes.Equal(raw, signed.Leaf()) || signed.Claims().Issuer != v.trust.Issuer || signed.Claims().Subject != e.env.Claims().Subject {
		return nil, false, denial.New(denial.IdentityConflict, "the capsule is of another issuer or about something else")
	}
	if err := v.trust.CheckThen(signed.Key().Thumbprint(), signed.Claims().IssuedAt); err != nil {
		return nil, false, err
	}
	if c, err = decodeCapsule(signed.Payload()); err != nil {
		return nil, false, err
	}
	complete, err = v.holds(e, c, want)
	return c, complete, err
}

// holds compares the parts of a capsule with what its outcome names.
func (v *verifier) holds(e *entry, c *capsule, want parts) (complete bool, err error) {
	if !equalCBOR(c.Outcome, outcomeOf(e)) {
		return false, denial.New(denial.LogInconsistent, "the capsule is of another statement")
	}
	if want.chain == (statement.Digest{}) && c.Input != nil {
		if want.chain = v.chainOf(c.Input.Value); want.chain == (statement.Digest{}) {
			return false, denial.New(denial.NotEnrolled, "no enrolment in the log names the host decided about")
		}
	}
	complete = true
	for _, p := range []struct {
		name string
		have []byte
		want statement.Digest
	}{
		{"evidence", c.Evidence.value(), want.evidence}, {"request", c.Request.value(), want.request},
		{"input", c.Input.value(), want.input}, {"ek-chain", c.Chain.value(), want.chain},
	} {
		lacks := v.lacks[part{e.index, p.name}]
		switch {
		case p.have == nil && p.want == (statement.Digest{}):
		case p.have == nil && lacks:
			complete = false
		case p.have == nil:
			return false, denial.New(denial.NoEvidence, "the capsule lacks the %s, and the manifest does not say so", p.name)
		case statement.DigestOf(p.have) != p.want:
			return false, denial.New(denial.LogInconsistent, "the %s of the capsule is not the one that the statement names", p.name)
		}
	}
	return complete, v.sameDocuments(c, want.policies)
}

// input decodes a decision input. The last one is remembered: a capsule and the decision on it are checked one after another.
func (v *verifier) input(raw []byte) (*decision.Input, error) {
	if v.lastInput != nil && bytes.Equal(raw, v.lastRaw) {
		return v.lastInput, nil
	}
	in, err := decision.DecodeInput(raw)
	if err == nil {
		v.lastRaw, v.lastInput = raw, in
	}
	return in, err
}

// chainOf returns the digest of the enrolment request of the host that an input is about.
func (v *verifier) chainOf(input []byte) statement.Digest {
	in, err := v.input(input)
	if err != nil {
		return statement.Digest{}
	}
	if h := v.world.enrolled[sum(in.Host.Enrolment)]; h != nil {
		return h.request
	}
	return statement.Digest{}
}

// sameDocuments checks that the policies of a capsule are those of earlier acts, byte for byte (401).
func (v *verifier) sameDocuments(c *capsule, want []firmwarepolicy.Hash) error {
	var have [][]byte
	if c.Policy != nil {
		if err := statement.Unmarshal(c.Policy.Value, &have); err != nil {
			return err
		}
	}
	if len(have) != len(want) {
		return denial.New(denial.PolicyHashMismatch, "the capsule does not hold the policies that the statement names")
	}
	for i, hash := range want {
		p, ok := v.world.policies[hash]
		if !ok || !bytes.Equal(p.doc.Canonical(), have[i]) {
			return denial.New(denial.PolicyHashMismatch, "a policy of the capsule is not one that authorities had signed by then")
		}
	}
	return nil
}

// decided is a decision input that the rest of the bundle bears out.
type decided struct {
	in            *decision.Input
	appraisal     *firmwarepolicy.Document
	authorization *firmwarepolicy.Document
}

// decided checks a decision input against its sources, in this order: it is in its one encoding (309) and by this issuer
// (706); dated after its challenge (202) and when it was logged (202, 205); policies (401), host (106, 325), initiator (305)
// are those that the log had established by then; the request is signed by that initiator (301) and is the one in the
// input (325); the evidence verifies again with the AK that was enrolled, for this challenge, request, connection and
// the PCRs in the input (3xx, 5xx, 6xx, 7xx), and shows the facts in the input (325). Whether these PCRs are those that
// the policy wants is for the decision to say.
func (v *verifier) decided(e *entry, c *capsule) (*decided, error) {
	in, err := v.input(c.Input.value())
	if err != nil {
		return nil, err
	}
	switch {
	case in.Issuer != v.trust.Issuer:
		return nil, denial.New(denial.IdentityConflict, "the decision is another issuer's")
	case in.Challenged > in.Time:
		return nil, denial.New(denial.NotYetValid, "the decision is dated before its challenge")
	}
	if err := dated(in.Time, e.logged); err != nil {
		return nil, err
	}
	d := &decided{in: in}
	if d.appraisal, err = v.named(in.Appraisal, record.Appraisal); err != nil {
		return nil, err
	}
	if d.authorization, err = v.named(in.Authorization, record.Authorization); err != nil {
		return nil, err
	}
	h, err := v.host(in)
	if err != nil {
		return nil, err
	}
	request, err := v.requested(in, c.Request.value())
	if err != nil {
		return nil, err
	}
	facts, err := v.evidence(c.Evidence.value(), evidenceOf{host: h, challenge: in.Challenge, exporter: in.Exporter, request: request,
		selection: selectionOf(in.Facts.Bank, slices.Sorted(maps.Keys(in.Facts.PCR))), bind: ints(in.Facts.CNF.PCRs),
		ima: v.measuredFiles(in.Facts.IMA)})
	if err != nil {
		return nil, err
	}
	key, _, _ := facts.CNF()
	digest := facts.Evidence()
	if !equalCBOR(facts.Claims(), in.Facts) || !key.Equal(in.CNF) || !bytes.Equal(digest[:], in.Evidence) {
		return nil, denial.New(denial.LogInconsistent, "the evidence shows other facts than those decided on")
	}
	return d, nil
}

// measuredFiles returns what the policy said of measured files that facts of IMA were drawn for. It may be older than the policy
// that they were then refused by. If no policy says it, what is returned leads to other facts.
func (v *verifier) measuredFiles(facts attest.IMA) attest.IMAReference {
	if !facts.Present {
		return attest.IMAReference{}
	}
	for _, p := range v.world.policies {
		if a, err := p.doc.Appraisal(); err == nil {
			if digest, err := a.IMA().Digest(); err == nil && digest == facts.Reference {
				return a.IMA()
			}
		}
	}
	return attest.IMAReference{}
}

// named returns a policy that authorities had signed by then and that is exactly the named one.
func (v *verifier) named(p decision.Policy, kind record.PolicyKind) (*firmwarepolicy.Document, error) {
	known, ok := v.world.policies[firmwarepolicy.Hash(sum(p.Hash))]
	if !ok || known.kind != kind || known.doc.ID() != p.ID || known.doc.Version() != p.Version {
		return nil, denial.New(denial.PolicyHashMismatch, "the %s policy decided on is not one that authorities had signed by then", kind)
	}
	return known.doc, nil
}

// host returns the host of an input, as an enrolment record in the log names it.
func (v *verifier) host(in *decision.Input) (*host, error) {
	h := v.world.enrolled[sum(in.Host.Enrolment)]
	if h == nil {
		return nil, denial.New(denial.NotEnrolled, "no enrolment in the log names the host decided about")
	}
	thumb, err := attest.AKThumbprint(h.ak)
	if err != nil {
		return nil, err
	}
	if in.Host.ID != h.id || !bytes.Equal(in.Host.AK, thumb[:]) || !bytes.Equal(in.Host.EK, h.ek) || !equalCBOR(in.Host.Labels, h.labels) {
		return nil, denial.New(denial.LogInconsistent, "the host decided about is not as it was enrolled")
	}
	return h, nil
}

// requested verifies the initiator's request again, at the last moment at which the issuer can have found it valid.
func (v *verifier) requested(in *decision.Input, raw []byte) (statement.Digest, error) {
	who, ok := v.world.initiators[statement.Thumbprint(sum(in.Initiator.Key))]
	if !ok || who.id != in.Initiator.ID || uint64(who.kind) != in.Initiator.Kind || !bytes.Equal(in.Initiator.Enrolment, who.act[:]) {
		return statement.Digest{}, denial.New(denial.KeyUnknown, "the initiator decided about is not as it was enrolled")
	}
	at := in.Time
	if end := in.Request.Expires; at >= end && end > in.Challenged {
		at = end - 1
	}
	request, err := v.verifyRequest(raw, who, at)
	if err != nil {
		return statement.Digest{}, err
	}
	digest := request.Digest()
	if !equalCBOR(request.Claims(), in.Request) || !bytes.Equal(digest[:], in.RequestDigest) {
		return statement.Digest{}, denial.New(denial.LogInconsistent, "the request is not the one decided on")
	}
	return digest, nil
}

func (v *verifier) verifyRequest(raw []byte, who initiator, at uint64) (*artifact.Request, error) {
	u, err := artifact.DecodeRequest(raw)
	if err != nil {
		return nil, err
	}
	return artifact.VerifyRequest(u, who.key, time.Unix(int64(min(at, 1<<53)), 0))
}

// evidenceOf is what evidence is verified for.
type evidenceOf struct {
	host                *host
	challenge, exporter []byte
	request             statement.Digest
	selection           attest.Selection
	bind                []int
	audit               bool
	ima                 attest.IMAReference // what the policy decided by says of measured files
}

// evidence verifies evidence again.
func (v *verifier) evidence(raw []byte, of evidenceOf) (*attest.Facts, error) {
	ev, err := attest.DecodeEvidence(raw)
	if err != nil {
		return nil, err
	}
	nonce, err := attest.ParseNonce(of.challenge)
	if err != nil || len(of.exporter) != 32 {
		return nil, denial.New(denial.NoChallenge, "challenge or exporter does not have 32 bytes")
	}
	return attest.Verify(ev, attest.Want{AK: of.host.ak, Challenge: nonce, Request: of.request,
		Exporter: [32]byte(of.exporter), Selection: of.selection, Bind: of.bind, Audit: of.audit, IMA: of.ima, Known: v.verified})
}

func selectionOf(bank string, pcrs []int64) attest.Selection {
	return attest.Selection{Bank: bank, PCRs: ints(pcrs)}
}

func ints(in []int64) (out []int) {
	for _, n := range in {
		out = append(out, int(n))
	}
	return out
}
