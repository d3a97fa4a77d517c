package attest

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/need"
)

// corpusLog is a log of a real machine with the PCR values that were read from it, or else replayed by others.
type corpusLog struct {
	name string // path in the corpus
	raw  []byte
	pcrs map[string]map[int64][]byte // by bank
}

// corpus returns all logs of the corpus that PCR values are known for.
func corpus(tb testing.TB) []corpusLog {
	tb.Helper()
	root := need.Corpus(tb)
	var logs []corpusLog
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		beside, isLog := strings.CutSuffix(path, ".pcrs.json")
		if err == nil && (isLog || filepath.Base(path) == "bundle.json") {
			logs = append(logs, corpusLogs(tb, root, path, beside)...)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return logs
}

// corpusLogs reads one description: of the log beside it, or of the logs that it names.
func corpusLogs(tb testing.TB, root, path, beside string) []corpusLog {
	tb.Helper()
	type banks map[string]map[int64]string
	var d struct {
		Machine  banks                   `json:"machine_pcrs"`
		Replayed banks                   `json:"replayed"`
		PCRs     banks                   `json:"pcrs"`
		Logs     []struct{ File string } `json:"event_logs"`
	}
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, &d)
	}
	if err != nil {
		tb.Fatalf("reading %s: %v", path, err)
	}
	files := []string{beside}
	known := d.Machine
	if d.PCRs != nil {
		known, files = d.PCRs, nil
		for _, l := range d.Logs {
			files = append(files, filepath.Join(filepath.Dir(path), l.File))
		}
	} else if known == nil {
		known = d.Replayed
	}
	pcrs := make(map[string]map[int64][]byte)
	for bank, values := range known {
		pcrs[bank] = make(map[int64][]byte)
		for pcr, v := range values {
			pcrs[bank][pcr] = unhex(tb, v)
		}
	}
	var logs []corpusLog
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		name, _ := filepath.Rel(root, file)
		logs = append(logs, corpusLog{name, raw, pcrs})
	}
	return logs
}

// Why a log of the corpus is refused. Every other one must pass.
var corpusRefusals = map[string]struct {
	reason denial.Reason
	why    string
}{
	"eventlog/coco-ccel/":                                 {denial.LogMalformed, "TDX: measures into RTMRs, not into a TPM"},
	"eventlog/go-eventlog-ccel/":                          {denial.LogMalformed, "TDX: measures into RTMRs, not into a TPM"},
	"eventlog/tpm2-tools/event.bin":                       {denial.EventUnexpected, "one event, made for a parser: no separator"},
	"eventlog/tpm2-tools/event-uefiaction.bin":            {denial.EventUnexpected, "one event, made for a parser: no separator"},
	"eventlog/tpm2-tools/event-uefiservices.bin":          {denial.EventUnexpected, "one event, made for a parser: no separator"},
	"eventlog/tpm2-tools/event-uefivar.bin":               {denial.EventUnexpected, "one event, made for a parser: no separator"},
	"eventlog/tpm2-tools/specid-vendordata.bin":           {denial.LogMalformed, "the header is longer than its event"},
	"eventlog/go-attestation/sb_cert_eventlog":            {denial.EventUnexpected, "an excerpt: PCR 0 has no separator"},
	"bundle/guard-oss/dell-latitude-7520/win10-5logs/":    {denial.LogReplayMismatch, "of five logs of resumes only the last fits"},
	"bundle/guard-oss/lenovo-x1c-gen9/failed-1/":          {denial.LogReplayMismatch, "PCR 0 differs from the log"},
	"bundle/guard-oss/lenovo-x1c-gen9/failed-2/":          {denial.LogReplayMismatch, "PCR 0 differs from the log"},
	"eventlog/go-attestation/ebs_event_missing_eventlog":  {denial.BankNotAllowed, "SHA-1 only"},
	"eventlog/go-attestation/option_rom_eventlog":         {denial.BankNotAllowed, "SHA-1 only"},
	"eventlog/go-attestation/short_no_action_eventlog":    {denial.BankNotAllowed, "SHA-1 only"},
	"eventlog/go-tpm-tools/debian-10.bin":                 {denial.BankNotAllowed, "SHA-1 only"},
	"eventlog/guard-oss/binary_bios_measurements_15":      {denial.BankNotAllowed, "SHA-1 only"},
	"eventlog/guard-oss/linux_event_log":                  {denial.BankNotAllowed, "SHA-1 only"},
	"eventlog/guard-oss/windows_event_log":                {denial.BankNotAllowed, "SHA-1 only"},
	"eventlog/tpm2-tools/event-uefi-sha1-log.bin":         {denial.BankNotAllowed, "SHA-1 only"},
	"bundle/guard-oss/lenovo-t14s-amd/ubuntu2110/ sha384": {denial.BankUncapped, "firmware logs SHA-1 and SHA-256 only"},
	"bundle/guard-oss/lenovo-t14s-amd/ubuntu2210/ sha384": {denial.BankUncapped, "firmware logs SHA-1 and SHA-256 only"},
}

func corpusRefusal(name, bank string) (denial.Reason, bool) {
	if strings.HasSuffix(name, "win10-5logs/eventlog-4.bin") {
		return 0, false
	}
	for path, r := range corpusRefusals {
		path, only, limited := strings.Cut(path, " ")
		if strings.HasPrefix(name, path) && (!limited || only == bank) {
			return r.reason, true
		}
	}
	return 0, false
}

