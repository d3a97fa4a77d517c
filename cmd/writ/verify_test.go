package main

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/test/issuertest"
)

// TestVerifyLearnsTheKeys: from the issuer, and then from what it has written down, without which nothing older is believed.
func TestVerifyLearnsTheKeys(t *testing.T) {
	w := issuertest.New(t)
	trust, before := w.Trust(), w.History()
	w.Rotate(record.PurposeArtifact)
	after := w.History()
	var answer atomic.Pointer[[]byte]
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if raw := answer.Load(); raw != nil && r.URL.Path == "/v1/keys" {
			w.Write(*raw)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	file, ca := filepath.Join(dir, "trust.toml.keys"), filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	a, cmd := &app{server: srv.URL, ca: ca}, &cobra.Command{}
	cmd.SetContext(t.Context())
	sequence := func(got *artifact.Trust) int {
		if got.KeyRing() == nil {
			return -1
		}
		return int(got.KeyRing().Sequence())
	}
	for _, step := range []struct {
		name   string
		answer []byte
		ask    bool
		want   int // changes known afterwards, -1 for none at all
		denied denial.Reason
	}{
		{"nothing is known, and nobody answers", nil, true, -1, 0},
		{"offline, with nothing written down", after, false, -1, 0},
		{"before any change", before, true, 0, 0},
		{"noise", []byte("noise"), true, 0, denial.StructureLimit},
		{"after a change", after, true, 1, 0},
		{"offline", nil, false, 1, 0},
		{"nobody answers", nil, true, 1, 0},
		{"the issuer has forgotten the change", before, true, 0, denial.StateRollback},
		{"as before", after, true, 1, 0},
	} {
		answer.Store(nil)
		if step.answer != nil {
			answer.Store(&step.answer)
		}
		got, err := a.learn(cmd, trust, file, step.ask)
		switch {
		case step.denied != 0 && !denial.Is(err, step.denied):
			t.Errorf("%s: got %v, want %d", step.name, err, step.denied.Code())
		case step.denied == 0 && (err != nil || sequence(got) != step.want):
			t.Errorf("%s: got %v", step.name, err)
		}
	}
	if err := os.WriteFile(file, after[:len(after)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.learn(cmd, trust, file, false); err == nil {
		t.Error("keys that were cut are believed")
	}
}
