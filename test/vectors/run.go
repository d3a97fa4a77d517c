package vectors

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strconv"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
)

// Run gives a vector to the verifier and returns an error unless it answers as the vector says.
func Run(v Vector) error {
	err := v.run()
	var unread unusable
	if errors.As(err, &unread) {
		return fmt.Errorf("%s: %w", v.ID, err)
	}
	got, name := 0, "ACCEPTED"
	if err != nil {
		d := denial.Of(err)
		got, name = d.Reason.Code(), d.Reason.String()
	}
	if got != v.Code {
		return fmt.Errorf("%s: got %d %s, want %d %s (%v)", v.ID, got, name, v.Code, v.Name, err)
	}
	return nil
}

// unusable says that the vector itself cannot be used, or that facts are wrong. No vector expects it.
type unusable struct{ why error }

func (u unusable) Error() string { return "reading vector: " + u.why.Error() }

func misread(err error) error { return unusable{err} }

func (v *Vector) run() error {
	switch {
	case v.Evidence != nil:
		return v.Evidence.run()
	case v.Enrolment != nil:
		return v.Enrolment.run()
	case v.Statement != nil:
		return v.Statement.run()
	case v.Artifact != nil:
		_, err := v.Artifact.run()
		return err
	case v.Status != nil:
		return v.Status.run()
	case v.Request != nil:
		return v.Request.run()
	case v.Possession != nil:
		return v.Possession.run()
	case v.Delegation != nil:
		return v.Delegation.run()
	case v.Checkpoint != nil:
		return v.Checkpoint.run()
	}
	return misread(fmt.Errorf("no input"))
}

func (e *Evidence) run() error {
	raw := []byte(e.Collection)
	if len(raw) == 0 {
		var err error
		if raw, err = e.encode(); err != nil {
			return misread(err)
		}
	}
	ev, err := attest.DecodeEvidence(raw)
	if err != nil {
		return err
	}
	w := e.Want
	facts, err := attest.Verify(ev, attest.Want{
		AK: w.AK, Challenge: attest.Nonce(fixed(w.Challenge)), Request: fixed(w.Request), Exporter: fixed(w.Exporter),
		Selection: attest.Selection{Bank: w.Bank, PCRs: w.PCRs}, Bind: w.Bind, Audit: w.Audit,
		IMA: attest.IMAReference{Known: w.Known, Keys: plain(w.Keys), Watch: w.Watch},
	})
	if err != nil {
		return err
	}
	if got := factsOf(facts.Claims()); e.Facts != nil && !reflect.DeepEqual(*e.Facts, got) {
		return misread(fmt.Errorf("facts %+v, want %+v", got, *e.Facts))
	}
	return nil
}

// fixed returns 32 bytes, zero if there are not as many.
func fixed(b Bytes) (out [32]byte) {
	if len(b) == len(out) {
		copy(out[:], b)
	}
	return out
}

// plain returns the byte strings, nil if there are none.
func plain(list []Bytes) (out [][]byte) {
	for _, b := range list {
		out = append(out, b)
	}
	return out
}

// or returns b, or what stands for it where it is absent.
func or(b, other Bytes) Bytes {
	if len(b) == 0 {
		return other
	}
	return b
}

func (e *Evidence) encode() ([]byte, error) {
	p := attest.EvidenceParts{
		Quote: e.Attest, Signature: e.Signature, Bank: e.Bank, PCRs: map[int64][]byte{}, AK: or(e.AK, e.Want.AK), CNF: e.CNF,
		Certify: attest.Certification{Attest: e.Certify[0], Signature: e.Certify[1]}, BootLog: e.Log,
		Challenge: attest.Nonce(fixed(or(e.Challenge, e.Want.Challenge))), Request: fixed(or(e.Request, e.Want.Request)),
	}
	if len(e.OSLog) > 0 {
		p.OSLog = e.OSLog
	}
	if len(e.IMAList) > 0 {
		p.IMALog = e.IMAList
	}
	if s := e.Session; s != nil {
		p.Session = &attest.AuditSession{Attest: s.Attest, Signature: s.Signature, Responses: plain(s.Responses)}
	}
	for name, value := range e.PCRs {
		pcr, err := strconv.ParseInt(name, 10, 64)
		if err != nil {
			return nil, err
		}
		p.PCRs[pcr] = value
	}
	return p.Encode()
}

func factsOf(c attest.Claims) Facts {
	f := Facts{
		SecureBootPresent: c.SecureBoot.Present, SecureBootEnabled: c.SecureBoot.Enabled,
		Authorities: len(c.SecureBoot.Authorities), BootApps: []string{}, CommandLine: append([]string{}, c.CommandLine...),
	}
	for _, a := range c.BootApps {
		f.BootApps = append(f.BootApps, a.Digest)
	}
	return f
}

func (e *Enrolment) run() error {
	o := attest.EnrolOptions{EKDigest: fixed(e.EKDigest), Now: e.Now, AllowListed: e.Listed}
	var err error
	if o.Roots, err = certificates(e.Roots); err != nil {
		return misread(err)
	}
	if o.Rules, err = e.rules(); err != nil {
		return misread(err)
	}
	r := attest.EnrolRequest{EK: e.EK, AK: e.AK, GateKey: e.GateKey, Chain: [][]byte{}}
	for _, der := range e.Chain {
		r.Chain = append(r.Chain, der)
	}
	if len(e.Certify[0]) > 0 {
		r.Certify = &attest.Certification{Attest: e.Certify[0], Signature: e.Certify[1]}
	}
	raw, err := r.Encode()
	if err != nil {
		return misread(err)
	}
	decoded, err := attest.DecodeEnrolRequest(raw)
	if err != nil {
		return err
	}
	_, err = attest.CheckEnrolment(decoded, o)
	return err
}

