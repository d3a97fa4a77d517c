package receipt

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/stock"
)

const (
	testIssuer = "https://issuer.example"
	testLog    = "https://issuer.example/log"
	testTime   = 1800000000
)

// fixture is a log in memory, whose tree is the reference implementation of transparency-dev.
type fixture struct {
	t       testing.TB
	signer  statement.Signer
	keys    statement.Keys
	entries [][]byte
	tree    *testonly.Tree
}

func newFixture(t testing.TB, n int) *fixture {
	t.Helper()
	f := &fixture{t: t, signer: stock.Signer(t), tree: testonly.New(rfc6962.DefaultHasher)}
	if err := f.keys.Add(f.signer.Key(), statement.Receipt); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		f.entries = append(f.entries, fmt.Appendf(nil, "entry %d", i))
	}
	f.tree.AppendData(f.entries...)
	return f
}

func (f *fixture) headAt(size uint64) Head {
	return Head{Size: size, Root: Hash(f.tree.HashAt(size)), Time: testTime + size}
}

func (f *fixture) signedHead(size uint64) []byte {
	f.t.Helper()
	signed, err := SignHead(context.Background(), f.signer, testIssuer, testLog, f.headAt(size))
	if err != nil {
		f.t.Fatal(err)
	}
	return signed
}

func (f *fixture) path(index, size uint64) []Hash {
	f.t.Helper()
	p, err := f.tree.InclusionProof(index, size)
	if err != nil {
		f.t.Fatal(err)
	}
	return hashes(p)
}

func (f *fixture) consistencyPath(from, to uint64) []Hash {
	f.t.Helper()
	p, err := f.tree.ConsistencyProof(from, to)
	if err != nil {
		f.t.Fatal(err)
	}
	return hashes(p)
}

func (f *fixture) receipt(index, size uint64) []byte {
	f.t.Helper()
	raw, err := Make(f.signedHead(size), size, index, f.path(index, size))
	if err != nil {
		f.t.Fatal(err)
	}
	return raw
}

// forged puts any proof under the signed head, as an attacker would who ignores the rules of Make.
func (f *fixture) forged(head []byte, proofs any) []byte {
	f.t.Helper()
	enc, err := statement.Marshal(proofs)
	if err != nil {
		f.t.Fatal(err)
	}
	raw, err := statement.WithProofs(head, enc)
	if err != nil {
		f.t.Fatal(err)
	}
	return raw
}

func (f *fixture) proofs(p any) inclusions {
	f.t.Helper()
	enc, err := statement.Marshal(p)
	if err != nil {
		f.t.Fatal(err)
	}
	return inclusions{[][]byte{enc}}
}

func hashes(nodes [][]byte) []Hash {
	path := make([]Hash, len(nodes))
	for i := range nodes {
		path[i] = Hash(nodes[i])
	}
	return path
}

