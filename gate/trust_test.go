package gate

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// refusesAt is refuses, at a stage.
func (r *rig) refusesAt(cmd Command, want denial.Reason, stage denial.Stage) {
	r.tb.Helper()
	if out := r.refuses(cmd, want); out.Denied != nil && out.Denied.Stage != stage {
		r.tb.Errorf("%s was decided at %s, want %s", want, out.Denied.Stage, stage)
	}
}

func TestX22_PinsThatChange(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	cmd := r.command("exit", "0")
	pin := func(id string) *artifact.Pin {
		i := slices.IndexFunc(r.trusted.Policies, func(p artifact.Pin) bool { return p.ID == id })
		return &r.trusted.Policies[i]
	}
	for _, row := range []struct {
		name   string
		change func(t *artifact.Trust)
		want   denial.Reason
		stage  denial.Stage
	}{
		{"other appraisal policy", func(*artifact.Trust) { pin(whatURI).Hash = make([]byte, 32) }, denial.PolicyHashMismatch, denial.StagePins},
		{"other authorization policy", func(*artifact.Trust) { pin(whoURI).Hash = make([]byte, 32) }, denial.PolicyHashMismatch, denial.StagePins},
		{"later appraisal policy", func(*artifact.Trust) { pin(whatURI).MinVersion = 2 }, denial.PolicyRollback, denial.StagePins},
		{"later authorization policy", func(*artifact.Trust) { pin(whoURI).MinVersion = 99 }, denial.PolicyRollback, denial.StagePins},
		{"no such policy", func(*artifact.Trust) { pin(whoURI).ID += "/2" }, denial.PolicyHashMismatch, denial.StagePins},
		{"expired", func(t *artifact.Trust) { t.Expires = time.Now().Add(-time.Second) }, denial.PolicyExpired, denial.StagePins},
		{"other gate", func(t *artifact.Trust) { t.Audience = gateURI + "b" }, denial.AudienceMismatch, denial.StageAudience},
		{"other log", func(t *artifact.Trust) { t.Log += "/2" }, denial.ReceiptInvalid, denial.StageReceipt},
		{"other keys, from another genesis", func(t *artifact.Trust) {
			t.Genesis = statement.Digest{1} // else the issuer could show that genesis names the key
			t.Keys = slices.DeleteFunc(t.Keys, func(k artifact.TrustKey) bool { return k.Purpose == artifact.PurposeArtifact })
		}, denial.KeyUnknown, denial.StageSignature},
		{"a key of the issuer left out", func(t *artifact.Trust) {
			t.Keys = slices.DeleteFunc(t.Keys, func(k artifact.TrustKey) bool { return k.Purpose == artifact.PurposeArtifact })
		}, denial.KeyUnknown, denial.StageSignature},
		{"shorter lifetime", func(t *artifact.Trust) { t.Lifetime = time.Minute }, denial.LifetimeTooLong, denial.StageTime},
	} {
		t.Run(row.name, func(t *testing.T) {
			good := r.trusted
			r.trusted = r.trust()
			defer func() { r.trusted = good; r.reopen() }()
			row.change(r.trusted)
			r.reopen()
			r.refusesAt(cmd, row.want, row.stage)
		})
	}
	r.runs(cmd, 0) // no refusal has taken its use
}

func TestX22_WhatIsRevoked(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		cause  record.Cause
		target func(artifact.Claims) string
		want   denial.Reason
	}{
		{"artifact", record.CauseArtifact, func(c artifact.Claims) string { return hex.EncodeToString(c.ID) }, denial.ArtifactRevoked},
		{"host", record.CauseHost, func(artifact.Claims) string { return hostURI + "a" }, denial.HostRevoked},
		{"initiator", record.CauseInitiator, func(artifact.Claims) string { return robotURI }, denial.InitiatorRevoked},
		{"authorization policy", record.CausePolicy, func(c artifact.Claims) string { return hex.EncodeToString(c.Policy.Hash.Value) }, denial.PolicyWithdrawn},
		{"appraisal policy", record.CausePolicy, func(c artifact.Claims) string { return hex.EncodeToString(c.Policy.Appraisal.Hash.Value) }, denial.PolicyWithdrawn},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t, newWorld(t), "a")
			cmd := r.often(2, "exit", "0")
			r.runs(cmd, 0)
			claims, _, err := artifact.Inspect(cmd.Artifact)
			if err != nil {
				t.Fatal(err)
			}
			r.revoke(row.cause, row.target(claims))
			r.refusesAt(cmd, row.want, denial.StageGateRevocation)
		})
	}
}

