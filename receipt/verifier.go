package receipt

import (
	"crypto/sha256"
	"sync"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// cached is how many verified heads a Verifier remembers.
const cached = 256

// Verifier verifies receipts under fixed keys. Receipts of one batch share a head: it remembers heads that verified,
// by digest of the signed bytes, the signature and the root, so that the signature of a batch is checked once. It
// remembers no refusal. It is safe for concurrent use.
type Verifier struct {
	keys statement.Keys
	once bool // it remembers nothing
	mu   sync.Mutex
	seen map[[sha256.Size]byte]Signed
}

// NewVerifier returns a Verifier that trusts the keys of the set that are for kind Receipt.
func NewVerifier(keys statement.Keys) *Verifier { return &Verifier{keys: keys} }

// head verifies the signed head over root, or finds it among those already verified.
func (v *Verifier) head(env *statement.Envelope, root Hash) (*Signed, error) {
	if v.once {
		return verifyHead(env, root, v.keys)
	}
	signed := env.Digest()
	id := sha256.Sum256(append(signed[:], root[:]...))
	if s, ok := v.recall(id); ok {
		return &s, nil
	}
	s, err := verifyHead(env, root, v.keys)
	if err == nil {
		v.remember(id, *s)
	}
	return s, err
}

func verifyHead(env *statement.Envelope, root Hash, keys statement.Keys) (*Signed, error) {
	verified, err := env.VerifyDetached(keys, statement.Receipt, root[:])
	if err != nil {
		return nil, reasonOf(err)
	}
	c := verified.Claims()
	log, size, ok := parseSubject(c.Subject)
	if !ok || c.IssuedAt == 0 {
		return nil, denial.New(denial.ReceiptInvalid, "the head does not name its log, size and time")
	}
	return &Signed{Head: Head{Size: size, Root: root, Time: c.IssuedAt}, Issuer: c.Issuer, Log: log, Key: verified.Key().Thumbprint()}, nil
}

// reasonOf keeps the reasons that concern key and algorithm.
func reasonOf(err error) error {
	d := denial.Of(err)
	switch d.Reason {
	case denial.KeyUnknown, denial.AlgNotAllowed, denial.AlgKeyMismatch, denial.AlgNotProtected:
		return d
	}
	return denial.New(denial.ReceiptInvalid, "the head is not signed for this entry at this place")
}

func (v *Verifier) recall(id [sha256.Size]byte) (Signed, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s, ok := v.seen[id]
	return s, ok
}

func (v *Verifier) remember(id [sha256.Size]byte, s Signed) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.seen == nil || len(v.seen) >= cached {
		v.seen = map[[sha256.Size]byte]Signed{}
	}
	v.seen[id] = s
}
