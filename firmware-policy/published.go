package firmwarepolicy

import (
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// Published reads the payload of an act that publishes a policy. It checks, in this order: the payload (3xx, 911, 104), the document
// compiles (see Decode), and is the one that the payload names (401). Whether the policy has expired is for CheckTime.
func Published(payload []byte) (*record.Policy, *Document, error) {
	var p record.Policy
	if err := statement.Unmarshal(payload, &p); err != nil {
		return nil, nil, err
	}
	if err := p.Check(); err != nil {
		return nil, nil, err
	}
	doc, err := Decode(p.Document)
	if err != nil {
		return nil, nil, err
	}
	if string(doc.Kind()) != string(p.Kind) || doc.ID() != p.ID || doc.Version() != p.Revision {
		return nil, nil, denial.New(denial.PolicyHashMismatch, "payload and document name different policies")
	}
	return &p, doc, nil
}
