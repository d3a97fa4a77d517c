package vm

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/firmware-policy/predict"
	"github.com/governed-execution/writ/statement"
)

// Fixture is what is committed of one boot: what the machine sent, what the verifier had wanted, and what was predicted.
type Fixture struct {
	Name       string               `json:"name"`
	AK         []byte               `json:"ak"`
	Challenge  attest.Nonce         `json:"challenge"`
	Request    [32]byte             `json:"request"`
	Exporter   [32]byte             `json:"exporter"`
	Bank       string               `json:"bank"`
	PCRs       map[int64]string     `json:"pcrs"` // all 24, as the machine read them
	Parts      attest.EvidenceParts `json:"parts"`
	Raw        []byte               `json:"raw,omitempty"` // evidence that has no such parts
	Prediction *predict.Prediction  `json:"prediction,omitempty"`
}

// Testimony returns the evidence of the fixture, encoded anew, with what a verifier wanted.
func (f *Fixture) Testimony() (*Testimony, error) {
	raw := f.Raw
	if raw == nil {
		var err error
		if raw, err = f.Parts.Encode(); err != nil {
			return nil, err
		}
	}
	return &Testimony{Evidence: raw, Want: attest.Want{AK: f.AK, Challenge: f.Challenge, Request: statement.Digest(f.Request),
		Exporter: f.Exporter, Selection: attest.Selection{Bank: f.Bank, PCRs: quoted}, Bind: bound}}, nil
}

// Record writes the policies of the bases and a fixture for each machine that booted.
func Record(dir string, policies map[string][]byte, variants []Variant, by map[string]*Observation) error {
	for base, policy := range policies {
		if err := os.WriteFile(policyPath(dir, base), policy, 0o644); err != nil {
			return err
		}
	}
	for _, v := range variants {
		o := by[v.Name]
		if o == nil || o.Testimony == nil {
			continue
		}
		w := o.Testimony.Want
		f := Fixture{Name: v.Name, AK: w.AK, Challenge: w.Challenge, Request: w.Request, Exporter: w.Exporter, Bank: w.Selection.Bank,
			PCRs: o.All, Prediction: o.Made.Prediction}
		if ev, err := attest.DecodeEvidence(o.Testimony.Evidence); err == nil {
			f.Parts = ev.Parts()
		} else {
			f.Raw = o.Testimony.Evidence
		}
		enc, err := json.MarshalIndent(f, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, v.Name+".json"), append(enc, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func policyPath(dir, base string) string { return filepath.Join(dir, base+".policy.toml") }

// ReadFixture reads one fixture.
func ReadFixture(path string) (*Fixture, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := &Fixture{}
	if err := json.Unmarshal(raw, f); err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Base(path), err)
	}
	return f, nil
}
