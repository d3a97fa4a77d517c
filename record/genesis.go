package record

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Version is the version of every payload in this package.
const Version = 1

// Role is what a group of authorities may do.
type Role string

// The roles of authorities.
const (
	RoleRoot       Role = "root"        // genesis, and epochs after a restore
	RolePolicy     Role = "policy"      // policies, and with them which TPM vendors are believed
	RoleEnrolment  Role = "enrolment"   // hosts and initiators
	RoleRevocation Role = "revocation"  // revocations
	RoleKeys       Role = "keys"        // the states of the issuer's keys
	RoleBreakGlass Role = "break-glass" // break-glass authorizations and their reviews; a genesis without it has none
)

// MinBreakGlass is the least number of distinct persons who must sign a break-glass authorization.
const MinBreakGlass = 2

// Roles returns every role that a genesis must fill. It may fill RoleBreakGlass beside them: where it does not, nobody can.
func Roles() []Role { return []Role{RoleRoot, RolePolicy, RoleEnrolment, RoleRevocation, RoleKeys} }

// Dual reports whether the role is under dual control: two distinct persons at least, unless there is only one at all.
func (r Role) Dual() bool {
	return r == RoleRoot || r == RolePolicy || r == RoleKeys || r == RoleBreakGlass
}

// The purposes of the issuer's keys, as named in genesis.
const (
	PurposeArtifact = string(statement.PurposeArtifact)
	PurposeRecord   = string(statement.PurposeRecord)
	PurposeLog      = string(statement.PurposeLog)
	PurposeStatus   = string(statement.PurposeStatus)
)

// Purposes returns every purpose of an issuer key.
func Purposes() (names []string) {
	for _, p := range statement.Purposes() {
		names = append(names, string(p))
	}
	return names
}

// KindsOf returns the kinds of statements that a key of the purpose may sign.
func KindsOf(purpose string) []statement.Kind { return statement.Purpose(purpose).Kinds() }

// Genesis is leaf 0 of a log: who the issuer is, which keys it signs with, and which people may change what it does.
type Genesis struct {
	Version     uint64                   `cbor:"1,keyasint"`
	Issuer      string                   `cbor:"2,keyasint"` // absolute URI
	Log         string                   `cbor:"3,keyasint"` // absolute URI, sub of every receipt
	Time        uint64                   `cbor:"4,keyasint"` // seconds since 1970 UTC
	Epoch       []byte                   `cbor:"5,keyasint"` // 16 random bytes: this instance of the log
	Authorities []Authority              `cbor:"6,keyasint"`
	Quorums     map[Role]Quorum          `cbor:"7,keyasint"`
	Keys        map[string]statement.Key `cbor:"8,keyasint"` // by purpose
	Roots       [][]byte                 `cbor:"9,keyasint"` // SHA-256 of each accepted TPM vendor root certificate (DER)

	OnePerson bool `cbor:"10,keyasint,omitempty"` // there is no dual control: one person holds every role
}

// Authority is a person with a key.
type Authority struct {
	Person string        `cbor:"1,keyasint"` // URI of the person; two keys of one person count once
	Key    statement.Key `cbor:"2,keyasint"`
}

// Quorum says who may fill a role and how many distinct persons must sign.
type Quorum struct {
	Threshold uint64   `cbor:"1,keyasint"`
	Persons   []string `cbor:"2,keyasint"`
	Narrow    uint64   `cbor:"3,keyasint,omitempty"` // of role policy: how many are enough for what only narrows; zero: as many
}

// Words says for people who must sign: nobody can in a role that is not there.
func (q Quorum) Words() string {
	if q.Threshold == 0 {
		return "nobody"
	}
	words := fmt.Sprintf("%d of %s", q.Threshold, strings.Join(q.Persons, ", "))
	if q.Narrow != 0 {
		words += fmt.Sprintf(" (%d for what only narrows)", q.Narrow)
	}
	return words
}

// Check refuses a genesis that is incomplete: a URI that is not absolute, a missing role or purpose, a threshold of
// zero or above the number of persons (326), for break-glass one below MinBreakGlass or that leaves nobody to review
// (326), a person without a key, a key that stands twice (306); and one whose thresholds leave to one person what takes
// two, unless it says that there is only one (409).
func (g *Genesis) Check() error {
	if g.Version != Version {
		return denial.New(denial.UnsupportedVersion, "genesis version %d", g.Version)
	}
	for _, r := range g.Roots {
		if len(r) != 32 {
			return denial.New(denial.PayloadForm, "a root fingerprint has 32 bytes")
		}
	}
	for _, p := range Purposes() {
		if !g.Keys[p].Valid() {
			return denial.New(denial.KeyUnknown, "genesis names no %s key", p)
		}
	}
	if len(g.Keys) != len(Purposes()) {
		return denial.New(denial.UnsupportedVersion, "genesis names a key purpose that this version does not know")
	}
	return g.CheckPlan()
}

// CheckPlan checks what Check says of everything that people choose: issuer, persons, roles and thresholds.
func (g *Genesis) CheckPlan() error {
	if !absolute(g.Issuer) || !absolute(g.Log) || g.Time == 0 || len(g.Epoch) != 16 {
		return denial.New(denial.ClaimAbsent, "genesis needs an issuer URI, a log URI, a time and an epoch").
			Try("Name the issuer by a URI, such as https://issuer.example.")
	}
	p := circle{g.Authorities, g.Quorums, g.OnePerson}
	return p.check(g.Keys)
}

func absolute(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.IsAbs() && len(s) <= 512
}
