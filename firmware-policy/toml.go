package firmwarepolicy

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/governed-execution/writ/denial"
)

// The TOML form of a policy. Its keys are the toml tags; docs/policies.md explains each.
type (
	tomlHeader struct {
		Schema  uint64 `toml:"schema"`
		Kind    string `toml:"kind"`
		ID      string `toml:"id"`
		Version uint64 `toml:"version"`
		Expires any    `toml:"expires"` // a time.Time; a date without offset is another type
	}
	tomlAppraisal struct {
		tomlHeader
		PCRs struct {
			Bank  string  `toml:"bank"`
			Quote []int64 `toml:"quote"`
			Bind  []int64 `toml:"bind"`
			Audit bool    `toml:"audit,omitempty"`
		} `toml:"pcrs"`
		Limits struct {
			EvidenceAge string `toml:"evidence_age"`
		} `toml:"limits"`
		Reference map[string][]string `toml:"reference,omitempty,multiline"`
		IMA       tomlIMA             `toml:"ima,omitempty"`
		Require   []tomlRequire       `toml:"require"`
	}
	tomlIMA struct {
		Known []string `toml:"known,omitempty"`
		Keys  []string `toml:"keys,omitempty"`
		Watch []string `toml:"watch,omitempty,multiline"`
	}
	tomlRequire struct {
		Name string `toml:"name"`
		Code any    `toml:"code"` // a name or a number
		Expr string `toml:"expr"`
	}
	tomlAuthorization struct {
		tomlHeader
		Rules      []tomlRule  `toml:"rule"`
		BreakGlass []tomlGlass `toml:"break_glass,omitempty"`
	}
	tomlGlass struct {
		Name       string            `toml:"name"`
		Initiators []string          `toml:"initiators,multiline"`
		Hosts      map[string]string `toml:"hosts,omitempty,inline"`
		HostIDs    []string          `toml:"host_ids,omitempty,multiline"`
		Audiences  []string          `toml:"audiences,multiline"`
		Lifetime   string            `toml:"lifetime"`
		Waive      bool              `toml:"waive_attestation,omitempty"`
		When       string            `toml:"when,omitempty"`
		Scope      []tomlScope       `toml:"scope"`
	}
	tomlRule struct {
		Name       string            `toml:"name"`
		Initiators []string          `toml:"initiators,multiline"`
		Delegators []string          `toml:"delegators,omitempty,multiline"`
		Hosts      map[string]string `toml:"hosts,omitempty,inline"`
		HostIDs    []string          `toml:"host_ids,omitempty,multiline"`
		Audiences  []string          `toml:"audiences,multiline"`
		Lifetime   string            `toml:"lifetime"`
		Session    string            `toml:"session,omitempty"`
		Uses       uint64            `toml:"uses"`
		Depth      uint64            `toml:"depth"`
		When       string            `toml:"when,omitempty"`
		Scope      []tomlScope       `toml:"scope"`
	}
	tomlScope struct {
		Target     string   `toml:"target"`
		Operations []string `toml:"operations"`
		Code       []string `toml:"code,omitempty,multiline"`
		Parameters []string `toml:"parameters,omitempty,multiline"`
		Env        []string `toml:"env,omitempty,multiline"`
		Directory  string   `toml:"directory,omitempty"`
	}
)

// ParseTOML reads a policy as people write it. It checks, in this order: the size (313), the TOML syntax, that every key
// is known and in lower case, naming line and column of what is not, then the values, then that every expression
// compiles (407 each).
func ParseTOML(data []byte) (*Document, error) {
	if len(data) > MaxTOML {
		return nil, denial.New(denial.StructureLimit, "a policy file has more than %d bytes", MaxTOML)
	}
	var h tomlHeader
	if err := toml.Unmarshal(data, &h); err != nil {
		return nil, tomlError(err)
	}
	b := body{Schema: h.Schema, Kind: Kind(h.Kind), ID: h.ID, Version: h.Version, Expires: expiry(h.Expires)}
	var err error
	switch b.Kind {
	case KindAppraisal:
		b.Appraisal, err = readAppraisal(data)
	case KindAuthorization:
		b.Authorization, err = readAuthorization(data)
	case KindAnchors:
		b.Anchors, err = readAnchors(data)
	}
	if err != nil {
		return nil, err
	}
	return newDocument(b)
}

// strictTOML decodes into v and refuses every key that v does not have in exactly this spelling.
func strictTOML(data []byte, v any) error {
	dec := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return tomlError(err)
	}
	return checkCase(data)
}

func tomlError(err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		first := &unknown.Errors[0]
		line, column := first.Position()
		return refuse("line %d, column %d: unknown key %q", line, column, strings.Join(first.Key(), "."))
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		line, column := bad.Position()
		return refuse("line %d, column %d: %s", line, column, strings.TrimPrefix(bad.Error(), "toml: "))
	}
	return refuse("the file is not TOML: %v", err)
}