func TestX23_WhatIsNoArtifact(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	cmd := r.command("exit", "0")
	good := slices.Clone(cmd.Artifact)
	env := must(statement.Decode(good, len(good)))(t)
	request := r.request(permit{scope: artifact.Scope{file(t, r.child, nil, nil)}}, must(cmd.CNF.Verifier())(t))
	for _, row := range []struct {
		name string
		raw  []byte
		want denial.Reason // zero: whichever bad proof it is
	}{
		{"no file", nil, denial.NoArtifact},
		{"empty file", []byte{}, denial.NoArtifact},
		{"garbage", []byte("allow: true\n"), 0},
		{"cut short", good[:len(good)-1], 0},
		{"newline", append(slices.Clone(good), '\n'), denial.TrailingData},
		{"twice", append(slices.Clone(good), good...), denial.TrailingData},
		{"no receipt", env.Leaf(), denial.NoReceipt},
		{"a receipt alone", must(env.Receipts())(t)[0], 0},
		{"a request", request, denial.KeyUnknown},
		{"zeros", make([]byte, 4096), 0},
		{"too large", make([]byte, 1<<20), denial.StructureLimit},
	} {
		t.Run(row.name, func(t *testing.T) {
			bad := cmd
			bad.Artifact = row.raw
			out, text := r.exec(bad)
			if out.Started || out.Denied == nil || text != "" {
				t.Fatalf("got %+v and %q", out, text)
			}
			if row.want != 0 {
				wantDenied(t, out, row.want)
			} else if out.Denied.Reason.Condition() != denial.ConditionBadProof {
				t.Errorf("got %v, want a bad proof", out.Denied)
			}
			if !out.Logged {
				t.Error("the denial is not in the log")
			}
		})
	}
	for i := 0; i < len(good); i += 97 {
		bad := cmd
		bad.Artifact = slices.Clone(good)
		bad.Artifact[i] ^= 0x20
		if out, text := r.exec(bad); out.Started || out.Denied == nil || text != "" {
			t.Errorf("with byte %d changed: got %+v", i, out)
		}
	}
	if len(r.line.asked) != 0 {
		t.Errorf("the gate asked for the status lists %q, which no genuine artifact names", r.line.asked)
	}
	r.runs(cmd, 0)
}

func TestX24_RevocationThatIsNotKnown(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	cmd := r.command("exit", "0")
	type pass = func() ([]byte, error)
	var old []byte
	_, stranger := newKey(t)
	list := func(key statement.Signer, change func(*artifact.StatusList)) []byte {
		l := artifact.StatusList{Issuer: issuerURI, URI: base + "/v1/status/0", IssuedAt: r.seconds(), Expires: r.seconds() + 900, TTL: 60,
			Values: make([]artifact.StatusValue, 64)}
		change(&l)
		return must(artifact.SignStatus(t.Context(), key, l))(t)
	}
	status := r.keys[record.PurposeStatus]
	for _, row := range []struct {
		name  string
		token func(uri string, pass pass) ([]byte, error)
		want  denial.Reason
	}{
		{"issuer not reached", func(string, pass) ([]byte, error) { return nil, errDown }, denial.RevocationUnknown},
		{"issuer refuses", func(string, pass) ([]byte, error) { return nil, denial.New(denial.Overloaded, "") }, denial.RevocationUnknown},
		{"nothing", func(string, pass) ([]byte, error) { return nil, nil }, 0},
		{"garbage", func(string, pass) ([]byte, error) { return []byte("{}"), nil }, 0},
		{"of a stranger", func(string, pass) ([]byte, error) { return list(stranger, func(*artifact.StatusList) {}), nil }, denial.KeyUnknown},
		{"signed with the artifact key", func(string, pass) ([]byte, error) {
			return list(r.keys[record.PurposeArtifact], func(*artifact.StatusList) {}), nil
		}, denial.WrongType},
		{"of another issuer", func(string, pass) ([]byte, error) {
			return list(status, func(l *artifact.StatusList) { l.Issuer += "/2" }), nil
		}, denial.IdentityConflict},
		{"another list", func(string, pass) ([]byte, error) {
			return list(status, func(l *artifact.StatusList) { l.URI = base + "/v1/status/1" }), nil
		}, denial.RevocationUnknown},
		{"stale", func(string, pass) ([]byte, error) {
			return list(status, func(l *artifact.StatusList) { l.IssuedAt -= 61 }), nil
		}, denial.RevocationUnknown},
		{"of tomorrow", func(string, pass) ([]byte, error) {
			return list(status, func(l *artifact.StatusList) { l.IssuedAt += 86400; l.Expires += 86400 }), nil
		}, denial.RevocationUnknown},
		{"too short", func(string, pass) ([]byte, error) {
			return list(status, func(l *artifact.StatusList) { l.Values = nil }), nil
		}, denial.RevocationUnknown},
		{"unknown value", func(string, pass) ([]byte, error) {
			return list(status, func(l *artifact.StatusList) {
				for i := range l.Values {
					l.Values[i] = 9
				}
			}), nil
		}, denial.RevocationUnknown},
	} {
		t.Run(row.name, func(t *testing.T) {
			r.line.onStatus(row.token)
			out, _ := r.exec(cmd)
			if row.want != 0 {
				wantDenied(t, out, row.want)
			}
			if out.Started || out.Denied == nil || out.Denied.Stage != denial.StageGateRevocation || !out.Logged {
				t.Errorf("got %+v", out)
			}
		})
	}
	// A list from before a revocation is still fresh, but the gate has seen a newer one.
	victim, other := r.often(9, "exit", "0"), r.often(9, "exit", "0")
	r.line.onStatus(func(_ string, pass pass) (token []byte, err error) {
		old, err = pass()
		return old, err
	})
	r.runs(victim, 0)
	r.clock.advance(2 * time.Second)
	claims, _, err := artifact.Inspect(victim.Artifact)
	if err != nil {
		t.Fatal(err)
	}
	r.revoke(record.CauseArtifact, hex.EncodeToString(claims.ID))
	r.line.onStatus(nil)
	r.runs(other, 0)
	r.refusesAt(victim, denial.ArtifactRevoked, denial.StageGateRevocation)
	r.line.onStatus(func(string, pass) ([]byte, error) { return old, nil })
	r.refusesAt(victim, denial.StateRollback, denial.StageGateRevocation)
	r.reopen()
	r.refusesAt(victim, denial.StateRollback, denial.StageGateRevocation)
}

