package record

import (
	"context"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Draft is an act, or a step of a key ceremony, before anybody has signed it: what a person reads, and then signs.
type Draft struct {
	Kind    string `cbor:"1,keyasint"` // name of the statement kind
	Issuer  string `cbor:"2,keyasint"` // iss of every statement of the act
	Subject string `cbor:"3,keyasint"` // sub
	Payload []byte `cbor:"4,keyasint"`

	Drafted  uint64 `cbor:"5,keyasint,omitempty"` // iat, exp and number of every statement of an act that has them: see statement.Claims
	Expires  uint64 `cbor:"6,keyasint,omitempty"`
	Sequence uint64 `cbor:"7,keyasint,omitempty"`
}

// NewDraft returns the draft of an act: number sequence about its subject, drafted now and good for as long as valid.
func NewDraft(kind statement.Kind, issuer string, payload any, sequence uint64, now time.Time, valid time.Duration) (Draft, error) {
	raw, err := statement.Marshal(payload)
	if err != nil {
		return Draft{}, err
	}
	d := Draft{Kind: kind.String(), Issuer: issuer, Payload: raw}
	if d.Subject, err = SubjectOf(kind, issuer, raw); err != nil {
		return Draft{}, err
	}
	if kind.Acts() {
		d.Drafted, d.Expires, d.Sequence = uint64(now.Unix()), uint64(now.Add(valid).Unix()), sequence
	}
	return d, terms(kind, d.Claims())
}

// Claims returns what every statement of the act says in its header.
func (d Draft) Claims() statement.Claims {
	return statement.Claims{Issuer: d.Issuer, Subject: d.Subject, IssuedAt: d.Drafted, Expires: d.Expires, Sequence: d.Sequence}
}

// Encode returns the draft in its one encoding.
func (d Draft) Encode() ([]byte, error) { return statement.Marshal(d) }

// DecodeDraft reads what Encode wrote, for an act of a known kind.
func DecodeDraft(data []byte) (*Draft, error) {
	var d Draft
	if err := statement.Unmarshal(data, &d); err != nil {
		return nil, err
	}
	kind, err := d.kind()
	if err != nil {
		return nil, err
	}
	if d.Issuer == "" || d.Subject == "" || len(d.Payload) == 0 {
		return nil, denial.New(denial.ClaimAbsent, "a draft needs an issuer, a subject and a payload")
	}
	return &d, terms(kind, d.Claims())
}

func (d Draft) kind() (statement.Kind, error) {
	for _, k := range statement.Kinds() {
		if k.String() == d.Kind && (IsAct(k) || k == statement.Ceremony) {
			return k, nil
		}
	}
	return 0, denial.New(denial.WrongType, "a draft is of an act of authorities, or a step of a ceremony")
}

// Sign signs the draft as the first authority.
func (d Draft) Sign(ctx context.Context, s statement.Signer) (Bundle, error) {
	kind, err := d.kind()
	if err != nil {
		return nil, err
	}
	return SignAct(ctx, nil, s, kind, d.Claims(), d.Payload)
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
