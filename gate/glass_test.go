package gate

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// glassRule declares what the quorum may allow: the child with these arguments, on one host.
const glassRule = `
[[break_glass]]
name = "restore"
initiators = ["` + robotURI + `"]
host_ids = ["` + hostURI + `a"]
audiences = ["` + gateURI + `a"]
lifetime = "30m"
waive_attestation = %[4]v
[[break_glass.scope]]
target = "%[1]s"
operations = ["execute"]
code = ["%[2]s"]
parameters = ["%[3]s"]
`

// emergency is a rig whose policy declares a break-glass scope and whose gate admits it.
type emergency struct {
	*rig
	doc   *firmwarepolicy.Document
	scope artifact.Scope
	args  []string
}

func newEmergency(tb testing.TB, waive bool) *emergency {
	tb.Helper()
	e := &emergency{rig: newRig(tb, newWorld(tb), "a"), args: []string{"who"}}
	e.scope = artifact.Scope{file(tb, e.child, e.args, nil)}
	t := e.scope[0].Terms
	e.version++
	e.codes, e.directories = []string{hex.EncodeToString(t.Code[0].Value)}, []string{"/"} // so that no other policy is published
	text := fmt.Sprintf(authorizationPolicy, e.version) + fmt.Sprintf(authorizationRule, "/", hex.EncodeToString(t.Code[0].Value), 0) +
		fmt.Sprintf(glassRule, e.scope[0].Target, hex.EncodeToString(t.Code[0].Value), hex.EncodeToString(t.Parameters.Value), waive)
	e.doc = must(firmwarepolicy.ParseTOML([]byte(text)))(tb)
	e.publish(record.Authorization, whoURI, text)
	e.trusted.BreakGlass = &artifact.Emergency{Targets: []string{e.scope[0].Target}, Lifetime: time.Hour, Waive: waive}
	return e
}

// draft returns an authorization for half an hour.
func (e *emergency) draft() *record.BreakGlass {
	hash := e.doc.Hash()
	return &record.BreakGlass{Version: record.Version, ID: nonce(e.tb), Host: hostURI + "a", Audience: gateURI + "a", Initiator: robotURI,
		Scope: must(e.scope.Encode())(e.tb), Policy: record.Declared{ID: whoURI, Hash: hash[:], Version: e.doc.Version(), Rule: "restore"},
		IssuedAt: e.seconds(), Expires: e.seconds() + 1800, Why: "the database is lost"}
}

func (e *emergency) signGlass(g *record.BreakGlass, persons ...string) (b record.Bundle) {
	e.tb.Helper()
	enc := must(statement.Marshal(g))(e.tb)
	for _, p := range persons {
		b = must(record.SignAct(context.Background(), b, e.people[p], statement.BreakGlass, statement.Claims{Issuer: issuerURI, Subject: g.Subject(issuerURI)}, enc))(e.tb)
	}
	return b
}

// breaks has the authorization published, and attested unless it is waived; it returns the command that runs the child by it.
func (e *emergency) breaks(g *record.BreakGlass, persons ...string) (Command, *artifact.GlassFile) {
	e.tb.Helper()
	f := &artifact.GlassFile{History: must(e.issuer.KeyHistory(context.Background()))(e.tb), Act: must(e.issuer.Apply(context.Background(), statement.BreakGlass, e.signGlass(g, persons...)))(e.tb)}
	cmd := Command{Path: e.child, Args: e.args}
	if g.Waived == nil {
		f.Attestation, cmd.CNF = e.attests(g)
	}
	cmd.Artifact = must(f.Encode())(e.tb)
	return cmd, f
}

// attests has the host attest for an authorization.
func (e *emergency) attests(g *record.BreakGlass) ([]byte, *attester.Key) {
	e.tb.Helper()
	raw, cnf, err := e.tryAttest(g, func(*artifact.RequestClaims) {})
	if err != nil {
		e.tb.Fatalf("attesting: %v", err)
	}
	return raw, cnf
}

