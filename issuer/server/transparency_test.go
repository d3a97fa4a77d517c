package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/monitor"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/test/need"
	"github.com/governed-execution/writ/tlog"
	"github.com/governed-execution/writ/witness"
)

// others builds the program of test/transparency, in which programs that others wrote look at a log.
func others(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	path := filepath.Join(t.TempDir(), "transparency")
	build := exec.CommandContext(ctx, "go", "build", "-o", path, ".")
	build.Dir = filepath.Join("..", "..", "test", "transparency")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		need.Missing(t, "building test/transparency: %v\n%s", err, out)
	}
	return path
}

// startWitness runs the witness of transparency-dev for one log.
func startWitness(t *testing.T, program, operator string, log receipt.NoteKey) witness.Endpoint {
	t.Helper()
	run := exec.Command(program, "witness", operator+".example/w", log.Name(), log.String())
	run.Stderr = os.Stderr
	stdin := issuertest.Must(run.StdinPipe())(t)
	stdout := bufio.NewReader(issuertest.Must(run.StdoutPipe())(t))
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := run.Wait(); err != nil {
			t.Errorf("witness: %v", err)
		}
	})
	url := strings.TrimSpace(issuertest.Must(stdout.ReadString('\n'))(t))
	key := issuertest.Must(receipt.ParseNoteKey(strings.TrimSpace(issuertest.Must(stdout.ReadString('\n'))(t))))(t)
	return witness.Endpoint{Witness: receipt.Witness{Operator: operator, Key: key}, URL: url}
}

// TestOtherProgramsVerifyOurLog serves a log whose checkpoints two witnesses of transparency-dev cosign, and lets
// Tessera's fsck read all of it; then with one bit changed.
func TestOtherProgramsVerifyOurLog(t *testing.T) {
	program := others(t)
	var publisher atomic.Pointer[witness.Publisher]
	var forged atomic.Value
	forged.Store("")
	s := open(t, Limits{}, func(srv *Server) {
		srv.publisher, srv.entries = &later{of: &publisher}, true
		routes := srv.routes()
		srv.public.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == forged.Load() {
				w = &flipping{ResponseWriter: w}
			}
			routes.ServeHTTP(w, r)
		})
	})
	g, log := s.Issuer.Genesis(), s.Issuer.Log()
	key := issuertest.Must(receipt.LogNoteKey(receipt.Origin(g.Log), g.Keys[record.PurposeLog]))(t)
	a, b := startWitness(t, program, "a", key), startWitness(t, program, "b", key)
	o := witness.Options{Log: log, Origin: key.Name(), Path: filepath.Join(t.TempDir(), "checkpoint"),
		Witnesses: []witness.Endpoint{a, b}, Threshold: 2}
	publisher.Store(issuertest.Must(witness.New(t.Context(), o))(t))
	for _, size := range []uint64{255, 256, 300, 700} {
		var entries []tlog.Entry
		for n := log.Head().Size; n < size; n++ {
			entries = append(entries, tlog.Entry{Leaf: fmt.Appendf(nil, "entry %d", n)})
		}
		issuertest.Must(log.Append(t.Context(), entries...))(t)
		if err := publisher.Load().Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		demand := &receipt.Witnesses{Threshold: 2, List: []receipt.Witness{a.Witness, b.Witness}}
		c := issuertest.Must(receipt.VerifyCheckpoint(publisher.Load().Checkpoint(), []receipt.NoteKey{key}, demand))(t)
		if want := fmt.Sprintf("%d entries under %x\n", size, c.Root); s.fsck(program, key) != want {
			t.Errorf("got %q, want %q", s.fsck(program, key), want)
		}
	}
	for _, path := range []string{"/log/tile/0/001", "/log/tile/1/000.p/2", "/log/tile/entries/000", "/log/checkpoint"} {
		forged.Store(path)
		if out := s.fsck(program, key); !strings.HasPrefix(out, "refused") {
			t.Errorf("%s was changed: fsck says %q", path, out)
		}
	}
}