func wantReason(t testing.TB, err error, want denial.Reason) {
	t.Helper()
	if !denial.Is(err, want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestReceiptOfEveryEntryVerifiesInEveryTree(t *testing.T) {
	f := newFixture(t, 18)
	for size := uint64(2); size <= 18; size++ {
		head := f.signedHead(size)
		v := NewVerifier(f.keys)
		for index := range size {
			raw, err := Make(head, size, index, f.path(index, size))
			if err != nil {
				t.Fatal(err)
			}
			got, err := v.Verify(raw, f.entries[index])
			if err != nil {
				t.Fatalf("index %d of %d: %v", index, size, err)
			}
			want := Proof{Size: size, Index: index, Root: Hash(f.tree.HashAt(size)), Time: testTime + size, Issuer: testIssuer, Log: testLog, Key: f.signer.Key().Thumbprint()}
			if *got != want {
				t.Fatalf("got %+v, want %+v", *got, want)
			}
		}
	}
}

// Every receipt of a tree is shown for every entry, with every claimed index and size; only the true one may pass.
func TestT14_OnlyTheTrueLeafIndexAndSizeVerify(t *testing.T) {
	const most = 9
	f := newFixture(t, most)
	for size := uint64(2); size <= most; size++ {
		head := f.signedHead(size)
		v := NewVerifier(f.keys)
		for index := range size {
			path := nodes(f.path(index, size))
			for claimedSize := uint64(0); claimedSize <= most+8; claimedSize++ {
				for claimed := uint64(0); claimed <= claimedSize; claimed++ {
					raw := f.forged(head, f.proofs(inclusion{Size: claimedSize, Index: claimed, Path: path}))
					for e, entry := range f.entries {
						_, err := v.Verify(raw, entry)
						if claimedSize == size && claimed == index && uint64(e) == index {
							if err != nil {
								t.Fatalf("true receipt: %v", err)
							}
							continue
						}
						if !denial.Is(err, denial.ReceiptInvalid) {
							t.Fatalf("index %d of %d shown as %d of %d for entry %d: got %v, want RECEIPT_INVALID",
								index, size, claimed, claimedSize, e, err)
						}
					}
				}
			}
		}
	}
}

func TestT14_BrokenPathIsRefused(t *testing.T) {
	f := newFixture(t, 7)
	const size, index = 7, 3
	head, good := f.signedHead(size), nodes(f.path(index, size))
	edit := func(change func([][]byte) [][]byte) [][]byte {
		c := make([][]byte, len(good))
		for i := range good {
			c[i] = bytes.Clone(good[i])
		}
		return change(c)
	}
	paths := map[string][][]byte{
		"empty":             {},
		"last node gone":    edit(func(p [][]byte) [][]byte { return p[:len(p)-1] }),
		"first node gone":   edit(func(p [][]byte) [][]byte { return p[1:] }),
		"one node more":     edit(func(p [][]byte) [][]byte { return append(p, p[0]) }),
		"one bit flipped":   edit(func(p [][]byte) [][]byte { p[1][31] ^= 1; return p }),
		"two nodes swapped": edit(func(p [][]byte) [][]byte { p[0], p[1] = p[1], p[0]; return p }),
		"node of 31 bytes":  edit(func(p [][]byte) [][]byte { p[0] = p[0][:31]; return p }),
		"node of 33 bytes":  edit(func(p [][]byte) [][]byte { p[0] = append(p[0], 0); return p }),
		"empty node":        edit(func(p [][]byte) [][]byte { p[2] = []byte{}; return p }),
		"node joined":       edit(func(p [][]byte) [][]byte { return [][]byte{append(p[0], p[1]...), p[2]} }),
	}
	for name, path := range paths {
		t.Run(name, func(t *testing.T) {
			_, err := Verify(f.forged(head, f.proofs(inclusion{Size: size, Index: index, Path: path})), f.entries[index], f.keys)
			wantReason(t, err, denial.ReceiptInvalid)
		})
	}
}

func TestC36_ReceiptOfAnotherStatementIsRefused(t *testing.T) {
	f := newFixture(t, 5)
	raw := f.receipt(2, 5)
	if _, err := Verify(raw, f.entries[2], f.keys); err != nil {
		t.Fatal(err)
	}
	_, err := Verify(raw, f.entries[3], f.keys)
	wantReason(t, err, denial.ReceiptInvalid)
	_, err = Verify(raw, nil, f.keys)
	wantReason(t, err, denial.ReceiptInvalid)
}

// An inner node must not pass for an entry: the hash prefixes of RFC 6962 keep them apart.
func TestInnerNodeIsNoEntry(t *testing.T) {
	f := newFixture(t, 4)
	left := append(rfc6962.DefaultHasher.HashLeaf(f.entries[0]), rfc6962.DefaultHasher.HashLeaf(f.entries[1])...)
	path := f.path(0, 4)[1:]
	raw := f.forged(f.signedHead(4), f.proofs(inclusion{Size: 2, Index: 0, Path: nodes(path)}))
	_, err := Verify(raw, left, f.keys)
	wantReason(t, err, denial.ReceiptInvalid)
}

// Make writes its proof by hand: it must be what the codec makes of it, for integers and paths of every length.
func TestMakeEncodesAsTheCodecDoes(t *testing.T) {
	f := newFixture(t, 2)
	head := f.signedHead(2)
	for _, size := range []uint64{2, 23, 25, 255, 257, 1 << 16, 1<<16 + 1, 1 << 32, 1<<32 + 1, 1<<63 + 5} {
		for _, index := range []uint64{0, 1, size / 2, size - 2, size - 1} {
			path := make([]Hash, bits.Len64(index^(size-1))+bits.OnesCount64(index>>bits.Len64(index^(size-1))))
			for i := range path {
				path[i] = Hash(bytes.Repeat([]byte{byte(i)}, len(Hash{})))
			}
			got, err := Make(head, size, index, path)
			if err != nil {
				t.Fatalf("%d of %d: %v", index, size, err)
			}
			if want := f.forged(head, f.proofs(inclusion{Size: size, Index: index, Path: nodes(path)})); !bytes.Equal(got, want) {
				t.Errorf("%d of %d: got\n%x, want\n%x", index, size, got, want)
			}
			for _, wrong := range [][]Hash{path[1:], append(path, Hash{})} {
				if _, err := Make(head, size, index, wrong); err == nil {
					t.Errorf("%d of %d: a path of %d nodes, want an error", index, size, len(wrong))
				}
			}
		}
		if _, err := Make(head, size, size, make([]Hash, bits.Len64(size))); err == nil {
			t.Errorf("entry %d of %d: want an error", size, size)
		}
	}
}

func TestOneLeafTreeHasNoReceipt(t *testing.T) {
	f := newFixture(t, 1)
	if _, err := Make(f.signedHead(1), 1, 0, nil); err == nil {
		t.Error("Make gave a receipt for a tree of one leaf")
	}
	raw := f.forged(f.signedHead(1), f.proofs(inclusion{Size: 1, Index: 0, Path: [][]byte{}}))
	_, err := Verify(raw, f.entries[0], f.keys)
	wantReason(t, err, denial.ReceiptInvalid)
}

func TestMalformedProofsAreRefused(t *testing.T) {
	f := newFixture(t, 4)
	head := f.signedHead(4)
	p := inclusion{Size: 4, Index: 1, Path: nodes(f.path(1, 4))}
	one := f.proofs(p).Proofs[0]
	trailing := append(bytes.Clone(one), 0)
	ints := make([]any, 32)
	for i := range ints {
		ints[i] = 0
	}
	cases := map[string]any{
		"no proof":               map[int64]any{-1: [][]byte{}},
		"two proofs":             map[int64]any{-1: [][]byte{one, one}},
		"consistency instead":    map[int64]any{-2: [][]byte{one}},
		"both kinds":             map[int64]any{-1: [][]byte{one}, -2: [][]byte{one}},
		"proof not wrapped":      map[int64]any{-1: []any{p}},
		"null":                   map[int64]any{-1: nil},
		"empty map":              map[int64]any{},
		"an array":               []any{one},
		"trailing byte":          map[int64]any{-1: [][]byte{trailing}},
		"two elements":           map[int64]any{-1: [][]byte{encode(t, []any{4, 1})}},
		"four elements":          map[int64]any{-1: [][]byte{encode(t, []any{4, 1, p.Path, 0})}},
		"negative index":         map[int64]any{-1: [][]byte{encode(t, []any{4, -1, p.Path})}},
		"node as array of bytes": map[int64]any{-1: [][]byte{encode(t, []any{4, 1, []any{ints, p.Path[1]}})}},
		"path null":              map[int64]any{-1: [][]byte{encode(t, []any{4, 1, nil})}},
	}
	for name, proofs := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Verify(f.forged(head, proofs), f.entries[1], f.keys)
			wantReason(t, err, denial.ReceiptInvalid)
		})
	}
	_, err := Verify(f.forged(head, map[int64]any{-1: [][]byte{one}}), f.entries[1], f.keys)
	if err != nil {
		t.Errorf("the unbroken input: %v", err)
	}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := statement.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBrokenHeadIsRefused(t *testing.T) {
	f := newFixture(t, 4)
	good := f.receipt(1, 4)
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	cases := map[string][]byte{
		"empty":              nil,
		"cut":                good[:len(good)-1],
		"trailing byte":      append(bytes.Clone(good), 0),
		"signature changed":  flip(len(good) - 1),
		"no proofs":          f.signedHead(4),
		"too long":           make([]byte, maxReceipt+1),
		"another label too":  withLabel(t, good),
		"indefinite or text": slices.Concat([]byte{0xd2, 0x9f}, good[2:], []byte{0xff}),
	}
	for name, raw := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Verify(raw, f.entries[1], f.keys)
			wantReason(t, err, denial.ReceiptInvalid)
		})
	}
}

