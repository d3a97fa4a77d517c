package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
)

// measured is one record as systemd writes it.
func measured(pcr int, text, digestOf string) string {
	d := sha256.Sum256([]byte(digestOf))
	return fmt.Sprintf("\x1e{\"pcr\":%d,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"%x\"}],\"content_type\":\"systemd\","+
		"\"content\":{\"string\":%q,\"bootId\":\"0f\",\"timestamp\":1,\"eventType\":\"phase\"}}\n", pcr, d, text)
}

// running is a machine whose systemd has extended PCRs after the boot.
type running struct {
	*bootlog.Boot
	log  string
	pcrs map[int64][]byte
}

func start(o bootlog.Options) *running {
	b := bootlog.New(o)
	return &running{Boot: b, pcrs: b.Select("sha256", append(append([]int64{}, bootPCRs...), 15)...)}
}

// measure extends a PCR and logs it.
func (r *running) measure(pcr int, text, digestOf string) {
	d := sha256.Sum256([]byte(digestOf))
	v := sha256.Sum256(append(bytes.Clone(r.pcrs[int64(pcr)]), d[:]...))
	r.pcrs[int64(pcr)] = v[:]
	r.log += measured(pcr, text, digestOf)
}

func (r *running) replay(log string) (*bootFacts, error) {
	return bootLogs{firmware: r.Log, os: []byte(log)}.replay("sha256", r.pcrs, nil)
}

func separated() *running {
	r := start(bootlog.Options{})
	r.measure(11, "enter-initrd", "enter-initrd")
	r.measure(15, "cryptsetup:root:0f", "a secret that the text does not tell")
	for _, pcr := range []int{0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 14} {
		r.measure(pcr, osSeparator, osSeparator)
	}
	r.measure(11, "ready", "ready")
	return r
}

func TestLogOfSystemd(t *testing.T) {
	r := separated()
	f, err := r.replay(r.log + "\x1e{\"nv_index\":25166336,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"00\"}]}\n")
	if err != nil {
		t.Fatal(err)
	}
	var phases []string
	for _, e := range f.OS {
		if e.PCR == 11 {
			phases = append(phases, e.Text)
		}
		if e.PCR == 15 && e.Text != "" {
			t.Errorf("a text that no digest covers is a fact: %q", e.Text)
		}
	}
	if want := []string{"enter-initrd", "ready"}; !reflect.DeepEqual(phases, want) {
		t.Errorf("phases %q, want %q", phases, want)
	}
	if want := map[int64]int64{5: 0, 8: 0, 11: 0, 12: 0, 15: 1}; !reflect.DeepEqual(f.Unexplained, want) {
		t.Errorf("unexplained %v, want %v", f.Unexplained, want)
	}
	if last := f.Measured[9][len(f.Measured[9])-1]; last != sha256Hex([]byte(osSeparator)) {
		t.Errorf("PCR 9 ends with %s, not with the separator", last)
	}
	if len(f.OS) != 14 || f.Sections[".linux"] == "" {
		t.Errorf("%d events, sections %v", len(f.OS), f.Sections)
	}
}

func TestLogOfSystemdMustFit(t *testing.T) {
	r := separated()
	_, err := r.replay("")
	expect(t, err, denial.LogUncovered) // PCR 15 has a value, but no event
	_, err = r.replay(strings.TrimSuffix(r.log, measured(11, "ready", "ready")))
	expect(t, err, denial.LogReplayMismatch)
	_, err = r.replay(strings.Replace(r.log, hex.EncodeToString(sum("ready")), hex.EncodeToString(sum("other")), 1))
	expect(t, err, denial.LogReplayMismatch)
	f, err := r.replay(strings.Replace(r.log, `"ready"`, `"final"`, 1))
	if err != nil || f.OS[13].Text != "" || f.Unexplained[11] != 1 {
		t.Errorf("got %+v, %v, want a text that is no fact", f, err)
	}
	_, err = r.replay(strings.Replace(r.log, `"hashAlg":"sha256","digest":"`+hex.EncodeToString(sum("ready"))+`"`,
		`"hashAlg":"sha1","digest":"`+strings.Repeat("0", 40)+`"`, 1))
	expect(t, err, denial.LogUncovered)
}

func sum(text string) []byte {
	d := sha256.Sum256([]byte(text))
	return d[:]
}

