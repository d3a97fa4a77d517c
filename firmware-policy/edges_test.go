package firmwarepolicy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/firmware-policy/predict"
)

// A file that was given by mistake may be a private key: no line of it is shown.
func TestNoLineOfAPolicyIsQuoted(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"", "\ufeff", "schema = 1\n", "schema = 1\nkey = \"\"\n"} {
		_, err := ParseTOML([]byte(before + "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"))
		if !denial.Is(err, denial.PolicyError) || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("got %v, want 407 without a line of the file", err)
		}
	}
}

func TestSpellingOfKeys(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{
		"a = 1": true, "A = 1": false, "a.b = 1": true, "a.B = 1": false, "[a]\nb = 1": true, "[A]": false, "[[a.B]]": false, "[[a]]\nB = 1": false,
		"a = {b = 1}": true, "a = {B = 1}": false, "a = [{b = 1}, {B = 1}]": false, "a = [{b = 1}]": true, "a = [[{B = 1}]]": false,
		"a = {b = {C = 1}}": false, "a = \"B\"": true, "a = [\"B\"]": true,
		"hosts = {B = 1}": true, "a = {hosts = {B = 1}}": true, "[labels]\nB = 1": true, "[a.change]\nB = 1\nC = 1": true,
		"[labels]\nB = 1\n[a]\nB = 1": false, "[labels]\n[a]\nB = 1": false, "hosts = {}\nB = 1": false, "a = [{hosts = {B = 1}}, {C = 1}]": false,
		"a = ": false, "[a": false,
	} {
		if err := checkCase([]byte(text)); (err == nil) != good {
			t.Errorf("%q: got %v", text, err)
		} else if err != nil {
			wantDenial(t, err, denial.PolicyError)
		}
	}
}

func TestTimesAtTheirEdges(t *testing.T) {
	t.Parallel()
	for v, want := range map[any]uint64{
		time.Unix(1, 0): 1, time.Unix(0, 0): 0, time.Unix(-1, 0): 0, time.Unix(5, 1): 0, time.Unix(5, 0).UTC(): 5, "5": 0, nil: 0, int64(5): 0,
	} {
		if got := expiry(v); got != want {
			t.Errorf("%v: got %d, want %d", v, got, want)
		}
	}
	for text, want := range map[string]uint64{"1s": 1, "1m": 60, "0s": 0, "-1s": 0, "1ms": 0, "1ns": 0, "1500ms": 0, "2000ms": 2, "": 0, "1": 0} {
		got, err := seconds("x", text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
}

func TestFirmwareVersionsAtTheirEdges(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint64{"0.0": 0, "73.4": 73<<16 | 4, "65535.65535": 1<<32 - 1} {
		if got, err := ParseFirmwareVersion(text); err != nil || got != want || versionText(got) != text {
			t.Errorf("%s: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1", "1.", ".1", "65536.0", "0.65536", "-1.0", "1.x", "x.1", "1.2.3"} {
		if got, err := ParseFirmwareVersion(text); err == nil || got != 0 {
			t.Errorf("%q: got %d", text, got)
		}
	}
	b := &anchorsBody{}
	if b.normalise(); b.Roots == nil || b.Path == nil || b.Lists == nil || b.Withdrawn == nil || b.Firmware == nil {
		t.Errorf("an absent list stays absent: %+v", b)
	}
	twice := attest.FirmwareRange{Manufacturer: "494E5443", From: 1, To: 2, Why: "x"}
	b = &anchorsBody{Path: [][]byte{{2}, {1}, {2}}, Firmware: []attest.FirmwareRange{twice, twice}}
	if b.normalise(); fmt.Sprint(b.Path) != "[[1] [2]]" || len(b.Firmware) != 1 {
		t.Errorf("got %v, %v", b.Path, b.Firmware)
	}
	if a, err := (*Document)(nil).Anchors(); a != nil || err == nil {
		t.Error("no document has anchors")
	}
	if _, err := readCAs("root", [][]byte{{1}}); !denial.Is(err, denial.PolicyError) {
		t.Errorf("no certificate: got %v", err)
	}
	if got := blockOf(pemList, []byte{1}); got.Name != "" || !strings.Contains(got.PEM, pemList) {
		t.Errorf("got %+v", got)
	}
}

func TestPCRsAtTheirEdges(t *testing.T) {
	t.Parallel()
	for _, pcrs := range [][]int64{{0}, {15}, {0, 1, 15}} {
		if err := checkPCRs("quote", pcrs); err != nil {
			t.Errorf("%v: got %v", pcrs, err)
		}
	}
	for _, row := range []struct {
		pcrs []int64
		why  string
	}{{nil, "empty"}, {[]int64{-1}, "no PCR"}, {[]int64{24}, "no PCR"}, {[]int64{16}, "proves nothing"}, {[]int64{23}, "proves nothing"},
		{[]int64{17}, "dynamic launch"}, {[]int64{22}, "dynamic launch"}, {[]int64{1, 1}, "twice"}, {[]int64{0, 1, 1}, "twice"}, {[]int64{0, 2, 1}, "twice"}} {
		if err := checkPCRs("quote", row.pcrs); !denial.Is(err, denial.PolicyError) || !strings.Contains(err.Error(), row.why) {
			t.Errorf("%v: got %v, want %q", row.pcrs, err, row.why)
		}
	}
}

func TestPolicyFromAPrediction(t *testing.T) {
	t.Parallel()
	value := func(s string) string { return digest(s) }
	p := &predict.Prediction{Bank: "sha256", PCR: map[int64]string{4: value("4"), 11: value("11")}, BootApps: []string{digest("kernel")}, Authority: digest("db"),
		SecureBoot: map[string]string{"PK": digest("PK"), "KEK": digest("KEK"), "db": digest("dbs"), "dbx": digest("dbx")}}
	text, err := FromPrediction("https://lab.example/policy", 2000000000, p, map[int64]string{4: value("4"), 7: value("7"), 5: value("5")})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{value("4"), value("11"), digest("kernel"), "quote = [4, 5, 7, 11]\n", "bind  = [4, 7, 11]\n", "secure-boot-on"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the policy does not say %s:\n%s", want, text)
		}
	}
	if len(p.PCR) != 2 {
		t.Error("the prediction was changed")
	}
	mustParse(t, string(text))
	if text, err := FromPrediction("https://lab.example/policy", 2000000000, p, map[int64]string{4: value("other")}); text != nil || !denial.Is(err, denial.PolicyError) ||
		!strings.Contains(err.Error(), "PCR 4 is given with another value") {
		t.Errorf("another value than the predicted one: got %s, %v", text, err)
	}
	p.Authority = ""
	text, err = FromPrediction("https://lab.example/policy", 2000000000, p, map[int64]string{7: value("7")})
	if err != nil || strings.Contains(string(text), "secure-boot-on") {
		t.Errorf("without an authority: got %v:\n%s", err, text)
	}
}
