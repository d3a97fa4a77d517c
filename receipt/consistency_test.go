package receipt

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/need"
)

func (f *fixture) consistencyReceipt(from, to uint64) []byte {
	f.t.Helper()
	raw, err := MakeConsistency(f.signedHead(to), from, to, f.consistencyPath(from, to))
	if err != nil {
		f.t.Fatal(err)
	}
	return raw
}

func TestConsistencyBetweenAllSizes(t *testing.T) {
	const most = 20
	f := newFixture(t, most)
	for to := uint64(2); to <= most; to++ {
		for from := uint64(1); from < to; from++ {
			got, err := VerifyConsistency(f.consistencyReceipt(from, to), f.headAt(from), f.keys)
			if err != nil {
				t.Fatalf("%d to %d: %v", from, to, err)
			}
			if got.Head != f.headAt(to) || got.Log != testLog || got.Issuer != testIssuer {
				t.Fatalf("%d to %d: got %+v", from, to, got)
			}
		}
	}
}

// The older head, the sizes and each node of the path are changed one at a time.
func TestT14_WrongConsistencyIsRefused(t *testing.T) {
	const most = 9
	f := newFixture(t, most)
	for to := uint64(2); to <= most; to++ {
		head := f.signedHead(to)
		for from := uint64(1); from < to; from++ {
			path := nodes(f.consistencyPath(from, to))
			for a := uint64(0); a <= most+1; a++ {
				for b := uint64(0); b <= most+1; b++ {
					old := f.headAt(min(max(a, 1), most))
					old.Size = a
					_, err := VerifyConsistency(f.forged(head, f.consistency(a, b, path)), old, f.keys)
					if a == from && b == to {
						if err != nil {
							t.Fatalf("true proof %d to %d: %v", from, to, err)
						}
					} else if !denial.Is(err, denial.LogInconsistent) {
						t.Fatalf("proof %d to %d shown as %d to %d: got %v, want LOG_INCONSISTENT", from, to, a, b, err)
					}
				}
			}
			for i := range path {
				path[i][0] ^= 1
				_, err := VerifyConsistency(f.forged(head, f.consistency(from, to, path)), f.headAt(from), f.keys)
				wantReason(t, err, denial.LogInconsistent)
				path[i][0] ^= 1
			}
		}
	}
}

func (f *fixture) consistency(from, to uint64, path [][]byte) consistencies {
	f.t.Helper()
	enc, err := statement.Marshal(consistency{From: from, To: to, Path: path})
	if err != nil {
		f.t.Fatal(err)
	}
	return consistencies{[][]byte{enc}}
}

func TestRewrittenLogIsInconsistent(t *testing.T) {
	f, g := newFixture(t, 8), newFixture(t, 2)
	g.signer, g.keys = f.signer, f.keys
	g.tree.AppendData([]byte("another third entry"))
	g.tree.AppendData(f.entries[3:]...)
	_, err := VerifyConsistency(g.consistencyReceipt(4, 8), f.headAt(4), f.keys)
	wantReason(t, err, denial.LogInconsistent)
	if _, err := VerifyConsistency(g.consistencyReceipt(2, 8), f.headAt(2), f.keys); err != nil {
		t.Errorf("the shared beginning: %v", err)
	}
}

func TestConsistencyReceiptRefusals(t *testing.T) {
	f := newFixture(t, 8)
	good := f.consistencyReceipt(3, 8)
	later := f.headAt(3)
	later.Time = testTime + 9
	cut := good[:len(good)-1]
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	cases := map[string]struct {
		raw  []byte
		old  Head
		keys statement.Keys
		want denial.Reason
	}{
		"another old size":  {good, f.headAt(4), f.keys, denial.LogInconsistent},
		"time goes back":    {good, later, f.keys, denial.LogInconsistent},
		"cut":               {cut, f.headAt(3), f.keys, denial.LogInconsistent},
		"signature changed": {flipped, f.headAt(3), f.keys, denial.LogInconsistent},
		"inclusion instead": {f.receipt(3, 8), f.headAt(3), f.keys, denial.LogInconsistent},
		"key unknown":       {good, f.headAt(3), statement.Keys{}, denial.KeyUnknown},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := VerifyConsistency(c.raw, c.old, c.keys)
			wantReason(t, err, c.want)
		})
	}
	for _, sizes := range [][2]uint64{{0, 8}, {8, 8}, {9, 8}} {
		if _, err := MakeConsistency(f.signedHead(8), sizes[0], sizes[1], f.path(1, 8)); err == nil {
			t.Errorf("made a consistency receipt from %d to %d", sizes[0], sizes[1])
		}
	}
}

