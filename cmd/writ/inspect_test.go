package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/need"
)

// explainers are what inspect does with the bytes of a file.
var explainers = map[string]func([]byte) error{
	"artifact":  func(b []byte) error { _, err := explainArtifact(b); return err },
	"statement": func(b []byte) error { return explainAll(b) },
	"eventlog": func(b []byte) error {
		v, err := viewLog(b, nil, nil)
		_ = v.text()
		return err
	},
	"ima": func(b []byte) error {
		v, err := (&imaFlags{bank: "sha256"}).view(b, nil, attest.IMAReference{})
		_ = v.text()
		return err
	},
	"quote": func(b []byte) error {
		s, err := (&quoteFlags{}).explain(b)
		if err == nil {
			_ = s.String()
		}
		return err
	},
	"ekcert": func(b []byte) error { _, err := explainEKCert(b, &foundCAs{}, time.Now()); return err },
	"bundle": func(b []byte) error {
		v, err := viewBundle(bytes.NewReader(b))
		if err == nil {
			_ = v.text()
		}
		return err
	},
}

func explainAll(b []byte) error {
	s, err := explainFile(b)
	if err != nil {
		return err
	}
	if err := diagnose(s, b); err != nil {
		return err
	}
	if _, err := s.MarshalJSON(); err != nil {
		return err
	}
	_ = s.String()
	return nil
}

// FuzzInspect holds that any bytes are either explained or refused with a code, and that nothing reaches a terminal
// that it would act on.
func FuzzInspect(f *testing.F) {
	for _, data := range newKit(f).files {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for name, explain := range explainers {
			var d *denial.Denial
			if err := explain(data); err != nil && !errors.As(err, &d) {
				t.Errorf("%s: a fault, not a denial: %v", name, err)
			}
		}
	})
}

func TestNoTerminalActsOnWhatAFileSays(t *testing.T) {
	k := newKit(t)
	r := record.Revocation{Version: record.Version, Cause: record.CauseHost, Target: hostURI, Time: k.now, Nonce: fill(16, 1),
		Why: "\x1b[2Jverified: yes\nverified  yes\u009b1m\u202e"}
	d := must(record.NewDraft(statement.Revocation, issuerURI, r, 1, time.Unix(int64(k.now), 0), time.Hour))(t)
	path := filepath.Join(t.TempDir(), "d")
	if err := os.WriteFile(path, must(d.Encode())(t), 0o600); err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := call(t, "inspect", "statement", path)
	if status != exitYes || !strings.HasPrefix(stdout, unverified) {
		t.Fatalf("status %d: %s", status, stderr)
	}
	if strings.ContainsAny(stdout, "\x1b\u009b\u202e") || !strings.Contains(stdout, `"\x1b[2Jverified: yes"`) {
		t.Errorf("shown as it is: %q", stdout)
	}
	for _, line := range strings.Split(stdout, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "verified") && !strings.HasPrefix(line, "     ") {
			t.Errorf("a file can write a line of ours: %q", line)
		}
	}
}

func TestTimesBeyondTheCalendar(t *testing.T) {
	for in, want := range map[uint64]string{0: "1970-01-01T00:00:00Z", 253402300799: "9999-12-31T23:59:59Z", 1 << 63: "9223372036854775808 s"} {
		if got := stamp(in); got != want {
			t.Errorf("%d: got %s, want %s", in, got, want)
		}
	}
}

func TestInspectCorpus(t *testing.T) {
	root := need.Corpus(t)
	files := 0
	err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := readInput(path)
		if denial.Is(err, denial.StructureLimit) {
			return nil
		}
		if err != nil {
			return err
		}
		files++
		for name, explain := range explainers {
			var d *denial.Denial
			if err := explain(data); err != nil && !errors.As(err, &d) {
				t.Errorf("%s %s: %v", name, path, err)
			}
		}
		return nil
	})
	if err != nil || files < 500 {
		t.Errorf("%d files (%v)", files, err)
	}
}