// Artifacts that are not genuine cannot make the gate forget which lists it has seen.
func TestX24_SeenListsAreKept(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	r.runs(r.command("exit", "0"), 0)
	before := must(r.gate.state.loadChain())(t).Seen
	if len(before) != 1 {
		t.Fatalf("the gate remembers %v", before)
	}
	good, cnf := r.mint(permit{scope: artifact.Scope{file(t, r.child, nil, nil)}})
	for i := range maxSeen + 1 { // the list's number stands in signed bytes
		bad := []byte(strings.Replace(string(good), "/v1/status/0", fmt.Sprintf("/v1/status/%c", 'A'+i), 1))
		r.refuses(Command{Artifact: bad, CNF: cnf, Path: r.child}, denial.SignatureInvalid)
	}
	if after := must(r.gate.state.loadChain())(t).Seen; fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the gate remembers %v, before it did %v", after, before)
	}
	// Of many genuine lists the newest are remembered.
	c := must(r.gate.state.loadChain())(t)
	for i := range uint64(2 * maxSeen) {
		if err := r.gate.state.see(c, fmt.Sprintf("%s/v1/status/%d", base, i+1), 5_000_000_000+i); err != nil {
			t.Fatal(err)
		}
	}
	if c = must(r.gate.state.loadChain())(t); len(c.Seen) != maxSeen || c.Seen[fmt.Sprintf("%s/v1/status/%d", base, maxSeen+1)] == 0 {
		t.Errorf("the gate remembers %d lists: %v", len(c.Seen), c.Seen)
	}
}

func TestX15_ClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	cmd := r.command("exit", "0")
	var recorded []byte
	r.line.onStatus(func(_ string, pass func() ([]byte, error)) (token []byte, err error) {
		recorded, err = pass()
		return recorded, err
	})
	r.runs(r.command("exit", "0"), 0)
	r.line.onStatus(nil)
	r.clock.advance(301 * time.Second)
	r.refusesAt(cmd, denial.Expired, denial.StageTime)
	fresh := r.command("exit", "0")
	r.runs(fresh, 0)
	behind := r.options()
	behind.Now = func() time.Time { return r.clock.now().Add(-300 * time.Second) }
	r.gate = must(Open(t.Context(), behind))(t)
	r.refusesAt(cmd, denial.RevocationUnknown, denial.StageGateRevocation) // every list is of the future
	r.line.onStatus(func(string, func() ([]byte, error)) ([]byte, error) { return recorded, nil })
	r.refusesAt(cmd, denial.StateRollback, denial.StageGateRevocation) // or older than one seen
}

func TestPossessionIsOfThisHostAndBoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := newRig(t, w, "a"), newRig(t, w, "b")
	scope := permit{scope: artifact.Scope{file(t, a.child, nil, nil)}}

	carried := scope
	carried.audience = gateURI + "b"
	b.refusesAt(a.commandFor(carried, a.child, "exit", "0"), denial.HostMismatch, denial.StagePossession)

	cmd := a.commandFor(scope, a.child, "exit", "0")
	bare := cmd
	bare.CNF = nil
	a.refusesAt(bare, denial.KeyBinding, denial.StagePossession)
	_, bare.CNF = a.mint(scope)
	a.refusesAt(bare, denial.KeyBinding, denial.StagePossession) // a key of the same TPM for another artifact
	_, bare.CNF = b.mint(permit{scope: scope.scope})
	a.refusesAt(bare, denial.HostMismatch, denial.StagePossession)

	a.machine.TPM.Clock.RestartCount++
	a.refusesAt(cmd, denial.HostMismatch, denial.StagePossession)
	a.machine.TPM.Clock.RestartCount--
	a.machine.TPM.Clock.ResetCount++
	a.refusesAt(cmd, denial.HostMismatch, denial.StagePossession)
	a.machine.TPM.Clock.ResetCount--
	a.runs(cmd, 0) // no refusal has taken its use
}
