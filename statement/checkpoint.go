package statement

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"github.com/governed-execution/writ/denial"
)

// Checkpoint is the one Kind that is no COSE statement: the text of a C2SP checkpoint. No envelope is of this kind, so
// it has no media type, and Kinds leaves it out.
const Checkpoint Kind = kinds + 1

// CheckpointText returns the text of a checkpoint (C2SP tlog-checkpoint): three lines, the origin, the size in decimal
// and the root in base64. The origin must also serve as the name of a note's key (C2SP signed-note): valid UTF-8, not
// empty, without spaces, control characters and '+'.
func CheckpointText(origin string, size uint64, root [32]byte) (string, error) {
	bad := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '+' }
	if origin == "" || !utf8.ValidString(origin) || strings.ContainsFunc(origin, bad) {
		return "", fmt.Errorf("writing checkpoint: the origin is empty, or has a space, a control character or '+'")
	}
	return origin + "\n" + strconv.FormatUint(size, 10) + "\n" + base64.StdEncoding.EncodeToString(root[:]) + "\n", nil
}

// SignCheckpoint has the text of a checkpoint signed, which it writes itself, so that a log key signs nothing but heads
// of a tree. What is signed begins with the origin, which is UTF-8; a Sig_structure begins with a byte that UTF-8 text
// never has: neither passes for the other. A signature that does not verify is HSMUnavailable (H08).
func SignCheckpoint(ctx context.Context, s Signer, origin string, size uint64, root [32]byte) (text string, sig []byte, err error) {
	tbs, err := ComposeCheckpoint(origin, size, root)
	if err != nil {
		return "", nil, err
	}
	if sig, err = s.Sign(ctx, tbs); err != nil {
		return "", nil, fmt.Errorf("signing checkpoint: %w", err)
	}
	if !tbs.Verifies(s.Key(), sig) {
		return "", nil, denial.New(denial.HSMUnavailable, "the signer returned a signature that does not verify")
	}
	return string(tbs.payload), sig, nil
}

// ComposeCheckpoint returns the text that SignCheckpoint would have a key sign.
func ComposeCheckpoint(origin string, size uint64, root [32]byte) (ToBeSigned, error) {
	text, err := CheckpointText(origin, size, root)
	if err != nil {
		return ToBeSigned{}, err
	}
	return ToBeSigned{kind: Checkpoint, bytes: []byte(text), payload: []byte(text), shown: new(atomic.Pointer[shown])}, nil
}

// VerifyText reports whether sig is a signature of the key over the text of a note: r||s of fixed length for ECDSA, 64
// bytes for Ed25519. It says nothing about what the text is: package receipt reads that.
func (k Key) VerifyText(text string, sig []byte) bool { return k.verify([]byte(text), sig) }
