package audit

import (
	"context"
	"fmt"

	"github.com/governed-execution/writ/decision"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// part names a part of the capsule of an entry.
type part struct {
	index uint64
	name  string
}

// parts are the digests of what a capsule holds. A zero digest is a part that the outcome does not name.
type parts struct {
	evidence, request, input, chain statement.Digest
	policies                        []firmwarepolicy.Hash
}

// partsOf returns what the outcome names, and whether it has a capsule at all.
func partsOf(e *entry) (p parts, ok bool) {
	switch {
	case e.claims != nil:
		c := e.claims
		p.evidence, p.request, p.input = sum(c.Environment.Evidence.Value), sum(c.Policy.Request.Value), sum(c.Policy.Input.Value)
		p.policies = hashes(c.Policy.Appraisal.Hash.Value, c.Policy.Hash.Value)
		return p, true
	case e.record == nil:
		return p, false
	case e.record.Enrolled != nil:
		p.chain = sum(e.record.Enrolled.Request)
		return p, true
	case e.record.Event != record.EventDenial && e.record.Event != record.EventAttest:
		return p, false
	}
	r := e.record
	p.evidence, p.request, p.input = sum(r.Evidence), sum(r.Request), sum(r.Input)
	for _, ref := range []*record.PolicyRef{r.Appraisal, r.Policy} {
		if ref != nil {
			p.policies = append(p.policies, hashes(ref.Hash)...)
		}
	}
	return p, p.evidence != p.none() || p.request != p.none() || p.input != p.none()
}

func (parts) none() statement.Digest { return statement.Digest{} }

// sum returns a SHA-256 value; zero if it is none.
func sum(b []byte) statement.Digest {
	if len(b) != 32 {
		return statement.Digest{}
	}
	return statement.Digest(b)
}

func hashes(list ...[]byte) (out []firmwarepolicy.Hash) {
	for _, h := range list {
		if len(h) == 32 {
			out = append(out, firmwarepolicy.Hash(h))
		}
	}
	return out
}

// capsule adds the capsule of an outcome, with a note for each part that the issuer does not have.
func (b *builder) capsule(ctx context.Context, e *entry) error {
	p, ok := partsOf(e)
	if !ok {
		return nil
	}
	c := capsule{Profile: profileCapsule, Outcome: outcomeOf(e)}
	evidence, err := b.part(ctx, e, "evidence", p.evidence)
	if err != nil {
		return err
	}
	if evidence != nil {
		c.Evidence = &cmwNumber{Type: contentCMW, Value: evidence, Ind: indEvidence}
	}
	if c.Request, err = b.text(ctx, e, "request", p.request, mediaRequest, indEvidence); err != nil {
		return err
	}
	if c.Input, err = b.text(ctx, e, "input", p.input, mediaInput, indResults); err != nil {
		return err
	}
	if p.chain == p.none() && c.Input != nil {
		p.chain = b.chainOf(c.Input.Value)
	}
	if c.Chain, err = b.text(ctx, e, "ek-chain", p.chain, mediaEnrol, indEndorsements); err != nil {
		return err
	}
	if c.Policy, err = b.documents(e, p.policies); err != nil {
		return err
	}
	payload, err := statement.Marshal(c)
	if err != nil {
		return err
	}
	raw, err := b.office.SealCapsule(ctx, e.env.Claims().Subject, payload)
	if err != nil {
		return fmt.Errorf("sealing capsule: %w", err)
	}
	return b.add(nameCapsule(e.digest), raw)
}

func outcomeOf(e *entry) *cmwText {
	media := mediaStatement
	if e.kind == statement.Artifact {
		media = mediaArtifact
	}
	return &cmwText{Type: media, Value: e.leaf, Ind: indResults}
}

// chainOf returns the digest of the enrolment request of the host that was decided about.
func (b *builder) chainOf(input []byte) statement.Digest {
	in, err := decision.DecodeInput(input)
	if err != nil {
		return statement.Digest{}
	}
	enrolled := b.found.enrolment[sum(in.Host.Enrolment)]
	if enrolled == nil {
		return statement.Digest{}
	}
	return sum(enrolled.Request)
}

// part returns stored data, nil if the outcome names none. What it names and the store does not have is noted.
func (b *builder) part(ctx context.Context, e *entry, name string, digest statement.Digest) ([]byte, error) {
	if digest == (statement.Digest{}) {
		return nil, nil
	}
	data, ok, err := b.log.Blob(ctx, digest)
	if err != nil {
		return nil, err
	}
	if !ok {
		b.lacks = append(b.lacks, Lack{Index: e.index, Part: name, Reason: lackDeleted})
		return nil, nil
	}
	return data, nil
}

func (b *builder) text(ctx context.Context, e *entry, name string, digest statement.Digest, media string, ind uint64) (*cmwText, error) {
	data, err := b.part(ctx, e, name, digest)
	if err != nil || data == nil {
		return nil, err
	}
	return &cmwText{Type: media, Value: data, Ind: ind}, nil
}

// documents returns the policies that an outcome names.
func (b *builder) documents(e *entry, hashes []firmwarepolicy.Hash) (*cmwText, error) {
	if len(hashes) == 0 {
		return nil, nil
	}
	docs := [][]byte{}
	for _, h := range hashes {
		doc, ok := b.found.policies[h]
		if !ok {
			b.lacks = append(b.lacks, Lack{Index: e.index, Part: "policy", Reason: lackUnknown})
			continue
		}
		docs = append(docs, doc)
	}
	raw, err := statement.Marshal(docs)
	return &cmwText{Type: mediaPolicies, Value: raw, Ind: indPolicy}, err
}
