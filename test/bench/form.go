package main

import (
	"bytes"
	"errors"
	"slices"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/statement"
)

// form is encoded evidence in which only what differs from one request to the next is filled in. All of it has a fixed
// length, so that the encoding around it stays as it is.
type form struct {
	raw                     []byte
	challenge, request      int // where they stand in raw
	quote, quoted, quoteSig int // TPMS_ATTEST, the qualifying data in it, and TPMT_SIGNATURE
	quoteLen, signature     int
}

// newForm finds the places in evidence that answers want.
func newForm(p attest.EvidenceParts, want attest.Want) (form, error) {
	raw, err := p.Encode()
	if err != nil {
		return form{}, err
	}
	extra := attest.QualifyingData(want.Challenge, want.Request, want.Exporter)
	f := form{raw: raw, quoteLen: len(p.Quote), signature: len(p.Signature)}
	for _, at := range []struct {
		place *int
		part  []byte
	}{{&f.challenge, want.Challenge[:]}, {&f.request, want.Request[:]}, {&f.quote, p.Quote}, {&f.quoteSig, p.Signature}} {
		if *at.place = bytes.Index(raw, at.part); *at.place < 0 {
			return f, errors.New("making form: a part is not where it was expected")
		}
	}
	f.quoted = f.quote + bytes.Index(p.Quote, extra[:])
	return f, nil
}

// fill returns the evidence for a challenge and a request, with the quote signed anew. The cnf key and its certification stay.
func (f *form) fill(challenge attest.Nonce, request statement.Digest, extra [32]byte, sign func([]byte) []byte) []byte {
	b := slices.Clone(f.raw)
	copy(b[f.challenge:], challenge[:])
	copy(b[f.request:], request[:])
	copy(b[f.quoted:], extra[:])
	copy(b[f.quoteSig:][:f.signature], sign(b[f.quote:][:f.quoteLen]))
	return b
}