// checkCase refuses keys with a capital letter, because the decoder takes "Expr" for "expr" and would let the second of
// two spellings win unseen. Keys below hosts, labels and change are names that users choose; they may have capitals.
func checkCase(data []byte) error {
	var p unstable.Parser
	p.Reset(data)
	free := false // the current table is below a key that users fill
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.KeyValue {
			free = false
		}
		if free {
			continue
		}
		below, err := keyCase(&p, e)
		if err != nil {
			return err
		}
		free = below && e.Kind != unstable.KeyValue
	}
	if err := p.Error(); err != nil {
		return refuse("the file is not TOML: %v", err)
	}
	return nil
}

// keyCase checks the keys of one expression and of the values in it. It reports whether a key was one that users fill.
func keyCase(p *unstable.Parser, e *unstable.Node) (below bool, err error) {
	switch e.Kind {
	case unstable.KeyValue, unstable.Table, unstable.ArrayTable:
		for it := e.Key(); it.Next(); {
			key := string(it.Node().Data)
			if key != strings.ToLower(key) {
				at := p.Shape(it.Node().Raw).Start
				return false, refuse("line %d, column %d: unknown key %q: keys are in lower case", at.Line, at.Column, key)
			}
			if key == "hosts" || key == "labels" || key == "change" {
				return true, nil
			}
		}
		if e.Kind == unstable.KeyValue {
			return keyCase(p, e.Value())
		}
	case unstable.Array, unstable.InlineTable:
		for it := e.Children(); it.Next(); {
			if _, err := keyCase(p, it.Node()); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

func readAppraisal(data []byte) (*appraisalBody, error) {
	var t tomlAppraisal
	if err := strictTOML(data, &t); err != nil {
		return nil, err
	}
	age, err := seconds("limits.evidence_age", t.Limits.EvidenceAge)
	if err != nil {
		return nil, err
	}
	b := &appraisalBody{Bank: t.PCRs.Bank, Quote: t.PCRs.Quote, Bind: t.PCRs.Bind, EvidenceAge: age, Reference: t.Reference, Audit: t.PCRs.Audit}
	if len(t.IMA.Known)+len(t.IMA.Keys)+len(t.IMA.Watch) > 0 {
		b.IMA = &imaBody{Known: t.IMA.Known, Keys: t.IMA.Keys, Watch: t.IMA.Watch}
	}
	for _, r := range t.Require {
		code, err := reason(r.Code)
		if err != nil {
			return nil, refuse("requirement %q: %v", r.Name, err)
		}
		b.Require = append(b.Require, requirement{Name: r.Name, Code: code, Expr: r.Expr})
	}
	return b, nil
}

func readAuthorization(data []byte) (*authorizationBody, error) {
	var t tomlAuthorization
	if err := strictTOML(data, &t); err != nil {
		return nil, err
	}
	b := &authorizationBody{}
	for _, r := range t.Rules {
		life, err := seconds("rule "+r.Name+": lifetime", r.Lifetime)
		if err != nil {
			return nil, err
		}
		out := rule{Name: r.Name, Initiators: r.Initiators, Delegators: r.Delegators, Hosts: r.Hosts, HostIDs: r.HostIDs, Audiences: r.Audiences,
			Lifetime: life, Uses: r.Uses, Depth: r.Depth, When: r.When}
		if r.Session != "" {
			if out.Session, err = seconds("rule "+r.Name+": session", r.Session); err != nil {
				return nil, err
			}
		}
		for _, s := range r.Scope {
			out.Scope = append(out.Scope, scope(s))
		}
		b.Rules = append(b.Rules, out)
	}
	for _, r := range t.BreakGlass {
		life, err := seconds("break_glass "+r.Name+": lifetime", r.Lifetime)
		if err != nil {
			return nil, err
		}
		out := rule{Name: r.Name, Initiators: r.Initiators, Hosts: r.Hosts, HostIDs: r.HostIDs, Audiences: r.Audiences,
			Lifetime: life, Uses: 1, When: r.When, Waive: r.Waive}
		for _, s := range r.Scope {
			out.Scope = append(out.Scope, scope(s))
		}
		b.BreakGlass = append(b.BreakGlass, out)
	}
	return b, nil
}

// reason reads the code of a requirement: a name, a number, or nothing for PCR_NOT_ALLOWED.
func reason(code any) (denial.Reason, error) {
	switch c := code.(type) {
	case nil:
		return denial.PCRNotAllowed, nil
	case string, int64:
		r, err := denial.Parse(fmt.Sprint(c))
		if err != nil {
			return 0, fmt.Errorf("code: %w", err)
		}
		return r, nil
	}
	return 0, errors.New("code is the name or the number of a denial")
}

// seconds reads a duration such as "30s" or "5m".
func seconds(what, s string) (uint64, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d%time.Second != 0 {
		return 0, refuse("%s: write a time such as \"30s\", \"5m\" or \"1h\"", what)
	}
	return uint64(d / time.Second), nil
}

// expiry returns zero, which no policy may have, for what is not a whole second with an offset from UTC.
func expiry(v any) uint64 {
	t, ok := v.(time.Time)
	if !ok || t.Nanosecond() != 0 {
		return 0
	}
	return uint64(max(t.Unix(), 0))
}