// userspace tells which PCRs of a bundle were extended after the boot log ended. IMA has a log of its own.
func userspace(name string, pcr int64) bool {
	return pcr == 10 || pcr == 11 && strings.Contains(name, "/pcr11-ima/")
}

func TestRealMachines(t *testing.T) {
	passed := 0
	for _, l := range corpus(t) {
		for _, bank := range []string{"sha256", "sha384"} {
			want, refused := corpusRefusal(l.name, bank)
			pcrs := maps.Clone(l.pcrs[bank])
			if len(pcrs) == 0 && want != denial.BankNotAllowed && want != denial.LogMalformed {
				continue
			}
			t.Run(l.name+" "+bank, func(t *testing.T) {
				covered := maps.Clone(pcrs)
				maps.DeleteFunc(covered, func(pcr int64, _ []byte) bool { return userspace(l.name, pcr) })
				f, err := replay(l.raw, bank, covered)
				if refused {
					expect(t, err, want)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				passed++
				if f.Log.Events == 0 || f.Log.Digest != sha256Hex(l.raw) {
					t.Errorf("got %+v", f.Log)
				}
				refusedWithUserspace(t, l, bank)
			})
		}
	}
	if passed < 32 {
		t.Errorf("%d logs passed, want at least 32", passed)
	}
}

// auditedRefusals are the machines that pass by their SHA-256 bank alone, and not if each of their banks is looked at.
var auditedRefusals = map[string]denial.Reason{
	// SHA-384 is kept, and firmware measures nothing into it.
	"bundle/guard-oss/lenovo-t14s-amd/ubuntu2110/eventlog-0.bin": denial.BankUncapped,
	"bundle/guard-oss/lenovo-t14s-amd/ubuntu2210/eventlog-0.bin": denial.BankUncapped,
	// PCR 0 of SHA-1 is not what the log gives.
	"bundle/guard-oss/supermicro-x11sch/winserver2022-defender/eventlog-0.bin":   denial.LogReplayMismatch,
	"bundle/guard-oss/supermicro-x11sch/winserver2022-wbcl-quote/eventlog-0.bin": denial.LogReplayMismatch,
}

// Real machines measure into every bank that they keep, so that audit sessions find nothing against them.
func TestL15_BanksOfRealMachines(t *testing.T) {
	passed := 0
	for _, l := range corpus(t) {
		if _, refused := corpusRefusal(l.name, "sha256"); refused || len(l.pcrs["sha256"]) == 0 || len(l.pcrs) < 2 {
			continue
		}
		quoted := map[string]map[int64][]byte{}
		for bank, pcrs := range l.pcrs {
			quoted[bank] = maps.Clone(pcrs)
			maps.DeleteFunc(quoted[bank], func(pcr int64, _ []byte) bool { return bank != "sha256" && pcr > 7 || userspace(l.name, pcr) })
		}
		_, err := replayBanks(l.raw, "sha256", quoted)
		want := auditedRefusals[l.name]
		switch {
		case want != 0:
			expect(t, err, want)
		case err != nil:
			t.Errorf("%s, banks %v: %v", l.name, slices.Sorted(maps.Keys(l.pcrs)), err)
		default:
			passed++
		}
	}
	t.Logf("%d machines pass with all of their banks", passed)
	if passed < 10 {
		t.Errorf("%d machines pass", passed)
	}
}

// refusedWithUserspace makes sure that a PCR that userspace extended is refused as long as nothing covers it.
func refusedWithUserspace(t *testing.T, l corpusLog, bank string) {
	t.Helper()
	reset := make([]byte, len(l.pcrs[bank][0]))
	for pcr, v := range l.pcrs[bank] {
		if userspace(l.name, pcr) && !slices.Equal(v, reset) {
			_, err := replay(l.raw, bank, map[int64][]byte{0: l.pcrs[bank][0], pcr: v})
			want := denial.LogUncovered
			if pcr == 11 { // systemd-stub has events there
				want = denial.LogReplayMismatch
			}
			expect(t, err, want)
		}
	}
}

// offsets returns where each event of a log begins, and the length of the log.
func offsets(l *bootLog) []int {
	at := make([]int, len(l.events)+1)
	at[len(l.events)] = len(l.raw)
	for i := len(l.events) - 1; i >= 0; i-- {
		size := 4 + 4 + 4 + 4 + len(l.events[i].data)
		for b := range l.banks {
			if d := l.digest(i, b); d != nil {
				size += 2 + len(d)
			}
		}
		at[i] = at[i+1] - size
	}
	return at
}

// The true log of a machine, with any one measured event taken out, must not pass.
func TestRealMachinesWithOneEventRemoved(t *testing.T) {
	for _, l := range corpus(t) {
		pcrs := maps.Clone(l.pcrs["sha256"])
		maps.DeleteFunc(pcrs, func(pcr int64, _ []byte) bool { return userspace(l.name, pcr) })
		if _, refused := corpusRefusal(l.name, "sha256"); refused || len(pcrs) == 0 {
			continue
		}
		parsed, err := parseLog(l.raw)
		if err != nil {
			t.Fatalf("%s: %v", l.name, err)
		}
		at := offsets(parsed)
		for i := range parsed.events {
			if _, quoted := pcrs[int64(parsed.events[i].pcr)]; !quoted || !parsed.events[i].extends() {
				continue
			}
			log := slices.Concat(l.raw[:at[i]], l.raw[at[i+1]:])
			if f, err := replay(log, "sha256", pcrs); err == nil {
				t.Fatalf("%s without event %d: got %+v", l.name, i+1, f)
			}
		}
	}
}