// withLabel adds label 397 to the unprotected header of a receipt.
func withLabel(t testing.TB, raw []byte) []byte {
	t.Helper()
	at := bytes.Index(raw, []byte{0xa1, 0x19, 0x01, 0x8c})
	env, err := statement.Decode(raw, maxReceipt)
	if err != nil || at < 0 {
		t.Fatal("no proofs found")
	}
	end := at + 4 + len(env.Proofs())
	return slices.Concat(raw[:at], []byte{0xa2}, raw[at+1:end], []byte{0x19, 0x01, 0x8d, 0x01}, raw[end:])
}

// Every byte of a receipt is changed in turn; none of the results may verify for the entry.
func TestEveryChangedByteIsRefused(t *testing.T) {
	f := newFixture(t, 6)
	good := f.receipt(4, 6)
	for at := range good {
		for _, mask := range []byte{1, 0x20, 0x80} {
			raw := bytes.Clone(good)
			raw[at] ^= mask
			if p, err := Verify(raw, f.entries[4], f.keys); err == nil {
				t.Fatalf("byte %d with mask %#x: verified as %+v", at, mask, *p)
			}
		}
	}
}

func TestKeyAndAlgorithmKeepTheirReasons(t *testing.T) {
	f := newFixture(t, 3)
	raw := f.receipt(1, 3)

	_, err := Verify(raw, f.entries[1], statement.Keys{})
	wantReason(t, err, denial.KeyUnknown)

	var other statement.Keys
	if err := other.Add(f.signer.Key(), statement.Artifact); err != nil {
		t.Fatal(err)
	}
	_, err = Verify(raw, f.entries[1], other)
	wantReason(t, err, denial.ReceiptInvalid)

	// protected: map(5), alg -7 -> -6, which is in no allow-list
	changed := bytes.Replace(raw, []byte{0xa5, 0x01, 0x26}, []byte{0xa5, 0x01, 0x25}, 1)
	_, err = Verify(changed, f.entries[1], f.keys)
	wantReason(t, err, denial.AlgNotAllowed)
	changed = bytes.Replace(raw, []byte{0xa5, 0x01, 0x26}, []byte{0xa5, 0x01, 0x27}, 1)
	_, err = Verify(changed, f.entries[1], f.keys)
	wantReason(t, err, denial.AlgKeyMismatch)
}

