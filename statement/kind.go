package statement

// Kind says what a statement is. Its typ header (RFC 9596), and for log records its content type, are signed, so that
// one kind can never pass for another. The zero Kind fits nothing.
type Kind uint8

// The kinds of statements.
const (
	_          Kind = iota
	Artifact        // execution authorization artifact
	Record          // audit record: denial, summary, enrolment, key birth, execution start and end
	Genesis         // leaf 0: issuer, authorities, roles, thresholds, keys
	Policy          // a policy, signed by policy authorities
	Enrolment       // a host or an initiator, signed by enrolment authorities
	Revocation      // a revocation, signed by revocation authorities
	Request         // an initiator's request for one artifact
	Possession      // proof of possession by a cnf key
	Receipt         // RFC 9942 receipt, detached payload
	StatusList      // token status list
	Manifest        // hash envelope over a bundle's manifest (RFC 9995)
	Capsule         // evidence capsule of one decision (RFC 9999)
	Ceremony        // a step of a key ceremony, signed by each who takes part
	KeyChange       // states of the issuer's keys, signed by authorities
	Succession      // a new key of the issuer, signed by the one that it follows
	BreakGlass      // an authorization by people in place of a decision, signed by the break-glass quorum
	Review          // what people found of a break-glass authorization afterwards, signed by that quorum
	Epoch           // a log goes on from a backup that is not its newest state, signed by authorities
	Delegation      // what the holder of an artifact lets somebody else ask for, signed by the artifact's cnf key
	kinds
)

// MaxStatement is the greatest size of a log entry in bytes (C2SP tlog-tiles: uint16 length).
const MaxStatement = 65535

const (
	mediaStatement = "application/scitt-statement+cose"
	vendor         = "application/vnd.writ."
)

// form is what the protected header of a kind holds beyond alg (1), kid (4), CWT claims (15) and typ (16).
type form struct {
	name     string
	typ      string
	content  string // label 3, if any
	limit    int    // greatest size of the leaf in bytes
	detached bool   // the payload is nil on the wire
	vds      int64  // label 395, if any
	preimage string // label 259, with 258 = -16, if any
	act      bool   // its claims may have exp and a number: package record demands both
}

var forms = [kinds]form{
	Artifact:   {name: "artifact", typ: vendor + "authz+cwt", limit: 8 << 10},
	Record:     {name: "record", typ: mediaStatement, content: vendor + "audit+cbor", limit: MaxStatement},
	Genesis:    {name: "genesis", typ: mediaStatement, content: vendor + "genesis+cbor", limit: MaxStatement},
	Policy:     {name: "policy", typ: mediaStatement, content: vendor + "policy+cbor", limit: MaxStatement, act: true},
	Enrolment:  {name: "enrolment", typ: mediaStatement, content: vendor + "enrolment+cbor", limit: MaxStatement, act: true},
	Revocation: {name: "revocation", typ: mediaStatement, content: vendor + "revocation+cbor", limit: MaxStatement, act: true},
	Request:    {name: "request", typ: vendor + "request+cwt", limit: 8 << 10},
	Possession: {name: "proof of possession", typ: vendor + "pop+cwt", limit: 2 << 10},
	Receipt:    {name: "receipt", typ: "application/scitt-receipt+cose", limit: 8 << 10, detached: true, vds: 1},
	StatusList: {name: "status list", typ: "application/statuslist+cwt", limit: 1 << 20},
	Manifest:   {name: "manifest", typ: mediaStatement, preimage: vendor + "manifest+cbor", limit: 2 << 10},
	Capsule:    {name: "capsule", typ: vendor + "capsule+cose", content: "application/cmw+cbor", limit: 9 << 20},
	Ceremony:   {name: "ceremony", typ: mediaStatement, content: vendor + "ceremony+cbor", limit: 16 << 10},
	KeyChange:  {name: "key change", typ: mediaStatement, content: vendor + "key-change+cbor", limit: 16 << 10, act: true},
	Succession: {name: "succession", typ: mediaStatement, content: vendor + "succession+cbor", limit: 2 << 10},
	BreakGlass: {name: "break-glass", typ: mediaStatement, content: vendor + "break-glass+cbor", limit: 16 << 10},
	Review:     {name: "break-glass-review", typ: mediaStatement, content: vendor + "break-glass-review+cbor", limit: 16 << 10},
	Epoch:      {name: "epoch", typ: mediaStatement, content: vendor + "epoch+cbor", limit: 16 << 10, act: true},
	Delegation: {name: "delegation", typ: vendor + "delegation+cwt", limit: 8 << 10},
}

func (k Kind) form() form {
	if k >= kinds {
		return form{}
	}
	return forms[k]
}

// Acts reports whether statements of the kind are approvals of an act, whose claims say until when and in which place of
// their order they are good.
func (k Kind) Acts() bool { return k.form().act }

// hashAlg is the value of label 258 (RFC 9995).
func (f form) hashAlg() int64 {
	if f.preimage == "" {
		return 0
	}
	return algSHA256
}

// String returns the name of the kind.
func (k Kind) String() string {
	if k == Checkpoint {
		return "checkpoint"
	}
	if n := k.form().name; n != "" {
		return n
	}
	return "unknown kind"
}

// MediaType returns the value of the kind's typ header.
func (k Kind) MediaType() string { return k.form().typ }

// Kinds returns every kind of a COSE statement.
func Kinds() []Kind {
	var all []Kind
	for k := Artifact; k < kinds; k++ {
		all = append(all, k)
	}
	return all
}
