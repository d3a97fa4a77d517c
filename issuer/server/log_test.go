package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/issuer/wire"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/witness"
)

// get asks one of the handlers of the site.
func get(t *testing.T, web *http.Client, url string) (status int, header http.Header, data []byte) {
	t.Helper()
	resp, err := web.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err = io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, data
}

// published is a publisher of one checkpoint.
type published struct{ raw []byte }

func (p published) Checkpoint() []byte             { return p.raw }
func (p published) Publish(context.Context) error  { return nil }
func (p published) Newest() (receipt.Head, []byte) { return receipt.Head{}, nil }
func (p published) Threshold() int                 { return 2 }
func (p published) Witnesses() []witness.State {
	return []witness.State{{Operator: "a", Name: "one", At: time.Unix(9, 0)}, {Operator: "a", Name: "one", At: time.Unix(7, 0)}, {Operator: "b", Name: "two"}}
}

func (p published) Published() receipt.Checkpoint {
	return receipt.Checkpoint{Size: 7, Time: 8, Operators: []string{"a", "b"}}
}
func (p published) Fault() error { return errors.New("a witness does not answer") }

// logSite is a site that publishes a checkpoint of its log.
func logSite(t *testing.T, entries bool) (*site, *receipt.Checkpoint) {
	t.Helper()
	var raw []byte
	s := open(t, Limits{}, func(srv *Server) {
		var err error
		if _, raw, err = srv.issuer.Log().Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		srv.publisher, srv.entries = published{raw}, entries
		srv.public.Handler = srv.recover(srv.guard(srv.routes()))
	})
	key, err := receipt.LogNoteKey(receipt.Origin(s.Issuer.Genesis().Log), s.Issuer.Genesis().Keys[record.PurposeLog])
	if err != nil {
		t.Fatal(err)
	}
	c, err := receipt.VerifyCheckpoint(raw, []receipt.NoteKey{key}, nil)
	if err != nil || c.Size != s.Issuer.Log().Head().Size {
		t.Fatalf("got %+v, %v", c, err)
	}
	return s, c
}

