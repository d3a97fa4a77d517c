package receipt

import (
	"bytes"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/governed-execution/writ/denial"
)

// TestProofIsRefusedIfAnythingIsChanged proves the second of three entries, and breaks the proof in one place each time.
func TestProofIsRefusedIfAnythingIsChanged(t *testing.T) {
	h := rfc6962.DefaultHasher
	a, b, c := LeafHash([]byte("a")), LeafHash([]byte("b")), LeafHash([]byte("c"))
	head := &Checkpoint{Origin: "example.com/log", Size: 3, Root: Hash(h.HashChildren(h.HashChildren(a[:], b[:]), c[:]))}
	note := []byte("example.com/log\n3\nroot\n\n— example.com/log AAAA\n")
	good := string(MakeProof(1, []Hash{a, c}, note))
	if err := VerifyProof([]byte(good), []byte("b"), 1, note, head); err != nil {
		t.Fatalf("%v\n%s", err, good)
	}
	if want := "c2sp.org/tlog-proof@v1\nindex 1\n" + lineEncoding.EncodeToString(a[:]) + "\n" + lineEncoding.EncodeToString(c[:]) + "\n\n" + string(note); good != want {
		t.Errorf("got\n%s\nwant\n%s", good, want)
	}
	first := lineEncoding.EncodeToString(a[:])
	for name, bad := range map[string]string{
		"header":          strings.Replace(good, "@v1", "@v2", 1),
		"index":           strings.Replace(good, "index 1", "index 0", 1),
		"extra data":      strings.Replace(good, "index 1", "extra AA==\nindex 1", 1),
		"leading zero":    strings.Replace(good, "index 1", "index 01", 1),
		"node changed":    strings.Replace(good, first, lineEncoding.EncodeToString(b[:]), 1),
		"node missing":    strings.Replace(good, first+"\n", "", 1),
		"node twice":      strings.Replace(good, first+"\n", first+"\n"+first+"\n", 1),
		"node cut":        strings.Replace(good, first, first[1:], 1),
		"no empty line":   strings.Replace(good, "\n\nexample", "\nexample", 1),
		"checkpoint":      strings.Replace(good, "AAAA", "AAAB", 1),
		"something after": good + "\n",
		"nothing":         "",
	} {
		if err := VerifyProof([]byte(bad), []byte("b"), 1, note, head); !denial.Is(err, denial.ReceiptInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := VerifyProof([]byte(good), []byte("x"), 1, note, head); !denial.Is(err, denial.ReceiptInvalid) {
		t.Errorf("another entry: got %v", err)
	}
	other := *head
	other.Root = a
	if err := VerifyProof([]byte(good), []byte("b"), 1, note, &other); !denial.Is(err, denial.ReceiptInvalid) || bytes.Equal(other.Root[:], head.Root[:]) {
		t.Errorf("another root: got %v", err)
	}
}