func certificates(list []Bytes) (out []*x509.Certificate, err error) {
	for _, der := range list {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func (e *Enrolment) rules() (r attest.Rules, err error) {
	r.Listed = e.MustList
	if r.Path, err = certificates(e.Path); err != nil {
		return r, err
	}
	for _, der := range e.Lists {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return r, err
		}
		r.Lists = append(r.Lists, list)
	}
	for _, f := range e.Firmware {
		r.Firmware = append(r.Firmware, attest.FirmwareRange{Manufacturer: f.Manufacturer, Model: f.Model, From: f.From, To: f.To, Why: "a vector"})
	}
	return r, nil
}

func (c *Checkpoint) run() error {
	var keys []receipt.NoteKey
	for _, text := range c.Keys {
		k, err := receipt.ParseNoteKey(text)
		if err != nil {
			return misread(err)
		}
		keys = append(keys, k)
	}
	var witnesses *receipt.Witnesses
	if c.Threshold != nil {
		witnesses = &receipt.Witnesses{Threshold: *c.Threshold}
		for _, w := range c.Witnesses {
			k, err := receipt.ParseNoteKey(w.Key)
			if err != nil {
				return misread(err)
			}
			witnesses.List = append(witnesses.List, receipt.Witness{Operator: w.Operator, Key: k})
		}
	}
	verified, err := receipt.VerifyCheckpoint(c.Raw, keys, witnesses)
	if err != nil {
		return err
	}
	if c.Since > 0 {
		if err := verified.FreshSince(c.Since); err != nil {
			return err
		}
	}
	if c.Old == nil {
		return nil
	}
	var path []receipt.Hash
	for _, node := range c.Path {
		path = append(path, receipt.Hash(fixed(node)))
	}
	return verified.Follows(&receipt.Checkpoint{Origin: c.Old.Origin, Size: c.Old.Size, Root: receipt.Hash(fixed(c.Old.Root))}, path)
}

func (s *Statement) run() error {
	var keys statement.Keys
	for _, k := range s.Keys {
		key, err := statement.ParseKey(k.COSE)
		if err != nil {
			return err
		}
		var kinds []statement.Kind
		for _, name := range k.Kinds {
			kinds = append(kinds, kindNamed(name))
		}
		if err := keys.Add(key, kinds...); err != nil {
			return err
		}
	}
	env, err := statement.Decode(s.Raw, s.Limit)
	if err != nil {
		return err
	}
	_, err = env.Verify(keys, kindNamed(s.Kind))
	return err
}

func kindNamed(name string) statement.Kind {
	for _, k := range statement.Kinds() {
		if k.String() == name {
			return k
		}
	}
	return 0
}

func (a *Artifact) run() (*artifact.Artifact, error) {
	trust, err := artifact.ParseTrust(a.Trust)
	if err != nil {
		return nil, misread(err)
	}
	want := artifact.Want{Trust: trust, Now: a.Now, Audience: a.Audience}
	if len(a.Status) > 0 {
		if want.Status, err = artifact.VerifyStatus(a.Status, trust, a.Now, 0); err != nil {
			return nil, misread(err)
		}
	}
	if a.Use != nil {
		if want.Use, err = a.Use.use(); err != nil {
			return nil, misread(err)
		}
	}
	return artifact.Verify(a.Raw, want)
}

func (u *Use) use() (*artifact.Use, error) {
	ops, err := artifact.ParseOperations(u.Operations)
	if err != nil {
		return nil, err
	}
	use := &artifact.Use{Target: u.Target, Operation: ops, Argv: u.Argv}
	if len(u.Code) > 0 {
		use.Code = artifact.Digest{Algorithm: artifact.SHA256, Value: u.Code}
	}
	return use, nil
}

func (s *Status) run() error {
	trust, err := artifact.ParseTrust(s.Trust)
	if err != nil {
		return misread(err)
	}
	_, err = artifact.VerifyStatus(s.Raw, trust, s.Now, s.LastSeen)
	return err
}

func (r *Request) run() error {
	key, err := statement.ParseKey(r.Key)
	if err != nil {
		return misread(err)
	}
	u, err := artifact.DecodeRequest(r.Raw)
	if err != nil {
		return err
	}
	_, err = artifact.VerifyRequest(u, key, r.Now)
	return err
}

func (d *Delegation) run() error {
	key, err := statement.ParseKey(d.Key)
	if err != nil {
		return misread(err)
	}
	var keys statement.Keys
	if err := keys.Add(key, statement.Artifact); err != nil {
		return misread(err)
	}
	parent, err := artifact.VerifyAncestor(d.Parent, keys)
	if err != nil {
		return err
	}
	delegation, err := artifact.VerifyDelegation(d.Raw, parent, d.Now)
	if err != nil || d.Request == nil {
		return err
	}
	var request artifact.RequestClaims
	if err := statement.Unmarshal(d.Request, &request); err != nil {
		return misread(err)
	}
	claims := delegation.Claims()
	return claims.Allows(&request, uint64(d.Now.Unix()))
}

func (p *Possession) run() error {
	a, err := p.Artifact.run()
	if err != nil {
		return misread(err)
	}
	parameters := artifact.Digest{Algorithm: artifact.SHA256, Value: p.Parameters}
	return artifact.VerifyPossession(p.Raw, a, artifact.GateNonce(fixed(p.Nonce)), parameters, p.Now)
}

// Digest returns SHA-256 in hexadecimal, to name a file by its content.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
