package audit

import (
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

const profileCapsule = "https://github.com/governed-execution/writ/profile/capsule/1"

// The media types of a capsule's records, and their conceptual message indicators (RFC 9999, section 3.1).
const (
	contentCMW     = 273 // CoAP Content-Format of application/cmw+cbor
	mediaEnrol     = "application/vnd.writ.enrol+cbor"
	mediaRequest   = "application/vnd.writ.request+cwt"
	mediaInput     = "application/vnd.writ.decision-input+cbor"
	mediaPolicies  = "application/vnd.writ.policies+cbor"
	mediaArtifact  = "application/vnd.writ.authz+cwt"
	mediaStatement = "application/scitt-statement+cose"

	indEndorsements = 2
	indEvidence     = 4
	indResults      = 8
	indPolicy       = 16
)

// capsule is what a decision was made on: a CMW collection (docs/formats/bundle.cddl). A part that did not exist when
// the statement was made is absent.
type capsule struct {
	Profile  string     `cbor:"__cmwc_t"`
	Evidence *cmwNumber `cbor:"evidence,omitempty"` // byte for byte what the host sent
	Chain    *cmwText   `cbor:"ek-chain,omitempty"` // the enrolment request: EK, certificates, AK
	Request  *cmwText   `cbor:"request,omitempty"`  // the initiator's signed request
	Input    *cmwText   `cbor:"input,omitempty"`    // canonical decision input
	Policy   *cmwText   `cbor:"policy,omitempty"`   // array of the documents that the outcome names
	Outcome  *cmwText   `cbor:"outcome"`            // the statement as it stands in the log
}

// cmwText is a CMW record whose type is a media type.
type cmwText struct {
	_     struct{} `cbor:",toarray"`
	Type  string
	Value []byte
	Ind   uint64
}

// cmwNumber is a CMW record whose type is a CoAP Content-Format.
type cmwNumber struct {
	_     struct{} `cbor:",toarray"`
	Type  uint64
	Value []byte
	Ind   uint64
}

// decodeCapsule reads a capsule's payload and refuses a record of another type than its name says (311).
func decodeCapsule(payload []byte) (*capsule, error) {
	var c capsule
	if err := statement.Unmarshal(payload, &c); err != nil {
		return nil, err
	}
	if c.Profile != profileCapsule {
		return nil, denial.New(denial.UnsupportedVersion, "not a capsule of profile 1")
	}
	ok := c.Evidence == nil || c.Evidence.Type == contentCMW && c.Evidence.Ind == indEvidence
	for _, r := range []struct {
		rec   *cmwText
		media []string
		ind   uint64
	}{
		{c.Chain, []string{mediaEnrol}, indEndorsements},
		{c.Request, []string{mediaRequest}, indEvidence},
		{c.Input, []string{mediaInput}, indResults},
		{c.Policy, []string{mediaPolicies}, indPolicy},
		{c.Outcome, []string{mediaArtifact, mediaStatement}, indResults},
	} {
		ok = ok && (r.rec == nil || r.rec.Ind == r.ind && (r.rec.Type == r.media[0] || r.rec.Type == r.media[len(r.media)-1]))
	}
	if !ok || c.Outcome == nil {
		return nil, denial.New(denial.WrongType, "a record of the capsule is not of the type that its name says")
	}
	return &c, nil
}

// value returns the content of a record; nil if there is none.
func (r *cmwText) value() []byte {
	if r == nil {
		return nil
	}
	return r.Value
}

func (r *cmwNumber) value() []byte {
	if r == nil {
		return nil
	}
	return r.Value
}
