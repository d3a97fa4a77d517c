package gate

import (
	"context"
	"crypto/sha256"
	"path/filepath"
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/test/swtpm"
)

// hardRig is a gate on a machine with a TPM that is a program of its own, enrolled through it and booted.
type hardRig struct {
	*rig
	emulator *swtpm.TPM
	tpm      *attester.TPM
}

// newHardWorld returns machines, one for each name, that are enrolled with one issuer.
func newHardWorld(tb testing.TB, names ...string) []*hardRig {
	tb.Helper()
	ca := tb.TempDir()
	rigs := make([]*hardRig, len(names))
	for i := range names {
		rigs[i] = &hardRig{emulator: swtpm.New(tb, swtpm.Options{CA: ca})}
	}
	root := must(rigs[0].emulator.Root())(tb)
	w := newWorld(tb, root)
	for i, name := range names {
		h := rigs[i]
		h.rig = &rig{uptime: newStopwatch(), world: w, name: name, line: &line{issuer: w.issuer}, state: filepath.Join(tb.TempDir(), "state"), trusted: w.trust()}
		h.extend(h.bootExtends()...)
		h.connect()
		h.enrol()
		h.mint = h.mintHard
		h.child = h.program("child", childProgram(tb))
		h.reopen()
	}
	return rigs
}

func (h *hardRig) bootExtends() (out []swtpm.Extend) {
	for _, e := range h.boot.Extends {
		out = append(out, swtpm.Extend(e))
	}
	return out
}

// extend extends PCRs. No client may be connected.
func (h *hardRig) extend(list ...swtpm.Extend) {
	h.tb.Helper()
	if err := h.emulator.ExtendAll(context.Background(), list); err != nil {
		h.tb.Fatal(err)
	}
}

func (h *hardRig) connect() {
	h.tb.Helper()
	tpm := must(attester.Open(context.Background(), h.emulator.Socket))(h.tb)
	h.tpm, h.rig.tpm = tpm, Host(tpm)
	h.tb.Cleanup(func() { _ = tpm.Close() }) // it may be closed already
}

func (h *hardRig) disconnect() {
	h.tb.Helper()
	if err := h.tpm.Close(); err != nil {
		h.tb.Fatal(err)
	}
}

func (h *hardRig) enrol() {
	h.tb.Helper()
	ctx, conn := context.Background(), issuer.NewConnection()
	between := must(h.emulator.Intermediate())(h.tb)
	e := must(h.tpm.Enrol(ctx, attester.EnrolOptions{Intermediates: [][]byte{between.Raw}, Gate: true}))(h.tb)
	h.approve(e.EK.Digest())
	cred := must(h.issuer.BeginEnrolment(ctx, conn, e.Request))(h.tb)
	secret := must(h.tpm.Activate(ctx, e.EK.Kind, *cred))(h.tb)
	must(h.issuer.FinishEnrolment(ctx, conn, secret))(h.tb)
	if err := Init(h.state, e.Gate); err != nil {
		h.tb.Fatal(err)
	}
}

func (h *hardRig) mintHard(p permit) ([]byte, *attester.Key) {
	h.tb.Helper()
	ctx, conn := context.Background(), issuer.NewConnection()
	h.allow(p.scope)
	ch := must(h.issuer.Challenge(ctx, conn))(h.tb)
	bind := []int{7, 11, 14}
	cnf := p.cnf
	if cnf == nil {
		cnf = must(h.tpm.NewCNF(ctx, attest.Selection{Bank: "sha256", PCRs: bind}))(h.tb)
	}
	request := h.request(p, must(cnf.Verifier())(h.tb))
	o := attester.CollectOptions{Challenge: attest.Nonce(ch.Challenge), RequestDigest: must(artifact.DecodeRequest(request))(h.tb).Digest(),
		Exporter: [32]byte{1}, Selection: attest.Selection{Bank: "sha256", PCRs: []int{0, 4, 7, 11, 14}}, Bind: bind, CNF: cnf, EventLog: h.boot.Log}
	collected := must(h.tpm.Collect(ctx, o))(h.tb)
	minted, err := h.issuer.Mint(ctx, conn, o.Exporter, request, collected.Evidence)
	if err != nil {
		h.tb.Fatalf("minting: %v", err)
	}
	return minted.Artifact, collected.CNF
}

// Artifacts of one cnf key stay apart: each has its own uses.
func TestOneKeyServesTwoArtifacts(t *testing.T) {
	t.Parallel()
	a := newHardWorld(t, "a")[0]
	first := permit{scope: artifact.Scope{file(t, a.child, nil, nil)}, uses: 1}
	one := a.commandFor(first, a.child, "exit", "6")
	second := first
	second.cnf = one.CNF
	two := a.commandFor(second, a.child, "exit", "6")
	a.runs(two, 6)
	a.runs(one, 6)
	a.refusesAt(two, denial.ArtifactReplayed, denial.StageUses)
	a.refusesAt(one, denial.ArtifactReplayed, denial.StageUses)
}

func TestX11_ArtifactIsOfOneHostOneBootAndOneState(t *testing.T) {
	t.Parallel()
	rigs := newHardWorld(t, "a", "b")
	a, b := rigs[0], rigs[1]
	scope := permit{scope: artifact.Scope{file(t, a.child, nil, nil)}, uses: 2}
	cmd := a.commandFor(scope, a.child, "exit", "6")
	a.runs(cmd, 6)

	carried := scope
	carried.audience = gateURI + "b"
	onB := a.commandFor(carried, a.child, "exit", "6")
	b.refusesAt(onB, denial.HostMismatch, denial.StagePossession)

	foreign := cmd
	_, foreign.CNF = b.mint(permit{scope: scope.scope})
	a.refusesAt(foreign, denial.HostMismatch, denial.StagePossession) // the blob of another TPM
	_, foreign.CNF = a.mint(permit{scope: scope.scope})
	a.refusesAt(foreign, denial.KeyBinding, denial.StagePossession) // a key of this TPM that the artifact does not name

	// A PCR that the key is bound to changes: nobody but the TPM needs to notice.
	stale := a.commandFor(scope, a.child, "exit", "6")
	a.disconnect()
	more := sha256.Sum256([]byte("something else was loaded"))
	a.extend(swtpm.Extend{PCR: 14, Digests: map[string][]byte{"sha256": more[:]}})
	a.connect()
	a.reopen()
	a.refusesAt(stale, denial.KeyBinding, denial.StagePossession)

	// After a restart the very same boot brings the key back, but not the artifact.
	a.disconnect()
	if err := a.emulator.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.extend(a.bootExtends()...)
	a.connect()
	a.reopen()
	a.refusesAt(stale, denial.HostMismatch, denial.StagePossession)
	a.runs(a.commandFor(scope, a.child, "exit", "6"), 6)

	// A gate whose TPM does not answer runs nothing, and neither does one whose key another TPM made.
	path, ran := a.mark()
	last := a.commandFor(scope, a.child, "mark", path)
	a.disconnect()
	if out, _ := a.exec(last); out.Started || out.Denied == nil || ran() || !out.Spooled {
		t.Errorf("without a TPM: ran: %v, got %+v", ran(), out)
	}
	o := a.options()
	o.TPM = b.rig.tpm
	if _, err := Open(t.Context(), o); !denial.Is(err, denial.HostMismatch) {
		t.Errorf("with the TPM of another host: got %v, want 701", err)
	}
}
