// Package decision decides: facts and policies in, permit or denial out. Decide reads its arguments and nothing else,
// so that an auditor who holds the input and the policies gets the same bytes again.
package decision

import (
	"encoding/hex"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/statement"
)

// InputVersion is the version of Input and of the rules that Decide applies to it.
const InputVersion = 1

// Input is all that a decision depends on beside the two policies, which it names by hash. Its canonical CBOR is kept.
type Input struct {
	Version       uint64                 `cbor:"1,keyasint"`
	Issuer        string                 `cbor:"2,keyasint"` // URI
	Time          uint64                 `cbor:"3,keyasint"` // of the decision, seconds since 1970 UTC
	Request       artifact.RequestClaims `cbor:"4,keyasint"`
	RequestDigest []byte                 `cbor:"5,keyasint"` // statement digest, 32 bytes
	Host          Host                   `cbor:"6,keyasint"`
	Initiator     Initiator              `cbor:"7,keyasint"`
	Facts         attest.Claims          `cbor:"8,keyasint"`
	CNF           statement.Key          `cbor:"9,keyasint"`  // the certified confirmation key
	Evidence      []byte                 `cbor:"10,keyasint"` // SHA-256 of the evidence as submitted
	Challenge     []byte                 `cbor:"11,keyasint"` // 32 bytes
	Exporter      []byte                 `cbor:"12,keyasint"` // 32 bytes
	Appraisal     Policy                 `cbor:"13,keyasint"`
	Authorization Policy                 `cbor:"14,keyasint"`
	Revoked       []uint64               `cbor:"15,keyasint"`           // record.Cause values that hold for this request, ascending
	HighWater     *attest.Clock          `cbor:"16,keyasint,omitempty"` // the furthest clock seen of this TPM
	ID            []byte                 `cbor:"17,keyasint"`           // cti of the artifact, if it is permitted: 16 random bytes
	StatusIndex   uint64                 `cbor:"18,keyasint"`
	StatusURI     string                 `cbor:"19,keyasint"`
	Challenged    uint64                 `cbor:"20,keyasint"`           // when the challenge was given out, seconds since 1970 UTC
	BreakGlass    []byte                 `cbor:"21,keyasint,omitempty"` // payload of the break-glass authorization that the request names, if the log has it
	Held          bool                   `cbor:"22,keyasint,omitempty"` // the host's TPM was there twice or was put back, and authorities have not approved it since
	Parents       []Parent               `cbor:"23,keyasint,omitempty"` // what the request names as parents, in its order

	live bool // made from verified facts, not read back
}

// Host is what the log says of the host.
type Host struct {
	ID        string            `cbor:"1,keyasint"`
	Labels    map[string]string `cbor:"2,keyasint"`
	AK        []byte            `cbor:"3,keyasint"` // thumbprint
	EK        []byte            `cbor:"4,keyasint"` // SHA-256 of TPMT_PUBLIC
	Enrolment []byte            `cbor:"5,keyasint"` // statement digest of the enrolment record
}

// Initiator is what the log says of the initiator.
type Initiator struct {
	ID        string `cbor:"1,keyasint"`
	Kind      uint64 `cbor:"2,keyasint"`
	Key       []byte `cbor:"3,keyasint"` // thumbprint
	Enrolment []byte `cbor:"4,keyasint"` // SHA-256 of the enrolment act's payload
}

// Policy names a policy in force.
type Policy struct {
	ID      string `cbor:"1,keyasint"`
	Version uint64 `cbor:"2,keyasint"`
	Hash    []byte `cbor:"3,keyasint"`
}

// Attach puts verified facts and a verified request into the input. Only an input that has been attached can lead to a
// permit, and one whose request names parents only after Descend.
func (in *Input) Attach(facts *attest.Facts, request *artifact.Request) {
	in.Version = InputVersion
	in.Facts = facts.Claims()
	in.CNF, _, _ = facts.CNF()
	evidence, digest := facts.Evidence(), request.Digest()
	in.Evidence, in.RequestDigest = evidence[:], digest[:]
	in.Request = request.Claims()
	in.live = in.CNF.Valid() && len(in.Request.Parents) == 0
}

// Encode returns the canonical bytes of the input.
func (in *Input) Encode() ([]byte, error) { return statement.Marshal(in) }

// DecodeInput reads what Encode wrote: one encoding only. A decision on it never leads to a permit.
func DecodeInput(data []byte) (*Input, error) {
	var in Input
	if err := statement.Unmarshal(data, &in); err != nil {
		return nil, err
	}
	return &in, nil
}

// digestOf wraps SHA-256 values for claims.
func digestOf(b []byte) artifact.Digest {
	return artifact.Digest{Algorithm: artifact.SHA256, Value: b}
}

func unhex(s string) []byte {
	b, _ := hex.DecodeString(s) // facts hold nothing but hexadecimal; anything else yields a name that no check accepts
	return b
}
