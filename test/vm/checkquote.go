package vm

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/attest/attester"
)

// CheckQuote asks tpm2_checkquote, of tpm2-tools, for a second opinion on the quote of a testimony and the PCR values with
// it. The quote must answer the nonce.
func (t *Testimony) CheckQuote(ctx context.Context, dir string, nonce [32]byte) error {
	ev, err := attest.DecodeEvidence(t.Evidence)
	if err != nil {
		return err
	}
	p := ev.Parts()
	key, err := (&attester.Key{Public: p.AK}).Verifier()
	if err != nil {
		return err
	}
	text, err := key.PEM()
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"ak.pem": text, "message": p.Quote, "signature": p.Signature, "pcrs": toolsPCRs(t.Want.Selection, p.PCRs)} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	if err != nil {
		return err
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	return tool(ctx, "tpm2_checkquote", "-u", in("ak.pem"), "-m", in("message"), "-s", in("signature"), "-f", in("pcrs"), "-g", "sha256", "-q", hex.EncodeToString(nonce[:]))
}

// Nonce returns the qualifying data that the quote must have.
func (t *Testimony) Nonce() [32]byte {
	return attest.QualifyingData(t.Want.Challenge, t.Want.Request, t.Want.Exporter)
}

// toolsPCRs writes PCR values as tpm2-tools keep them: C structures of tpm2-tss in little-endian order, a TPML_PCR_SELECTION
// with room for 16 banks, and a number of TPML_DIGEST with room for 8 digests of 64 bytes.
func toolsPCRs(s attest.Selection, values map[int64][]byte) []byte {
	le := binary.LittleEndian
	algorithm := map[string]uint16{"sha256": 0x000B, "sha384": 0x000C}[s.Bank]
	out := append(le.AppendUint16(le.AppendUint32(nil, 1), algorithm), 3)
	bits := make([]byte, 5) // pcrSelect[4] and padding
	for _, p := range s.PCRs {
		bits[p/8] |= 1 << (p % 8)
	}
	out = append(append(out, bits...), make([]byte, 15*8)...)
	out = le.AppendUint32(out, uint32(len(s.PCRs)+7)/8)
	for part := range slices.Chunk(s.PCRs, 8) {
		out = le.AppendUint32(out, uint32(len(part)))
		for i := range 8 {
			digest, size := make([]byte, 64), 0
			if i < len(part) {
				size = copy(digest, values[int64(part[i])])
			}
			out = append(le.AppendUint16(out, uint16(size)), digest...)
		}
	}
	return out
}
