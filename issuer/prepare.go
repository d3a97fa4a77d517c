package issuer

import (
	"context"
	"encoding/hex"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// Maker makes keys on the token.
type Maker interface {
	// Make makes another key for a purpose beside those that are there, of which present is one unless it is zero.
	Make(ctx context.Context, purpose string, present statement.Thumbprint) (statement.Thumbprint, error)
	// Birth reads back what the token states of a key for a purpose; 904 if that is not as it must be.
	Birth(ctx context.Context, purpose string, key statement.Thumbprint) (*record.Birth, error)
}

// Prepared is what the token and the key in use contribute to the change that announces a key. It is good for one place in the
// chain of changes, and worth nothing until authorities have signed that change.
type Prepared struct {
	Birth      *record.Birth `cbor:"1,keyasint"`
	Succession []byte        `cbor:"2,keyasint"` // by the key in use for the purpose; empty if there is none
	Sequence   uint64        `cbor:"3,keyasint"` // of the change
	Previous   []byte        `cbor:"4,keyasint"` // digest that it must name
}

// Prepare makes a key for a purpose, or takes the named one that the token has, logs its birth, and has the key in use name it as
// the one that follows. If born is given, the key is the one that was born so, in a ceremony, and the token must still state
// the same of it (904). A key that the issuer has had in use or announced before is refused (306).
func (i *Issuer) Prepare(ctx context.Context, maker Maker, purpose string, key statement.Thumbprint, born *record.Birth) (*Prepared, error) {
	if record.KindsOf(purpose) == nil {
		return nil, denial.New(denial.RequestLimit, "a key is for artifact, record, log or status")
	}
	ctx, cancel := settled(ctx)
	defer cancel()
	use, err := i.keys.current(ctx, i.log)
	if err != nil {
		return nil, err
	}
	if born != nil {
		key = born.Key.Thumbprint()
	}
	if key == (statement.Thumbprint{}) {
		if key, err = maker.Make(ctx, purpose, use.ring.Of(purpose)[0].Thumbprint()); err != nil {
			return nil, err
		}
	}
	if use.ring.Find(key) != nil {
		return nil, denial.New(denial.KeyAmbiguous, "the issuer has this key already")
	}
	birth, err := maker.Birth(ctx, purpose, key)
	if err != nil {
		return nil, err
	}
	if born != nil {
		if !born.SameKey(birth) {
			return nil, denial.New(denial.HSMKeyPolicy, "the token states something else of the key than at its birth")
		}
		birth = born
	}
	if err := i.logBirth(ctx, birth); err != nil {
		return nil, err
	}
	head := use.ring.Head()
	p := &Prepared{Birth: birth, Succession: []byte{}, Sequence: use.ring.Sequence() + 1, Previous: head[:]}
	if s := use.signers[purpose]; s != nil {
		p.Succession, err = record.SignSuccession(ctx, s, i.genesis.Issuer,
			record.Succession{Version: record.Version, Purpose: purpose, Key: birth.Key, Previous: head[:]})
	}
	return p, err
}

// logBirth logs what a token states of a key.
func (i *Issuer) logBirth(ctx context.Context, birth *record.Birth) error {
	return untilFresh(func() error {
		r := i.newRecord()
		r.Event, r.Birth = record.EventKey, birth
		var entry tlog.Entry
		if err := i.signRecord(ctx, &entry, r, i.genesis.Issuer); err != nil {
			return err
		}
		_, err := i.append(ctx, entry)
		return err
	})
}

// ParseThumbprint reads a thumbprint in lower-case hexadecimal; zero for nothing.
func ParseThumbprint(text string) (id statement.Thumbprint, err error) {
	if text == "" {
		return id, nil
	}
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(id) || hex.EncodeToString(raw) != text || statement.Thumbprint(raw) == id {
		return id, denial.New(denial.RequestLimit, "a thumbprint has 64 lower-case hexadecimal digits")
	}
	return statement.Thumbprint(raw), nil
}