func (e *emergency) tryAttest(g *record.BreakGlass, change func(*artifact.RequestClaims)) ([]byte, *attester.Key, error) {
	e.tb.Helper()
	ctx, conn, exporter := context.Background(), issuer.NewConnection(), [32]byte{1}
	priv, signer := newKey(e.tb)
	thumb, digest := signer.Key().Thumbprint(), statement.DigestOf(must(statement.Marshal(g))(e.tb))
	claims := artifact.RequestClaims{Initiator: robotURI, Host: g.Host, Audience: g.Audience, IssuedAt: e.seconds(), Expires: e.seconds() + 60,
		ID: nonce(e.tb), Confirmation: artifact.Thumbprint{Key: thumb[:]}, Scope: e.scope, Execution: artifact.Execution{ID: g.ID},
		Lifetime: g.Expires - g.IssuedAt, BreakGlass: digest[:]}
	change(&claims)
	ch := must(e.issuer.Challenge(ctx, conn))(e.tb)
	request := must(artifact.SignRequest(ctx, e.people[robotURI], claims))(e.tb)
	point := must(priv.PublicKey.Bytes())(e.tb)
	e.machine.Edit.CNF = func(p *tpm2.TPMTPublic) {
		p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}})
	}
	want := attest.Want{Challenge: attest.Nonce(ch.Challenge), Request: must(artifact.DecodeRequest(request))(e.tb).Digest(), Exporter: exporter,
		Selection: attest.Selection{Bank: "sha256", PCRs: []int{0, 4, 7, 11, 14}}, Bind: []int{7, 11, 14}}
	evidence := e.machine.Evidence(e.tb, want, e.boot.PCRs("sha256"), e.boot.Log)
	answer := e.issuer.Attest
	if claims.BreakGlass == nil {
		answer = e.issuer.Mint
	}
	minted, err := answer(ctx, conn, exporter, request, must(evidence.Encode())(e.tb))
	if err != nil {
		return nil, nil, err
	}
	return minted.Artifact, e.machine.keep(attester.CNF, evidence.CNF, priv), nil
}

func (e *emergency) review(g *record.BreakGlass, persons ...string) error {
	e.tb.Helper()
	digest := statement.DigestOf(must(statement.Marshal(g))(e.tb))
	r := &record.Review{Version: record.Version, Act: digest[:], Time: e.seconds(), Justified: true, Finding: "it was", Nonce: nonce(e.tb)}
	enc := must(statement.Marshal(r))(e.tb)
	var b record.Bundle
	for _, p := range persons {
		b = must(record.SignAct(context.Background(), b, e.people[p], statement.Review, statement.Claims{Issuer: issuerURI, Subject: r.Subject(issuerURI)}, enc))(e.tb)
	}
	_, err := e.issuer.Apply(context.Background(), statement.Review, b)
	return err
}

// glassStart returns the start record of a use of break-glass.
func (e *emergency) glassStart() *record.Record {
	for _, r := range e.records() {
		if r.Event == record.EventStart && r.Glass != nil {
			return r
		}
	}
	return nil
}

// P21: people allow one run, on one host, once; the record says so.
func TestP21_BreakGlassRunsOnce(t *testing.T) {
	t.Parallel()
	e := newEmergency(t, false)
	g := e.draft()
	cmd, _ := e.breaks(g, alice, bob)
	if got := e.runs(cmd, 0); got != "GENUINE-PROGRAM\n" {
		t.Fatalf("got %q", got)
	}
	digest := statement.DigestOf(must(statement.Marshal(g))(t))
	r := e.glassStart()
	if r == nil || !bytes.Equal(r.CTI, g.ID) || !bytes.Equal(r.Artifact, digest[:]) || r.Glass.Attestation == nil || r.Initiator != robotURI || r.Workload != hostURI+"a" {
		t.Fatalf("got start %+v", r)
	}
	e.refuses(cmd, denial.ArtifactReplayed)
	other := cmd
	other.Args = []string{"mark"}
	e.refuses(other, denial.ScopeDenied)
	if got := must(e.issuer.BreakGlass(t.Context()))(t); got != (issuer.BreakGlass{Published: 1, Used: 1, Open: 1}) {
		t.Errorf("got %+v", got)
	}
	if got := e.story(gateURI + "a"); !slices.Equal(got, []string{"start 1", "end 0", "504", "404"}) {
		t.Errorf("got %v", got)
	}
	minted, _ := e.issuer.Counts()
	if minted != 0 {
		t.Errorf("%d artifacts were minted for it", minted)
	}
}

