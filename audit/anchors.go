package audit

import (
	"crypto/x509"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
)

// vendors are the TPM vendors that were believed at a place in the log.
type vendors struct {
	roots    []*x509.Certificate
	rules    attest.Rules
	complete bool // the certificate of every root in force is here
}

// vendors returns the roots in force at the statement that is being checked: those that genesis names, as far as the
// auditor has their certificates, and those of the newest anchors, which a quorum has signed as it may sign for an EK
// itself; with the rules of these anchors. It refuses anchors that had expired (206) or been withdrawn (804), unless
// authorities vouch for the EK, as the issuer does.
func (v *verifier) vendors(at uint64, approved *record.Enrolment) (vendors, error) {
	genesis := v.world.genesis.Roots
	doc := v.world.force[record.Anchors]
	if doc == nil {
		roots := firmwarepolicy.TPMRoots(genesis, nil, v.roots)
		return vendors{roots: roots, complete: len(v.roots) > 0}, nil
	}
	err := doc.CheckTime(at)
	if err == nil && v.world.revoked[revocation{record.CausePolicy, doc.Hash().String()}] {
		err = denial.New(denial.PolicyWithdrawn, "the anchors had been withdrawn")
	}
	if err != nil && approved.Host.Listed {
		return vendors{complete: true}, nil
	}
	if err != nil {
		return vendors{}, err
	}
	a, err := doc.Anchors()
	if err != nil {
		return vendors{}, err
	}
	return vendors{roots: firmwarepolicy.TPMRoots(genesis, a, v.roots), rules: a.EKRules(), complete: len(genesis) == 0 || len(v.roots) > 0}, nil
}
