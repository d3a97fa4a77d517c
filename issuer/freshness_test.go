package issuer_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/test/softtpm"
)

func TestF01_ChallengesAreRandom(t *testing.T) {
	w := issuertest.New(t)
	seen := map[[32]byte]bool{}
	var ones [256]int
	for range 10_000 {
		ch := issuertest.Must(w.Issuer.Challenge(w.Ctx, issuer.NewConnection()))(t)
		c := [32]byte(ch.Challenge)
		if len(ch.Challenge) != 32 || seen[c] {
			t.Fatalf("a challenge of %d bytes, or one twice", len(ch.Challenge))
		}
		seen[c] = true
		for bit := range ones {
			ones[bit] += int(c[bit/8] >> (bit % 8) & 1)
		}
	}
	for bit, n := range ones { // 10 standard deviations of a fair coin
		if n < 4500 || n > 5500 {
			t.Errorf("bit %d is set in %d of 10000 challenges", bit, n)
		}
	}
}

func TestF03_EvidenceIsTakenOnce(t *testing.T) {
	w := issuertest.New(t)
	a := w.Prepare(issuertest.Spoil{})
	issuertest.Must(a.Send())(t)
	_, err := a.Send()
	w.Refusal(err, denial.ChallengeReused)
	// The challenge is spent too when the quote was good and something behind it was not.
	b := w.Prepare(issuertest.Spoil{Want: func(want *attest.Want) { want.Exporter[0] ^= 1 }})
	for _, reason := range []denial.Reason{denial.ChannelBinding, denial.ChallengeReused} {
		_, err := b.Send()
		w.Refusal(err, reason)
	}
	// It is not when the enrolled AK had no part in it.
	c := w.Prepare(issuertest.Spoil{})
	forged := w.Prepare(issuertest.Spoil{Conn: c.Conn, Exporter: c.Exporter, Parts: func(e *softtpm.Evidence) { e.Signature[len(e.Signature)-1] ^= 1 }})
	_, err = forged.Send()
	w.Refusal(err, denial.QuoteSignature)
	issuertest.Must(c.Send())(t)
}

func TestF04_ParallelPostsMintOnce(t *testing.T) {
	w := issuertest.New(t)
	a := w.Prepare(issuertest.Spoil{})
	before := w.Size()
	reasons := parallel(200, func(int) error { _, err := a.Send(); return err })
	if len(reasons) != 2 || reasons[0] != 1 || reasons[denial.ChallengeReused] != 199 {
		t.Errorf("got %v, want one artifact and 199 times CHALLENGE_REUSED", reasons)
	}
	if got := w.Size() - before; got != 200 {
		t.Errorf("got %d entries, want 200", got)
	}
}

// parallel calls f n times at once and counts the outcomes by reason; zero is success.
func parallel(n int, f func(int) error) map[denial.Reason]int {
	var mu sync.Mutex
	var wg sync.WaitGroup
	reasons := map[denial.Reason]int{}
	begin := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-begin
			err := f(i)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				reasons[0]++
			} else {
				reasons[denial.Of(err).Reason]++
			}
		})
	}
	close(begin)
	wg.Wait()
	return reasons
}

func TestF05_NothingSurvivesARestart(t *testing.T) {
	w := issuertest.New(t)
	done, waiting := w.Prepare(issuertest.Spoil{}), w.Prepare(issuertest.Spoil{})
	issuertest.Must(done.Send())(t)
	w.Restart()
	waiting.Conn = issuer.NewConnection() // connections end with the process
	_, err := waiting.Send()
	w.Refusal(err, denial.ChallengeUnknown)
	again := w.Prepare(issuertest.Spoil{Request: func([]byte) []byte { return done.Request }})
	_, err = again.Send()
	w.Refusal(err, denial.RequestReplayed)
	w.Permit()
}

func TestF06_FourChallengesLive(t *testing.T) {
	w := issuertest.New(t)
	conn := issuer.NewConnection()
	for range issuer.MaxChallenges {
		issuertest.Must(w.Issuer.Challenge(w.Ctx, conn))(t)
	}
	_, err := w.Issuer.Challenge(w.Ctx, conn)
	w.Refusal(err, denial.Overloaded)
	w.Permit() // on another connection
	w.Advance(issuer.ChallengeLife)
	issuertest.Must(w.Issuer.Challenge(w.Ctx, conn))(t)
	checkSummary(w, map[denial.Reason]uint64{denial.Overloaded: 1})
}