func TestL05_SystemExtendsFirmwarePCRsWithItsSeparatorOnly(t *testing.T) {
	for pcr := range 8 {
		r := start(bootlog.Options{})
		r.measure(pcr, "something", "something")
		_, err := r.replay(r.log)
		expect(t, err, denial.EventUnexpected)
		r = start(bootlog.Options{})
		r.measure(pcr, osSeparator, osSeparator)
		if _, err := r.replay(r.log); err != nil {
			t.Errorf("PCR %d: %v", pcr, err)
		}
		r.measure(pcr, osSeparator, osSeparator)
		_, err = r.replay(r.log)
		expect(t, err, denial.EventUnexpected)
		r = start(bootlog.Options{})
		r.measure(pcr, osSeparator, "something")
		_, err = r.replay(r.log)
		expect(t, err, denial.EventUnexpected)
	}
}

func TestMalformedLogOfSystemd(t *testing.T) {
	good := measured(11, "ready", "ready")
	if events, err := parseOSLog([]byte(good)); err != nil || len(events) != 1 || events[0].text != "ready" {
		t.Fatalf("got %v, %v", events, err)
	}
	digests := `"digests":[{"hashAlg":"sha256","digest":"` + hex.EncodeToString(sum("ready")) + `"}]`
	for name, text := range map[string]string{
		"no separator":       good[1:],
		"cut short":          good[:len(good)-1],
		"cut in the middle":  good[:len(good)-1] + good,
		"two texts":          good + good[1:],
		"no JSON":            "\x1enonsense\n",
		"empty record":       "\x1e\x1e{}\n",
		"no PCR":             "\x1e{" + digests + "}\n",
		"PCR and NV index":   "\x1e{\"pcr\":1,\"nv_index\":1," + digests + "}\n",
		"PCR 24":             "\x1e{\"pcr\":24," + digests + "}\n",
		"PCR -1":             "\x1e{\"pcr\":-1," + digests + "}\n",
		"no digest":          "\x1e{\"pcr\":11,\"digests\":[]}\n",
		"digest twice":       strings.Replace(good, `"digests":[`, `"digests":[{"hashAlg":"sha256","digest":"`+hex.EncodeToString(sum(""))+`"},`, 1),
		"short digest":       strings.Replace(good, hex.EncodeToString(sum("ready")), "00", 1),
		"no digest in it":    strings.Replace(good, hex.EncodeToString(sum("ready")), strings.Repeat("zz", 32), 1),
		"unknown algorithm":  strings.Replace(good, "sha256", "md5", 1),
		"digest is a number": "\x1e{\"pcr\":11,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":1}]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseOSLog([]byte(text))
			expect(t, err, denial.LogMalformed)
		})
	}
	longest := "\x1e{\"nv_index\":1" + strings.Repeat(" ", MaxOSLog-len("\x1e{\"nv_index\":1}\n")) + "}\n"
	for _, text := range []string{longest, strings.Repeat("\x1e{\"nv_index\":1}\n", maxEvents)} {
		if _, err := parseOSLog([]byte(text)); err != nil {
			t.Errorf("a log of %d bytes at the limit: %v", len(text), err)
		}
	}
	_, err := parseOSLog(make([]byte, MaxOSLog+1))
	expect(t, err, denial.RequestLimit)
	_, err = parseOSLog([]byte(strings.Repeat("\x1e", maxEvents+1) + "\n"))
	expect(t, err, denial.RequestLimit)
}

func FuzzOSLog(f *testing.F) {
	f.Add([]byte(separated().log))
	f.Add([]byte(measured(11, "ready", "ready")))
	f.Add([]byte("\x1e{\"nv_index\":1}\n"))
	boot := bootlog.New(bootlog.Options{})
	pcrs := boot.Select("sha256", bootPCRs...)
	f.Fuzz(func(t *testing.T, raw []byte) {
		events, err := parseOSLog(raw)
		if err != nil {
			refusal(t, err)
		}
		for _, e := range events {
			if e.pcr >= pcrCount || len(e.digests) == 0 {
				t.Errorf("accepted an event of PCR %d with %d digests", e.pcr, len(e.digests))
			}
		}
		facts, err := bootLogs{firmware: boot.Log, os: raw}.replay("sha256", pcrs, nil)
		if err == nil && len(facts.OS) != 0 {
			t.Error("events that would have changed a quoted PCR are facts")
		}
	})
}
