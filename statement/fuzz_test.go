package statement

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/governed-execution/writ/denial"
)

// fuzzSigner is the same in every run, so that a failing input fails again.
func fuzzSigner(f *testing.F) Signer {
	f.Helper()
	s, err := NewSigner(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)))
	if err != nil {
		f.Fatal(err)
	}
	return s
}

// aRefusal asserts that an error of a reading function is a refusal with a reason of its own.
func aRefusal(t *testing.T, err error) {
	t.Helper()
	if d := denial.Of(err); d.Reason == 0 || d.Reason == denial.Internal {
		t.Errorf("got %v, want a refusal", err)
	}
}

func FuzzScan(f *testing.F) {
	for _, v := range []any{1, -1, "text", []byte("bytes"), []any{1, "a", nil, true}, map[any]any{1: 2, "a": []int{}}, 1.5} {
		b, err := encMode.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0x9f, 0xff})
	f.Add(bytes.Repeat([]byte{0x81}, 20))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := Scan(data); err != nil {
			aRefusal(t, err)
			return
		}
		var v any
		if err := decMode.Unmarshal(data, &v); err != nil {
			t.Fatalf("%x: the decoder refuses what Scan accepts: %v", data, err)
		}
		again, err := encMode.Marshal(v)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x encodes again as %x, %v", data, again, err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	s := fuzzSigner(f)
	var keys Keys
	if err := keys.Add(s.Key(), Kinds()...); err != nil {
		f.Fatal(err)
	}
	for _, kind := range Kinds() {
		leaf, err := Sign(context.Background(), s, kind, testClaims, []byte{0xa1, 0x01, 0x01})
		if err != nil {
			f.Fatal(err)
		}
		attached, err := Attach(leaf, []byte{1}, []byte{2})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(leaf)
		f.Add(attached)
	}
	f.Add([]byte{0xd2, 0x84, 0x40, 0xa0, 0x40, 0x40})
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Decode(data, 64<<10)
		if err != nil {
			aRefusal(t, err)
			return
		}
		leaf := mustDecode(t, e.Leaf())
		if !bytes.Equal(leaf.Leaf(), e.Leaf()) || leaf.Digest() != e.Digest() || !bytes.Equal(leaf.Payload(), e.Payload()) {
			t.Fatalf("%x: the leaf reads differently", data)
		}
		if got := assemble(e.protected, e.payload, e.signature, e.detached); !bytes.Equal(got, e.leaf) {
			t.Fatalf("%x encodes again as %x", e.leaf, got)
		}
		_, _ = e.Receipts()
		_ = e.Proofs()
		for _, kind := range Kinds() {
			v, err := e.Verify(keys, kind)
			if err != nil {
				aRefusal(t, err)
				continue
			}
			if e.Kind() != kind || e.Claims() != v.Claims() {
				t.Fatalf("%x: verified as %s, claims to be %s", data, kind, e.Kind())
			}
			goCOSEAccepts(t, "fuzz", data, v.Key())
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add(fuzzSigner(f).Key().COSE())
	_, p256 := newSigner(f)
	f.Add(p256.Key().COSE())
	f.Add([]byte{0xa3, 0x01, 0x01, 0x20, 0x06, 0x21, 0x40})
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := ParseKey(data)
		if err != nil {
			aRefusal(t, err)
			if k.Valid() {
				t.Fatalf("%x: a key beside the refusal", data)
			}
			return
		}
		if !bytes.Equal(k.COSE(), data) || !k.Valid() {
			t.Fatalf("%x encodes again as %x", data, k.COSE())
		}
		if again, err := NewKey(k.Public()); err != nil || !again.Equal(k) {
			t.Fatalf("%x: %v", data, err)
		}
	})
}

func FuzzUnmarshal(f *testing.F) {
	d := DigestOf([]byte("x"))
	key := fuzzSigner(f).Key()
	for _, v := range []outer{{}, {ID: d, Inner: inner{"a", "b"}, List: []inner{{Name: "c"}}, Key: &key, Raw: RawItem{1}, Prev: &d}} {
		b, err := Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v outer
		if err := Unmarshal(data, &v); err != nil {
			aRefusal(t, err)
		} else if again, err := Marshal(v); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x encodes again as %x, %v", data, again, err)
		}
		value, ok := Peek(data, 1)
		if ok && cbor.Wellformed(value) != nil {
			t.Fatalf("%x: Peek shows %x", data, value)
		}
		_, _ = Diagnose(data)
	})
}
