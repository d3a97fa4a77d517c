package record

import (
	"bytes"
	"testing"

	"github.com/governed-execution/writ/statement"
)

// fuzzed holds the decoders of this package to: no panic, and what is accepted encodes to the same bytes.
func fuzzed[T any](t *testing.T, data []byte, v *T) bool {
	if statement.Unmarshal(data, v) != nil {
		return false
	}
	again, err := statement.Marshal(v)
	if err != nil || !bytes.Equal(again, data) {
		t.Fatalf("accepted %x, which encodes as %x (%v)", data, again, err)
	}
	return true
}

func FuzzPayloads(f *testing.F) {
	n := make([]byte, 16)
	for _, v := range []any{
		Policy{Version, Appraisal, "https://x/p", 3, []byte{1}, 1},
		Enrolment{Version, "spiffe://x/h", 1, n, &Host{EK: make([]byte, 32), Labels: map[string]string{"a": "b"}}, nil, nil},
		Revocation{Version, CauseHost, "spiffe://x/h", 1, "lost", n},
		KeyChange{Version, 1, make([]byte, 32), 1, []KeyStep{{PurposeLog, make([]byte, 32), KeyActive, KeyCompromised, 1, nil, nil}}, "x", nil},
		BreakGlass{Version, n, "spiffe://x/h", "https://gate", "spiffe://x/i", aScope, Declared{"https://x/p", make([]byte, 32), 1, "restore"}, 1, 2, "fire", nil},
		Review{Version, make([]byte, 32), 1, true, "fire", n},
		*valid(),
		Draft{"policy", "https://x", "https://y", []byte{1}, 1, 2, 1},
		Draft{"ceremony", "https://x", "https://y", []byte{1}, 0, 0, 0},
	} {
		enc, err := statement.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(enc)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if g := new(Genesis); fuzzed(t, data, g) {
			_, _ = NewAuthorities(g)
		}
		if p := new(Policy); fuzzed(t, data, p) {
			_ = p.Check()
		}
		if e := new(Enrolment); fuzzed(t, data, e) {
			_ = e.Check()
		}
		if r := new(Revocation); fuzzed(t, data, r) {
			_ = r.Check()
		}
		if c := new(KeyChange); fuzzed(t, data, c) {
			_ = c.Check()
		}
		if s := new(Succession); fuzzed(t, data, s) {
			_ = s.Check()
		}
		if g := new(BreakGlass); fuzzed(t, data, g) {
			_ = g.Check()
		}
		if r := new(Review); fuzzed(t, data, r) {
			_ = r.Check()
		}
		if r := new(Record); fuzzed(t, data, r) {
			_ = r.Check()
		}
		_, _ = DecodeDraft(data)
	})
}

func FuzzDecodeBundle(f *testing.F) {
	f.Add([]byte{0x81, 0x41, 0x00})
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := DecodeBundle(data)
		if err != nil {
			return
		}
		if _, _, err := VerifyGenesis(b, statement.Digest{}); err == nil {
			t.Fatal("a genesis out of nothing")
		}
	})
}
