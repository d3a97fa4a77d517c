package attester

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Signer signs statements with a Key in the TPM: a cnf key signs proofs of possession and delegations, a gate key records, and
// neither anything else.
type Signer struct {
	tpm *TPM
	key *Key
	pub statement.Key
}

var _ statement.Signer = (*Signer)(nil)

// Signer returns the Signer of a key, after loading it once: HostMismatch means that this TPM did not make it.
func (t *TPM) Signer(ctx context.Context, k *Key) (*Signer, error) {
	pub, err := k.Verifier()
	if err != nil {
		return nil, err
	}
	err = t.use(ctx, func(c *call) error {
		loaded, err := c.load(k)
		if err == nil {
			loaded.free()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Signer{tpm: t, key: k, pub: pub}, nil
}

// Key returns the public key.
func (s *Signer) Key() statement.Key { return s.pub }

// Sign signs a statement. KeyBinding means that the TPM refused: a PCR that the cnf key is bound to has changed.
func (s *Signer) Sign(ctx context.Context, tbs statement.ToBeSigned) ([]byte, error) {
	allowed := map[Role][]statement.Kind{CNF: {statement.Possession, statement.Delegation}, Gate: {statement.Record}}
	if !slices.Contains(allowed[s.key.Role], tbs.Kind()) {
		return nil, denial.New(denial.WrongType, "a %s key does not sign a %s", s.key.Role, tbs.Kind())
	}
	if len(tbs.Bytes()) == 0 {
		return nil, denial.New(denial.Internal, "nothing to sign")
	}
	digest := sha256.Sum256(tbs.Bytes())
	var sig []byte
	err := s.tpm.use(ctx, func(c *call) (err error) {
		sig, err = c.sign(s.key, digest)
		return err
	})
	return sig, err
}

func (c *call) sign(k *Key, digest [32]byte) ([]byte, error) {
	loaded, err := c.load(k)
	if err != nil {
		return nil, err
	}
	defer loaded.free()
	// Any PCR that moves between the policy command and the signature makes the TPM forget the policy.
	for range attempts {
		auth := loaded.withPassword()
		if k.Role == CNF {
			auth.Auth = c.policyPCR(k)
		}
		r, err := tpm2.Sign{
			KeyHandle:  auth,
			Digest:     tpm2.TPM2BDigest{Buffer: digest[:]},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
		}.Execute(c)
		switch {
		case err == nil:
			return fixed(&r.Signature)
		case errors.Is(err, tpm2.TPMRCPCRChanged):
			continue
		case k.Role == CNF && errors.Is(err, tpm2.TPMRCPolicyFail):
			return nil, denial.New(denial.KeyBinding, "the TPM refused the cnf key: a PCR among %v has changed since the key was made", k.PCRs)
		}
		return nil, fmt.Errorf("signing with %s key: %w", k.Role, err)
	}
	return nil, errRestless
}

// policyPCR satisfies the policy of a cnf key with the PCR values of this moment.
func (c *call) policyPCR(k *Key) tpm2.Session {
	return c.policy(func(conn transport.TPM, session tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
		pcrs, err := selection(attest.Selection{Bank: k.Bank, PCRs: k.PCRs})
		if err != nil {
			return err
		}
		_, err = tpm2.PolicyPCR{PolicySession: session, Pcrs: pcrs}.Execute(conn)
		return err
	})
}

// fixed returns r||s, 32 bytes each (RFC 9053, section 2.1).
func fixed(sig *tpm2.TPMTSignature) ([]byte, error) {
	ecc, err := sig.Signature.ECDSA()
	if err != nil {
		return nil, fmt.Errorf("reading signature: %w", err)
	}
	r, s := ecc.SignatureR.Buffer, ecc.SignatureS.Buffer
	if len(r) > 32 || len(s) > 32 {
		return nil, fmt.Errorf("reading signature: not one of P-256")
	}
	out := make([]byte, 64)
	copy(out[32-len(r):32], r)
	copy(out[64-len(s):], s)
	return out, nil
}
