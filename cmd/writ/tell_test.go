package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/test/issuertest"
)

// A bundle of a whole issuer is told by both commands, from a file and from the admin socket.
func TestReportAndLineageOfAPermit(t *testing.T) {
	w, dir := issuertest.New(t), t.TempDir()
	claims, _, err := artifact.Inspect(w.Permit().Artifact)
	if err != nil {
		t.Fatal(err)
	}
	b := must(audit.Build(w.Ctx, w.Tree, w.Issuer, audit.Query{Execution: claims.Execution.ID}))(t)
	defer b.Close()
	var raw bytes.Buffer
	if err := b.Write(w.Ctx, &raw); err != nil {
		t.Fatal(err)
	}
	trust := w.Trust()
	trust.Expires = time.Now().Add(time.Hour).Truncate(time.Second).UTC()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	bundle, pins := file("b.tar", raw.Bytes()), file("trust.toml", must(trust.Marshal())(t))
	id := hex.EncodeToString(claims.Execution.ID)
	page := filepath.Join(dir, "report.html")
	if status, out, errs := call(t, "audit", "report", bundle, "--trust", pins, "-o", page); status != exitYes || !strings.Contains(out, "proved") {
		t.Errorf("report: status %d: %s%s", status, out, errs)
	}
	if html, err := os.ReadFile(page); err != nil || !bytes.Contains(html, []byte("PROVED")) || !bytes.Contains(html, []byte(id)) {
		t.Errorf("the page has %d bytes (%v)", len(html), err)
	}
	svg := filepath.Join(dir, "l.svg")
	status, out, errs := call(t, "audit", "lineage", id, "--bundle", bundle, "--trust", pins, "--svg", svg)
	if status != exitYes || !strings.Contains(out, issuertest.Robot) || !strings.Contains(out, issuertest.Alice) {
		t.Errorf("lineage: status %d: %s%s", status, out, errs)
	}
	if picture, err := os.ReadFile(svg); err != nil || !bytes.HasPrefix(picture, []byte("<svg")) {
		t.Errorf("the picture has %d bytes (%v)", len(picture), err)
	}
	socket := admin(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("execution") != id {
			t.Errorf("asked for %s", r.URL)
		}
		_, _ = rw.Write(raw.Bytes())
	})
	status, out, errs = call(t, "audit", "lineage", id, "--admin", socket, "--trust", pins, "--json")
	var l audit.Lineage
	if err := json.Unmarshal([]byte(out), &l); status != exitYes || err != nil || l.Execution != id || len(l.Origin) != 1 {
		t.Errorf("lineage as JSON: status %d: %s%s", status, out, errs)
	}
	if status, _, errs := call(t, "audit", "lineage", strings.Repeat("0", 32), "--bundle", bundle, "--trust", pins); status != exitDenied || !strings.Contains(errs, "hint: Give its id") {
		t.Errorf("an execution that is not there: status %d\n%s", status, errs)
	}
}