// P21: the use is consumed at the issuer too: a gate that has lost its journal does not get another.
func TestP21_BreakGlassIsUsedOnceAtTheIssuer(t *testing.T) {
	t.Parallel()
	e := newEmergency(t, false)
	cmd, _ := e.breaks(e.draft(), alice, bob)
	e.runs(cmd, 0)
	if err := e.gate.state.replace(usesFile, nil); err != nil {
		t.Fatal(err)
	}
	e.refuses(cmd, denial.ArtifactReplayed)
}

// P22: the quorum may waive attestation where policy and gate let it; the start record names who did.
func TestP22_WaivedAttestation(t *testing.T) {
	t.Parallel()
	e := newEmergency(t, true)
	g := e.draft()
	g.Waived = []string{alice, bob}
	cmd, _ := e.breaks(g, alice, bob)
	e.runs(cmd, 0)
	if r := e.glassStart(); r == nil || !slices.Equal(r.Glass.Waived, []string{alice, bob}) || r.Glass.Words() != "attestation waived by "+alice+" and "+bob {
		t.Errorf("got start %+v", r)
	}
	// without the waiver the host must attest, whatever the policy would allow
	_, f := e.breaks(e.draft(), alice, bob)
	f.Attestation = nil
	e.refuses(Command{Path: e.child, Args: e.args, Artifact: must(f.Encode())(t)}, denial.NoEvidence)
	// a gate that accepts no waiver refuses
	g = e.draft()
	g.Waived = []string{alice, carol}
	cmd, _ = e.breaks(g, alice, carol)
	e.trusted.BreakGlass.Waive = false
	e.reopen()
	e.refuses(cmd, denial.NoEvidence)
}

