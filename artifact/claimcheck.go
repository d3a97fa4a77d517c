package artifact

import (
	"bytes"
	"slices"

	"github.com/governed-execution/writ/denial"
)

// DecodeClaims reads the payload of an artifact in its one encoding. It decodes and judges nothing else: neither that
// somebody signed it nor that it is in time. A claim or version that it does not know is 911; exp, nbf or iat absent or
// null is 104, of another type or above 2^53 is 204; an audience that is absent or not one URI is 411; a confirmation
// key that is absent is 702; the scope is refused as Scope.Check does; a lineage that contradicts itself is 327;
// anything else absent is 104, malformed 312, not canonical 308 to 310 or 313.
func DecodeClaims(payload []byte) (Claims, error) {
	var c Claims
	if err := decodeStrict(payload, &c); err != nil {
		err = claimReason(payload, err, claimExp, claimNbf, claimIat)
		if denial.Is(err, denial.PayloadForm) && lacks(payload, claimCnf) {
			err = denial.New(denial.KeyBinding, "the artifact names no confirmation key")
		}
		return Claims{}, err
	}
	return c, nil
}

// check checks the values of the claims, in this order: profile (911), times (104, 204), issuer and subject (104),
// audience (411), confirmation key (702), then what is said of the host and of the origin. The scope is checked where it
// is decoded.
func (c *Claims) check() error {
	if c.Profile != Profile {
		return denial.New(denial.UnsupportedVersion, "not an artifact of profile 1")
	}
	if err := checkTimes(c.Expires, c.NotBefore, c.IssuedAt); err != nil {
		return err
	}
	switch {
	case !isURI(c.Issuer) || !isURI(c.Subject):
		return denial.New(denial.ClaimAbsent, "iss or sub is not a URI")
	case !isURI(c.Audience):
		return denial.New(denial.AudienceMismatch, "the audience is not one URI")
	case !c.Confirmation.Key.Valid(): // reached by Encode only
		return denial.New(denial.KeyBinding, "the artifact names no confirmation key")
	}
	if err := c.checkHost(); err != nil {
		return err
	}
	return c.checkOrigin()
}

// checkHost checks what the artifact says of the host.
func (c *Claims) checkHost() error {
	switch {
	case !within(c.ID, 16, 32) || !within(c.Challenge, 8, 64):
		return denial.New(denial.ClaimAbsent, "cti or eat_nonce is absent or of a wrong length")
	case !within(c.UEID, 33, 33) || c.UEID[0] != 1 || !within(c.BootSeed, 32, 32):
		return denial.New(denial.ClaimAbsent, "ueid or bootseed is absent or malformed")
	case c.Debug != nil && *c.Debug > 4:
		return denial.New(denial.PayloadForm, "dbgstat is above 4")
	case !isURI(c.Status.List.URI):
		return denial.New(denial.ClaimAbsent, "the artifact names no status list")
	}
	return c.Environment.check()
}

func (e *Environment) check() error {
	switch {
	case len(e.PCRs) == 0 || len(e.PCRs) > 4 || slices.ContainsFunc(e.PCRs, PCRBinding.malformed):
		return denial.New(denial.ClaimAbsent, "the PCR bindings are absent or malformed")
	case !within(e.AK.Thumbprint, 32, 32) || !within(e.AK.Name, 34, 66) || !within(e.CNFName, 34, 66) || !within(e.CNFPolicy, 32, 32):
		return denial.New(denial.ClaimAbsent, "the names of AK and cnf key are absent or malformed")
	case e.EK != nil && (!e.EK.Certificate.Valid() || e.EK.Name != nil && !within(e.EK.Name, 34, 66)):
		return denial.New(denial.PayloadForm, "the EK is malformed")
	case !e.Evidence.Valid() || !e.IMABoot.optional() || !e.BootSigner.optional() || !e.SecureBoot.DBX.optional():
		return denial.New(denial.PayloadForm, "a digest of the environment is malformed")
	case e.IMALog != nil && !e.IMALog.PCR10.Valid(), e.SecureBoot.Mode != nil && *e.SecureBoot.Mode > 3:
		return denial.New(denial.PayloadForm, "a value of the environment is malformed")
	case slices.ContainsFunc(e.References, func(r Reference) bool { return r.ID == "" || !r.Digest.Valid() }):
		return denial.New(denial.PayloadForm, "a reference-value set is malformed")
	}
	return nil
}

func (b PCRBinding) malformed() bool {
	return !within(b.Select, 3, 4) || len(b.Digest) == 0 || len(b.Digest) > 64 || digestSize(b.Bank) == 0
}

// checkOrigin checks what the artifact says of who asked, under which policy, and from where it descends.
func (c *Claims) checkOrigin() error {
	p := c.Policy
	switch {
	case !isURI(p.ID) || p.Version == 0 || !p.Hash.Valid() || !p.Input.Valid() || !p.Request.Valid():
		return denial.New(denial.ClaimAbsent, "the authorization policy, the decision or the request is absent or malformed")
	case !isURI(p.Appraisal.ID) || p.Appraisal.Version == 0 || !p.Appraisal.Hash.Valid():
		return denial.New(denial.ClaimAbsent, "the appraisal policy is absent or malformed")
	}
	if err := c.Initiator.check(); err != nil {
		return err
	}
	if err := c.Lineage.check(c.ID); err != nil {
		return err
	}
	if err := c.Limits.check(); err != nil {
		return err
	}
	return c.Execution.check()
}

func (i *Initiator) check() error {
	for ; i != nil; i = i.Actor {
		if !isURI(i.Principal) || !isURI(i.Authority) || i.Kind > 3 || !i.Credential.optional() {
			return denial.New(denial.ClaimAbsent, "the initiator is absent or malformed")
		}
	}
	return nil
}

func (l *Lineage) check(id []byte) error {
	root := l.Depth == 0
	switch {
	case !within(l.Root, 16, 32) || !isURI(l.Origin):
		return denial.New(denial.ClaimAbsent, "root or origin of the lineage is absent or malformed")
	case root != (len(l.Parents) == 0) || root != bytes.Equal(l.Root, id) || len(l.Parents) > MaxParents:
		return denial.New(denial.LineageChainInvalid, "depth, root and parents of the lineage contradict each other")
	}
	for _, p := range l.Parents {
		if !within(p.ID, 16, 32) || !within(p.Statement, 32, 32) || !within(p.Delegation, 32, 32) {
			return denial.New(denial.LineageChainInvalid, "a parent is malformed")
		}
	}
	if slices.ContainsFunc(l.Dependencies, func(d Digest) bool { return !d.Valid() }) {
		return denial.New(denial.PayloadForm, "a dependency digest is malformed")
	}
	return nil
}

// optional reports whether the digest is absent or valid.
func (d *Digest) optional() bool { return d == nil || d.Valid() }

func within(b []byte, least, most int) bool { return len(b) >= least && len(b) <= most }
