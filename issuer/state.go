package issuer

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// The buckets of the projection. Every value in them follows from statements in the log and is written in the same
// transaction as the statement that it follows from.
const (
	bucketGenesis    = "genesis"            // "act" -> genesis act
	bucketHost       = "host"               // host URI -> hostState
	bucketAK         = "ak"                 // AK name -> host URI
	bucketApproved   = "approved"           // EK digest -> enrolment payload that awaits or had its activation
	bucketGate       = "gate"               // gate key thumbprint -> gateState
	bucketInitiator  = "initiator"          // key thumbprint -> initiatorState
	bucketPolicy     = "policy"             // policy kind -> policyState
	bucketPublished  = "published"          // hash in hexadecimal of each policy that ever was in force -> its URI
	bucketRevoked    = "revoked"            // cause || target -> payload of the revocation
	bucketPermit     = "permit"             // status index, big endian -> permitState
	bucketPermitOf   = "permit-of"          // cti -> status index
	bucketHighWater  = "high-water"         // EK digest -> markState
	bucketHeld       = "held"               // host URI -> when it was held, 8 bytes: seconds since 1970 UTC
	bucketGlass      = "break-glass"        // digest of the act's payload -> glassState
	bucketUnreviewed = "break-glass-open"   // the same, of those without a review -> when it is due, seconds since 1970 UTC
	bucketAttested   = "break-glass-proof"  // statement digest of an attestation record -> digest of the act's payload
	bucketEpoch      = "epoch"              // "newest" -> epochState; number of an epoch, big endian -> its act
	bucketKeys       = "keys"               // number of a key change, big endian -> its act
	counterKeys      = "keys"               // raised by each key change
	counterPolicy    = "policy"             // raised by each policy act
	counterRevoked   = "revocation"         // raised by each revocation, and when a host is held or held no more
	counterEnrolment = "enrolment"          // raised when a host is approved anew or gets another AK
	counterClock     = "clock/"             // and EK digest in hexadecimal: raised with its high-water mark
	counterGlass     = "break-glass"        // raised by each break-glass authorization
	counterReview    = "break-glass-review" // raised by each review of one
	counterGlassUse  = "break-glass-use"    // raised by each start by one
	counterChain     = "gate/"              // and gate key thumbprint: raised by each of its records
	counterAct       = "act/"               // and kind / subject: how many acts of the kind there were about it
)

// The sets of things that are consumed once, for ever.
const (
	onceAct        = "act"                // digest of an act's payload
	onceRequest    = "request"            // initiator URI || 0 || request id
	onceHost       = "host"               // host URI, bound to its first EK
	onceEK         = "ek"                 // EK digest, bound to its first host
	onceStatus     = "status"             // status index
	onceKey        = "key"                // thumbprint of an initiator key
	onceUse        = "use"                // cti || use number
	onceGlass      = "break-glass"        // id of a break-glass authorization
	onceReview     = "break-glass-review" // digest of the payload of the act that is reviewed
	onceDelegation = "delegation"         // statement digest of the parent || id of the delegation
)

// hostState is an activated host.
type hostState struct {
	ID        string            `cbor:"1,keyasint"`
	Labels    map[string]string `cbor:"2,keyasint"`
	EK        []byte            `cbor:"3,keyasint"` // SHA-256 of TPMT_PUBLIC
	AK        []byte            `cbor:"4,keyasint"` // TPM2B_PUBLIC
	AKName    []byte            `cbor:"5,keyasint"`
	Gate      string            `cbor:"6,keyasint,omitempty"`
	Enrolment []byte            `cbor:"7,keyasint"`           // digest of the enrolment record's leaf
	GateKey   []byte            `cbor:"8,keyasint,omitempty"` // thumbprint of the one gate key that may write records
}

// gateState is a gate key that an activated host has certified. Next and Previous continue the chain of its records.
type gateState struct {
	Gate     string        `cbor:"1,keyasint"` // audience URI
	Host     string        `cbor:"2,keyasint"`
	Key      statement.Key `cbor:"3,keyasint"`
	Epoch    []byte        `cbor:"4,keyasint,omitempty"`
	Next     uint64        `cbor:"5,keyasint"`
	Previous []byte        `cbor:"6,keyasint,omitempty"`
}

// initiatorState is a registered initiator.
type initiatorState struct {
	ID        string               `cbor:"1,keyasint"`
	Kind      record.InitiatorKind `cbor:"2,keyasint"`
	Key       statement.Key        `cbor:"3,keyasint"`
	Enrolment []byte               `cbor:"4,keyasint"` // digest of the enrolment act's payload
}

// policyState is a policy in force.
type policyState struct {
	ID       string `cbor:"1,keyasint"`
	Revision uint64 `cbor:"2,keyasint"`
	Hash     []byte `cbor:"3,keyasint"`
	Document []byte `cbor:"4,keyasint"`
	Act      []byte `cbor:"5,keyasint"`           // digest of the act's payload
	Reset    bool   `cbor:"6,keyasint,omitempty"` // the next one may have any revision
}

// permitState is what the status list needs to know of an artifact.
type permitState struct {
	CTI       []byte   `cbor:"1,keyasint"`
	Host      string   `cbor:"2,keyasint"`
	Initiator string   `cbor:"3,keyasint"`
	Policies  []string `cbor:"4,keyasint"`
	Expires   uint64   `cbor:"5,keyasint"`
	Uses      uint64   `cbor:"6,keyasint"`
	Gate      string   `cbor:"7,keyasint"`
	Digest    []byte   `cbor:"8,keyasint"`
	Glass     bool     `cbor:"9,keyasint,omitempty"`  // it is a break-glass authorization, and Digest of the act's payload
	Ancestors [][]byte `cbor:"10,keyasint,omitempty"` // ctis of all artifacts that it descends from: see descent
}

// glassState is a break-glass authorization that was published.
type glassState struct {
	Payload []byte   `cbor:"1,keyasint"`
	Persons []string `cbor:"2,keyasint"` // who signed
}

// reader is what projections are read through: the log itself or a snapshot of it.
type reader interface {
	Value(ctx context.Context, bucket string, key []byte) (value []byte, ok bool, err error)
}

// load decodes a projection row into out. It reports whether there is one.
func load(ctx context.Context, r reader, bucket string, key []byte, out any) (bool, error) {
	value, ok, err := r.Value(ctx, bucket, key)
	if err != nil || !ok {
		return false, err
	}
	if err := statement.Unmarshal(value, out); err != nil {
		return false, fmt.Errorf("reading %s row: %w", bucket, err)
	}
	return true, nil
}

func requestKey(initiator string, id []byte) []byte {
	return append(append([]byte(initiator), 0), id...)
}

func revokedKey(c record.Cause, target string) []byte {
	return append([]byte{byte(c)}, target...)
}

func useKey(cti []byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), cti...), n)
}

func indexKey(i uint64) []byte { return binary.BigEndian.AppendUint64(nil, i) }