// P21: what the gate refuses, whoever asks: neither its user nor anything in its environment makes a difference (912).
func TestP21_GateRefusesBreakGlass(t *testing.T) {
	t.Parallel()
	e := newEmergency(t, false)
	cmd, good := e.breaks(e.draft(), alice, bob)
	genuine := e.command("who")
	over := e.another()
	for name, row := range map[string]struct {
		file  func(f *artifact.GlassFile)
		trust func(t *artifact.Trust)
		want  denial.Reason
	}{
		"as it is, not listed at the gate": {nil, func(t *artifact.Trust) { t.BreakGlass = nil }, denial.BreakGlassInvalid},
		"target not listed at the gate":    {nil, func(t *artifact.Trust) { t.BreakGlass.Targets = []string{"file:/usr/bin/other"} }, denial.BreakGlassInvalid},
		"longer than the gate admits":      {nil, func(t *artifact.Trust) { t.BreakGlass.Lifetime = 20 * time.Minute }, denial.BreakGlassInvalid},
		"another genesis":                  {nil, func(t *artifact.Trust) { t.Genesis = statement.Digest{1} }, denial.KeyUnknown},
		"another gate":                     {nil, func(t *artifact.Trust) { t.Audience = gateURI + "b" }, denial.AudienceMismatch},
		"another log":                      {nil, func(t *artifact.Trust) { t.Log = "https://other.example/log" }, denial.IdentityConflict},
		"policy not pinned":                {nil, func(t *artifact.Trust) { t.Policies = t.Policies[:1] }, denial.PolicyHashMismatch},
		"policy pinned higher":             {nil, func(t *artifact.Trust) { t.Policies[1].MinVersion = 99 }, denial.PolicyRollback},
		"appraisal policy pinned higher":   {nil, func(t *artifact.Trust) { t.Policies[0].MinVersion = 99 }, denial.PolicyRollback},
		"trust file expired":               {nil, func(t *artifact.Trust) { t.Expires = e.clock.now() }, denial.PolicyExpired},
		"short of the quorum":              {func(f *artifact.GlassFile) { f.Act = f.Act[:1] }, nil, denial.BreakGlassInvalid},
		"one signature twice":              {func(f *artifact.GlassFile) { f.Act = [][]byte{f.Act[0], f.Act[0]} }, nil, denial.KeyAmbiguous},
		"never logged":                     {func(f *artifact.GlassFile) { f.Act[1] = bare(t, f.Act[1]) }, nil, denial.NoReceipt},
		"receipt of another":               {func(f *artifact.GlassFile) { f.Act[1] = swapReceipt(t, f.Act[1], f.Act[0]) }, nil, denial.ReceiptInvalid},
		"P22 attestation left out":         {func(f *artifact.GlassFile) { f.Attestation = nil }, nil, denial.NoEvidence},
		"P22 attestation not logged":       {func(f *artifact.GlassFile) { f.Attestation = bare(t, f.Attestation) }, nil, denial.NoReceipt},
		"P22 attestation for another":      {func(f *artifact.GlassFile) { f.Attestation = over.Attestation }, nil, denial.WrongType},
		"C16 an act as attestation":        {func(f *artifact.GlassFile) { f.Attestation = f.Act[0] }, nil, denial.KeyUnknown},
		"C16 artifact as act":              {func(f *artifact.GlassFile) { f.Act = [][]byte{genuine.Artifact} }, nil, denial.KeyUnknown},
		"C16 genesis as act":               {func(f *artifact.GlassFile) { f.Act = e.genesis }, nil, denial.WrongType},
	} {
		t.Run(name, func(t *testing.T) {
			f, trust := *good, *e.trusted
			f.Act = slices.Clone(good.Act)
			emergency := *e.trusted.BreakGlass
			trust.BreakGlass, trust.Policies = &emergency, slices.Clone(e.trusted.Policies)
			if row.file != nil {
				row.file(&f)
			}
			if row.trust != nil {
				row.trust(&trust)
			}
			_, err := artifact.VerifyBreakGlass(must(f.Encode())(t), artifact.Want{Trust: &trust, Now: e.clock.now(), Audience: gateURI + "a"})
			if !denial.Is(err, row.want) {
				t.Fatalf("got %v, want %d %s", err, row.want.Code(), row.want)
			}
		})
	}
	// C16: one statement of it is no artifact: its key is trusted for none, and the record key's own statements are of another type
	e.refuses(Command{Path: e.child, Args: e.args, CNF: cmd.CNF, Artifact: good.Act[0]}, denial.KeyUnknown)
	e.refuses(Command{Path: e.child, Args: e.args, CNF: cmd.CNF, Artifact: good.Attestation}, denial.WrongType)
	// the key of another, and none
	for _, cnf := range []*attester.Key{genuine.CNF, nil} {
		e.refuses(Command{Path: e.child, Args: e.args, CNF: cnf, Artifact: cmd.Artifact}, denial.KeyBinding)
	}
	// the host has been restarted since
	e.machine.TPM.Clock.ResetCount++
	e.refuses(cmd, denial.HostMismatch)
	e.machine.TPM.Clock.ResetCount--
	// too late
	e.clock.advance(30 * time.Minute)
	e.refuses(cmd, denial.BreakGlassInvalid)
}