// TestDraftExamples runs the two receipts of a tree whose five entries are known: the SHA-256 of "statement-0" to
// "statement-4". Both proofs must lead to the root that those entries have, and no longer do with any byte of a path changed.
//
// Each was signed with a key that its maker threw away, so that nobody can check the signatures. Verify refuses them: their
// headers are not in canonical order.
func TestDraftExamples(t *testing.T) {
	dir := need.Corpus(t)
	read := func(name string) (raw, proofs []byte) {
		raw, err := os.ReadFile(filepath.Join(dir, "receipts", "cose-merkle-draft", name))
		if err != nil {
			t.Fatal(err)
		}
		var parts []statement.RawItem
		if err := statement.Unmarshal(raw[1:], &parts); err != nil || len(parts) != 4 {
			t.Fatalf("not an array of four: %v", err)
		}
		proofs, ok := statement.Peek(parts[1], 396)
		if !ok {
			t.Fatal("no proofs")
		}
		return raw, proofs
	}
	var leaf [5]Hash
	for i := range leaf {
		entry := sha256.Sum256(fmt.Appendf(nil, "statement-%d", i))
		leaf[i] = LeafHash(entry[:])
	}
	node := func(left, right Hash) Hash { return Hash(rfc6962.DefaultHasher.HashChildren(left[:], right[:])) }
	first2 := node(leaf[0], leaf[1])
	root3, root5 := node(first2, leaf[2]), node(node(first2, node(leaf[2], leaf[3])), leaf[4])

	raw, proofs := read("inclusion-receipt.cbor")
	in, err := parseInclusion(proofs)
	if err != nil || in.Size != 5 || in.Index != 3 {
		t.Fatalf("inclusion: got %+v, %v", in, err)
	}
	if got, err := in.root(leaf[3]); err != nil || got != root5 {
		t.Errorf("inclusion of entry 3: got root %x, want %x (%v)", got, root5, err)
	}
	everyByte(t, in.Path, func() bool { got, err := in.root(leaf[3]); return err == nil && got == root5 })
	_, err = Verify(raw, nil, statement.Keys{})
	wantReason(t, err, denial.ReceiptInvalid)

	raw, proofs = read("consistency-receipt.cbor")
	con, err := parseConsistency(proofs)
	if err != nil || con.From != 3 || con.To != 5 {
		t.Fatalf("consistency: got %+v, %v", con, err)
	}
	if got, err := con.root(root3); err != nil || got != root5 {
		t.Errorf("from 3 entries to 5: got root %x, want %x (%v)", got, root5, err)
	}
	everyByte(t, con.Path, func() bool { got, err := con.root(root3); return err == nil && got == root5 })
	_, err = VerifyConsistency(raw, Head{Size: 3, Root: root3}, statement.Keys{})
	wantReason(t, err, denial.LogInconsistent)
}

// everyByte changes each byte of path, one at a time, and fails if holds still says yes.
func everyByte(t *testing.T, path [][]byte, holds func() bool) {
	t.Helper()
	for i, n := range path {
		for j := range n {
			n[j] ^= 1
			if holds() {
				t.Errorf("node %d with byte %d changed still leads to the root", i, j)
			}
			n[j] ^= 1
		}
	}
	if !holds() {
		t.Error("the path as it was does not lead to the root")
	}
}
