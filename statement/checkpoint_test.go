package statement

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
)

// other signs something else than it is asked for.
type other struct{ Signer }

func (o other) Sign(ctx context.Context, _ ToBeSigned) ([]byte, error) {
	return o.Signer.Sign(ctx, ToBeSigned{kind: Checkpoint, bytes: []byte("something else")})
}

func TestACheckpointIsThreeLinesUnderTheLogKey(t *testing.T) {
	t.Parallel()
	_, s := newSigner(t)
	text, sig, err := SignCheckpoint(context.Background(), s, "issuer.example/log", 20852163, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	const want = "issuer.example/log\n20852163\nAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
	if text != want {
		t.Errorf("got %q, want %q", text, want)
	}
	if !s.Key().VerifyText(text, sig) || s.Key().VerifyText(strings.Replace(text, "63", "64", 1), sig) {
		t.Error("the signature is not one over exactly this text")
	}
}

func TestAnOriginThatIsNoKeyNameIsRefused(t *testing.T) {
	t.Parallel()
	_, s := newSigner(t)
	for _, origin := range []string{"", "a b", "a\nb", "a+b", "a\x00", "\xff", "a\u2028b", "a\u00a0b"} {
		if _, _, err := SignCheckpoint(context.Background(), s, origin, 1, [32]byte{}); err == nil {
			t.Errorf("origin %q was signed", origin)
		}
	}
}

func TestASignatureOverAnotherTextIsNotReturned(t *testing.T) {
	t.Parallel()
	_, s := newSigner(t)
	_, _, err := SignCheckpoint(context.Background(), other{s}, "issuer.example/log", 1, [32]byte{})
	if !denial.Is(err, denial.HSMUnavailable) {
		t.Errorf("got %v, want %v", err, denial.HSMUnavailable)
	}
}

func TestOnlyALogKeySignsCheckpoints(t *testing.T) {
	t.Parallel()
	for _, p := range append(Purposes(), "") {
		if got, want := p.Signs(Checkpoint), p == PurposeLog; got != want {
			t.Errorf("purpose %q: got %v, want %v", p, got, want)
		}
	}
}

// A Sig_structure never reads as a checkpoint, nor the other way round, whatever is in them.
func TestNoStatementIsACheckpoint(t *testing.T) {
	t.Parallel()
	_, s := newSigner(t)
	if _, err := Sign(context.Background(), s, Checkpoint, Claims{Issuer: "a", Subject: "b", IssuedAt: 1}, []byte{1}); err == nil {
		t.Error("a COSE statement of kind checkpoint was signed")
	}
	if tbs := toBeSigned(nil, nil); tbs[0] < 0x80 || tbs[0] >= 0xc0 { // a continuation byte: no UTF-8 text begins with it
		t.Errorf("a Sig_structure begins with %#x", tbs[0])
	}
}

func TestACheckpointThatCannotBeWrittenIsAnError(t *testing.T) {
	t.Parallel()
	if text, err := CheckpointText("a b", 1, [32]byte{}); err == nil || text != "" {
		t.Errorf("text: got %q, %v", text, err)
	}
	if tbs, err := ComposeCheckpoint("a b", 1, [32]byte{}); err == nil || tbs.Bytes() != nil {
		t.Errorf("structure: got %q, %v", tbs.Bytes(), err)
	}
	_, s := newSigner(t)
	unasked := oddSigner{s, func(ToBeSigned) ([]byte, error) {
		t.Error("a key was asked to sign what cannot be written")
		return nil, nil
	}}
	if _, _, err := SignCheckpoint(t.Context(), unasked, "a b", 1, [32]byte{}); err == nil {
		t.Error("no error")
	}
	fault := errors.New("token removed")
	odd := oddSigner{s, func(ToBeSigned) ([]byte, error) { return nil, fault }}
	if text, sig, err := SignCheckpoint(t.Context(), odd, "issuer.example/log", 1, [32]byte{}); !errors.Is(err, fault) || text != "" || sig != nil {
		t.Errorf("a fault of the token: got %q, %x, %v", text, sig, err)
	}
}