// P21: an authorization counts only if it was logged while it was valid, whatever its issuer logs, and not before it begins.
func TestP21_LoggedOutOfTimeIsWorthless(t *testing.T) {
	t.Parallel()
	e := newEmergency(t, true)
	valid := func(g *record.BreakGlass, at time.Time, more ...string) error {
		var entries []tlog.Entry
		b := e.signGlass(g, append([]string{alice, bob}, more...)...)
		for _, leaf := range b {
			entries = append(entries, tlog.Entry{Leaf: leaf})
		}
		f := artifact.GlassFile{History: must(e.issuer.KeyHistory(context.Background()))(t)}
		for i, done := range must(e.log.Append(t.Context(), entries...))(t) {
			f.Act = append(f.Act, must(statement.Attach(b[i], done.Receipt))(t))
		}
		_, err := artifact.VerifyBreakGlass(must(f.Encode())(t), artifact.Want{Trust: e.trusted, Now: at, Audience: gateURI + "a"})
		return err
	}
	draft := func(ahead time.Duration) *record.BreakGlass {
		g := e.draft()
		g.Waived = []string{alice, bob}
		g.IssuedAt, g.Expires = g.IssuedAt+uint64(ahead/time.Second), g.Expires+uint64(ahead/time.Second)
		return g
	}
	if err := valid(draft(0), e.clock.now()); err != nil {
		t.Fatal(err)
	}
	if err := valid(draft(0), e.clock.now(), carol); !denial.Is(err, denial.BreakGlassInvalid) {
		t.Errorf("signed by all: %v", err)
	}
	if err := valid(draft(50*time.Second), e.clock.now().Add(-50*time.Second)); !denial.Is(err, denial.BreakGlassInvalid) {
		t.Errorf("issued in the future: %v", err)
	}
	early, late := draft(10*time.Minute), draft(-25*time.Minute)
	if err := valid(early, e.clock.now().Add(11*time.Minute)); !denial.Is(err, denial.BreakGlassInvalid) {
		t.Errorf("logged before it was issued: %v", err)
	}
	if err := valid(draft(0), e.clock.now().Add(-2*time.Minute)); !denial.Is(err, denial.BreakGlassInvalid) {
		t.Errorf("issued and logged in the future: %v", err)
	}
	e.clock.advance(5*time.Minute + 20*time.Second)
	if err := valid(late, e.clock.now().Add(-40*time.Second)); !denial.Is(err, denial.BreakGlassInvalid) {
		t.Errorf("logged after it had expired: %v", err)
	}
}

// another returns another published authorization.
func (e *emergency) another() *artifact.GlassFile {
	e.tb.Helper()
	_, f := e.breaks(e.draft(), alice, bob)
	return f
}

func bare(tb testing.TB, raw []byte) []byte {
	tb.Helper()
	return must(statement.Decode(raw, statement.MaxStatement))(tb).Leaf()
}

func swapReceipt(tb testing.TB, raw, from []byte) []byte {
	tb.Helper()
	receipts := must(must(statement.Decode(from, statement.MaxStatement))(tb).Receipts())(tb)
	return must(statement.Attach(bare(tb, raw), receipts...))(tb)
}