func TestChallengesLiveForAMinuteToTheLast(t *testing.T) {
	w := issuertest.New(t)
	w.Publish(replace(w, w.Appraisal(), `evidence_age = "30s"`, `evidence_age = "60s"`))
	a := w.Prepare(issuertest.Spoil{})
	w.Advance(issuer.ChallengeLife - time.Nanosecond)
	issuertest.Must(a.Send())(t)
}

func TestManyChallengesOfOneConnection(t *testing.T) {
	w := issuertest.New(t)
	conn := issuer.NewConnection()
	first := w.Prepare(issuertest.Spoil{Conn: conn})
	issuertest.Must(first.Send())(t)
	for range 100 {
		issuertest.Must(w.Ask(issuertest.Spoil{Conn: conn}))(t)
	}
	_, err := first.Send() // spent so long ago that it is forgotten, and refused all the same
	w.Refusal(err, denial.ChallengeUnknown)
}

func setClock(h *issuertest.Host, resets, restarts uint32, ms uint64) {
	h.TPM.Clock = tpm2.TPMSClockInfo{Clock: ms, ResetCount: resets, RestartCount: restarts, Safe: true}
}

func TestF14_F15_TPMClockNeverGoesBack(t *testing.T) {
	w := issuertest.New(t)
	const hour = 3_600_000
	for _, step := range []struct {
		name             string
		resets, restarts uint32
		ms               uint64
		want             denial.Reason
	}{
		{"first", 5, 2, hour, 0},
		{"F15 back by the tolerance", 5, 2, hour - 60_000, 0},
		{"F15 back by more", 5, 2, hour - 60_001, denial.BootRollback},
		{"F15 forward", 5, 2, 2 * hour, 0},
		{"F15 as before", 5, 2, hour, denial.BootRollback},
		{"F20 restart", 5, 3, 2 * hour, 0},
		{"F20 restart undone", 5, 2, 3 * hour, denial.BootRollback},
		{"F14 reset, and the clock with it", 6, 0, 10, 0},
		{"F14 reset undone", 5, 3, 9 * hour, denial.BootRollback},
		{"F16 a great leap", 0xffffffff, 0, 10, 0},
		{"F16 a wrap is a decrease", 0, 0, 20, denial.BootRollback},
	} {
		setClock(w.Host, step.resets, step.restarts, step.ms)
		_, err := w.Ask(issuertest.Spoil{})
		if got := denial.Of(err); (got == nil) != (step.want == 0) || got != nil && got.Reason != step.want {
			t.Errorf("%s: got %v, want %v", step.name, err, step.want)
		}
	}
}

func TestF14_RefusedQuotesRaiseTheMarkToo(t *testing.T) {
	w := issuertest.New(t)
	w.Permit()
	setClock(w.Host, 9, 0, 1)
	_, err := w.Ask(issuertest.Spoil{Claims: func(c *artifact.RequestClaims) { c.Lifetime = 601 }})
	w.Refusal(err, denial.LifetimeTooLong)
	setClock(w.Host, 8, 0, 1)
	_, err = w.Ask(issuertest.Spoil{})
	w.Refusal(err, denial.BootRollback)
	w.Restart()
	_, err = w.Ask(issuertest.Spoil{})
	w.Refusal(err, denial.BootRollback)
}

func TestF14_AMarkThatRoseMeanwhileIsSeen(t *testing.T) {
	w := issuertest.New(t)
	clone := w.Prepare(issuertest.Spoil{})
	setClock(w.Host, 2, 0, 1) // the host has booted, the clone of its state has not
	w.Keys[record.PurposeArtifact].Once(func() { w.Permit() })
	_, err := clone.Send() // decided before the host's permit, committed after it
	w.Refusal(err, denial.BootRollback)
	_, err = w.Ask(issuertest.Spoil{Host: older(w)})
	w.Refusal(err, denial.BootRollback)
}

