package record

import (
	"net/url"
	"slices"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Version is the version of every payload in this package.
const Version = 1

// Role is what a group of authorities may do.
type Role string

// The roles of authorities.
const (
	RoleRoot       Role = "root"        // genesis, and the states of the issuer's keys
	RolePolicy     Role = "policy"      // policies
	RoleEnrolment  Role = "enrolment"   // hosts and initiators
	RoleRevocation Role = "revocation"  // revocations
	RoleBreakGlass Role = "break-glass" // break-glass authorizations and their reviews; a genesis without it has none
)

// MinBreakGlass is the least number of distinct persons who must sign a break-glass authorization.
const MinBreakGlass = 2

// Roles returns every role that a genesis must fill. It may fill RoleBreakGlass beside them.
func Roles() []Role { return []Role{RoleRoot, RolePolicy, RoleEnrolment, RoleRevocation} }

// The purposes of the issuer's keys, as named in genesis.
const (
	PurposeArtifact = string(statement.PurposeArtifact)
	PurposeRecord   = string(statement.PurposeRecord)
	PurposeLog      = string(statement.PurposeLog)
	PurposeStatus   = string(statement.PurposeStatus)
)

// Purposes returns every purpose of an issuer key.
func Purposes() []string { return []string{PurposeArtifact, PurposeRecord, PurposeLog, PurposeStatus} }

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
}

// Check refuses a genesis that is incomplete: a URI that is not absolute, a missing role or purpose, a threshold of
// zero or above the number of persons (326), for break-glass one below MinBreakGlass or that leaves nobody to review
// (326), a person without a key, a key that stands twice (306).
func (g *Genesis) Check() error {
	if g.Version != Version {
		return denial.New(denial.UnsupportedVersion, "genesis version %d", g.Version)
	}
	if !absolute(g.Issuer) || !absolute(g.Log) || g.Time == 0 || len(g.Epoch) != 16 {
		return denial.New(denial.ClaimAbsent, "genesis needs an issuer URI, a log URI, a time and an epoch")
	}
	for _, r := range g.Roots {
		if len(r) != 32 {
			return denial.New(denial.PayloadForm, "a root fingerprint has 32 bytes")
		}
	}
	if err := g.checkKeys(); err != nil {
		return err
	}
	return g.checkQuorums()
}

func (g *Genesis) checkKeys() error {
	var seen statement.Keys
	for _, p := range Purposes() {
		if err := seen.Add(g.Keys[p], KindsOf(p)...); err != nil {
			return err
		}
	}
	if len(g.Keys) != len(Purposes()) {
		return denial.New(denial.UnsupportedVersion, "genesis names a key purpose that this version does not know")
	}
	for _, a := range g.Authorities {
		if !absolute(a.Person) {
			return denial.New(denial.ClaimAbsent, "an authority needs the URI of a person")
		}
		if err := seen.Add(a.Key, statement.Genesis); err != nil {
			return err
		}
	}
	return nil
}

func (g *Genesis) checkQuorums() error {
	roles := Roles()
	if q, ok := g.Quorums[RoleBreakGlass]; ok {
		if roles = append(roles, RoleBreakGlass); q.Threshold < MinBreakGlass || q.Threshold >= uint64(len(q.Persons)) {
			return denial.New(denial.ThresholdNotMet, "role %s needs a threshold of at least %d and a person more, who can review", RoleBreakGlass, MinBreakGlass)
		}
	}
	if len(g.Quorums) != len(roles) {
		return denial.New(denial.ThresholdNotMet, "genesis must name each role once")
	}
	for _, role := range roles {
		q := g.Quorums[role]
		persons := slices.Compact(slices.Sorted(slices.Values(q.Persons)))
		if q.Threshold == 0 || q.Threshold > uint64(len(persons)) || len(persons) != len(q.Persons) {
			return denial.New(denial.ThresholdNotMet, "role %s needs a threshold from 1 to its number of persons", role)
		}
		for _, p := range persons {
			if !slices.ContainsFunc(g.Authorities, func(a Authority) bool { return a.Person == p }) {
				return denial.New(denial.KeyUnknown, "a person of role %s has no key", role)
			}
		}
	}
	return nil
}

func absolute(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.IsAbs() && len(s) <= 512
}