// P21: what the issuer refuses to publish.
func TestP21_IssuerRefusesBreakGlass(t *testing.T) {
	t.Parallel()
	e := newEmergency(t, false)
	for name, row := range map[string]struct {
		change  func(g *record.BreakGlass)
		persons []string
		want    denial.Reason
	}{
		"signed by one":         {nil, []string{alice}, denial.BreakGlassInvalid},
		"signed by all":         {nil, []string{alice, bob, carol}, denial.BreakGlassInvalid},
		"signed by a stranger":  {nil, []string{alice, robotURI}, denial.KeyUnknown},
		"beyond the rule: life": {func(g *record.BreakGlass) { g.Expires++ }, nil, denial.BreakGlassInvalid},
		"beyond an hour":        {func(g *record.BreakGlass) { g.Expires = g.IssuedAt + 3601 }, nil, denial.BreakGlassInvalid},
		"beyond the rule: host": {func(g *record.BreakGlass) { g.Host = hostURI + "b" }, nil, denial.NotEnrolled},
		"beyond the rule: gate": {func(g *record.BreakGlass) { g.Audience = gateURI + "b" }, nil, denial.AudienceMismatch},
		"nobody's name":         {func(g *record.BreakGlass) { g.Initiator = "spiffe://example/ghost" }, nil, denial.NotEnrolled},
		"another rule":          {func(g *record.BreakGlass) { g.Policy.Rule = "rule-0" }, nil, denial.BreakGlassInvalid},
		"another policy":        {func(g *record.BreakGlass) { g.Policy.Hash = make([]byte, 32) }, nil, denial.PolicyHashMismatch},
		"another program": {func(g *record.BreakGlass) {
			g.Scope = must(artifact.Scope{file(e.tb, "/bin/sh", []string{"-c", "id"}, nil)}.Encode())(e.tb)
		}, nil, denial.BreakGlassInvalid},
		"any arguments": {func(g *record.BreakGlass) {
			g.Scope = must(artifact.Scope{file(e.tb, e.child, nil, nil)}.Encode())(e.tb)
		}, nil, denial.BreakGlassInvalid},
		"over":                           {func(g *record.BreakGlass) { g.IssuedAt -= 1800; g.Expires -= 1800 }, nil, denial.BreakGlassInvalid},
		"of tomorrow":                    {func(g *record.BreakGlass) { g.IssuedAt += 86400; g.Expires += 86400 }, nil, denial.BreakGlassInvalid},
		"no scope":                       {func(g *record.BreakGlass) { g.Scope = []byte{0x80} }, nil, denial.StructureLimit},
		"P22 waived, and not policy":     {func(g *record.BreakGlass) { g.Waived = []string{alice, bob} }, nil, denial.NoEvidence},
		"P22 waived by who did not sign": {func(g *record.BreakGlass) { g.Waived = []string{bob, carol} }, nil, denial.NoEvidence},
	} {
		t.Run(name, func(t *testing.T) {
			g := e.draft()
			if row.change != nil {
				row.change(g)
			}
			if row.persons == nil {
				row.persons = []string{alice, bob}
			}
			if _, err := e.issuer.Apply(t.Context(), statement.BreakGlass, e.signGlass(g, row.persons...)); !denial.Is(err, row.want) {
				t.Fatalf("got %v, want %d %s", err, row.want.Code(), row.want)
			}
		})
	}
	g := e.draft()
	e.breaks(g, alice, bob)
	if _, err := e.issuer.Apply(t.Context(), statement.BreakGlass, e.signGlass(g, alice, bob)); !denial.Is(err, denial.ArtifactReplayed) {
		t.Errorf("published twice: %v", err)
	}
	again := e.draft()
	again.ID = g.ID
	if _, err := e.issuer.Apply(t.Context(), statement.BreakGlass, e.signGlass(again, alice, bob)); !denial.Is(err, denial.ArtifactReplayed) {
		t.Errorf("an id twice: %v", err)
	}
	for _, target := range []struct {
		cause  record.Cause
		target string
		want   denial.Reason
	}{{record.CauseInitiator, robotURI, denial.InitiatorRevoked}, {record.CauseHost, hostURI + "a", denial.HostRevoked}} {
		e.revoke(target.cause, target.target)
		if _, err := e.issuer.Apply(t.Context(), statement.BreakGlass, e.signGlass(e.draft(), alice, bob)); !denial.Is(err, target.want) {
			t.Errorf("revoked %s: %v", target.cause, err)
		}
	}
}

// P12, P21: an authorization that is revoked after it was published does not run, though no status list is asked.
func TestP21_RevokedBreakGlassDoesNotRun(t *testing.T) {
	t.Parallel()
	e := newEmergency(t, false)
	g := e.draft()
	cmd, _ := e.breaks(g, alice, bob)
	e.revoke(record.CauseArtifact, hex.EncodeToString(g.ID))
	e.refuses(cmd, denial.ArtifactRevoked)
}

