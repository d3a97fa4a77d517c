package issuer_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// later is the host after n more resets of its TPM.
func later(h *issuertest.Host, n uint32, boot string) *issuertest.Host {
	c, tpm := *h, *h.TPM
	tpm.Clock.ResetCount += n
	tpm.Clock.Clock, tpm.Boot = 1000, []byte(boot)
	c.TPM = &tpm
	return &c
}

// held reports whether the issuer holds the host.
func held(w *issuertest.World, id string) bool {
	w.Helper()
	return issuertest.Must(w.Issuer.Host(w.Ctx, id))(w).Held != ""
}

// audited puts a policy in force that demands audit sessions.
func audited(w *issuertest.World) {
	w.Helper()
	w.Publish(strings.Replace(w.Appraisal(), "[limits]", "audit = true\n\n[limits]", 1))
}

// statusOf returns what the status list says of an artifact.
func statusOf(w *issuertest.World, minted *issuer.Minted) artifact.StatusValue {
	w.Helper()
	c, _, err := artifact.Inspect(minted.Artifact)
	if err != nil {
		w.Fatal(err)
	}
	return issuertest.Must(status(w, c).Value(c.Status.List))(w)
}

// Two TPMs with one AK: whichever is behind shows that there are two, and then neither gets anything.
func TestK21_CloneIsSeenAndTheHostHeld(t *testing.T) {
	for name, spoil := range map[string]func(*issuertest.World, *issuertest.Host) issuertest.Spoil{
		"behind in resets": func(w *issuertest.World, h *issuertest.Host) issuertest.Spoil { return issuertest.Spoil{Host: h} },
		"with other faults too": func(w *issuertest.World, h *issuertest.Host) issuertest.Spoil {
			return issuertest.Spoil{Host: h, Claims: func(c *artifact.RequestClaims) { c.Lifetime = 601 }}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := issuertest.New(t)
			clone := w.Host
			w.Host = later(w.Host, 2, "")
			minted := w.Permit()
			w.Advance(10 * time.Second)
			if held(w, w.Host.URI) {
				t.Fatal("held without a reason")
			}
			_, err := w.Ask(spoil(w, clone))
			ref, ok := err.(*issuer.Refusal)
			if !ok || !ref.Logged || !w.Record(ref.Index).Hold || !held(w, w.Host.URI) {
				t.Fatalf("got %v: not held, or not logged", err)
			}
			for range 2 { // the genuine one hears it too, and it stands in the log once
				_, err = w.Ask(issuertest.Spoil{})
				if ref = w.Refusal(err, denial.BootRollback); w.Record(ref.Index).Hold {
					t.Error("held twice")
				}
			}
			if v := statusOf(w, minted); v != artifact.StatusValue(record.CauseHost) {
				t.Errorf("its artifact has status %d", v)
			}
			w.Restart()
			if !held(w, w.Host.URI) {
				t.Fatal("a restart released the host")
			}
			other := w.EnrolHost(issuertest.OtherURI, issuertest.Gate)
			issuertest.Must(w.Ask(issuertest.Spoil{Host: other}))(t) // others go on

			// Authorities have found out which one is theirs: it begins where it is, even behind.
			w.Approve(w.Host)
			w.Activate(clone)
			w.Host = clone
			if held(w, w.Host.URI) {
				t.Error("still held")
			}
			w.Permit()
			if v := statusOf(w, minted); v != 0 {
				t.Errorf("its artifact has status %d", v)
			}
		})
	}
}

func TestK21_TwoBootsAtOneCountOfResets(t *testing.T) {
	w := issuertest.New(t)
	audited(w)
	w.Host.TPM.Boot = []byte("one")
	w.Permit()
	w.Permit()
	twin := later(w.Host, 0, "another")
	twin.TPM.Clock.Clock = w.Host.TPM.Clock.Clock + 9_000 // further on, so that nothing has gone back
	_, err := w.Ask(issuertest.Spoil{Host: twin})
	if ref := w.Refusal(err, denial.BootRollback); !w.Record(ref.Index).Hold || ref.Denial.Stage != denial.StageFacts {
		t.Errorf("got %v at %q", ref, ref.Denial.Stage)
	}
	_, err = w.Ask(issuertest.Spoil{})
	w.Refusal(err, denial.BootRollback)
}

// A clone that quotes while the permit of the other is being signed: the permit is decided anew.
func TestK21_HoldDuringAPermit(t *testing.T) {
	w := issuertest.New(t)
	clone := w.Host
	w.Host = later(w.Host, 1, "")
	w.Permit()
	w.Advance(10 * time.Second)
	w.Keys[record.PurposeArtifact].Once(func() {
		_, err := w.Ask(issuertest.Spoil{Host: clone})
		w.Refusal(err, denial.BootRollback)
	})
	_, err := w.Ask(issuertest.Spoil{})
	w.Refusal(err, denial.BootRollback)
}

