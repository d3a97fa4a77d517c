package firmwarepolicy

import (
	"maps"
	"slices"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/firmware-policy/predict"
)

// FromPrediction writes an appraisal policy, as TOML with comments, for hosts that boot as predicted. The values of other
// PCRs, by number, may be given from a reference host: nothing predicts the firmware in PCR 0. They are quoted, and required
// where they are stable. The policy demands the predicted boot programs and exact values of PCRs 4 and 11, because Secure
// Boot alone does not say what booted.
//
// It refuses another value for a predicted PCR (407).
func FromPrediction(id string, expires uint64, p *predict.Prediction, others map[int64]string) ([]byte, error) {
	c := attest.Claims{Bank: p.Bank, PCR: maps.Clone(p.PCR), Sections: p.Sections}
	for n, v := range others {
		if have, ok := c.PCR[n]; ok && have != v {
			return nil, denial.New(denial.PolicyError, "PCR %d is given with another value than the predicted one", n)
		}
		c.PCR[n] = v
	}
	for _, digest := range p.BootApps {
		c.BootApps = append(c.BootApps, attest.BootApp{PCR: 4, Digest: digest})
	}
	k := p.SecureBoot
	c.SecureBoot = attest.SecureBoot{Present: true, Enabled: p.Authority != "", PK: k["PK"], KEK: k["KEK"], DB: k["db"], DBX: k["dbx"]}
	c.CNF.PCRs = slices.DeleteFunc(sortedPCRs(c.PCR), func(n int64) bool { return !slices.Contains(StablePCRs(), int(n)) })
	return writePolicy("Written from a prediction of the boot.", id, expires, c)
}