// older is the host as it was before its TPM was reset.
func older(w *issuertest.World) *issuertest.Host {
	h := *w.Host
	tpm := *h.TPM
	tpm.Clock.ResetCount--
	h.TPM = &tpm
	return &h
}

func TestF14_DenialsDoNotLowerTheMark(t *testing.T) {
	w := issuertest.New(t)
	w.Permit()
	setClock(w.Host, 2, 0, 1)
	h := older(w)
	w.Permit()
	clone := w.Prepare(issuertest.Spoil{Host: h})
	setClock(w.Host, 3, 0, 1)
	w.Keys[record.PurposeRecord].Once(func() { w.Permit() }) // while the clone's denial is being signed
	_, err := clone.Send()
	w.Refusal(err, denial.BootRollback)
	_, err = w.Ask(issuertest.Spoil{Host: older(w)})
	w.Refusal(err, denial.BootRollback)
}

func TestF22_OneRequestMintsOnce(t *testing.T) {
	w := issuertest.New(t)
	first := w.Prepare(issuertest.Spoil{})
	attempts := []issuertest.Attempt{first}
	for range 9 {
		attempts = append(attempts, w.Prepare(issuertest.Spoil{Request: func([]byte) []byte { return first.Request }}))
	}
	reasons := parallel(10, func(i int) error { _, err := attempts[i].Send(); return err })
	if reasons[0] != 1 || reasons[denial.RequestReplayed] != 9 {
		t.Errorf("got %v, want one artifact and nine times REQUEST_REPLAYED", reasons)
	}
	for range 2 {
		checkRefusal(w, refusal{spoil: plain(issuertest.Spoil{Claims: func(c *artifact.RequestClaims) { c.ID = first.Claims.ID }}),
			reason: denial.RequestReplayed, stage: denial.StageTransaction, known: true, quoted: true, decided: true})
	}
	// The id is the initiator's own: another one may use it.
	w.EnrolInitiator(mallory)
	_, err := w.Ask(issuertest.Spoil{Initiator: mallory, Claims: func(c *artifact.RequestClaims) { c.ID = first.Claims.ID }})
	w.Refusal(err, denial.InitiatorDenied)
}

func TestF22_RefusedRequestsAreNotConsumed(t *testing.T) {
	w := issuertest.New(t)
	a := w.Prepare(issuertest.Spoil{Want: func(want *attest.Want) { want.Exporter[0] ^= 1 }})
	_, err := a.Send()
	w.Refusal(err, denial.ChannelBinding)
	issuertest.Must(w.Ask(issuertest.Spoil{Request: func([]byte) []byte { return a.Request }}))(t)
}

