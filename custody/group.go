package custody

import (
	"context"
	"errors"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/statement"
)

// Group is an active token and others that hold the same keys, copied there by the means of their vendor. Each has a
// signer process of its own. A signature is asked of the first that is healthy; when one fails, of the next. The keys are
// pinned by their thumbprints, so it does not matter to anybody else which token signed.
type Group struct {
	members []*Process
}

// OpenGroup opens every token, the active one first. All must be there at the start: one that is not is a fault to mend,
// not to find when it is needed.
func OpenGroup(ctx context.Context, active Config, others ...Config) (*Group, error) {
	g := &Group{}
	for _, cfg := range append([]Config{active}, others...) {
		p, err := Open(ctx, cfg)
		if err != nil {
			return nil, errors.Join(err, g.Close())
		}
		g.members = append(g.members, p)
	}
	return g, nil
}

// Active returns the first token: that on which keys are made.
func (g *Group) Active() *Process { return g.members[0] }

// Members returns every token.
func (g *Group) Members() []*Process { return g.members }

// Healthy returns nil if a token serves, or else why the active one does not.
func (g *Group) Healthy() error {
	for _, p := range g.members {
		if p.Healthy() == nil {
			return nil
		}
	}
	return g.Active().Healthy()
}

// Close ends every signer process.
func (g *Group) Close() error {
	var err error
	for _, p := range g.members {
		err = errors.Join(err, p.Close())
	}
	return err
}

// Signer returns the use of a key that every token must have.
func (g *Group) Signer(ctx context.Context, purpose hsm.Purpose, pinned statement.Thumbprint) (statement.Signer, error) {
	s := &groupSigner{group: g}
	for _, p := range g.members {
		of, err := p.Signer(ctx, purpose, pinned)
		if err != nil {
			return nil, err
		}
		s.of = append(s.of, of)
	}
	return s, nil
}

// Release lets go of a key that signs nothing more: from now on a token that lacks it is whole.
func (g *Group) Release(key statement.Thumbprint) {
	for _, p := range g.members {
		p.Release(key)
	}
}

type groupSigner struct {
	group *Group
	of    []statement.Signer // by member
}

// Key returns the pinned public key.
func (s *groupSigner) Key() statement.Key { return s.of[0].Key() }

// Sign asks the healthy tokens in turn. A refusal that is not about the token (anything but 903 and 904) is the answer.
func (s *groupSigner) Sign(ctx context.Context, tbs statement.ToBeSigned) (sig []byte, err error) {
	err = s.group.Active().Healthy()
	for i, of := range s.of {
		if s.group.members[i].Healthy() != nil {
			continue
		}
		sig, err = of.Sign(ctx, tbs)
		if err == nil || ctx.Err() != nil || !denial.Is(err, denial.HSMUnavailable) && !denial.Is(err, denial.HSMKeyPolicy) {
			return sig, err
		}
	}
	return nil, err
}
