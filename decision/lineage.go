package decision

import (
	"bytes"
	"slices"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// Parent is an artifact of the issuer that the request would have its own descend from.
type Parent struct {
	Artifact   []byte        `cbor:"1,keyasint"` // log entry
	Key        statement.Key `cbor:"2,keyasint"` // of the issuer, that signed it
	Delegation []byte        `cbor:"3,keyasint"` // statement by the artifact's cnf key, as it was submitted but for its unprotected header
	Revoked    uint64        `cbor:"4,keyasint"` // record.Cause for which it, or CauseAncestor if what it descends from, is revoked; 0: it is not
	Ancestors  uint64        `cbor:"5,keyasint"` // how many artifacts it descends from
}

// Ancestor checks that the key signed the artifact, and returns it (see artifact.VerifyAncestor).
func (p *Parent) Ancestor() (*artifact.Ancestor, error) {
	var keys statement.Keys
	if err := keys.Add(p.Key, statement.Artifact); err != nil {
		return nil, err
	}
	return artifact.VerifyAncestor(p.Artifact, keys)
}

// Descend puts the parents that the request names into the input: artifacts that the log has, each with the delegation that came with the
// request and the cause for which it is revoked. An input whose request names parents leads to no permit before. Whether they are the
// parents that the request names, and let it have what it asks for, is for Decide to say.
func (in *Input) Descend(parents []Parent) {
	in.Parents = parents
	in.live = in.CNF.Valid()
}

// delegated is a parent, with the delegation by its holder.
type delegated struct {
	parent     *artifact.Ancestor
	delegation *artifact.Delegation
}

// descends checks what the request would have its artifact descend from, in this order: nothing, if it is for an attestation (410); as
// many parents as the request names (327); then for each: the artifact would descend from no more than artifact.MaxAncestors, what
// parents share counted for each (406), it is the one that the request names in this place, and in no other (327), an artifact that the
// given key signed, of this issuer (327), it is not revoked and neither is what it descends from (807), its holder signed the delegation,
// within what the artifact may delegate and in time (see artifact.VerifyDelegation), and the request is within that (see
// artifact.DelegationClaims.Allows); and all parents are of one lineage (327).
func descends(in *Input) ([]delegated, error) {
	if in.Request.BreakGlass != nil && len(in.Request.Parents) > 0 {
		return nil, denial.New(denial.BreakGlassInvalid, "a break-glass authorization descends from no artifact")
	}
	if len(in.Parents) != len(in.Request.Parents) {
		return nil, denial.New(denial.LineageChainInvalid, "a parent of the request is no artifact in the log, or came without a delegation")
	}
	var all []delegated
	above := uint64(0)
	for i := range in.Parents {
		if above += 1 + min(in.Parents[i].Ancestors, artifact.MaxAncestors); above > artifact.MaxAncestors {
			return nil, denial.New(denial.DelegationExceeded, "an artifact descends from at most %d others", artifact.MaxAncestors)
		}
		d, err := descendsFrom(in, i)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	for _, d := range all {
		l, first := d.parent.Claims().Lineage, all[0].parent.Claims().Lineage
		if !bytes.Equal(l.Root, first.Root) || l.Origin != first.Origin {
			return nil, denial.New(denial.LineageChainInvalid, "the parents are of different lineages")
		}
	}
	return all, nil
}

func descendsFrom(in *Input, i int) (d delegated, err error) {
	p, named := &in.Parents[i], in.Request.Parents
	digest := statement.DigestOf(p.Artifact)
	if !bytes.Equal(named[i], digest[:]) || slices.ContainsFunc(named[:i], func(n artifact.ParentDigest) bool { return bytes.Equal(n, named[i]) }) {
		return d, denial.New(denial.LineageChainInvalid, "the parents are not those that the request names, each once")
	}
	if d.parent, err = p.Ancestor(); err != nil {
		return d, denial.New(denial.LineageChainInvalid, "a parent is not an artifact by a key of the issuer (%d %s)", denial.Of(err).Reason.Code(), denial.Of(err).Reason)
	}
	if d.parent.Claims().Issuer != in.Issuer {
		return d, denial.New(denial.LineageChainInvalid, "a parent is the artifact of another issuer")
	}
	if p.Revoked != 0 {
		return d, denial.New(denial.AncestorRevoked, "a parent of the artifact is revoked (%s)", record.Cause(p.Revoked))
	}
	if d.delegation, err = artifact.VerifyDelegation(p.Delegation, d.parent, time.Unix(int64(in.Time), 0)); err != nil {
		return d, err
	}
	claims := d.delegation.Claims()
	return d, claims.Allows(&in.Request, in.Time)
}

// delegators returns the initiators of the parents, each once, sorted.
func delegators(parents []delegated) (all []string) {
	for _, d := range parents {
		all = append(all, d.parent.Claims().Initiator.Principal)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// lineageOf writes what the artifact descends from into the claims, and who asked for its first parent into the initiator: to tell, not
// to decide by (RFC 8693, section 4.1).
func lineageOf(in *Input, parents []delegated, c *artifact.Claims) {
	c.Lineage = artifact.Lineage{Root: in.ID, Parents: []artifact.Parent{}, Origin: in.Initiator.ID}
	for i, d := range parents {
		above := d.parent.Claims()
		if i == 0 {
			c.Lineage.Root, c.Lineage.Origin = above.Lineage.Root, above.Lineage.Origin
			actor := above.Initiator
			c.Initiator.Actor = &actor
		}
		c.Lineage.Depth = max(c.Lineage.Depth, above.Lineage.Depth+1)
		digest, delegation := d.parent.Digest(), d.delegation.Digest()
		c.Lineage.Parents = append(c.Lineage.Parents, artifact.Parent{ID: above.ID, Statement: digest[:], Delegation: delegation[:]})
	}
}
