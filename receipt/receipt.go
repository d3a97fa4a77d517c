package receipt

import (
	"errors"
	"fmt"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Proof is what a verified receipt says: the entry stands at Index of the Log of Issuer, which had Size entries under
// Root at Time.
type Proof struct {
	Size   uint64
	Index  uint64
	Root   Hash
	Time   uint64 // seconds since 1970 UTC: the logged time
	Issuer string
	Log    string
	Key    statement.Thumbprint // that signed the head
}

// Make returns the receipt of the entry at index under a signed head of size entries: the head with an inclusion proof
// in its unprotected header. A tree of one leaf has no receipt (RFC 9942: the path has at least one node).
func Make(signedHead []byte, size, index uint64, path []Hash) ([]byte, error) {
	m, err := NewMaker(signedHead, size)
	if err != nil {
		return nil, err
	}
	return m.Make(index, path)
}

// Maker makes the receipts of many entries under one signed head, which it reads once.
type Maker struct {
	head *statement.Carrier
	size uint64
}

// NewMaker reads a signed head of size entries.
func NewMaker(signedHead []byte, size uint64) (*Maker, error) {
	head, err := statement.NewCarrier(signedHead)
	if err != nil {
		return nil, fmt.Errorf("making receipt: %w", err)
	}
	return &Maker{head, size}, nil
}

// Make returns the receipt of the entry at index, whose path the caller has from the tree.
func (m *Maker) Make(index uint64, path []Hash) ([]byte, error) {
	if err := checkPlace(index, m.size, len(path)); err != nil {
		return nil, fmt.Errorf("making receipt: %w", err)
	}
	return m.head.WithProofs(encodeInclusion(index, m.size, path)), nil
}

// MakeConsistency returns a consistency receipt: the signed head of to entries with the proof that the tree of from
// entries is its beginning.
func MakeConsistency(signedHead []byte, from, to uint64, path []Hash) ([]byte, error) {
	p := consistency{From: from, To: to, Path: nodes(path)}
	if from == 0 || from >= to || checkPath(p.Path) != nil {
		return nil, fmt.Errorf("making consistency receipt: sizes %d and %d with %d nodes", from, to, len(path))
	}
	enc, err := p.encode()
	if err != nil {
		return nil, err
	}
	return statement.WithProofs(signedHead, enc)
}

// Verify is Verifier.Verify without a cache.
func Verify(raw []byte, leaf []byte, keys statement.Keys) (*Proof, error) {
	return (&Verifier{keys: keys, once: true}).Verify(raw, leaf)
}

// VerifyConsistency is Verifier.VerifyConsistency without a cache.
func VerifyConsistency(raw []byte, old Head, keys statement.Keys) (*Signed, error) {
	return (&Verifier{keys: keys, once: true}).VerifyConsistency(raw, old)
}

// Verify checks the receipt of a log entry. In this order: one COSE_Sign1 in canonical encoding; under label 396 of
// its unprotected header, and nothing beside it, exactly one inclusion proof; index below size, each node 32 bytes,
// exactly as many nodes as size and index demand; algorithm, key and the signature over the root that leaf and path
// lead to; the kind; the signed size is the size of the proof. Whatever fails is ReceiptInvalid, except that an
// unknown key or an algorithm that is not allowed keeps its own reason.
//
// The caller compares Log and Issuer with what it trusts.
func (v *Verifier) Verify(raw, leaf []byte) (*Proof, error) {
	env, proofs, err := decode(raw)
	if err != nil {
		return nil, denial.New(denial.ReceiptInvalid, "the receipt is malformed")
	}
	p, err := parseInclusion(proofs)
	if err != nil {
		return nil, denial.New(denial.ReceiptInvalid, "the receipt does not hold exactly one inclusion proof")
	}
	root, err := p.root(LeafHash(leaf))
	if err != nil {
		return nil, denial.New(denial.ReceiptInvalid, "the inclusion proof does not fit size and index")
	}
	s, err := v.head(env, root)
	if err != nil {
		return nil, err
	}
	if s.Size != p.Size {
		return nil, denial.New(denial.ReceiptInvalid, "the proof is for another tree size than the signed one")
	}
	return &Proof{Size: s.Size, Index: p.Index, Root: root, Time: s.Time, Issuer: s.Issuer, Log: s.Log, Key: s.Key}, nil
}

// Preceding returns the root of the tree of all entries before the one that a receipt is of. The receipt has verified: its
// inclusion path holds that tree's nodes, and so the signature over the larger tree covers them.
func Preceding(raw []byte) (Hash, error) {
	_, proofs, err := decode(raw)
	if err != nil {
		return Hash{}, denial.New(denial.ReceiptInvalid, "the receipt is malformed")
	}
	p, err := parseInclusion(proofs)
	if err == nil && checkPath(p.Path) == nil && checkPlace(p.Index, p.Size, len(p.Path)) == nil && p.Index > 0 {
		return p.preceding(), nil
	}
	return Hash{}, denial.New(denial.ReceiptInvalid, "the receipt shows no entries before its own")
}

// VerifyConsistency checks that the log has only grown since the old head, which the caller has verified before, and
// returns the newer head. The checks and reasons are those of Verify with a consistency proof in place of the
// inclusion proof, except that LogInconsistent takes the place of ReceiptInvalid.
func (v *Verifier) VerifyConsistency(raw []byte, old Head) (*Signed, error) {
	env, proofs, err := decode(raw)
	if err != nil {
		return nil, denial.New(denial.LogInconsistent, "the consistency receipt is malformed")
	}
	p, err := parseConsistency(proofs)
	if err != nil || p.From != old.Size {
		return nil, denial.New(denial.LogInconsistent, "the receipt does not hold exactly one consistency proof from the old size")
	}
	root, err := p.root(old.Root)
	if err != nil {
		return nil, denial.New(denial.LogInconsistent, "the older tree is not the beginning of the newer one")
	}
	s, err := v.head(env, root)
	if denial.Is(err, denial.ReceiptInvalid) {
		return nil, denial.New(denial.LogInconsistent, "the newer head is not signed")
	}
	if err != nil {
		return nil, err
	}
	if s.Size != p.To || s.Time < old.Time {
		return nil, denial.New(denial.LogInconsistent, "the newer head has another size, or is older")
	}
	return s, nil
}

// decode reads a receipt and the map under label 396, which must be the only one in the unprotected header.
func decode(raw []byte) (env *statement.Envelope, proofs []byte, err error) {
	env, err = statement.Decode(raw, maxReceipt)
	if err != nil {
		return nil, nil, err
	}
	proofs = env.Proofs()
	// The leaf ends its header with the one byte of an empty map; here stand a map of one pair and a label of three bytes.
	if len(proofs) == 0 || len(raw) != len(env.Leaf())-1+1+3+len(proofs) {
		return nil, nil, errors.New("reading receipt: the unprotected header holds other than proofs")
	}
	return env, proofs, nil
}