// web returns a client of the public listener.
func (s *site) web() *http.Client {
	transport := &http.Transport{TLSClientConfig: s.config()}
	s.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestTheLogIsServedAsTiles(t *testing.T) {
	s, c := logSite(t, true)
	web := s.web()
	status, header, raw := get(t, web, s.Base+"/log/checkpoint")
	if status != 200 || header.Get("Content-Type") != "text/plain; charset=utf-8" || !bytes.Equal(raw, s.server.publisher.Checkpoint()) {
		t.Errorf("checkpoint: got %d, %v, %q", status, header, raw)
	}
	fetch := func(tile receipt.Tile) ([]byte, error) {
		status, header, data := get(t, web, s.Base+"/log/"+tile.Path())
		if status != 200 || header.Get("Content-Type") != "application/octet-stream" || header.Get("Cache-Control") != immutable {
			return nil, fmt.Errorf("%s: got %d, %v", tile.Path(), status, header)
		}
		return data, nil
	}
	leaves, err := receipt.VerifyTiles(c, fetch)
	if err != nil {
		t.Fatal(err)
	}
	data, err := fetch(receipt.Tile{Width: len(leaves), Entries: true})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := receipt.ParseBundle(data)
	if err != nil || len(entries) != len(leaves) {
		t.Fatalf("%d entries of %d, %v", len(entries), len(leaves), err)
	}
	for i := range entries {
		if receipt.LeafHash(entries[i]) != leaves[i] {
			t.Errorf("entry %d is another one than in the tree", i)
		}
	}
	for _, path := range []string{"tile/0/001", "tile/0/000", "tile/0/0", "tile/9/000", "tile/", "tile/entries/000", "tile/0/000.p/255", "tile/0/../0/000", "checkpoint/", "other"} {
		if status, _, _ := get(t, web, s.Base+"/log/"+path); status == http.StatusOK {
			t.Errorf("%s: got %d", path, status)
		}
	}
}

// Entries name hosts and people: on the public listener nobody reads them unless the operator says so.
func TestEntriesAreNotPublicByDefault(t *testing.T) {
	s, c := logSite(t, false)
	tile := receipt.Tile{Width: int(c.Size), Entries: true}
	if status, _, _ := get(t, s.web(), s.Base+"/log/"+tile.Path()); status != http.StatusNotFound {
		t.Errorf("public: got %d, want 404", status)
	}
	if a := s.admin("/log/" + tile.Path()); a.status != 200 || len(a.body) == 0 {
		t.Errorf("admin socket: got %d", a.status)
	}
	tile.Entries = false
	if status, _, _ := get(t, s.web(), s.Base+"/log/"+tile.Path()); status != 200 {
		t.Errorf("hashes: got %d, want 200", status)
	}
}

func TestReceiptsAndKeysAreServedAsSCRAPISays(t *testing.T) {
	s, _ := logSite(t, false)
	web := s.web()
	log := s.Issuer.Log()
	status, header, raw := get(t, web, s.Base+"/.well-known/scitt-keys")
	var set []map[int64]statement.RawItem
	if err := statement.Unmarshal(raw, &set); err != nil || status != 200 || header.Get("Content-Type") != wire.MediaCBOR || len(set) != 1 {
		t.Fatalf("keys: got %d, %v, %x, %v", status, header, raw, err)
	}
	var kid []byte
	if err := statement.Unmarshal(set[0][2], &kid); err != nil {
		t.Fatal(err)
	}
	status, _, one := get(t, web, s.Base+"/.well-known/scitt-keys/"+base64.RawURLEncoding.EncodeToString(kid))
	if status != 200 || !bytes.HasSuffix(raw, one) {
		t.Errorf("one key: got %d, %x", status, one)
	}
	delete(set[0], 2)
	bare, err := statement.Marshal(set[0])
	if err != nil {
		t.Fatal(err)
	}
	key, err := statement.ParseKey(bare)
	if err != nil {
		t.Fatal(err)
	}
	var keys statement.Keys
	if err := keys.Add(key, statement.Receipt); err != nil {
		t.Fatal(err)
	}
	leaf, err := log.Leaf(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	digest := statement.DigestOf(leaf)
	status, header, raw = get(t, web, s.Base+"/entries/"+digest.String())
	if status != 200 || header.Get("Content-Type") != wire.MediaCOSE || header.Get("Location") != "/entries/"+digest.String() {
		t.Fatalf("receipt: got %d, %v", status, header)
	}
	p, err := receipt.Verify(raw, leaf, keys)
	if err != nil || p.Index != 1 || p.Log != s.Issuer.Genesis().Log {
		t.Errorf("got %+v, %v", p, err)
	}
	for path, want := range map[string]int{
		"/entries/" + hex.EncodeToString(make([]byte, 32)): 404,
		"/entries/1":                          400,
		"/entries/" + digest.String()[:62]:    400,
		"/.well-known/scitt-keys/AAAA":        404,
		"/.well-known/scitt-keys/not base64!": 404,
	} {
		status, header, raw := get(t, web, s.Base+path)
		var p problem
		if err := statement.Unmarshal(raw, &p); err != nil || status != want || header.Get("Content-Type") != wire.MediaConcise || p.Title == "" {
			t.Errorf("%s: got %d, %v, %+v, %v", path, status, header, p, err)
		}
	}
}

func TestWhatIsNotAGatesRecordIsNotRegistered(t *testing.T) {
	s, _ := logSite(t, false)
	before := s.Issuer.Log().Head().Size
	leaf, err := s.Issuer.Log().Leaf(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		media, body string
		status      int
	}{
		"genesis again": {wire.MediaCOSE, string(leaf), http.StatusBadRequest},
		"not COSE":      {wire.MediaCOSE, "x", http.StatusBadRequest},
		"other type":    {"text/plain", string(leaf), http.StatusUnsupportedMediaType},
		"nothing":       {wire.MediaCOSE, "", http.StatusBadRequest},
	} {
		resp, err := s.web().Post(s.Base+"/entries", row.media, bytes.NewReader([]byte(row.body)))
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		var p problem
		if err != nil || resp.StatusCode != row.status || statement.Unmarshal(data, &p) != nil || p.Title == "" {
			t.Errorf("%s: got %d, %x", name, resp.StatusCode, data)
		}
	}
	if after := s.Issuer.Log().Head().Size; after != before {
		t.Errorf("%d entries were added", after-before)
	}
}

func TestWithoutACheckpointThereIsNone(t *testing.T) {
	s := open(t, Limits{}, nil)
	if status, _, _ := get(t, s.web(), s.Base+"/log/checkpoint"); status != http.StatusNotFound {
		t.Errorf("got %d, want 404", status)
	}
}

func TestMetricsTellOfLogAndWitnesses(t *testing.T) {
	s, _ := logSite(t, false)
	want := []string{"writ_log_healthy 1", "writ_checkpoint_entries 7", "writ_checkpoint_cosigned_seconds 8", "writ_checkpoint_operators 2", "writ_checkpoint_failing 1",
		"writ_checkpoint_operators_demanded 2", `writ_witness_cosigned_seconds{operator="a",witness="one"} 9`, `writ_witness_cosigned_seconds{operator="b",witness="two"} 0`}
	body := string(s.admin("/metrics").body)
	for _, line := range want {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("%q is not in the metrics", line)
		}
	}
	s.Issuer.Log().Stop()
	if a := s.admin("/healthz"); a.status != http.StatusServiceUnavailable || !strings.Contains(string(a.body), "unhealthy") {
		t.Errorf("health of a log that has stopped: got %d %q", a.status, a.body)
	}
	if body := string(s.admin("/metrics").body); !strings.Contains(body, "writ_log_healthy 0\n") {
		t.Error("the metrics say that a log that has stopped is healthy")
	}
}

// TestAlarmsNameMetricsThatExist holds the rules for Prometheus to the metrics that the admin socket, and writ monitor, have.
func TestAlarmsNameMetricsThatExist(t *testing.T) {
	s, _ := logSite(t, false)
	have := string(s.admin("/metrics").body)
	monitor, err := os.ReadFile(filepath.Join("..", "..", "cmd", "writ", "monitor.go"))
	if err != nil {
		t.Fatal(err)
	}
	have += string(monitor)
	rules, err := os.ReadFile(filepath.Join("..", "..", "packaging", "prometheus", "writ.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`writ_[a-z_]+`).FindAllString(string(rules), -1)
	for _, name := range names {
		if !strings.Contains(have, "# TYPE "+name+" ") {
			t.Errorf("%s is no metric", name)
		}
	}
	for _, m := range regexp.MustCompile(`code="(\d+)"`).FindAllStringSubmatch(string(rules), -1) {
		if !strings.Contains(have, `writ_denials_total{`+m[0]) {
			t.Errorf("%s is no code", m[1])
		}
	}
	if len(names) < 10 {
		t.Errorf("the rules name %d metrics", len(names))
	}
}
