package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// proofs are what a receipt may hold (RFC 9942, section 5).
type proofs struct {
	Inclusion   [][]byte `cbor:"-1,keyasint,omitempty"`
	Consistency [][]byte `cbor:"-2,keyasint,omitempty"`
}

// inclusion proves that an entry stands at Index of a tree of Size entries.
type inclusion struct {
	_     struct{} `cbor:",toarray"`
	Size  uint64
	Index uint64
	Path  [][]byte
}

// consistency proves that a tree of From entries is the beginning of one of To.
type consistency struct {
	_    struct{} `cbor:",toarray"`
	From uint64
	To   uint64
	Path [][]byte
}

// explainReceipt says where a receipt claims that a statement stands, or which tree grew into which. Whether it is so,
// only its signature and the path show.
func explainReceipt(env *statement.Envelope) (*sheet, error) {
	claims, s := env.Claims(), &sheet{}
	s.put("issuer", claims.Issuer)
	s.put("tree", claims.Subject)
	if err := putProof(s, env.Proofs()); err != nil {
		return nil, err
	}
	s.putTime("logged", claims.IssuedAt)
	if kid, ok := env.KeyID(); ok {
		s.put("key", kid.String())
	}
	return s, nil
}

// putProof shows the one proof of a receipt.
func putProof(s *sheet, raw []byte) error {
	var p proofs
	if err := statement.Unmarshal(raw, &p); err != nil || len(p.Inclusion)+len(p.Consistency) != 1 {
		return denial.New(denial.ReceiptInvalid, "the receipt does not hold exactly one proof")
	}
	if len(p.Inclusion) == 1 {
		var i inclusion
		if err := statement.Unmarshal(p.Inclusion[0], &i); err != nil {
			return denial.New(denial.ReceiptInvalid, "the inclusion proof is malformed")
		}
		s.put("index", i.Index)
		s.put("size", i.Size)
		s.put("path_nodes", len(i.Path))
		return nil
	}
	var c consistency
	if err := statement.Unmarshal(p.Consistency[0], &c); err != nil {
		return denial.New(denial.ReceiptInvalid, "the consistency proof is malformed")
	}
	s.say("grew", map[string]uint64{"from": c.From, "to": c.To}, fmt.Sprintf("from %d to %d entries", c.From, c.To))
	s.put("path_nodes", len(c.Path))
	return nil
}

// part is a CMW record (RFC 9999, section 3.1): its type is a media type or a CoAP Content-Format.
type part struct {
	_     struct{} `cbor:",toarray"`
	Type  statement.RawItem
	Value []byte
	Ind   uint64
}

// capsulePayload lists what a decision was made on.
func capsulePayload(payload []byte) (*sheet, error) {
	var parts map[string]statement.RawItem
	if err := statement.Unmarshal(payload, &parts); err != nil {
		return nil, err
	}
	s := &sheet{}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if name == "__cmwc_t" {
			text, err := statement.Diagnose(parts[name])
			if err != nil {
				return nil, err
			}
			s.put("profile", text)
			continue
		}
		var p part
		if err := statement.Unmarshal(parts[name], &p); err != nil {
			return nil, err
		}
		media, err := statement.Diagnose(p.Type)
		if err != nil {
			return nil, err
		}
		digest := statement.DigestOf(p.Value).String()
		s.say(name, map[string]any{"type": media, "bytes": len(p.Value), "sha256": digest}, fmt.Sprintf("%d bytes of %s\nsha256:%s", len(p.Value), media, digest))
	}
	return s, nil
}
