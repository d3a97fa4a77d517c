package hsm

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"math/big"

	"github.com/miekg/pkcs11"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Signer returns the use of the key for a purpose that has the pinned thumbprint, after auditing the token and
// checking and trying the key. HSMKeyPolicy says that it is absent, ambiguous, another one, or unfit. The same is done
// again each time a lost connection is replaced, so the key must stay on the token as long as the Token is open.
func (t *Token) Signer(ctx context.Context, p Purpose, pinned statement.Thumbprint) (statement.Signer, error) {
	if !p.valid() {
		return nil, errors.New("making signer: unknown purpose")
	}
	return call(ctx, t, func(c *conn, session pkcs11.SessionHandle) (statement.Signer, error) {
		if err := t.audit(session); err != nil {
			return nil, err
		}
		k, err := t.bind(c, session, p, pinned)
		if err != nil {
			return nil, err
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.pinned[pinned], c.handles[pinned] = p, k.private
		return &signer{token: t, purpose: p, key: k.key}, nil
	})
}

type signer struct {
	token   *Token
	purpose Purpose
	key     statement.Key
}

// Key returns the pinned public key.
func (s *signer) Key() statement.Key { return s.key }

// Sign signs a structure of a kind that the key is for (H19). It hashes the structure itself (H17) and returns r||s
// only if that verifies with the pinned key (H08).
func (s *signer) Sign(ctx context.Context, tbs statement.ToBeSigned) ([]byte, error) {
	return s.token.sign(ctx, s.purpose, s.key.Thumbprint(), tbs, func(sig []byte) bool { return tbs.Verifies(s.key, sig) })
}

// SignUnverified is what the Sign of a Signer does, but for the check of the signature. It is for a process that only
// makes signatures, for one that lets none out unless it verifies (package custody); that one then has Distrust called.
func (t *Token) SignUnverified(ctx context.Context, p Purpose, pinned statement.Thumbprint, tbs statement.ToBeSigned) ([]byte, error) {
	return t.sign(ctx, p, pinned, tbs, func([]byte) bool { return true })
}

// Distrust gives the connection up as after a signature that does not verify, and returns the denial that this is.
func (t *Token) Distrust(ctx context.Context) error {
	t.mu.RLock()
	c, state := t.conn, t.state
	t.mu.RUnlock()
	if c == nil {
		return state
	}
	return t.fail(ctx, c, errBadSignature)
}

func (t *Token) sign(ctx context.Context, p Purpose, pinned statement.Thumbprint, tbs statement.ToBeSigned, good func(sig []byte) bool) ([]byte, error) {
	if len(tbs.Bytes()) == 0 {
		return nil, denial.New(denial.Internal, "nothing to sign")
	}
	if err := p.check(tbs.Kind()); err != nil {
		return nil, err
	}
	digest := sha256.Sum256(tbs.Bytes())
	return callFor(ctx, t, p, func(c *conn, session pkcs11.SessionHandle) ([]byte, error) {
		sig, err := t.rawSign(session, t.handle(c, pinned), digest[:])
		if err != nil {
			return nil, err
		}
		if !good(sig) {
			return nil, errBadSignature
		}
		return sig, nil
	})
}

// handle returns the handle of the key in the conn, or 0, which no object has.
func (t *Token) handle(c *conn, thumbprint statement.Thumbprint) pkcs11.ObjectHandle {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return c.handles[thumbprint]
}

// signECDSA has the token sign a digest. It is the only place that does.
func (t *Token) signECDSA(session pkcs11.SessionHandle, key pkcs11.ObjectHandle, digest []byte) ([]byte, error) {
	if err := t.mod.SignInit(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}, key); err != nil {
		return nil, err
	}
	return t.mod.Sign(session, digest)
}

// selfTest signs random bytes under a prefix that no Sig_structure has, and verifies.
func (t *Token) selfTest(session pkcs11.SessionHandle, k pair, p Purpose) error {
	text := append([]byte("writ-self-test-v1"), make([]byte, 32)...)
	rand.Read(text[len(text)-32:])
	digest := sha256.Sum256(text)
	sig, err := t.rawSign(session, k.private, digest[:])
	if err != nil {
		return err
	}
	if !verifies(k.key, digest[:], sig) {
		return denial.New(denial.HSMKeyPolicy, "the private half of the %s key does not sign for its public key", p)
	}
	return nil
}

// verifies reports whether sig is r||s of 64 bytes over the digest by a P-256 key.
func verifies(k statement.Key, digest, sig []byte) bool {
	pub, ok := k.Public().(*ecdsa.PublicKey)
	if !ok || len(sig) != 64 {
		return false
	}
	return ecdsa.Verify(pub, digest, new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
}
