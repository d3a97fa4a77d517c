package receipt

import (
	"bytes"
	"strconv"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/governed-execution/writ/denial"
)

// proofHeader is the first line of a proof (C2SP tlog-proof).
const proofHeader = "c2sp.org/tlog-proof@v1\nindex "

// MakeProof returns the inclusion proof of the entry at an index under a checkpoint (C2SP tlog-proof), without extra data.
func MakeProof(index uint64, path []Hash, checkpoint []byte) []byte {
	out := strconv.AppendUint([]byte(proofHeader), index, 10)
	for _, node := range path {
		out = lineEncoding.AppendEncode(append(out, '\n'), node[:])
	}
	return append(append(out, '\n', '\n'), checkpoint...)
}

// VerifyProof checks that a proof is one of MakeProof for the entry at an index under a checkpoint, whose verified content is
// c: it says that index, its nodes are hashes in their one encoding, it ends with that checkpoint byte for byte, and
// its path leads from the entry to the root. Anything else is RECEIPT_INVALID.
func VerifyProof(raw, entry []byte, index uint64, checkpoint []byte, c *Checkpoint) error {
	rest, ok := bytes.CutPrefix(raw, strconv.AppendUint([]byte(proofHeader), index, 10))
	if !ok {
		return denial.New(denial.ReceiptInvalid, "the proof is not one of this entry")
	}
	rest, ok = bytes.CutSuffix(rest, checkpoint)
	if !ok || len(checkpoint) == 0 {
		return denial.New(denial.ReceiptInvalid, "the proof is under another checkpoint")
	}
	path, ok := proofNodes(rest)
	if !ok {
		return denial.New(denial.ReceiptInvalid, "the proof is not in the form of one")
	}
	leaf := LeafHash(entry)
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, c.Size, leaf[:], path, c.Root[:]); err != nil {
		return denial.New(denial.ReceiptInvalid, "the proof does not lead from this entry to the root")
	}
	return nil
}

// proofNodes reads lines that each begin with a newline, up to the empty one.
func proofNodes(text []byte) (path [][]byte, ok bool) {
	const line = 1 + 44
	text, ok = bytes.CutSuffix(text, []byte("\n\n"))
	if !ok || len(text)%line != 0 || len(text) > 64*line {
		return nil, false
	}
	for ; len(text) > 0; text = text[line:] {
		node, err := lineEncoding.AppendDecode(nil, text[1:line])
		if err != nil || text[0] != '\n' || len(node) != len(Hash{}) {
			return nil, false
		}
		path = append(path, node)
	}
	return path, true
}
