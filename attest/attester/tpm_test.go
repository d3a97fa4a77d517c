package attester

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/test/swtpm"
)

func TestConnection(t *testing.T) {
	emulator := swtpm.New(t, swtpm.Options{})
	for _, c := range []struct {
		name string
		test func(*testing.T, *swtpm.TPM)
	}{
		{"Open names what is wrong", openNamesWhatIsWrong},
		{"an interrupted command ends the connection, not the TPM", interrupted},
		{"a busy TPM is asked again", busyForAMoment},
		{"a TPM that stays busy is given up with the context", busyForEver},
		{"nonsense from the socket is an error", nonsense},
		{"a closed TPM stays closed", closed},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, emulator) })
	}
}

func openNamesWhatIsWrong(t *testing.T, emulator *swtpm.TPM) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file:                             "neither a device nor a socket",
		filepath.Join(t.TempDir(), "no"): "finding TPM",
		"/dev/null":                      "opening TPM", // a device, but no TPM answers
	} {
		if _, err := Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%s): got %v, want %q in it", path, err, want)
		}
	}
	connect(t, emulator)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := Open(ctx, emulator.Socket)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "one client at a time") {
		t.Errorf("second client: got %v, want a deadline and a hint", err)
	}
}

func interrupted(t *testing.T, emulator *swtpm.TPM) {
	tpm := connect(t, emulator)
	ctx, cancel := context.WithCancel(t.Context())
	meddle(tpm, tpm2.TPMCCQuote, func(io.ReadWriter) []byte {
		cancel()
		return []byte{} // the TPM stays silent
	})
	if _, err := tpm.Quote(ctx, low, [32]byte{1}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted quote: got %v, want context.Canceled", err)
	}
	for range 4 { // more than there are slots, were the AK of the interrupted quote still there
		must(tpm.Quote(t.Context(), low, [32]byte{1}))(t)
	}
}

func TestASilentSocketIsLeftAtTheDeadline(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	silent := must(net.Listen("unix", path))(t)
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
}

func busyForAMoment(t *testing.T, emulator *swtpm.TPM) {
	tpm := connect(t, emulator)
	for _, code := range []tpm2.TPMRC{tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting} {
		asked := 0
		meddle(tpm, tpm2.TPMCCReadClock, func(io.ReadWriter) []byte {
			if asked++; asked > 2 {
				return nil
			}
			return binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 10}, uint32(code))
		})
		if _, err := tpm.Clock(t.Context()); err != nil || asked != 3 {
			t.Errorf("%v: asked %d times, %v; want 3 times and no error", code, asked, err)
		}
	}
}

func busyForEver(t *testing.T, emulator *swtpm.TPM) {
	tpm := connect(t, emulator)
	meddle(tpm, tpm2.TPMCCReadClock, func(io.ReadWriter) []byte {
		return binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 10}, uint32(tpm2.TPMRCRetry))
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := tpm.Clock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
}

func nonsense(t *testing.T, emulator *swtpm.TPM) {
	for name, response := range map[string][]byte{
		"claims too little": {0x80, 1, 0, 0, 0, 9, 0, 0, 0, 0},
		"claims too much":   {0x80, 1, 0xff, 0, 0, 0, 0, 0, 0, 0},
		"cut short":         {0x80, 1, 0, 0, 0, 20, 0, 0, 0, 0},
		"no header":         {0x80, 1},
	} {
		tpm := must(Open(t.Context(), emulator.Socket))(t)
		meddle(tpm, tpm2.TPMCCReadClock, func(io.ReadWriter) []byte { return response })
		if _, err := tpm.Clock(t.Context()); err == nil {
			t.Errorf("%s: no error", name)
		}
		disconnect(t, tpm)
	}
}

func TestBanksClockAndPCRs(t *testing.T) {
	emulator := swtpm.New(t, swtpm.Options{Banks: []string{"sha256", "sha384"}})
	boot(t, emulator, measure{4, "loader"}, measure{23, "last"})
	tpm := connect(t, emulator)
	banks := must(tpm.Banks(t.Context()))(t)
	if slices.Sort(banks); !slices.Equal(banks, []string{"sha256", "sha384"}) {
		t.Errorf("banks %v, want sha256 and sha384", banks)
	}
	all := attest.Selection{Bank: "sha256"}
	for i := range 24 {
		all.PCRs = append(all.PCRs, i)
	}
	values := must(tpm.PCRs(t.Context(), all))(t)
	for pcr, data := range map[int64]string{4: "loader", 23: "last"} {
		event := sha256.Sum256([]byte(data))
		if want := sha256.Sum256(append(make([]byte, 32), event[:]...)); !slices.Equal(values[pcr], want[:]) {
			t.Errorf("PCR %d = %x, want %x", pcr, values[pcr], want)
		}
	}
	if len(values) != 24 || !slices.Equal(values[7], make([]byte, 32)) {
		t.Errorf("got %d PCRs with PCR 7 = %x, want 24 with PCR 7 zero", len(values), values[7])
	}
	for name, s := range map[string]attest.Selection{
		"bank not allocated": {Bank: "sha512", PCRs: []int{0}}, "unknown bank": {Bank: "md5", PCRs: []int{0}},
		"no PCR": {Bank: "sha256"}, "PCR 24": {Bank: "sha256", PCRs: []int{24}}, "PCR -1": {Bank: "sha256", PCRs: []int{-1}},
		"descending": {Bank: "sha256", PCRs: []int{7, 4}}, "twice": {Bank: "sha256", PCRs: []int{7, 7}},
	} {
		if _, err := tpm.PCRs(t.Context(), s); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	before := must(tpm.Clock(t.Context()))(t)
	disconnect(t, tpm)
	if err := emulator.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := must(connect(t, emulator).Clock(t.Context()))(t)
	if after.Resets != before.Resets+1 || after.Milliseconds < before.Milliseconds {
		t.Errorf("clock went from %+v to %+v over one reset", before, after)
	}
}

func closed(t *testing.T, emulator *swtpm.TPM) {
	tpm := connect(t, emulator)
	if err := tpm.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := tpm.Clock(t.Context()); err == nil {
		t.Error("a closed TPM told the time")
	}
}
