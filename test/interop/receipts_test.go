package interop

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/npm"
	"github.com/governed-execution/writ/tlog"
)

// receiptQuestion is a receipt for the other library, with the answer that it must give.
type receiptQuestion struct {
	Receipt []byte `json:"receipt"`
	Entry   []byte `json:"entry,omitempty"`   // of inclusion
	OldRoot []byte `json:"oldRoot,omitempty"` // of consistency
	NewRoot []byte `json:"newRoot,omitempty"`

	name string
	want bool
}

// TestAnotherLibraryVerifiesOurReceipts has a library by authors of RFC 9942 verify receipts of inclusion and of consistency
// of a log: it computes the root from entry and path, or from the older root, by itself, and verifies the signature over it.
func TestAnotherLibraryVerifiesOurReceipts(t *testing.T) {
	dir := npm.Install(t, "receipts", "package.json", "receipts.js")
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	questions := receiptQuestions(t, priv)
	asked := 0
	for i, a := range askReceipts(t, dir, &priv.PublicKey, questions) {
		if a.OK != questions[i].want {
			t.Errorf("%s: got %v %s, want %v", questions[i].name, a.OK, a.Error, questions[i].want)
		}
		if questions[i].want {
			asked++
		}
	}
	if asked < 20 {
		t.Errorf("only %d receipts were to be verified", asked)
	}
}

// receiptQuestions returns receipts of a log of 13 entries in five batches, and each with one thing changed.
func receiptQuestions(t *testing.T, priv *ecdsa.PrivateKey) (all []receiptQuestion) {
	t.Helper()
	signer, err := statement.NewSigner(priv)
	if err != nil {
		t.Fatal(err)
	}
	log, err := tlog.Open(t.Context(), tlog.Options{Path: filepath.Join(t.TempDir(), "log.db"), Signer: signer, Issuer: "https://issuer.example", LogID: "https://issuer.example/log"})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var heads []tlog.SignedHead
	for _, size := range []uint64{3, 5, 7, 9, 13} {
		var batch []tlog.Entry
		for n := log.Head().Size; n < size; n++ {
			batch = append(batch, tlog.Entry{Leaf: sign(t, signer, statement.Artifact)})
		}
		done, err := log.Append(t.Context(), batch...)
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range done {
			entry := batch[i].Leaf
			name := fmt.Sprintf("entry %d of %d", d.Index, size)
			all = append(all, receiptQuestion{Receipt: d.Receipt, Entry: entry, name: name, want: true},
				receiptQuestion{Receipt: d.Receipt, Entry: append(bytes.Clone(entry), 0), name: name + ", of another entry"},
				receiptQuestion{Receipt: changed(d.Receipt, len(d.Receipt)-1), Entry: entry, name: name + ", its signature changed"})
		}
		heads = append(heads, log.Head())
	}
	// No older size is a power of two: there the library leaves out step 2 of RFC 9162, section 2.1.4.2, which our path needs.
	for i, from := range heads {
		for _, to := range heads[i+1:] {
			path, err := log.ConsistencyPath(t.Context(), from.Size, to.Size)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := receipt.MakeConsistency(to.Signed, from.Size, to.Size, path)
			if err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprintf("from %d to %d", from.Size, to.Size)
			all = append(all, receiptQuestion{Receipt: raw, OldRoot: from.Root[:], NewRoot: to.Root[:], name: name, want: true},
				receiptQuestion{Receipt: raw, OldRoot: changed(from.Root[:], 0), NewRoot: to.Root[:], name: name + ", another older root"},
				receiptQuestion{Receipt: raw, OldRoot: from.Root[:], NewRoot: changed(to.Root[:], 0), name: name + ", another newer root"})
		}
	}
	return all
}

func changed(data []byte, at int) []byte {
	data = bytes.Clone(data)
	data[at] ^= 1
	return data
}

func askReceipts(t *testing.T, dir string, pub *ecdsa.PublicKey, questions []receiptQuestion) []answer {
	t.Helper()
	x, y := make([]byte, 32), make([]byte, 32)
	point, err := pub.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	copy(x, point[1:33])
	copy(y, point[33:])
	url := base64.RawURLEncoding.EncodeToString
	input, err := json.Marshal(map[string]any{"questions": questions, "key": map[string]string{"kty": "EC", "crv": "P-256", "alg": "ES256", "x": url(x), "y": url(y)}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), npm.Patience)
	defer cancel()
	node := exec.CommandContext(ctx, "node", filepath.Join(dir, "receipts.js"))
	node.Stdin, node.Stderr = bytes.NewReader(input), os.Stderr
	output, err := node.Output()
	if err != nil {
		t.Fatalf("running the library of receipts: %v", err)
	}
	var answers []answer
	if err := json.Unmarshal(output, &answers); err != nil || len(answers) != len(questions) {
		t.Fatalf("%d answers to %d questions, %v", len(answers), len(questions), err)
	}
	return answers
}
