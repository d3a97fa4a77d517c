package issuer

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
)

// vendors are the TPM vendors that are believed: what the certificate of an EK is checked against.
type vendors struct {
	version uint64 // of the policies, under which the rest was read
	anchors []byte // hash of the anchors in force, nil before the first
	roots   []*x509.Certificate
	rules   attest.Rules
}

// vendors returns the roots that genesis pins, as far as the issuer has their certificates (K11), and those of the anchors
// in force, with their rules. It refuses anchors that have expired (206) or been withdrawn (804): then no TPM is enrolled
// by its certificate, and with the refusal come vendors without a root, for an EK that authorities vouch for themselves.
func (i *Issuer) vendors(ctx context.Context) (vendors, error) {
	var v vendors
	var err error
	if v.version, err = i.log.Counter(ctx, counterPolicy); err != nil {
		return v, err
	}
	var state policyState
	found, err := load(ctx, i.log, bucketPolicy, []byte(record.Anchors), &state)
	if err != nil {
		return v, err
	}
	if !found {
		v.roots = firmwarepolicy.TPMRoots(i.genesis.Roots, nil, i.roots)
		return v, nil
	}
	v.anchors = state.Hash
	doc, err := firmwarepolicy.Decode(state.Document)
	if err != nil {
		return v, err
	}
	if err := doc.CheckTime(uint64(i.now().Unix())); err != nil {
		return v, err
	}
	if err := i.notRevoked(ctx, record.CausePolicy, hex.EncodeToString(state.Hash)); err != nil {
		return v, err
	}
	a, err := doc.Anchors()
	if err != nil {
		return v, err
	}
	v.roots, v.rules = firmwarepolicy.TPMRoots(i.genesis.Roots, a, i.roots), a.EKRules()
	return v, nil
}

// vendorsFor returns the vendors for the enrolment of an EK. That there are none is no matter where an authority vouches
// for the EK.
func (i *Issuer) vendorsFor(ctx context.Context, e *record.Enrolment) (vendors, error) {
	v, err := i.vendors(ctx)
	if e.Host.Listed && (denial.Is(err, denial.PolicyExpired) || denial.Is(err, denial.PolicyWithdrawn)) {
		err = nil
	}
	return v, err
}

// same refuses to end an enrolment that began under other anchors (321).
func (v vendors) same(began vendors) error {
	if !bytes.Equal(v.anchors, began.anchors) {
		return denial.New(denial.EKUntrusted, "authorities have changed meanwhile which TPM vendors are believed")
	}
	return nil
}
