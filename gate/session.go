package gate

import (
	"bytes"
	"context"
	"crypto/rand"
	"path/filepath"
	"slices"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// session is one command on its way through the gate order.
type session struct {
	*Gate
	cmd        Command
	run        *denial.Run
	claims     artifact.Claims // unverified until artifact is set: good for the record of a denial only
	digest     statement.Digest
	artifact   *artifact.Artifact
	glass      *artifact.Glass // in place of an artifact
	launch     launch
	permission artifact.Permission // for the file that the command names
	use        uint64
	startLeaf  statement.Digest
	index      uint64
	lease      *lease // from the start record on
}

func (s *session) close() {
	s.launch.close()
	s.lease.over()
}

// start makes all checks and starts the program, under its lease.
func (s *session) start(ctx context.Context) (wait func() exitStatus, err error) {
	if err := s.verify(ctx); err != nil {
		return nil, err
	}
	for _, step := range []struct {
		check func() error
		stage denial.Stage
	}{
		{s.scope, denial.StageScope},
		{func() error { return s.possession(ctx) }, denial.StagePossession},
		{s.consume, denial.StageUses},
		{func() error { return s.startRecord(ctx) }, denial.StageStartRecord},
		{s.ready, denial.StageRun},
	} {
		if err := s.run.Check(step.check, step.stage); err != nil {
			return nil, err
		}
	}
	if err := s.run.Allowed(); err != nil {
		return nil, err
	}
	wait, err = s.launch.start(s.lease.begin(ctx, s.artifact), s.o.keep, s.cmd, s.environment(), s.directory())
	if err != nil {
		return nil, denial.New(denial.Internal, "the program could not be started: %v", err).At(denial.StageRun)
	}
	return wait, nil
}

// ready refuses what has expired since it was checked (201), and a launch whose bytes have changed (617).
func (s *session) ready() error {
	if s.lease.left() <= 0 {
		return denial.New(denial.Expired, "the artifact has expired while it was checked")
	}
	return s.launch.check()
}

// order returns the order of checks for what is presented. The form decides between an artifact and a break-glass
// authorization, neither of which can be read as the other (C16).
func order(presented []byte) denial.Order {
	if artifact.IsGlassFile(presented) {
		return denial.BreakGlassOrder()
	}
	return denial.GateOrder()
}

// verify checks what is presented up to the pins or to revocation.
func (s *session) verify(ctx context.Context) error {
	if artifact.IsGlassFile(s.cmd.Artifact) {
		return s.verifyGlass(ctx)
	}
	return s.verifyArtifact(ctx)
}

// verifyGlass checks a break-glass authorization. The rest of the session knows it by the claims that an artifact would have.
func (s *session) verifyGlass(ctx context.Context) error {
	if f, err := artifact.DecodeGlassFile(s.cmd.Artifact); err == nil {
		if p, digest, err := f.Inspect(); err == nil {
			s.claims, s.digest = artifact.Claims{ID: p.ID}, digest // unverified
		}
	}
	trust, err := s.learn(ctx)
	if err != nil {
		return err
	}
	g, err := artifact.CheckBreakGlass(s.run, s.cmd.Artifact, artifact.Want{Trust: trust, Now: s.o.Now(), Audience: s.o.Audience})
	if err != nil {
		return err
	}
	p := g.Payload()
	s.glass, s.digest = g, g.Digest()
	s.claims = artifact.Claims{Subject: p.Host, Audience: p.Audience, Expires: p.Expires, ID: p.ID, Scope: g.Scope(),
		Execution: artifact.Execution{ID: p.ID}, Initiator: artifact.Initiator{Principal: p.Initiator},
		Policy: artifact.PolicyRef{ID: p.Policy.ID, Hash: artifact.Digest{Algorithm: artifact.SHA256, Value: p.Policy.Hash}}}
	if a := g.Attested(); a != nil {
		s.claims.Environment.AK.Name, s.claims.BootSeed = a.AK, a.BootSeed
	}
	return nil
}

// verifyArtifact checks the artifact up to revocation. Its status list is fetched only once everything before has passed, so
// that nobody makes the gate ask for, or remember, a list that no genuine artifact names.
func (s *session) verifyArtifact(ctx context.Context) error {
	if c, digest, err := artifact.Inspect(s.cmd.Artifact); err == nil {
		s.claims, s.digest = c, digest
	}
	trust, err := s.trust()
	if err != nil {
		return err
	}
	want := artifact.Want{Trust: trust, Now: s.o.Now(), Audience: s.o.Audience}
	var unknown error
	_, err = artifact.Verify(s.cmd.Artifact, want)
	if genuine := err != nil && denial.Of(err).Stage == denial.StageGateRevocation; genuine || dependsOnKeys(err) {
		if want.Trust, err = s.learn(ctx); err != nil {
			return err
		}
		if !genuine {
			_, err = artifact.Verify(s.cmd.Artifact, want)
			genuine = err != nil && denial.Of(err).Stage == denial.StageGateRevocation
		}
		if genuine {
			want.Status, unknown = s.status(ctx, want.Trust, s.claims.Status.List.URI)
		}
	}
	a, err := artifact.Check(s.run, s.cmd.Artifact, want)
	switch {
	case err != nil && unknown != nil && denial.Of(err).Stage == denial.StageGateRevocation:
		return denial.Of(unknown).At(denial.StageGateRevocation) // says why there is no list
	case err != nil:
		return err
	}
	s.artifact, s.claims, s.digest = a, a.Claims(), a.Digest()
	return nil
}

// status fetches and verifies the status list at uri.
func (s *session) status(ctx context.Context, trust *artifact.Trust, uri string) (*artifact.Status, error) {
	token, err := s.o.Issuer.Status(ctx, uri)
	if err != nil {
		return nil, denial.New(denial.RevocationUnknown, "the issuer's status list cannot be had")
	}
	return s.readStatus(trust, uri, token)
}

// readStatus verifies a status list that was fetched from uri, and remembers that it was seen.
func (s *session) readStatus(trust *artifact.Trust, uri string, token []byte) (*artifact.Status, error) {
	c, err := s.state.loadChain()
	if err != nil {
		return nil, err
	}
	status, err := artifact.VerifyStatus(token, trust, s.o.Now(), c.Seen[uri])
	if err != nil || status.URI() != uri { // another list than asked for is for the check of revocation to refuse
		return status, err
	}
	return status, s.state.see(c, uri, status.IssuedAt())
}

// scope loads the program into sealed memory and admits exactly those bytes with these arguments; for a script its
// interpreter too, told to run the script with them. An interpreter by itself is refused (619): whatever file its
// arguments name would be read after the checks, and hashed by nobody.
func (s *session) scope() (err error) {
	argv := s.cmd.argv()
	if s.launch.program, s.permission, err = s.admit(s.cmd.Path, argv); err != nil {
		return err
	}
	interpreter, option, ok, err := s.launch.program.shebang()
	if err != nil {
		return err
	}
	if !ok && artifact.IsInterpreter(filepath.Base(s.cmd.Path)) {
		return denial.New(denial.InterpreterUngoverned, "an interpreter runs only what a script's first line gives it: it would read its file unchecked")
	}
	if ok {
		s.launch.script, s.launch.program, s.launch.option = s.launch.program, nil, option
		if s.launch.program, _, err = s.admit(interpreter, s.launch.argv(interpreter, s.cmd.Path, argv)); err != nil {
			return err
		}
	}
	return s.launch.program.native()
}

// admit loads a file that the scope names, and admits its bytes. Nothing is opened that the scope does not name.
func (s *session) admit(path string, argv []string) (*program, artifact.Permission, error) {
	use := artifact.Use{Target: "file:" + path, Operation: artifact.Execute, Argv: argv}
	if !slices.ContainsFunc(s.claims.Scope, func(p artifact.Permission) bool { return p.Target == use.Target }) {
		return nil, artifact.Permission{}, denial.New(denial.ScopeDenied, "the scope does not name the program or its interpreter")
	}
	p, err := load(path)
	if err != nil {
		return nil, artifact.Permission{}, err
	}
	use.Code = artifact.SHA256Digest(p.digest)
	permission, err := s.claims.Scope.Admit(use)
	if err != nil {
		p.close()
		return nil, artifact.Permission{}, err
	}
	return p, permission, nil
}

// possession checks that who calls may present what this initiator was given, and that this is the host and the boot that the artifact was issued to, and that its TPM lets the
// confirmation key sign: which it refuses if a PCR that the key is bound to has changed. Where a quorum has waived
// attestation there is no such key: the host is then the one whose gate key signs the start record, as the issuer checks.
func (s *session) possession(ctx context.Context) error {
	if err := s.o.Callers.check(s.claims.Initiator.Principal, s.o.caller); err != nil {
		return err
	}
	if s.glass != nil && s.glass.Attested() == nil {
		return nil
	}
	public, err := s.o.TPM.AK(ctx)
	if err != nil {
		return err
	}
	name, err := attest.Name(public)
	if err != nil {
		return err
	}
	if !bytes.Equal(name, s.claims.Environment.AK.Name) {
		return denial.New(denial.HostMismatch, "the artifact was issued to another host")
	}
	clock, err := s.o.TPM.Clock(ctx)
	if err != nil {
		return err
	}
	if !bytes.Equal(artifact.BootSeed(name, uint32(clock.Resets), uint32(clock.Restarts)), s.claims.BootSeed) {
		return denial.New(denial.HostMismatch, "the host has been restarted since the artifact was issued")
	}
	return s.prove(ctx)
}

func (s *session) prove(ctx context.Context) error {
	if s.cmd.CNF == nil {
		return denial.New(denial.KeyBinding, "the confirmation key is missing")
	}
	signer, err := s.o.TPM.Signer(ctx, s.cmd.CNF)
	if err != nil {
		return err
	}
	var nonce artifact.GateNonce
	if _, err := rand.Read(nonce[:]); err != nil {
		return err
	}
	params := artifact.ParametersDigest(s.cmd.argv())
	proof, err := artifact.SignPossession(ctx, signer, artifact.Possession{Holder: s.claims.Subject, Audience: s.claims.Audience,
		Artifact: s.digest, Parameters: params, Nonce: nonce, IssuedAt: uint64(s.o.Now().Unix())})
	if err != nil {
		return err
	}
	if s.glass != nil {
		return s.glass.VerifyPossession(proof, nonce, params, s.o.Now())
	}
	return artifact.VerifyPossession(proof, s.artifact, nonce, params, s.o.Now())
}

// consume takes the next use of the artifact, durably, before anything happens with it.
func (s *session) consume() error {
	most := s.claims.Limits.MaxUses()
	n, err := s.state.consume(s.claims.ID, s.claims.Expires, most, s.o.Now())
	switch {
	case err != nil:
		return err
	case n > most && most == 1:
		return denial.New(denial.ArtifactReplayed, "the artifact has been used")
	case n > most:
		return denial.New(denial.UseCountExceeded, "the artifact's %d uses are gone", most)
	}
	s.use = n
	return nil
}

// startSkew is by how many seconds the clock of the log may lie behind the gate's.
const startSkew = 300

// startRecord has the start logged and checks the receipt. One of an earlier time than the record's is refused (902):
// a log key that has been retired must not vouch for what runs now.
func (s *session) startRecord(ctx context.Context) error {
	r := s.newRecord(record.EventStart)
	code, args := s.launch.program.digest, artifact.ParametersDigest(s.cmd.argv())
	r.Execution = &record.Execution{ID: s.claims.Execution.ID, Use: s.use, Code: code[:], Args: args.Value}
	if s.launch.script != nil {
		script := s.launch.script.digest
		r.Execution.Script = script[:]
	}
	if s.glass != nil {
		r.Glass = s.glass.Start()
	}
	s.lease = s.newLease(r.Time)
	sent, err := s.send(ctx, r)
	if err != nil {
		return err
	}
	if sent.time+startSkew < r.Time {
		return denial.New(denial.AuditUnavailable, "the receipt is older than the record")
	}
	s.startLeaf, s.index = sent.digest, sent.index
	return nil
}

// ended has the end logged, or spooled, and why the gate ended the program if it did.
func (s *session) ended(ctx context.Context, status exitStatus, why *denial.Denial) {
	r := s.newRecord(record.EventEnd)
	r.Execution = &record.Execution{ID: s.claims.Execution.ID, Use: s.use, Start: s.startLeaf[:], Status: status.recorded(), Left: uint64(status.Left)}
	if why != nil {
		r.Execution.Ended = uint64(why.Reason.Code())
	}
	_, _ = s.send(context.WithoutCancel(ctx), r) // the program has run: what cannot be sent waits, and the outcome says so
}

// newRecord starts a record about the artifact at hand.
func (s *session) newRecord(e record.Event) *record.Record {
	r := &record.Record{Version: record.Version, Event: e, Time: uint64(s.o.Now().Unix())}
	if len(s.claims.ID) > 0 {
		digest := s.digest
		r.CTI, r.Artifact = s.claims.ID, digest[:]
	}
	if s.artifact != nil || s.glass != nil {
		r.Workload, r.Initiator = s.claims.Subject, s.claims.Initiator.Principal
		r.Policy = &record.PolicyRef{ID: s.claims.Policy.ID, Hash: s.claims.Policy.Hash.Value}
	}
	return r
}

// refused has the denial logged, or spooled, and returns the outcome.
func (s *session) refused(ctx context.Context, d *denial.Denial) Outcome {
	r := s.newRecord(record.EventDenial)
	r.FillDenial(d, s.run.States())
	sent, err := s.send(context.WithoutCancel(ctx), r)
	return Outcome{Denied: d, Logged: err == nil, Index: sent.index, Spooled: s.state.pending() > 0, Checks: s.run.Describe()}
}

// environment returns what the scope names of the caller's environment, and nothing else (X05).
func (s *session) environment() []string {
	if c := s.permission.Terms.Constraints; c != nil {
		return allowed(s.cmd.Env, c.Env)
	}
	return []string{}
}

// directory returns the working directory, which the scope fixes (X09).
func (s *session) directory() string {
	if c := s.permission.Terms.Constraints; c != nil && c.Directory != "" {
		return c.Directory
	}
	return "/"
}
