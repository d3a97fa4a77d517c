package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/binary"

	"github.com/governed-execution/writ/statement"
)

// Profile is the eat_profile of an artifact. Another one is another version.
const Profile = "https://github.com/governed-execution/writ/profile/authz/1"

// Claims are the claims of an execution authorization artifact (docs/formats/authz.cddl). They prove nothing by
// themselves; an Artifact does.
type Claims struct {
	Issuer       string       `cbor:"1,keyasint"`
	Subject      string       `cbor:"2,keyasint"` // the host that holds the confirmation key
	Audience     string       `cbor:"3,keyasint"` // one gate
	Expires      uint64       `cbor:"4,keyasint"`
	NotBefore    uint64       `cbor:"5,keyasint"`
	IssuedAt     uint64       `cbor:"6,keyasint"`
	ID           []byte       `cbor:"7,keyasint"` // cti, 16 to 32 bytes
	Confirmation Confirmation `cbor:"8,keyasint"`
	Scope        Scope        `cbor:"9,keyasint"`
	Challenge    []byte       `cbor:"10,keyasint"`            // eat_nonce that the quote answered, 8 to 64 bytes
	UEID         []byte       `cbor:"256,keyasint"`           // see UEID
	OEMBoot      *bool        `cbor:"262,keyasint,omitempty"` // only where the event log proves it
	Debug        *uint64      `cbor:"263,keyasint,omitempty"` // dbgstat 0 to 4, only where the event log proves it
	Profile      string       `cbor:"265,keyasint"`           // Profile
	BootSeed     []byte       `cbor:"268,keyasint"`           // see BootSeed
	Status       StatusClaim  `cbor:"65535,keyasint"`
	Environment  Environment  `cbor:"-90001,keyasint"`
	Initiator    Initiator    `cbor:"-90002,keyasint"`
	Policy       PolicyRef    `cbor:"-90003,keyasint"`
	Lineage      Lineage      `cbor:"-90004,keyasint"`
	Execution    Execution    `cbor:"-90005,keyasint"`
	Limits       *Limits      `cbor:"-90006,keyasint,omitempty"`
}

// Confirmation is the cnf claim (RFC 8747): the TPM key that the holder proves possession of.
type Confirmation struct {
	Key statement.Key `cbor:"1,keyasint"`
}

// StatusClaim is the status claim of draft-ietf-oauth-status-list.
type StatusClaim struct {
	List StatusRef `cbor:"status_list"`
}

// StatusRef is the artifact's place in a status list.
type StatusRef struct {
	Index uint64 `cbor:"idx"`
	URI   string `cbor:"uri"`
}

// Environment is what the host's TPM proved when the artifact was issued.
type Environment struct {
	PCRs       []PCRBinding `cbor:"0,keyasint"` // exactly what TPMS_QUOTE_INFO carried, one for each quote
	AK         AK           `cbor:"1,keyasint"`
	EK         *EK          `cbor:"2,keyasint,omitempty"` // absent where no certificate endorses the EK
	IMABoot    *Digest      `cbor:"3,keyasint,omitempty"` // boot_aggregate
	SecureBoot SecureBoot   `cbor:"4,keyasint"`
	IMALog     *IMALog      `cbor:"5,keyasint,omitempty"`
	Clock      Clock        `cbor:"6,keyasint"`
	Firmware   uint64       `cbor:"7,keyasint"`           // TPMS_ATTEST.firmwareVersion
	Evidence   Digest       `cbor:"8,keyasint"`           // of the evidence exactly as submitted
	References []Reference  `cbor:"9,keyasint,omitempty"` // reference-value sets that the appraisal used
	CNFName    []byte       `cbor:"10,keyasint"`          // TPM Name of the confirmation key, as certified
	CNFPolicy  []byte       `cbor:"11,keyasint"`          // its authPolicy
	BootSigner *Digest      `cbor:"12,keyasint,omitempty"`
}

// PCRBinding is one TPMS_QUOTE_INFO: bank, selection bytes and pcrDigest.
type PCRBinding struct {
	_      struct{} `cbor:",toarray"`
	Bank   int64    // SHA256, SHA384 or SHA512
	Select []byte   // sizeofSelect bytes, least significant bit of the first byte is PCR 0
	Digest []byte
}

// AK is the attestation key.
type AK struct {
	Thumbprint []byte `cbor:"0,keyasint"` // RFC 9679
	Name       []byte `cbor:"1,keyasint"` // TPM Name
}

// EK is the endorsement key.
type EK struct {
	Certificate Digest `cbor:"0,keyasint"`           // of the DER
	Name        []byte `cbor:"1,keyasint,omitempty"` // TPM Name
}

