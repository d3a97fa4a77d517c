package artifact

import (
	"bytes"
	"context"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// PossessionProfile is the eat_profile of a proof of possession. Another one is another version.
const PossessionProfile = "https://github.com/governed-execution/writ/profile/pop/1"

// PossessionWindow is how far iat of a proof may be from the gate's time, either way.
const PossessionWindow = 30 * time.Second

const maxPossession = 2 << 10

// GateNonce is a gate's challenge for one use: 32 random bytes. The zero GateNonce is refused.
type GateNonce [32]byte

// Possession is what the holder of the confirmation key signs before a use.
type Possession struct {
	Holder     string           // sub of the artifact
	Audience   string           // aud of the artifact
	Artifact   statement.Digest // statement digest
	Parameters Digest           // of what is to be done: for a program ParametersDigest of its arguments
	Nonce      GateNonce
	IssuedAt   uint64 // seconds since 1970 UTC
}

type possessionClaims struct {
	Audience   string `cbor:"3,keyasint"`
	IssuedAt   uint64 `cbor:"6,keyasint"`
	Nonce      []byte `cbor:"10,keyasint"`
	Profile    string `cbor:"265,keyasint"`
	Artifact   []byte `cbor:"-90009,keyasint"`
	Parameters Digest `cbor:"-90010,keyasint"`
}

func (c *possessionClaims) check() error {
	if c.Profile != PossessionProfile || !isURI(c.Audience) || !within(c.Nonce, 32, 32) || !within(c.Artifact, 32, 32) ||
		!c.Parameters.Valid() || bytes.Equal(c.Nonce, make([]byte, 32)) {
		return denial.New(denial.KeyBinding, "the proof of possession is incomplete")
	}
	return checkTimes(c.IssuedAt)
}

// SignPossession makes a proof of possession with the confirmation key.
func SignPossession(ctx context.Context, s statement.Signer, p Possession) ([]byte, error) {
	c := possessionClaims{Audience: p.Audience, IssuedAt: p.IssuedAt, Nonce: p.Nonce[:], Profile: PossessionProfile,
		Artifact: p.Artifact[:], Parameters: p.Parameters}
	if err := c.check(); err != nil {
		return nil, err
	}
	payload, err := statement.Marshal(&c)
	if err != nil {
		return nil, err
	}
	return statement.Sign(ctx, s, statement.Possession, statement.Claims{Issuer: p.Holder, Subject: p.Holder}, payload)
}

// VerifyPossession checks that the holder of the artifact's confirmation key answers this nonce, for this artifact,
// gate and parameters, now. Whatever does not hold is KeyBinding (702), in this order: the nonce given is not zero; the
// statement decodes; the confirmation key of the artifact signed it as a proof of possession; its claims are in their
// one encoding; holder, audience, artifact, nonce and parameters are the expected ones; iat is within PossessionWindow
// of now. The gate must issue each nonce once and use it once.
func VerifyPossession(raw []byte, a *Artifact, nonce GateNonce, parameters Digest, now time.Time) error {
	if a == nil || len(a.leaf) == 0 {
		return denial.New(denial.KeyBinding, "no verified artifact to prove possession for")
	}
	return holder{a.claims.Confirmation.Key, a.claims.Subject, a.claims.Audience, a.Digest()}.verify(raw, nonce, parameters, now)
}

// holder is who must prove possession, of which key, for what.
type holder struct {
	key               statement.Key
	subject, audience string
	digest            statement.Digest
}

func (h holder) verify(raw []byte, nonce GateNonce, parameters Digest, now time.Time) error {
	if nonce == (GateNonce{}) {
		return denial.New(denial.KeyBinding, "no nonce to prove possession for")
	}
	v, err := h.signed(raw)
	if err != nil {
		return denial.New(denial.KeyBinding, "not a proof of possession by the confirmation key (%d %s)", denial.Of(err).Reason.Code(), denial.Of(err).Reason)
	}
	var c possessionClaims
	if err := decodeStrict(v.Payload(), &c); err != nil {
		return denial.New(denial.KeyBinding, "the proof of possession is malformed")
	}
	t, ok := seconds(now)
	const window = uint64(PossessionWindow / time.Second)
	switch {
	case v.Claims() != statement.Claims{Issuer: h.subject, Subject: h.subject}:
		return denial.New(denial.KeyBinding, "the proof is by another holder")
	case c.Audience != h.audience:
		return denial.New(denial.KeyBinding, "the proof is for another gate")
	case !bytes.Equal(c.Artifact, h.digest[:]):
		return denial.New(denial.KeyBinding, "the proof is for another artifact")
	case !bytes.Equal(c.Nonce, nonce[:]):
		return denial.New(denial.KeyBinding, "the proof answers another nonce")
	case !c.Parameters.Equal(parameters):
		return denial.New(denial.KeyBinding, "the proof is for other parameters")
	case !ok || c.IssuedAt > t+window || t > c.IssuedAt+window:
		return denial.New(denial.KeyBinding, "the proof is not of this moment")
	}
	return nil
}

func (h holder) signed(raw []byte) (*statement.Verified, error) {
	env, err := statement.Decode(raw, maxPossession)
	if err != nil {
		return nil, err
	}
	var keys statement.Keys
	if err := keys.Add(h.key, statement.Possession); err != nil {
		return nil, err
	}
	return env.Verify(keys, statement.Possession)
}
