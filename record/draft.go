package record

import (
	"context"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Draft is an act, or a step of a key ceremony, before anybody has signed it: what a person reads, and then signs.
type Draft struct {
	Kind    string `cbor:"1,keyasint"` // name of the statement kind
	Issuer  string `cbor:"2,keyasint"` // iss of every statement of the act
	Subject string `cbor:"3,keyasint"` // sub
	Payload []byte `cbor:"4,keyasint"`
}

// Encode returns the draft in its one encoding.
func (d Draft) Encode() ([]byte, error) { return statement.Marshal(d) }

// DecodeDraft reads what Encode wrote, for an act of a known kind.
func DecodeDraft(data []byte) (*Draft, error) {
	var d Draft
	if err := statement.Unmarshal(data, &d); err != nil {
		return nil, err
	}
	if _, err := d.kind(); err != nil {
		return nil, err
	}
	if d.Issuer == "" || d.Subject == "" || len(d.Payload) == 0 {
		return nil, denial.New(denial.ClaimAbsent, "a draft needs an issuer, a subject and a payload")
	}
	return &d, nil
}

func (d Draft) kind() (statement.Kind, error) {
	for _, k := range []statement.Kind{statement.Genesis, statement.Policy, statement.Enrolment, statement.Revocation, statement.Ceremony, statement.KeyChange,
		statement.BreakGlass, statement.Review} {
		if k.String() == d.Kind {
			return k, nil
		}
	}
	return 0, denial.New(denial.WrongType, "a draft is a genesis, a policy, an enrolment, a revocation, a key change, a step of a ceremony, a break-glass authorization or its review")
}

// Sign signs the draft as the first authority.
func (d Draft) Sign(ctx context.Context, s statement.Signer) (Bundle, error) {
	kind, err := d.kind()
	if err != nil {
		return nil, err
	}
	return SignAct(ctx, nil, s, kind, statement.Claims{Issuer: d.Issuer, Subject: d.Subject}, d.Payload)
}

// Cosign adds the signature of a further authority to a bundle: over the same kind, claims and payload as the first.
func (b Bundle) Cosign(ctx context.Context, s statement.Signer) (Bundle, error) {
	if len(b) == 0 {
		return nil, denial.New(denial.ClaimAbsent, "an act without any signature")
	}
	env, err := statement.Decode(b[0], statement.MaxStatement)
	if err != nil {
		return nil, err
	}
	return SignAct(ctx, b, s, env.Kind(), env.Claims(), env.Payload())
}
