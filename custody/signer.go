package custody

import (
	"context"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/statement"
)

// signer is the use of one key, whichever process has it.
type signer struct {
	process *Process
	purpose hsm.Purpose
	key     statement.Key
}

// Key returns the pinned public key.
func (s *signer) Key() statement.Key { return s.key }

// Sign has the signer process compose and sign the structure. It returns r||s only if that verifies, with the pinned
// key, over the structure asked for (H08): otherwise the process is told, which gives up its connection to the token.
func (s *signer) Sign(ctx context.Context, tbs statement.ToBeSigned) ([]byte, error) {
	if len(tbs.Bytes()) == 0 {
		return nil, denial.New(denial.Internal, "nothing to sign")
	}
	if !s.purpose.Signs(tbs.Kind()) {
		return nil, denial.New(denial.WrongType, "a key for purpose %s does not sign a %s", s.purpose, tbs.Kind())
	}
	l, err := s.process.current()
	if err != nil {
		return nil, err
	}
	r := signRequest{purpose: s.purpose, kind: tbs.Kind(), key: s.key.Thumbprint()}
	r.claims, r.payload = tbs.Content()
	r.within = s.process.cfg.Timeout
	if end, ok := ctx.Deadline(); ok {
		r.within = max(0, min(time.Until(end), r.within))
	}
	// The token has its own limit within this one, and then says why.
	ctx, cancel := context.WithTimeout(ctx, r.within+grace)
	defer cancel()
	sig, err := l.ask(ctx, opSign, r.encode())
	if err != nil {
		return nil, err
	}
	if !tbs.Verifies(s.key, sig) {
		s.process.orphans.Add(1)
		if _, err := l.ask(ctx, opDistrust, nil); denial.Is(err, denial.HSMKeyPolicy) {
			return nil, err
		}
		return nil, unavailable("the token returned a signature that does not verify with the pinned key")
	}
	return sig, nil
}
