package statement

import (
	"testing"

	"github.com/governed-execution/writ/denial"
)

// actClaims are those of an act: they have an end and a number.
var actClaims = Claims{Issuer: "https://issuer.example", Subject: "policy", IssuedAt: 1, Expires: 1, Sequence: 1}

func TestAnActHasAnEndAndANumber(t *testing.T) {
	t.Parallel()
	_, s := newSigner(t)
	for _, kind := range Kinds() {
		leaf, err := Sign(t.Context(), s, kind, actClaims, []byte{0xa0})
		if !kind.Acts() {
			if err == nil {
				t.Errorf("%s: signed with the claims of an act", kind)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		v, err := mustDecode(t, leaf).Verify(trust(t, s.Key(), kind), kind)
		if err != nil || v.Claims() != actClaims {
			t.Errorf("%s: got %+v, %v", kind, v, err)
		}
	}
}

func TestOnlyAnActHasThem(t *testing.T) {
	t.Parallel()
	_, s := newSigner(t)
	for name, c := range map[string]Claims{
		"both":     actClaims,
		"an end":   {Issuer: "i", Subject: "s", Expires: 1},
		"a number": {Issuer: "i", Subject: "s", Sequence: 1},
	} {
		if tbs, err := Compose(s.Key(), Artifact, c, []byte{0xa0}); err == nil || tbs.Bytes() != nil {
			t.Errorf("%s: composed: %v", name, err)
		}
		p := artifactParts(t, s)
		p.labels[labelClaims] = c
		_, err := verifyArtifact(p.build(t), trust(t, s.Key(), Artifact))
		if !denial.Is(err, denial.UnsupportedVersion) {
			t.Errorf("%s: got %v, want %s", name, err, denial.UnsupportedVersion)
		}
	}
}

func TestTheEndAndTheNumberOfAnActArePositiveIntegers(t *testing.T) {
	t.Parallel()
	_, s := newSigner(t)
	for _, claim := range []int64{4, claimSequence} {
		for name, value := range map[string]any{"zero": 0, "negative": -1, "text": "1", "null": nil, "above 2^53": maxTime + 1} {
			p := artifactParts(t, s)
			p.labels[labelType], p.labels[labelContent] = Policy.MediaType(), Policy.form().content
			p.labels[labelClaims] = map[int64]any{1: "i", 2: "s", claim: value}
			_, err := mustDecode(t, p.build(t)).Verify(trust(t, s.Key(), Policy), Policy)
			if !denial.Is(err, denial.TimeMalformed) {
				t.Errorf("claim %d is %s: got %v, want %s", claim, name, err, denial.TimeMalformed)
			}
		}
	}
}