func TestF23_WhatChangesBeforeTheCommitIsDecidedAgain(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*issuertest.World)
		reason denial.Reason
		stage  denial.Stage
	}{
		{"host revoked", func(w *issuertest.World) { w.Revoke(record.CauseHost, w.Host.URI) }, denial.HostRevoked, denial.StageRevocation},
		{"initiator revoked", func(w *issuertest.World) { w.Revoke(record.CauseInitiator, issuertest.Robot) }, denial.InitiatorRevoked, denial.StageRevocation},
		{"policy withdrawn", func(w *issuertest.World) { w.Revoke(record.CausePolicy, policyHash(w)) }, denial.PolicyWithdrawn, denial.StageRevocation},
		{"authorization narrowed", func(w *issuertest.World) { w.Publish(replace(w, w.Authorization(), "600s", "60s")) }, denial.LifetimeTooLong, denial.StageAuthorization},
		{"appraisal wants another PCR", func(w *issuertest.World) { w.Publish(replace(w, w.Appraisal(), "[0, 4, 7, 11]", "[0, 2, 4, 7, 11]")) }, denial.RequiredPCRAbsent, denial.StageAppraisal},
		{"host approved anew", func(w *issuertest.World) { w.Approve(w.Host) }, denial.NotEnrolled, denial.StageTransaction},
		{"host enrolled anew with other labels", func(w *issuertest.World) {
			w.Host.Labels = map[string]string{"env": "office"}
			w.Approve(w.Host)
			w.Activate(w.Host)
		}, denial.HostMismatch, denial.StageAuthorization},
		{"nothing that matters", func(w *issuertest.World) { w.EnrolHost(issuertest.OtherURI, "") }, 0, 0},
		{"somebody else revoked", func(w *issuertest.World) { w.EnrolInitiator(mallory); w.Revoke(record.CauseInitiator, mallory) }, 0, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := issuertest.New(t)
			changed := false
			w.Keys[record.PurposeArtifact].Once(func() { changed = true; row.change(w) })
			a := w.Prepare(issuertest.Spoil{})
			minted, err := a.Send()
			if !changed {
				t.Fatal("the artifact key was not asked: nothing changed in between")
			}
			if row.reason == 0 {
				if err != nil {
					t.Fatal(err)
				}
				issuertest.Must(verify(w, minted))(t)
				return
			}
			if ref := w.Refusal(err, row.reason); minted != nil || ref.Denial.Stage != row.stage || !ref.Logged {
				t.Errorf("got %v at %q, logged %v", ref, ref.Denial.Stage, ref.Logged)
			}
			if n, _ := w.Issuer.Counts(); n != 0 {
				t.Errorf("%d artifacts left", n)
			}
			for i := range w.Size() {
				if env, _ := statement.Decode(issuertest.Must(w.Tree.Leaf(w.Ctx, i))(t), statement.MaxStatement); env.Kind() == statement.Artifact {
					t.Errorf("the artifact that was signed stands at %d", i)
				}
			}
		})
	}
}

func TestF23_ChangesWithoutEndAreRefused(t *testing.T) {
	w := issuertest.New(t)
	w.EnrolInitiator(mallory)
	key, changes := w.Keys[record.PurposeArtifact], 0
	var change func()
	change = func() {
		changes++
		w.Revoke(record.CauseInitiator, mallory)
		key.Once(change)
	}
	key.Once(change)
	_, err := w.Ask(issuertest.Spoil{})
	if ref := w.Refusal(err, denial.Overloaded); ref.Denial.Stage != denial.StageTransaction || changes != issuer.MaxTries {
		t.Errorf("got %q after %d changes", ref.Denial.Stage, changes)
	}
}

func TestA12_OneAKCannotTakeAll(t *testing.T) {
	w := issuertest.New(t)
	other := w.EnrolHost(issuertest.OtherURI, issuertest.OtherGate)
	w.Rate = 2
	w.Reopen()
	w.Permit()
	w.Permit()
	a, size := w.Prepare(issuertest.Spoil{}), w.Size()
	_, err := a.Send()
	if ref := w.Refusal(err, denial.Overloaded); !ref.Known || ref.Logged || w.Size() != size {
		t.Errorf("got known %v, logged %v and %d entries after %d", ref.Known, ref.Logged, w.Size(), size)
	}
	issuertest.Must(w.Ask(issuertest.Spoil{Host: other, Claims: func(c *artifact.RequestClaims) { c.Audience = issuertest.OtherGate }}))(t)
	w.Advance(500 * time.Millisecond)
	issuertest.Must(a.Send())(t) // the challenge is not spent
	checkSummary(w, map[denial.Reason]uint64{denial.Overloaded: 1})
}

// replace replaces what must stand in a text once.
func replace(w *issuertest.World, text, old, new string) string {
	w.Helper()
	if strings.Count(text, old) != 1 {
		w.Fatalf("%q does not stand in the policy once", old)
	}
	return strings.Replace(text, old, new, 1)
}

// policyHash returns the hash of the authorization policy in force, in hexadecimal, without minting.
func policyHash(w *issuertest.World) string {
	w.Helper()
	var hash string
	err := w.Tree.Leaves(w.Ctx, 0, w.Size(), func(_ uint64, leaf []byte) error {
		env := issuertest.Must(statement.Decode(leaf, statement.MaxStatement))(w)
		var p record.Policy
		if env.Kind() == statement.Policy && statement.Unmarshal(env.Payload(), &p) == nil && p.Kind == record.Authorization {
			hash = issuertest.Must(firmwarepolicy.Decode(p.Document))(w).Hash().String()
		}
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	return hash
}
