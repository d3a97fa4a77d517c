package firmwarepolicy

import (
	"bytes"
	"fmt"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// TOML renders the policy as TOML that ParseTOML reads back to the same hash. Rendering is stable; comments and the
// layout of the file that was parsed are gone.
func (d *Document) TOML() ([]byte, error) {
	h := tomlHeader{Schema: d.body.Schema, Kind: string(d.body.Kind), ID: d.body.ID, Version: d.body.Version,
		Expires: time.Unix(int64(d.body.Expires), 0).UTC()}
	var form any
	switch d.body.Kind {
	case KindAppraisal:
		form = d.body.Appraisal.form(h)
	case KindAuthorization:
		form = d.body.Authorization.form(h)
	case KindAnchors:
		form = d.body.Anchors.form(h)
	}
	var out bytes.Buffer
	if err := toml.NewEncoder(&out).Encode(form); err != nil {
		return nil, fmt.Errorf("rendering policy: %w", err)
	}
	return out.Bytes(), nil
}

func (b *appraisalBody) form(h tomlHeader) any {
	t := tomlAppraisal{tomlHeader: h, Reference: b.Reference}
	t.PCRs.Bank, t.PCRs.Quote, t.PCRs.Bind, t.PCRs.Audit = b.Bank, b.Quote, b.Bind, b.Audit
	t.Limits.EvidenceAge = span(b.EvidenceAge)
	if b.IMA != nil {
		t.IMA = tomlIMA{Known: b.IMA.Known, Keys: b.IMA.Keys, Watch: b.IMA.Watch}
	}
	for _, r := range b.Require {
		t.Require = append(t.Require, tomlRequire{Name: r.Name, Code: r.Code.String(), Expr: r.Expr})
	}
	return t
}

func (b *authorizationBody) form(h tomlHeader) any {
	t := tomlAuthorization{tomlHeader: h}
	for _, r := range b.Rules {
		out := tomlRule{Name: r.Name, Initiators: r.Initiators, Delegators: r.Delegators, Hosts: r.Hosts, HostIDs: r.HostIDs, Audiences: r.Audiences,
			Lifetime: span(r.Lifetime), Uses: r.Uses, Depth: r.Depth, When: r.When}
		if r.Session != 0 {
			out.Session = span(r.Session)
		}
		for _, s := range r.Scope {
			out.Scope = append(out.Scope, tomlScope(s))
		}
		t.Rules = append(t.Rules, out)
	}
	for _, r := range b.BreakGlass {
		out := tomlGlass{Name: r.Name, Initiators: r.Initiators, Hosts: r.Hosts, HostIDs: r.HostIDs, Audiences: r.Audiences,
			Lifetime: span(r.Lifetime), Waive: r.Waive, When: r.When}
		for _, s := range r.Scope {
			out.Scope = append(out.Scope, tomlScope(s))
		}
		t.BreakGlass = append(t.BreakGlass, out)
	}
	return t
}

// span writes seconds in the greatest unit that fits: 300 as 5m.
func span(seconds uint64) string {
	switch {
	case seconds%3600 == 0:
		return fmt.Sprintf("%dh", seconds/3600)
	case seconds%60 == 0:
		return fmt.Sprintf("%dm", seconds/60)
	}
	return fmt.Sprintf("%ds", seconds)
}
