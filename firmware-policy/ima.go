package firmwarepolicy

import (
	"encoding/base64"
	"slices"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
)

// imaPCR is where Linux measures files.
const imaPCR = 10

// imaBody says which of the files that IMA measures are known. Requirements look at what comes of it, in facts.ima: a
// host measures more files than an expression can go through.
type imaBody struct {
	Known []string `cbor:"1,keyasint"` // names of reference sets with digests of files, ascending
	Keys  []string `cbor:"2,keyasint"` // names of reference sets with keys that sign files, ascending
	Watch []string `cbor:"3,keyasint"` // paths, ascending
}

// empty reports whether the section says nothing, and so is left out of the canonical form.
func (b *imaBody) empty() bool { return b == nil || len(b.Known)+len(b.Keys)+len(b.Watch) == 0 }

// names reports whether the section uses a reference set.
func (b *imaBody) names(set string) bool {
	return b != nil && (slices.Contains(b.Known, set) || slices.Contains(b.Keys, set))
}

// normalise sorts what has no order.
func (b *imaBody) normalise() {
	for _, list := range []*[]string{&b.Known, &b.Keys, &b.Watch} {
		if *list == nil {
			*list = []string{}
		}
		slices.Sort(*list)
	}
}

// checkIMA refuses PCR 10 without the PCRs that the first entry of an IMA list is about, the section without PCR 10, a set
// that does not exist, and whatever attest.IMAReference.Check refuses.
func (b *appraisalBody) checkIMA() error {
	if !slices.Contains(b.Quote, imaPCR) {
		if b.IMA != nil {
			return refuse("[ima] needs PCR 10 in pcrs.quote")
		}
		return nil
	}
	for n := range int64(imaPCR) {
		if !slices.Contains(b.Quote, n) {
			return refuse("pcrs.quote has PCR 10 without PCR %d: an IMA list begins with the digest of PCRs 0 to 9", n)
		}
	}
	if b.IMA == nil {
		return nil
	}
	if b.IMA.empty() {
		return refuse("[ima] is empty")
	}
	for _, list := range [][]string{b.IMA.Known, b.IMA.Keys, b.IMA.Watch} {
		if err := checkList("[ima]", list); err != nil {
			return err
		}
	}
	r, err := b.imaReference()
	if err != nil {
		return err
	}
	if err := r.Check(); err != nil {
		return refuse("[ima]: %v", err)
	}
	return nil
}

// imaReference puts together what the policy knows of files.
func (b *appraisalBody) imaReference() (r attest.IMAReference, err error) {
	if b.IMA == nil {
		return r, nil
	}
	for _, name := range append(slices.Clone(b.IMA.Known), b.IMA.Keys...) {
		if b.Reference[name] == nil {
			return r, refuse("[ima]: there is no reference set %q", name)
		}
	}
	for _, name := range b.IMA.Known {
		r.Known = append(r.Known, b.Reference[name]...)
	}
	for _, name := range b.IMA.Keys {
		for _, text := range b.Reference[name] {
			der, err := base64.StdEncoding.Strict().DecodeString(text)
			if err != nil {
				return r, refuse("reference set %s: a key is its SubjectPublicKeyInfo in base64", name)
			}
			r.Keys = append(r.Keys, der)
		}
	}
	r.Watch = b.IMA.Watch
	return r, nil
}

// IMA returns what the verifier must know of files to draw the facts that this policy looks at. It must not be changed.
func (a *Appraisal) IMA() attest.IMAReference {
	if a == nil {
		return attest.IMAReference{}
	}
	return a.ima
}

// fitsIMA refuses facts of IMA that were drawn for another policy: they would count other files as unknown.
func (a *Appraisal) fitsIMA(facts attest.IMA) error {
	if !slices.Contains(a.body.Quote, imaPCR) {
		return nil
	}
	if facts.Reference != a.imaID || !facts.Present {
		return denial.New(denial.PolicyHashMismatch, "the facts of IMA were drawn for another policy")
	}
	return nil
}