// TestT11_ABundleBringsTheCosignaturesOfItsHead: two witnesses of transparency-dev cosign the head that a bundle ends with, and
// an auditor who names both verifies them offline; one who names another operator does not take it.
func TestT11_ABundleBringsTheCosignaturesOfItsHead(t *testing.T) {
	program := others(t)
	var publisher atomic.Pointer[witness.Publisher]
	s := open(t, Limits{}, func(srv *Server) { srv.publisher = &later{of: &publisher} })
	g, log := s.Issuer.Genesis(), s.Issuer.Log()
	key := issuertest.Must(receipt.LogNoteKey(receipt.Origin(g.Log), g.Keys[record.PurposeLog]))(t)
	a, b := startWitness(t, program, "a", key), startWitness(t, program, "b", key)
	publisher.Store(issuertest.Must(witness.New(t.Context(), witness.Options{Log: log, Origin: key.Name(), Path: filepath.Join(t.TempDir(), "checkpoint"),
		Witnesses: []witness.Endpoint{a, b}, Threshold: 2}))(t))
	follow := monitor.Options{Log: s.Base + "/log", Keys: []receipt.NoteKey{key}, Dir: t.TempDir(), Web: monitor.Web{Client: s.web()},
		Witnesses: &receipt.Witnesses{Threshold: 2, List: []receipt.Witness{a.Witness, b.Witness}}}
	first := issuertest.Must(monitor.Look(t.Context(), follow))(t)
	s.Permit() // after the last checkpoint
	bundle := s.admin("/v1/exports")
	if bundle.status != http.StatusOK {
		t.Fatalf("got %d", bundle.status)
	}
	trust := s.Trust()
	trust.Witnesses = &receipt.Witnesses{Threshold: 2, List: []receipt.Witness{a.Witness, b.Witness}}
	r := issuertest.Must(audit.Verify(t.Context(), bytes.NewReader(bundle.body), trust, audit.Options{Now: s.Now()}))(t)
	if err := r.Err(); err != nil {
		t.Errorf("got %v", err)
	}
	if seen := issuertest.Must(monitor.Look(t.Context(), follow))(t); seen.Since == nil || *seen.Since != first.Size || seen.Size <= first.Size || len(seen.Operators) != 2 {
		t.Errorf("a monitor saw %+v, then %+v", first, seen)
	}
	trust.Witnesses.List[1].Operator = "a"
	other := startWitness(t, program, "c", key)
	trust.Witnesses.List = append(trust.Witnesses.List, other.Witness)
	r = issuertest.Must(audit.Verify(t.Context(), bytes.NewReader(bundle.body), trust, audit.Options{Now: s.Now()}))(t)
	if err := r.Err(); !denial.Is(err, denial.ThresholdNotMet) {
		t.Errorf("cosigned by two witnesses of one operator: got %v, want 326", err)
	}
}

// fsck runs Tessera's fsck over the log of the site and returns what it says.
func (s *site) fsck(program string, key receipt.NoteKey) string {
	s.Helper()
	roots := filepath.Join(s.TempDir(), "roots.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.public.TLSConfig.Certificates[0].Certificate[0]})
	if err := os.WriteFile(roots, block, 0o600); err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.Ctx, time.Minute)
	defer cancel()
	run := exec.CommandContext(ctx, program, "fsck", s.Base+"/log", key.String())
	run.Env = append(os.Environ(), "SSL_CERT_FILE="+roots)
	var out, refused bytes.Buffer
	run.Stdout, run.Stderr = &out, &refused
	if err := run.Run(); err != nil {
		return "refused: " + refused.String()
	}
	return out.String()
}

// later is a publisher that is there only once the server is.
type later struct {
	of *atomic.Pointer[witness.Publisher]
}

func (l *later) Checkpoint() []byte                { return l.of.Load().Checkpoint() }
func (l *later) Published() receipt.Checkpoint     { return l.of.Load().Published() }
func (l *later) Publish(ctx context.Context) error { return l.of.Load().Publish(ctx) }
func (l *later) Newest() (receipt.Head, []byte)    { return l.of.Load().Newest() }
func (l *later) Witnesses() []witness.State        { return l.of.Load().Witnesses() }
func (l *later) Threshold() int                    { return l.of.Load().Threshold() }
func (l *later) Fault() error                      { return l.of.Load().Fault() }

// flipping changes the last bit of the first write but one byte.
type flipping struct{ http.ResponseWriter }

func (f *flipping) Write(data []byte) (int, error) {
	data = bytes.Clone(data)
	data[len(data)-2] ^= 1
	return f.ResponseWriter.Write(data)
}
