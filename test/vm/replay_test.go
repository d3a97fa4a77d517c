package vm

import (
	"bytes"
	"crypto"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	goattest "github.com/google/go-attestation/attest"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
)

func fixtures(t *testing.T) map[string]*Fixture {
	t.Helper()
	out := map[string]*Fixture{}
	for _, v := range Variants() {
		f, err := ReadFixture(filepath.Join("testdata", v.Name+".json"))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		out[v.Name] = f
	}
	if len(out) < 8 {
		t.Fatalf("there are only %d recorded boots", len(out))
	}
	return out
}

// TestRecordedBoots verifies what real machines sent, without a machine, and holds it against what must come of each.
func TestRecordedBoots(t *testing.T) {
	verdicts, err := Judge("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range Variants() {
		got, recorded := verdicts[v.Name]
		if !recorded {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			if !slices.Equal(got.Moved, v.Moves) {
				t.Errorf("PCRs %s moved, want %s", list(got.Moved), list(v.Moves))
			}
			if got.Verify != v.Verify {
				t.Errorf("verifying gives %v, want %v", got.Verify, v.Verify)
			}
			if got.Decide != v.Decide {
				t.Errorf("the baseline policy says %v, want %v", got.Decide, v.Decide)
			}
			if fixtures(t)[v.Name].Prediction != nil && !got.Foretold {
				t.Error("the quoted values are not the predicted ones")
			}
		})
	}
}

// TestRecordedBootsWithOneThingBroken takes the honest machine and breaks one thing at a time.
func TestRecordedBootsWithOneThingBroken(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*Fixture, map[string]*Fixture)
		want  denial.Reason
	}{
		{"nothing", func(*Fixture, map[string]*Fixture) {}, 0},
		{"the log of another boot", func(f *Fixture, all map[string]*Fixture) { f.Parts.BootLog = all["command-line"].Parts.BootLog }, denial.LogReplayMismatch},
		{"an empty log", func(f *Fixture, _ map[string]*Fixture) { f.Parts.BootLog = []byte{} }, denial.NoEvidence},
		{"a byte of the last event", func(f *Fixture, _ map[string]*Fixture) {
			f.Parts.BootLog = bytes.Clone(f.Parts.BootLog)
			f.Parts.BootLog[len(f.Parts.BootLog)-1] ^= 1
		}, denial.EventDigestMismatch},
		{"the quote of another boot", func(f *Fixture, all map[string]*Fixture) {
			f.Parts.Quote, f.Parts.Signature = all["command-line"].Parts.Quote, all["command-line"].Parts.Signature
		}, denial.PCRDigestMismatch},
		{"another challenge", func(f *Fixture, _ map[string]*Fixture) { f.Challenge = attest.Nonce{1} }, denial.ChallengeMismatch},
		{"another connection", func(f *Fixture, _ map[string]*Fixture) { f.Exporter[0] ^= 1 }, denial.ChannelBinding},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := fixtures(t)
			f := *all["good"]
			c.spoil(&f, all)
			testimony, err := f.Testimony()
			if err != nil {
				t.Fatal(err)
			}
			facts, err := testimony.Verify()
			if got := Reason(err); got != c.want || (facts == nil) != (c.want != 0) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// TestSecondOpinion asks go-attestation what it makes of the logs. It replays each, says the same of Secure Boot as we, and
// refuses the kernel that firmware started unmeasured, as we do. It reads Secure Boot from SHA-256 alone, so that of the
// quote in SHA-384 only the replay is compared; and it has nothing to say where there is no log.
func TestSecondOpinion(t *testing.T) {
	for name, f := range fixtures(t) {
		t.Run(name, func(t *testing.T) {
			log, err := goattest.ParseEventLog(f.Parts.BootLog)
			if f.Parts.BootLog == nil {
				if err == nil {
					t.Error("go-attestation reads an empty log")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var pcrs []goattest.PCR
			for n, v := range f.Parts.PCRs {
				pcrs = append(pcrs, goattest.PCR{Index: int(n), Digest: v, DigestAlg: map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384}[f.Bank]})
			}
			events, err := log.Verify(pcrs)
			if err != nil {
				t.Fatalf("go-attestation cannot replay the log: %v", err)
			}
			if f.Bank == "sha256" {
				compareSecureBoot(t, f, events)
			}
		})
	}
}

func compareSecureBoot(t *testing.T, f *Fixture, events []goattest.Event) {
	t.Helper()
	testimony, err := f.Testimony()
	if err != nil {
		t.Fatal(err)
	}
	facts, refusal := testimony.Verify()
	state, err := goattest.ParseSecurebootState(events)
	if (err == nil) != (facts != nil) {
		t.Fatalf("go-attestation says %v of Secure Boot, we say %v", err, refusal)
	}
	if facts != nil && state.Enabled != facts.Claims().SecureBoot.Enabled {
		t.Errorf("go-attestation says Secure Boot is %v, we say %v", state.Enabled, facts.Claims().SecureBoot.Enabled)
	}
}

// TestAnotherKernelWithEqualPCRs shows why the baseline policy demands a boot program in PCR 4 and a key in PCR 7: a kernel
// that nobody signed, started through -kernel with Secure Boot on, quotes the same values as one that was signed.
func TestAnotherKernelWithEqualPCRs(t *testing.T) {
	all := fixtures(t)
	a, b := all["kernel-path"], all["kernel-path-evil"]
	if a == nil || b == nil {
		t.Fatal("one of the two boots is not recorded")
	}
	if len(a.PCRs) != 24 || !maps.Equal(a.PCRs, b.PCRs) {
		t.Errorf("the values differ:\n%v\n%v", a.PCRs, b.PCRs)
	}
}

// TestTableIsCurrent fails if docs/boots.md does not have the table of the recorded boots: run go generate ./test/vm.
func TestTableIsCurrent(t *testing.T) {
	verdicts, err := Judge("testdata")
	if err != nil {
		t.Fatal(err)
	}
	document, err := os.ReadFile(filepath.Join("..", "..", "docs", "boots.md"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := Refresh(string(document), Table(verdicts))
	if err != nil {
		t.Fatal(err)
	}
	if want != string(document) {
		t.Error("docs/boots.md is not what the recorded boots say: run go generate ./test/vm")
	}
}
