package firmwarepolicy

import (
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// TestPublishedFitsItsDocument breaks one thing of a payload at a time.
func TestPublishedFitsItsDocument(t *testing.T) {
	t.Parallel()
	doc := mustParse(t, authorizationTOML)
	for name, row := range map[string]struct {
		edit func(*record.Policy)
		code denial.Reason // zero: accepted
	}{
		"as it is":            {func(*record.Policy) {}, 0},
		"without a time":      {func(p *record.Policy) { p.Time = 0 }, denial.ClaimAbsent},
		"of another version":  {func(p *record.Policy) { p.Version++ }, denial.UnsupportedVersion},
		"no document":         {func(p *record.Policy) { p.Document = []byte{0xa0} }, denial.ClaimAbsent},
		"of another kind":     {func(p *record.Policy) { p.Kind = record.Appraisal }, denial.PolicyHashMismatch},
		"of another id":       {func(p *record.Policy) { p.ID += "x" }, denial.PolicyHashMismatch},
		"of another revision": {func(p *record.Policy) { p.Revision++ }, denial.PolicyHashMismatch},
	} {
		p := record.Policy{Version: record.Version, Kind: record.Authorization, ID: doc.ID(), Revision: doc.Version(), Document: doc.Canonical(), Time: 1}
		row.edit(&p)
		payload, err := statement.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		got, read, err := Published(payload)
		if row.code != 0 {
			if !denial.Is(err, row.code) || got != nil || read != nil {
				t.Errorf("%s: got %v, want %s", name, err, row.code)
			}
		} else if err != nil || got.ID != doc.ID() || read.Hash() != doc.Hash() {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	if _, _, err := Published([]byte{0xa0, 0}); !denial.Is(err, denial.TrailingData) {
		t.Errorf("what is no payload: got %v", err)
	}
}
