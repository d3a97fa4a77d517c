// Package wire holds what issuer/server and issuer/client say to each other: bodies and media types.
package wire

import (
	"strings"

	"github.com/governed-execution/writ/statement"
)

// The media types of bodies.
const (
	MediaMint       = "application/vnd.writ.mint+cbor"
	MediaChallenge  = "application/vnd.writ.challenge+cbor"
	MediaEnrol      = "application/vnd.writ.enrol+cbor"
	MediaCredential = "application/vnd.writ.credential+cbor"
	MediaActivation = "application/vnd.writ.activation+cbor"
	MediaAct        = "application/vnd.writ.act+cbor"
	MediaStatement  = "application/scitt-statement+cose"
	MediaArtifact   = "application/vnd.writ.authz+cwt"
	MediaStatus     = "application/statuslist+cwt"
	MediaKeys       = "application/vnd.writ.keys+cbor"
	MediaBirth      = "application/vnd.writ.birth+cbor"
	MediaProblem    = "application/problem+json"
	MediaCOSE       = "application/cose" // SCRAPI: signed statements and receipts
	MediaCBOR       = "application/cbor" // SCRAPI: keys
	MediaConcise    = "application/concise-problem-details+cbor"
)

// ActName is the name of a kind of act in the path of POST /v1/acts/NAME.
func ActName(kind statement.Kind) string { return strings.ReplaceAll(kind.String(), " ", "-") }

// ExporterLabel is the label of the TLS exporter (RFC 8446, section 7.5) that evidence is bound to. The context is
// absent, the length 32 bytes.
const ExporterLabel = "EXPORTER-writ-quote-v1"

// HeaderChallenge is the header of an answer to Mint that holds the next challenge, if the body asked for it: what POST
// /v1/challenges would answer, in base64url without padding. The challenge is like any other: of this connection, for one use.
const HeaderChallenge = "Writ-Challenge"

// Challenge is the answer to POST /v1/challenges.
type Challenge struct {
	Challenge []byte  `cbor:"1,keyasint"`           // 32 bytes
	TTL       uint64  `cbor:"2,keyasint"`           // seconds within which it, and by policy the evidence, must arrive
	Bank      string  `cbor:"3,keyasint"`           // "sha256" or "sha384"
	Quote     []int64 `cbor:"4,keyasint"`           // PCRs to quote, ascending
	Bind      []int64 `cbor:"5,keyasint"`           // PCRs that the cnf key is bound to, ascending
	Policy    []byte  `cbor:"6,keyasint"`           // hash of the appraisal policy in force, 32 bytes
	Audit     bool    `cbor:"7,keyasint,omitempty"` // whether the policy wants an audit session
}

// Mint is the body of POST /v1/artifacts and of POST /v1/attestations.
type Mint struct {
	Request     []byte   `cbor:"1,keyasint"`           // signed request
	Evidence    []byte   `cbor:"2,keyasint"`           // evidence collection
	Next        bool     `cbor:"3,keyasint,omitempty"` // whether the answer shall bring the next challenge
	Delegations [][]byte `cbor:"4,keyasint,omitempty"` // one of each parent that the request names, in their order
}

// Credential is the answer to POST /v1/enrol: what TPM2_ActivateCredential takes.
type Credential struct {
	Blob   []byte `cbor:"1,keyasint"` // TPM2B_ID_OBJECT
	Secret []byte `cbor:"2,keyasint"` // TPM2B_ENCRYPTED_SECRET
}

// Activation is the body of POST /v1/enrol/activate.
type Activation struct {
	Secret []byte `cbor:"1,keyasint"` // 32 bytes
}