// A statement of the same key but of another kind, over the same 32 bytes, is no head.
func TestOtherKindIsNoReceipt(t *testing.T) {
	f := newFixture(t, 3)
	root := f.headAt(3).Root
	c := statement.Claims{Issuer: testIssuer, Subject: subject(testLog, 3), IssuedAt: testTime}
	leaf, err := statement.Sign(context.Background(), f.signer, statement.Record, c, root[:])
	if err != nil {
		t.Fatal(err)
	}
	raw := f.forged(leaf, f.proofs(inclusion{Size: 3, Index: 1, Path: nodes(f.path(1, 3))}))
	_, err = Verify(raw, f.entries[1], f.keys)
	wantReason(t, err, denial.ReceiptInvalid)
}

func TestHeadWithoutSizeOrTimeIsRefused(t *testing.T) {
	f := newFixture(t, 3)
	root := f.headAt(3).Root
	for _, c := range []statement.Claims{
		{Issuer: testIssuer, Subject: testLog, IssuedAt: testTime},
		{Issuer: testIssuer, Subject: testLog + "#03", IssuedAt: testTime},
		{Issuer: testIssuer, Subject: testLog + "#3#3", IssuedAt: testTime},
		{Issuer: testIssuer, Subject: testLog + "#+3", IssuedAt: testTime},
		{Issuer: testIssuer, Subject: "#3", IssuedAt: testTime},
		{Issuer: testIssuer, Subject: testLog + "#4", IssuedAt: testTime},
		{Issuer: testIssuer, Subject: testLog + "#3"},
	} {
		head, err := statement.Sign(context.Background(), f.signer, statement.Receipt, c, root[:])
		if err != nil {
			t.Fatal(err)
		}
		raw, err := Make(head, 3, 1, f.path(1, 3))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = Verify(raw, f.entries[1], f.keys); !denial.Is(err, denial.ReceiptInvalid) {
			t.Errorf("sub %q iat %d: got %v, want RECEIPT_INVALID", c.Subject, c.IssuedAt, err)
		}
	}
}

