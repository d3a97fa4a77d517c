package attest

import (
	"crypto"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	goattest "github.com/google/go-attestation/attest"
	"github.com/google/go-eventlog/extract"
	pb "github.com/google/go-eventlog/proto/state"
	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"
	"github.com/google/go-eventlog/tpmeventlog"

	"github.com/governed-execution/writ/test/bootlog"
)

// opinions are PCR values in the types of the two libraries that read the same logs. Both accept logs that we refuse; what
// we accept, both must accept.
type opinions struct {
	eventlog register.PCRBank
	attest   []goattest.PCR
}

func newOpinions(bank string, pcrs map[int64][]byte) opinions {
	o := opinions{eventlog: register.PCRBank{TCGHashAlgo: pb.HashAlgo_SHA256}}
	h := crypto.SHA256
	if bank == "sha384" {
		o.eventlog.TCGHashAlgo, h = pb.HashAlgo_SHA384, crypto.SHA384
	}
	for pcr, v := range pcrs {
		o.eventlog.PCRs = append(o.eventlog.PCRs, register.PCR{Index: int(pcr), Digest: v, DigestAlg: h})
		o.attest = append(o.attest, goattest.PCR{Index: int(pcr), Digest: v, DigestAlg: h})
	}
	return o
}

// replayed fails unless both libraries accept the log.
func (o opinions) replayed(t *testing.T, log []byte) {
	t.Helper()
	if _, err := tcg.ParseAndReplay(log, o.eventlog.MRs(), tcg.ParseOpts{}); err != nil && !remarksOfWindows(log) {
		t.Errorf("go-eventlog: %v", err)
	}
	l, err := goattest.ParseEventLog(log)
	if err == nil {
		_, err = l.Verify(o.attest)
	}
	if err != nil {
		t.Errorf("go-attestation: %v", err)
	}
}

// remarksOfWindows reports whether a log has an EV_NO_ACTION event of PCR 0xFFFFFFFF. Windows appends its own quotes so, and
// go-eventlog takes such an event for padding.
func remarksOfWindows(log []byte) bool {
	l, err := parseLog(log)
	return err == nil && slices.ContainsFunc(l.events, func(e logEvent) bool { return e.pcr == noPCR })
}

func TestLibrariesAgreeOnRealMachines(t *testing.T) {
	compared, whole := 0, 0
	for _, l := range corpus(t) {
		for _, bank := range []string{"sha256", "sha384"} {
			f, err := replay(l.raw, bank, l.pcrs[bank])
			if err != nil {
				continue
			}
			t.Run(l.name+" "+bank, func(t *testing.T) {
				o := newOpinions(bank, l.pcrs[bank])
				o.replayed(t, l.raw)
				state, err := tpmeventlog.ReplayAndExtract(l.raw, o.eventlog, extract.Opts{
					Loader: extract.GRUB, AllowEmptySBVar: true, AllowEFIAppBeforeCallingEvent: true})
				if err == nil {
					whole++
				}
				if compareFacts(t, f, state) { // also what a partial extraction gives
					compared++
				}
			})
		}
	}
	if compared < 26 || whole < 16 {
		t.Errorf("%d logs compared, of which %d in all facts; want at least 26 and 16", compared, whole)
	}
}

// compareFacts compares what the library extracted with our facts, and reports whether it extracted anything.
func compareFacts(t *testing.T, f *bootFacts, state *pb.FirmwareLogState) bool {
	t.Helper()
	if sb := state.GetSecureBoot(); sb != nil && sb.Enabled != f.SecureBoot.Enabled {
		t.Errorf("Secure Boot is %v, go-eventlog says %v", f.SecureBoot.Enabled, sb.Enabled)
	}
	if line := strings.TrimRight(state.GetLinuxKernel().GetCommandLine(), "\x00"); line != "" && !slices.Contains(f.CommandLine, line) {
		t.Errorf("command lines %q lack %q", f.CommandLine, line)
	}
	for _, app := range state.GetEfi().GetApps() {
		if !slices.Contains(f.BootApps, BootApp{PCR: 4, Digest: hex.EncodeToString(app.Digest)}) {
			t.Errorf("boot applications lack %x", app.Digest)
		}
	}
	return state.GetSecureBoot() != nil || len(state.GetEfi().GetApps()) > 0
}

// Of logs with changed bits, we may refuse more than the libraries, never fewer.
func TestLibrariesAcceptWhatWeAccept(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	pcrs := b.Select("sha256", bootPCRs...)
	o := newOpinions("sha256", pcrs)
	o.replayed(t, b.Log)
	log, accepted := slices.Clone(b.Log), 0
	for bit := range 8 * len(log) {
		log[bit/8] ^= 1 << (bit % 8)
		if _, err := replay(log, "sha256", pcrs); err == nil {
			accepted++
			if bit%11 == 0 {
				o.replayed(t, log)
			}
		}
		log[bit/8] ^= 1 << (bit % 8)
		if t.Failed() {
			t.Fatalf("bit %d", bit)
		}
	}
	if accepted == 0 {
		t.Error("no changed log was accepted, so nothing was compared")
	}
}
