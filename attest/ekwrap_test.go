package attest

import (
	"bytes"
	"slices"
	"testing"

	"github.com/governed-execution/writ/denial"
)

func TestUnwrapCertificate(t *testing.T) {
	der := testCertificate(t, "ek-rsa2048").Raw
	stored := func(head ...byte) []byte { return append(head, der...) }
	size := len(der) + 2
	good := stored(0x10, 0x01, 0, byte(size>>8), byte(size), 0x10, 0x02)
	for name, row := range map[string]struct {
		nv     []byte
		behind int
	}{
		"alone": {der, 0}, "0xFF behind": {slices.Concat(der, bytes.Repeat([]byte{0xff}, 431)), 431}, "a zero behind": {slices.Concat(der, []byte{0}), 1},
		"stored": {good, 0}, "stored, with bytes behind": {slices.Concat(good, []byte{1, 2, 3}), 3},
		"stored, with bytes within": {slices.Concat([]byte{0x10, 0x01, 0, byte((size + 2) >> 8), byte(size + 2), 0x10, 0x02}, der, []byte{0, 0, 0xff}), 3},
	} {
		if got, behind, err := UnwrapCertificate(row.nv); err != nil || !bytes.Equal(got, der) || behind != row.behind {
			t.Errorf("%s: got %d bytes, %d behind, %v", name, len(got), behind, err)
		}
	}
	for name, nv := range map[string][]byte{
		"nothing": nil, "padding alone": bytes.Repeat([]byte{0xff}, 100), "cut short": der[:len(der)-1], "an integer": {2, 1, 0},
		"stored and cut short": good[:len(good)-1], "stored as another type": stored(0x10, 0x01, 1, byte(size>>8), byte(size), 0x10, 0x02),
		"stored with another tag": stored(0x10, 0x01, 0, byte(size>>8), byte(size), 0x10, 0x03), "stored with no size": stored(0x10, 0x01, 0, 0, 1, 0x10, 0x02),
		"longer than any": append([]byte{0x30, 0x82, 0x27, 0x10}, make([]byte, 10000)...),
	} {
		if _, _, err := UnwrapCertificate(nv); !denial.Is(err, denial.EKUntrusted) {
			t.Errorf("%s: got %v, want 321", name, err)
		}
	}
}

// FuzzUnwrapCertificate: whatever is found stands in the input as it is, in front of as many bytes as are counted.
func FuzzUnwrapCertificate(f *testing.F) {
	der := testCertificate(f, "ek-p384").Raw
	f.Add(der)
	f.Add(append(bytes.Clone(der), 0xff, 0xff))
	f.Add(append([]byte{0x10, 0x01, 0, 0, 8, 0x10, 0x02}, 0x30, 4, 0, 0, 0, 0, 0xff))
	for _, file := range corpusSeeds(f, "ekcert/leaf-*/*") {
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, nv []byte) {
		der, behind, err := UnwrapCertificate(nv)
		refusal(t, err)
		if err != nil {
			return
		}
		if behind < 0 || len(der)+behind > len(nv) || !bytes.Equal(der, nv[len(nv)-behind-len(der):len(nv)-behind]) {
			t.Fatalf("%d bytes and %d behind of %d", len(der), behind, len(nv))
		}
		if again, none, err := UnwrapCertificate(der); err != nil || none != 0 || !bytes.Equal(again, der) {
			t.Fatalf("unwrapped again: %v", err)
		}
	})
}