// Whatever one TPM does, and in whatever order its evidence arrives, it is not held.
func TestK21_OneTPMIsNeverHeld(t *testing.T) {
	w := issuertest.New(t)
	audited(w)
	r := rand.New(rand.NewPCG(21, 21))
	var waiting []issuertest.Attempt
	permits, refused, boots := 0, 0, 0
	for range 600 {
		switch r.IntN(5) {
		case 0: // time passes, for the TPM as for the issuer
			d := time.Duration(r.IntN(20_000)) * time.Millisecond
			w.Advance(d)
			w.Host.TPM.Clock.Clock += uint64(d.Milliseconds())
		case 1: // it boots, or resumes; what was on its way may arrive yet
			if tpm := w.Host.TPM; r.IntN(3) > 0 {
				boots++
				tpm.Clock = tpm2.TPMSClockInfo{Clock: uint64(r.IntN(5000)), ResetCount: tpm.Clock.ResetCount + 1, Safe: true}
				tpm.Boot = []byte{byte(boots), byte(boots >> 8)}
			} else {
				tpm.Clock.RestartCount++
			}
		case 2, 3:
			waiting = append(waiting, w.Prepare(issuertest.Spoil{}))
		case 4:
			if len(waiting) == 0 {
				continue
			}
			n := r.IntN(len(waiting))
			_, err := waiting[n].Send()
			waiting = append(waiting[:n], waiting[n+1:]...)
			if err == nil {
				permits++
			} else if refused++; denial.Of(err).Reason == denial.BootRollback && held(w, w.Host.URI) {
				t.Fatalf("held after %d boots: %v", boots, err)
			}
		}
	}
	if held(w, w.Host.URI) || permits < 20 || refused < 5 {
		t.Errorf("%d permits, %d refusals, held %v", permits, refused, held(w, w.Host.URI))
	}
}

// holdHost has the host of the world held: a TPM that is behind answers a later challenge.
func holdHost(w *issuertest.World) {
	w.Helper()
	clone := later(w.Host, 0, "")
	clone.TPM.Clock.ResetCount--
	w.Advance(10 * time.Second)
	if _, err := w.Ask(issuertest.Spoil{Host: clone}); !denial.Is(err, denial.BootRollback) || !held(w, w.Host.URI) {
		w.Fatalf("got %v: not held", err)
	}
}

// A gate may have read the status list before the host was held, and for break-glass it reads none: the issuer takes no start
// from or for a held host, while ends and denials are still told.
func TestK21_AHeldHostStartsNothing(t *testing.T) {
	t.Run("artifact", func(t *testing.T) {
		w := issuertest.New(t)
		w.Host = later(w.Host, 2, "")
		m := w.Permit()
		issuertest.Must(start(w, m, nil))(t)
		holdHost(w)
		_, err := start(w, m, use(2))
		if ref := w.Refusal(err, denial.HostRevoked); !ref.Logged {
			t.Error("not logged")
		}
		for _, leaf := range [][]byte{
			w.Report(w.Host, m, record.EventEnd, func(r *record.Record) { r.Execution.Start = w.Host.Chain.Previous }),
		} {
			issuertest.Must(w.Issuer.Take(w.Ctx, leaf))(t)
			w.Host.Follow(leaf)
		}
	})
	t.Run("at a gate that is held itself", func(t *testing.T) {
		w := issuertest.New(t)
		other := w.EnrolHost(issuertest.OtherURI, issuertest.Gate)
		m := issuertest.Must(w.Ask(issuertest.Spoil{Host: other}))(t)
		w.Host = later(w.Host, 2, "")
		w.Permit()
		holdHost(w)
		_, err := start(w, m, func(r *record.Record) { r.Workload = other.URI })
		w.Refusal(err, denial.HostRevoked)
	})
	for _, waive := range []bool{true, false} {
		t.Run(fmt.Sprintf("break-glass, waived %v", waive), func(t *testing.T) {
			w := issuertest.New(t)
			w.Host = later(w.Host, 2, "")
			w.Permit()
			doc := w.DeclareGlass(waive)
			draft := w.DraftGlass(doc)
			if waive {
				draft.Waived = []string{issuertest.Alice, issuertest.Bob}
			}
			g := w.PublishGlass(draft, issuertest.Alice, issuertest.Bob)
			if !waive {
				w.AttestGlass(g)
			}
			holdHost(w)
			_, err := w.Issuer.Take(w.Ctx, w.ReportGlass(w.Host, g, record.EventStart, nil))
			w.Refusal(err, denial.HostRevoked)
			draft.ID = issuertest.Random(16)
			_, err = w.Issuer.Apply(w.Ctx, statement.BreakGlass, w.Sign(statement.BreakGlass, draft, issuertest.Alice, issuertest.Bob))
			w.Refusal(err, denial.HostRevoked)
		})
	}
}
