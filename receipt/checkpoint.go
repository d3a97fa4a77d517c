package receipt

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Origin returns the origin line of the log with the URI: the URI without its scheme (C2SP tlog-tiles, section
// "Parameters").
func Origin(log string) string {
	_, rest, ok := strings.Cut(log, "://")
	if !ok {
		return log
	}
	return rest
}

// SignCheckpoint returns the checkpoint of a head (C2SP tlog-checkpoint), signed by the log key alone.
func SignCheckpoint(ctx context.Context, s statement.Signer, origin string, h Head) ([]byte, error) {
	key, err := LogNoteKey(origin, s.Key())
	if err != nil {
		return nil, err
	}
	text, raw, err := statement.SignCheckpoint(ctx, s, origin, h.Size, h.Root)
	if err != nil {
		return nil, err
	}
	der, err := asn1.Marshal(pair{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
	if err != nil {
		return nil, fmt.Errorf("encoding signature: %w", err)
	}
	return []byte(text + "\n" + signature{name: key.name, id: key.id, sig: der}.line()), nil
}

// pair is an ECDSA signature in ASN.1.
type pair struct{ R, S *big.Int }

func p256Of(k statement.Key) (*ecdsa.PublicKey, bool) {
	pub, ok := k.Public().(*ecdsa.PublicKey)
	return pub, ok && pub.Curve == elliptic.P256()
}

// verifyLog reports whether the signature is one of a log key over the text.
func (k NoteKey) verifyLog(text string, sig []byte) bool {
	var p pair
	rest, err := asn1.Unmarshal(sig, &p)
	if err != nil || len(rest) > 0 || p.R == nil || p.S == nil || p.R.Sign() <= 0 || p.S.Sign() <= 0 || p.R.BitLen() > 256 || p.S.BitLen() > 256 {
		return false
	}
	raw := make([]byte, 64)
	p.R.FillBytes(raw[:32])
	p.S.FillBytes(raw[32:])
	return k.key.VerifyText(text, raw)
}

// verifyCosignature returns the time of a cosignature over the text, and whether it verifies (C2SP tlog-cosignature,
// section "Ed25519 signed message").
func (k NoteKey) verifyCosignature(text string, sig []byte) (time uint64, ok bool) {
	if len(sig) != 8+64 {
		return 0, false
	}
	time = binary.BigEndian.Uint64(sig)
	message := "cosignature/v1\ntime " + strconv.FormatUint(time, 10) + "\n" + text
	return time, time < 1<<63 && k.key.VerifyText(message, sig[8:])
}

// Witnesses says whose cosignatures a checkpoint needs: of Threshold distinct operators. Several witnesses of one
// operator count once.
type Witnesses struct {
	Threshold int
	List      []Witness
}

// Witness is one witness and who runs it.
type Witness struct {
	Operator string
	Key      NoteKey
}

// Check refuses, as THRESHOLD_NOT_MET: a threshold that is unset or zero (T12), one that the operators cannot meet, a
// witness without operator, one key twice, under whatever name (T11), and a key that does not cosign.
func (w Witnesses) Check() error {
	seen, operators := map[statement.Thumbprint]bool{}, map[string]bool{}
	for _, one := range w.List {
		if one.Operator == "" || one.Key.kind != noteCosignature || seen[one.Key.key.Thumbprint()] {
			return denial.New(denial.ThresholdNotMet, "a witness without operator, with a key that does not cosign, or with the key of another")
		}
		seen[one.Key.key.Thumbprint()], operators[one.Operator] = true, true
	}
	if w.Threshold < 1 || w.Threshold > len(operators) {
		return denial.New(denial.ThresholdNotMet, "the threshold is %d, with %d operators of witnesses", w.Threshold, len(operators))
	}
	return nil
}

// Checkpoint is a verified checkpoint. Time is when the last of so many operators as were demanded cosigned it, in
// seconds since 1970 UTC; 0 if none were demanded. Operators are those whose cosignatures verified, in order of name.
type Checkpoint struct {
	Origin    string
	Size      uint64
	Root      Hash
	Time      uint64
	Operators []string
}

// VerifyCheckpoint checks a checkpoint against what the caller trusts. In this order: a note, whose text is exactly the
// three lines of a checkpoint (324); the origin is that of the keys (325, T15); a signature by a log key is there (305)
// and each by a known key verifies (301); with witnesses, they are well chosen (326, T12) and cosignatures of as many
// distinct operators are there (326, T11). Without witnesses, give nil.
//
// Lines of unknown keys are passed over, as C2SP signed-note demands. A checkpoint says nothing of its age but what
// witnesses say: FreshSince tells.
func VerifyCheckpoint(raw []byte, keys []NoteKey, w *Witnesses) (*Checkpoint, error) {
	text, sigs, err := parseNote(raw)
	if err != nil {
		return nil, denial.New(denial.ReceiptInvalid, "the checkpoint is no signed note")
	}
	c, ok := parseText(text)
	if !ok {
		return nil, denial.New(denial.ReceiptInvalid, "the note is no checkpoint")
	}
	if !slices.ContainsFunc(keys, func(k NoteKey) bool { return k.kind == noteECDSA && k.name == c.Origin }) {
		return nil, denial.New(denial.LogInconsistent, "the checkpoint is one of another log")
	}
	if err := verifyLogSignatures(text, sigs, keys); err != nil || w == nil {
		return c, err
	}
	if err := w.Check(); err != nil {
		return nil, err
	}
	return c, c.countOperators(text, sigs, *w)
}

func verifyLogSignatures(text string, sigs []signature, keys []NoteKey) error {
	found := false
	for _, s := range sigs {
		for _, k := range keys {
			if k.kind != noteECDSA || !k.signed(s) {
				continue
			}
			if !k.verifyLog(text, s.sig) {
				return denial.New(denial.SignatureInvalid, "the log's signature under the checkpoint does not verify")
			}
			found = true
		}
	}
	if !found {
		return denial.New(denial.KeyUnknown, "the checkpoint is not signed by a known log key")
	}
	return nil
}

// countOperators counts whose cosignatures are there. One that does not verify is refused, not passed over: the note
// comes from somebody who changes them.
func (c *Checkpoint) countOperators(text string, sigs []signature, w Witnesses) error {
	newest := map[string]uint64{}
	for _, s := range sigs {
		for _, one := range w.List {
			if !one.Key.signed(s) {
				continue
			}
			time, ok := one.Key.verifyCosignature(text, s.sig)
			if !ok {
				return denial.New(denial.SignatureInvalid, "a witness's signature under the checkpoint does not verify")
			}
			newest[one.Operator] = max(newest[one.Operator], time)
		}
	}
	if len(newest) < w.Threshold {
		return denial.New(denial.ThresholdNotMet, "%d of %d operators of witnesses have cosigned", len(newest), w.Threshold)
	}
	times := make([]uint64, 0, len(newest))
	for operator, time := range newest {
		times, c.Operators = append(times, time), append(c.Operators, operator)
	}
	slices.Sort(times)
	slices.Sort(c.Operators)
	c.Time = times[len(times)-w.Threshold]
	return nil
}

func parseText(text string) (*Checkpoint, bool) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 {
		return nil, false
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	root, bad := lineEncoding.DecodeString(lines[2])
	if err != nil || bad != nil || len(root) != len(Hash{}) {
		return nil, false
	}
	c := &Checkpoint{Origin: lines[0], Size: size, Root: Hash(root)}
	want, err := statement.CheckpointText(c.Origin, c.Size, c.Root)
	return c, err == nil && text == want
}

// FreshSince refuses a checkpoint that fewer operators than were demanded have cosigned at or after the time, in seconds
// since 1970 UTC: one that is kept back looks like one that is old (207, T18).
func (c *Checkpoint) FreshSince(time uint64) error {
	if c.Time < time {
		return denial.New(denial.CheckpointStale, "the witnesses cosigned the checkpoint too long ago")
	}
	return nil
}

// Follows checks that a checkpoint continues one that was verified before, with the consistency path between them: the
// same origin (325, T15); no smaller size (508, T07); the same root at the same size (325, T10); the older tree is the
// beginning of the newer one (325, T09). Of the same size, and from size zero, the path is empty.
func (c *Checkpoint) Follows(old *Checkpoint, path []Hash) error {
	switch {
	case c.Origin != old.Origin:
		return denial.New(denial.LogInconsistent, "the checkpoints are of two logs")
	case c.Size < old.Size:
		return denial.New(denial.StateRollback, "the log has %d entries, and had %d before", c.Size, old.Size)
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, old.Size, c.Size, nodes(path), old.Root[:], c.Root[:]); err != nil {
		return denial.New(denial.LogInconsistent, "the older tree is not the beginning of the newer one")
	}
	return nil
}

// AddCosignatures returns the checkpoint with those of the signature lines, in the form in which a witness answers, that
// the key verifies; the others are left out. It is KEY_UNKNOWN if there is none.
func AddCosignatures(checkpoint, lines []byte, key NoteKey) ([]byte, error) {
	text, _, err := parseNote(checkpoint)
	if err != nil {
		return nil, err
	}
	sigs, err := parseSignatures(string(lines))
	if err != nil || len(lines) > maxNote {
		return nil, denial.New(denial.ReceiptInvalid, "the witness answered with other than signatures")
	}
	for _, s := range sigs {
		if !key.signed(s) || key.kind != noteCosignature {
			continue
		}
		if _, ok := key.verifyCosignature(text, s.sig); !ok {
			return nil, denial.New(denial.SignatureInvalid, "the witness's signature does not verify")
		}
		return slices.Concat(checkpoint, []byte(s.line())), nil
	}
	return nil, denial.New(denial.KeyUnknown, "the witness did not sign with its key")
}
