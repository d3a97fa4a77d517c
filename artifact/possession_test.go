package artifact

import (
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

func (k *kit) possession(a *Artifact) Possession {
	return Possession{Holder: hostURI, Audience: gateURI, Artifact: a.Digest(), Parameters: ParametersDigest(k.argv),
		Nonce: GateNonce(fill(32, 3)), IssuedAt: uint64(t0.Unix())}
}

// TestC33_Possession: whatever does not hold of a proof is 702.
func TestC33_Possession(t *testing.T) {
	k := newKit(t)
	a := k.artifactOf()
	nonce, params := GateNonce(fill(32, 3)), ParametersDigest(k.argv)
	by := func(s statement.Signer, f func(*Possession)) []byte {
		p := k.possession(a)
		f(&p)
		raw, err := SignPossession(t.Context(), s, p)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	edit := func(f func(*Possession)) []byte { return by(k.holder, f) }
	good := edit(func(*Possession) {})
	env, err := statement.Decode(good, maxPossession)
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"valid":              good,
		"30 s old":           edit(func(p *Possession) { p.IssuedAt -= 30 }),
		"30 s in the future": edit(func(p *Possession) { p.IssuedAt += 30 }),
	} {
		if err := VerifyPossession(raw, a, nonce, params, t0); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, raw := range map[string][]byte{
		"nothing":                nil,
		"too long":               append(good[:len(good):len(good)], make([]byte, maxPossession)...),
		"one byte changed":       flip(good, len(good)-1),
		"another key":            by(k.person, func(*Possession) {}),
		"the artifact itself":    a.leaf,
		"another kind":           k.sign(k.holder, statement.Request, hostURI, hostURI, env.Payload()),
		"header of another host": k.sign(k.holder, statement.Possession, hostURI, gateURI, env.Payload()),
		"unknown claim":          k.sign(k.holder, statement.Possession, hostURI, hostURI, patch(t, env.Payload(), 7, "40")),
		"another unknown claim":  k.sign(k.holder, statement.Possession, hostURI, hostURI, patch(t, env.Payload(), -90011, "40")),
		"no nonce":               k.sign(k.holder, statement.Possession, hostURI, hostURI, patch(t, env.Payload(), 10, "")),
		"another holder":         edit(func(p *Possession) { p.Holder = personURI }),
		"another gate":           edit(func(p *Possession) { p.Audience += "x" }),
		"another artifact":       edit(func(p *Possession) { p.Artifact[0] ^= 1 }),
		"another nonce":          edit(func(p *Possession) { p.Nonce[0] ^= 1 }),
		"other parameters":       edit(func(p *Possession) { p.Parameters = ParametersDigest(k.argv[:1]) }),
		"31 s old":               edit(func(p *Possession) { p.IssuedAt -= 31 }),
		"31 s in the future":     edit(func(p *Possession) { p.IssuedAt += 31 }),
	} {
		t.Run("C33 "+name, func(t *testing.T) {
			refused(t, VerifyPossession(raw, a, nonce, params, t0), denial.KeyBinding)
		})
	}
}

func TestPossessionNeedsAnArtifactANonceAndATime(t *testing.T) {
	k := newKit(t)
	a := k.artifactOf()
	p := k.possession(a)
	raw, err := SignPossession(t.Context(), k.holder, p)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, VerifyPossession(raw, nil, p.Nonce, p.Parameters, t0), denial.KeyBinding)
	refused(t, VerifyPossession(raw, &Artifact{}, p.Nonce, p.Parameters, t0), denial.KeyBinding)
	refused(t, VerifyPossession(raw, a, GateNonce{}, p.Parameters, t0), denial.KeyBinding)
	refused(t, VerifyPossession(raw, a, p.Nonce, Digest{}, t0), denial.KeyBinding)
	refused(t, VerifyPossession(raw, a, p.Nonce, p.Parameters, time.Time{}), denial.KeyBinding)
	first := p
	first.IssuedAt = 5 // s after the time that stands for none
	early, err := SignPossession(t.Context(), k.holder, first)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, VerifyPossession(early, a, p.Nonce, p.Parameters, time.Unix(0, 0)), denial.KeyBinding)
	p.Nonce = GateNonce{}
	_, err = SignPossession(t.Context(), k.holder, p)
	refused(t, err, denial.KeyBinding)
}
