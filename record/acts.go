package record

import (
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// PolicyKind says which of the policies a document is.
type PolicyKind string

// The kinds of policies. Exactly one of each is in force, but anchors may be absent: then genesis alone names roots.
const (
	Appraisal     PolicyKind = "appraisal"
	Authorization PolicyKind = "authorization"
	Anchors       PolicyKind = "anchors" // which TPM vendors are believed
)

// Policy is the payload of a policy act.
type Policy struct {
	Version  uint64     `cbor:"1,keyasint"`
	Kind     PolicyKind `cbor:"2,keyasint"`
	ID       string     `cbor:"3,keyasint"` // absolute URI
	Revision uint64     `cbor:"4,keyasint"` // strictly rising
	Document []byte     `cbor:"5,keyasint"` // canonical bytes of package firmwarepolicy
	Time     uint64     `cbor:"6,keyasint"` // seconds since 1970 UTC
}

// Check refuses a policy payload whose fields are incomplete. It does not read the document.
func (p *Policy) Check() error {
	switch {
	case p.Version != Version:
		return denial.New(denial.UnsupportedVersion, "policy payload version %d", p.Version)
	case p.Kind != Appraisal && p.Kind != Authorization && p.Kind != Anchors:
		return denial.New(denial.UnsupportedVersion, "a policy is of kind appraisal, authorization or anchors")
	case !absolute(p.ID) || p.Revision == 0 || len(p.Document) == 0 || p.Time == 0:
		return denial.New(denial.ClaimAbsent, "a policy needs an id, a version, a document and a time")
	}
	return nil
}

// InitiatorKind says what an initiator is (FORMATS: initiator-kind).
type InitiatorKind uint64

// The kinds of initiators.
const (
	Human   InitiatorKind = 0
	Service InitiatorKind = 1
	Agent   InitiatorKind = 2
	Device  InitiatorKind = 3
)

var initiatorKinds = [...]string{"human", "service", "agent", "device"}

// String returns the kind in words.
func (k InitiatorKind) String() string {
	if k > Device {
		return "unknown"
	}
	return initiatorKinds[k]
}

// ParseInitiatorKind reads what String wrote.
func ParseInitiatorKind(s string) (InitiatorKind, bool) {
	for i, n := range initiatorKinds {
		if n == s {
			return InitiatorKind(i), true
		}
	}
	return 0, false
}

// Enrolment is the payload of an enrolment act. It admits either a host, by the digest of its EK, or an initiator, by
// its key.
type Enrolment struct {
	Version   uint64     `cbor:"1,keyasint"`
	ID        string     `cbor:"2,keyasint"` // URI of the host or of the initiator
	Time      uint64     `cbor:"3,keyasint"` // seconds since 1970 UTC
	Nonce     []byte     `cbor:"4,keyasint"` // 16 random bytes: one act has effect once
	Host      *Host      `cbor:"5,keyasint,omitempty"`
	Initiator *Initiator `cbor:"6,keyasint,omitempty"`

	Personal map[string][]byte `cbor:"7,keyasint,omitempty"` // commitments to personal data, by field: see Opening
}

// Host is what authorities say of a host.
type Host struct {
	EK     []byte            `cbor:"1,keyasint"` // SHA-256 of the EK's TPMT_PUBLIC
	Labels map[string]string `cbor:"2,keyasint"`
	Gate   string            `cbor:"3,keyasint,omitempty"` // audience URI, if a gate runs on the host
	Listed bool              `cbor:"4,keyasint,omitempty"` // the EK is trusted by this act, without a certificate chain
}

// Initiator is what authorities say of an initiator.
type Initiator struct {
	Kind InitiatorKind `cbor:"1,keyasint"`
	Key  statement.Key `cbor:"2,keyasint"`
}

// Check refuses an enrolment that names not exactly one of host and initiator, or is incomplete.
func (e *Enrolment) Check() error {
	switch {
	case e.Version != Version:
		return denial.New(denial.UnsupportedVersion, "enrolment version %d", e.Version)
	case !absolute(e.ID) || e.Time == 0 || len(e.Nonce) != 16:
		return denial.New(denial.ClaimAbsent, "an enrolment needs an id, a time and a nonce")
	case (e.Host == nil) == (e.Initiator == nil):
		return denial.New(denial.PayloadForm, "an enrolment names either a host or an initiator")
	case e.Host != nil && (len(e.Host.EK) != 32 || e.Host.Gate != "" && !absolute(e.Host.Gate)):
		return denial.New(denial.PayloadForm, "a host needs a SHA-256 of its EK, and a gate an absolute URI")
	case e.Initiator != nil && (e.Initiator.Kind > Device || !e.Initiator.Key.Valid()):
		return denial.New(denial.PayloadForm, "an initiator needs a kind and a key")
	}
	return checkPersonal(e.Personal)
}

// Cause is what a revocation names. Its values are those of the status list.
type Cause uint64

// The causes, with the status value that a gate sees.
const (
	CauseArtifact  Cause = 1
	CauseKey       Cause = 2
	CauseHost      Cause = 3
	CausePolicy    Cause = 4
	CauseInitiator Cause = 5
	CauseAncestor  Cause = 6
)

var causes = [...]struct {
	name   string
	reason denial.Reason
}{
	CauseArtifact:  {"artifact", denial.ArtifactRevoked},
	CauseKey:       {"key", denial.KeyRevoked},
	CauseHost:      {"host", denial.HostRevoked},
	CausePolicy:    {"policy", denial.PolicyWithdrawn},
	CauseInitiator: {"initiator", denial.InitiatorRevoked},
	CauseAncestor:  {"ancestor", denial.AncestorRevoked},
}

// String returns the cause in one word.
func (c Cause) String() string {
	if c < CauseArtifact || c > CauseAncestor {
		return "unknown"
	}
	return causes[c].name
}

// Reason returns the denial that the cause leads to; RevocationUnknown for one that this version does not know.
func (c Cause) Reason() denial.Reason {
	if c < CauseArtifact || c > CauseAncestor {
		return denial.RevocationUnknown
	}
	return causes[c].reason
}

// Revocation is the payload of a revocation act.
type Revocation struct {
	Version uint64 `cbor:"1,keyasint"`
	Cause   Cause  `cbor:"2,keyasint"` // artifact, host, policy or initiator
	Target  string `cbor:"3,keyasint"` // URI; for an artifact its cti in lower-case hexadecimal
	Time    uint64 `cbor:"4,keyasint"` // seconds since 1970 UTC
	Why     string `cbor:"5,keyasint"` // for people, at most 512 bytes
	Nonce   []byte `cbor:"6,keyasint"` // 16 random bytes
}

// Check refuses a revocation that is incomplete or of a cause that authorities cannot name.
func (r *Revocation) Check() error {
	switch {
	case r.Version != Version:
		return denial.New(denial.UnsupportedVersion, "revocation version %d", r.Version)
	case r.Cause != CauseArtifact && r.Cause != CauseHost && r.Cause != CausePolicy && r.Cause != CauseInitiator:
		return denial.New(denial.UnsupportedVersion, "a revocation names an artifact, a host, a policy or an initiator")
	case r.Target == "" || len(r.Target) > 512 || r.Time == 0 || len(r.Nonce) != 16 || len(r.Why) > 512:
		return denial.New(denial.ClaimAbsent, "a revocation needs a target, a time and a nonce")
	}
	return nil
}