// P22: a host in another state than policy wants does not get its attestation, nor does a request for anything else.
func TestP22_AttestationIsDecidedLikeAnArtifact(t *testing.T) {
	t.Parallel()
	e := newEmergency(t, false)
	g := e.draft()
	if _, _, err := e.tryAttest(g, func(*artifact.RequestClaims) {}); !denial.Is(err, denial.BreakGlassInvalid) {
		t.Errorf("before it is published: %v", err)
	}
	e.breaks(g, alice, bob)
	wider := e.scope.Canonical()
	wider[0].Terms.Parameters = nil
	for name, row := range map[string]struct {
		change func(c *artifact.RequestClaims)
		want   denial.Reason
	}{
		"wider scope":       {func(c *artifact.RequestClaims) { c.Scope = wider }, denial.BreakGlassInvalid},
		"another gate":      {func(c *artifact.RequestClaims) { c.Audience = gateURI + "b" }, denial.BreakGlassInvalid},
		"another execution": {func(c *artifact.RequestClaims) { c.Execution.ID = nonce(t) }, denial.BreakGlassInvalid},
		"longer":            {func(c *artifact.RequestClaims) { c.Lifetime++ }, denial.BreakGlassInvalid},
		"two uses":          {func(c *artifact.RequestClaims) { c.Limits = &artifact.Limits{Uses: 2} }, denial.BreakGlassInvalid},
		"another act":       {func(c *artifact.RequestClaims) { c.BreakGlass = make([]byte, 32) }, denial.BreakGlassInvalid},
		"C16 an artifact instead": {func(c *artifact.RequestClaims) {
			c.BreakGlass = nil
			c.Scope = artifact.Scope{file(t, "/bin/ls", nil, nil)}
		}, denial.ScopeDenied},
	} {
		if _, _, err := e.tryAttest(g, row.change); !denial.Is(err, row.want) {
			t.Errorf("%s: got %v, want %d", name, err, row.want.Code())
		}
	}
	bad := strings.Replace(fmt.Sprintf(appraisalPolicy, make([]byte, 32)), "version = 1", "version = 2", 1)
	e.publish(record.Appraisal, whatURI, bad)
	if _, _, err := e.tryAttest(g, func(*artifact.RequestClaims) {}); !denial.Is(err, denial.PCRNotAllowed) {
		t.Errorf("a host in another state: %v", err)
	}
}

// P21: no review within a day, no more break-glass; a review by those who signed is none.
func TestP21_AbsentReviewBlocks(t *testing.T) {
	t.Parallel()
	e := newEmergency(t, false)
	g := e.draft()
	e.breaks(g, alice, bob)
	e.clock.advance(24*time.Hour - time.Minute)
	second := e.draft()
	e.breaks(second, alice, bob) // there is still a minute left
	e.clock.advance(2 * time.Minute)
	if _, err := e.issuer.Apply(t.Context(), statement.BreakGlass, e.signGlass(e.draft(), alice, bob)); !denial.Is(err, denial.BreakGlassInvalid) {
		t.Fatalf("the review is overdue: %v", err)
	}
	if got := must(e.issuer.BreakGlass(t.Context()))(t); got.Open != 2 || got.Overdue != 1 {
		t.Errorf("got %+v", got)
	}
	if err := e.review(g, alice, bob); !denial.Is(err, denial.BreakGlassInvalid) {
		t.Errorf("reviewed by those who signed: %v", err)
	}
	if err := e.review(g, carol); !denial.Is(err, denial.BreakGlassInvalid) {
		t.Errorf("reviewed by one: %v", err)
	}
	if err := e.review(e.draft(), alice, carol); !denial.Is(err, denial.NoArtifact) {
		t.Errorf("reviewed what never was: %v", err)
	}
	if err := e.review(g, alice, carol); err != nil {
		t.Fatal(err)
	}
	if err := e.review(g, bob, carol); !denial.Is(err, denial.RequestReplayed) {
		t.Errorf("reviewed twice: %v", err)
	}
	e.breaks(e.draft(), alice, bob)
	if got := must(e.issuer.BreakGlass(t.Context()))(t); got.Open != 2 || got.Overdue != 0 || got.Reviewed != 1 || got.Published != 3 {
		t.Errorf("got %+v", got)
	}
}