func TestSignHeadRefusesAnUnusableHead(t *testing.T) {
	f := newFixture(t, 2)
	good := f.headAt(2)
	cases := map[string]func() ([]byte, error){
		"size zero":     func() ([]byte, error) { h := good; h.Size = 0; return f.sign(testLog, h) },
		"time zero":     func() ([]byte, error) { h := good; h.Time = 0; return f.sign(testLog, h) },
		"log absent":    func() ([]byte, error) { return f.sign("", good) },
		"log has a '#'": func() ([]byte, error) { return f.sign(testLog+"#1", good) },
	}
	for name, sign := range cases {
		if _, err := sign(); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func (f *fixture) sign(log string, h Head) ([]byte, error) {
	return SignHead(context.Background(), f.signer, testIssuer, log, h)
}

func TestVerifyHead(t *testing.T) {
	f := newFixture(t, 5)
	signed, head := f.signedHead(5), f.headAt(5)
	got, err := VerifyHead(signed, head.Root, f.keys)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Signed{Head: head, Issuer: testIssuer, Log: testLog, Key: f.signer.Key().Thumbprint()}); *got != want {
		t.Errorf("got %+v, want %+v", *got, want)
	}
	_, err = VerifyHead(signed, f.headAt(4).Root, f.keys)
	wantReason(t, err, denial.ReceiptInvalid)
	_, err = VerifyHead(signed[1:], head.Root, f.keys)
	wantReason(t, err, denial.ReceiptInvalid)
}

func TestEd25519HeadVerifies(t *testing.T) {
	f := newFixture(t, 3)
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if f.signer, err = statement.NewSigner(priv); err != nil {
		t.Fatal(err)
	}
	if err := f.keys.Add(f.signer.Key(), statement.Receipt); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(f.receipt(0, 3), f.entries[0], f.keys); err != nil {
		t.Error(err)
	}
}

// A remembered head must not lend its signature to another head, another root or another signature.
func TestCacheRemembersOnlyWhatVerified(t *testing.T) {
	f := newFixture(t, 2*cached)
	v := NewVerifier(f.keys)
	for size := uint64(2); size < 2*cached; size++ {
		raw := f.receipt(size-1, size)
		for range 2 {
			if _, err := v.Verify(raw, f.entries[size-1]); err != nil {
				t.Fatal(err)
			}
		}
		broken := bytes.Clone(raw)
		broken[len(broken)-1] ^= 1
		if _, err := v.Verify(broken, f.entries[size-1]); !denial.Is(err, denial.ReceiptInvalid) {
			t.Fatalf("changed signature: got %v, want RECEIPT_INVALID", err)
		}
		if _, err := v.Verify(raw, f.entries[0]); !denial.Is(err, denial.ReceiptInvalid) {
			t.Fatalf("other entry: got %v, want RECEIPT_INVALID", err)
		}
		if len(v.seen) > cached {
			t.Fatalf("the cache holds %d heads, more than %d", len(v.seen), cached)
		}
	}
	if _, err := (&Verifier{}).Verify(f.receipt(1, 2), f.entries[1]); !denial.Is(err, denial.KeyUnknown) {
		t.Errorf("zero Verifier: got %v, want KEY_UNKNOWN", err)
	}
}

func TestSignerFailureGivesNoHead(t *testing.T) {
	f := newFixture(t, 2)
	f.signer = deadSigner{f.signer}
	if _, err := f.sign(testLog, f.headAt(2)); !errors.Is(err, errDead) {
		t.Errorf("got %v, want %v", err, errDead)
	}
}

var errDead = errors.New("the token is gone")

type deadSigner struct{ statement.Signer }

func (deadSigner) Sign(context.Context, statement.ToBeSigned) ([]byte, error) { return nil, errDead }