// SecureBoot is the UEFI Secure Boot state as measured into PCR 7.
type SecureBoot struct {
	Enabled   bool    `cbor:"0,keyasint"`
	DBX       *Digest `cbor:"1,keyasint,omitempty"`
	SBATLevel string  `cbor:"2,keyasint,omitempty"`
	Mode      *uint64 `cbor:"3,keyasint,omitempty"` // 0 setup, 1 user, 2 audit, 3 deployed
	MOKOff    *bool   `cbor:"4,keyasint,omitempty"` // MokSBState disables validation
}

// IMALog is a runtime measurement list that was replayed.
type IMALog struct {
	Entries uint64 `cbor:"0,keyasint"`
	PCR10   Digest `cbor:"1,keyasint"`
}

// Clock is TPMS_CLOCK_INFO.
type Clock struct {
	_            struct{} `cbor:",toarray"`
	Milliseconds uint64
	Resets       uint64
	Restarts     uint64
	Safe         bool
}

// Reference is a set of reference values.
type Reference struct {
	_      struct{} `cbor:",toarray"`
	ID     string
	Digest Digest
}

// Initiator is who asked.
type Initiator struct {
	Principal  string     `cbor:"0,keyasint"` // URI
	Authority  string     `cbor:"1,keyasint"` // URI of who vouches for the identity
	Kind       uint64     `cbor:"2,keyasint"` // 0 human, 1 service, 2 agent, 3 device
	Credential *Digest    `cbor:"3,keyasint,omitempty"`
	Actor      *Initiator `cbor:"4,keyasint,omitempty"` // prior actor, nested
}

// PolicyRef names the two policies under which the artifact was decided, and the decision itself.
type PolicyRef struct {
	ID        string     `cbor:"0,keyasint"` // authorization policy: URI
	Hash      Digest     `cbor:"1,keyasint"`
	Version   uint64     `cbor:"2,keyasint"`
	Input     Digest     `cbor:"3,keyasint"` // of the canonical decision input
	Appraisal PolicyName `cbor:"4,keyasint"` // appraisal policy
	Request   Digest     `cbor:"5,keyasint"` // of the initiator's request: its statement digest
}

// PolicyName names one policy exactly.
type PolicyName struct {
	ID      string `cbor:"0,keyasint"` // URI
	Hash    Digest `cbor:"1,keyasint"`
	Version uint64 `cbor:"2,keyasint"`
}

// Lineage is where the artifact descends from.
type Lineage struct {
	Root         []byte   `cbor:"0,keyasint"` // cti of the first ancestor; its own cti if it has none
	Depth        uint64   `cbor:"1,keyasint"` // 0 for a root
	Parents      []Parent `cbor:"2,keyasint"`
	Origin       string   `cbor:"3,keyasint"` // URI of where the execution came from
	Dependencies []Digest `cbor:"4,keyasint,omitempty"`
}

// Parent is one artifact that this one was delegated from.
type Parent struct {
	_          struct{} `cbor:",toarray"`
	ID         []byte   // cti
	Statement  []byte   // statement digest, 32 bytes
	Delegation []byte   // statement digest of the delegation that the parent's cnf key signed
}

// UEID returns the ueid claim for an EK, given SHA-256 of its TPMT_PUBLIC: type RAND (RFC 9711, section 4.2.1).
func UEID(ek [32]byte) []byte { return append([]byte{0x01}, ek[:]...) }

// BootSeed returns the bootseed claim: SHA-256("writ-boot" ‖ AK Name ‖ resetCount ‖ restartCount), the counters as 32-bit
// big-endian. It changes with every reset and resume of the TPM.
func BootSeed(akName []byte, resets, restarts uint32) []byte {
	b := append([]byte("writ-boot"), akName...)
	b = binary.BigEndian.AppendUint32(b, resets)
	b = binary.BigEndian.AppendUint32(b, restarts)
	h := sha256.Sum256(b)
	return h[:]
}

// Encode returns the payload of the artifact, after the checks that every reader makes. The Profile is set here, absent
// parents become the empty list, and the scope must be canonical.
func (c Claims) Encode() ([]byte, error) {
	c.Profile = Profile
	if c.Lineage.Parents == nil {
		c.Lineage.Parents = []Parent{}
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if err := c.Scope.Check(); err != nil {
		return nil, err
	}
	return statement.Marshal(&c)
}

// Sign makes the artifact. Its leaf is worth nothing before the log has given a receipt for it.
func Sign(ctx context.Context, s statement.Signer, c Claims) (leaf []byte, err error) {
	payload, err := c.Encode()
	if err != nil {
		return nil, err
	}
	return statement.Sign(ctx, s, statement.Artifact, statement.Claims{Issuer: c.Issuer, Subject: c.Subject}, payload)
}
