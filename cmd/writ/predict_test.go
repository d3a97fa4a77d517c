package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/firmware-policy/predict"
	"github.com/governed-execution/writ/test/peimage"
)

// predictCommand runs "writ policy predict" and returns its exit status and output.
func predictCommand(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	status = run(t.Context(), append([]string{"policy", "predict"}, args...), strings.NewReader(""), &out, &errOut)
	return status, out.String(), errOut.String()
}

func TestPredictedPolicyCompiles(t *testing.T) {
	dir := t.TempDir()
	image, variable := filepath.Join(dir, "linux.efi"), filepath.Join(dir, "dbx")
	list := predict.SignatureList(predict.CertSHA256, predict.GUID{1}, make([]byte, 32))
	for path, data := range map[string][]byte{image: peimage.Image(nil, peimage.Parts()...), variable: append([]byte{7, 0, 0, 0}, list...)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	zero := strings.Repeat("0", 64)
	status, text, stderr := predictCommand(t, image, "--secure-boot-off", "--dbx", variable, "--id", "https://issuer.example/p", "--pcr", "0="+zero)
	if status != 0 {
		t.Fatal(stderr)
	}
	if _, err := firmwarepolicy.ParseTOML([]byte(text)); err != nil {
		t.Errorf("the policy does not compile: %v", err)
	}
	want, err := predict.UKI(peimage.Image(nil, peimage.Parts()...), predict.Keys{DBX: list}, "sha256")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{want.PCR[4], want.PCR[7], want.PCR[9], want.PCR[11], want.Sections[".cmdline"], "pcr0 = ['" + zero} {
		if !strings.Contains(text, v) {
			t.Errorf("the policy does not have %s:\n%s", v, text)
		}
	}
	if status, text, _ = predictCommand(t, image, "--secure-boot-off"); status != 0 || !strings.Contains(text, "PCR 11  "+want.PCR[11]) {
		t.Errorf("without --id it shows %q (%d)", text, status)
	}
}

func TestPredictIsCalledRight(t *testing.T) {
	dir := t.TempDir()
	image, junk := filepath.Join(dir, "linux.efi"), filepath.Join(dir, "junk")
	for path, data := range map[string][]byte{image: peimage.Image(nil, peimage.Parts()...), junk: []byte("no signature list")} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		want int
		args []string
	}{
		{exitMisuse, nil},
		{exitMisuse, []string{image}},
		{exitMisuse, []string{image, "--secure-boot-off", "--id", "https://issuer.example/p", "--pcr", "0"}},
		{exitMisuse, []string{image, "--secure-boot-off", "--id", "https://issuer.example/p", "--pcr", "0=zz"}},
		{exitDenied, []string{image, "--secure-boot-off", "--id", "https://issuer.example/p", "--pcr", "4=" + strings.Repeat("0", 64)}},
		{exitFault, []string{junk, "--secure-boot-off"}},
		{exitFault, []string{image, "--secure-boot-off", "--db", junk}},
		{exitFault, []string{image, "--secure-boot-off", "--bank", "sha1"}},
		{exitFault, []string{filepath.Join(dir, "missing"), "--secure-boot-off"}},
	} {
		if got, out, stderr := predictCommand(t, c.args...); got != c.want || out != "" || stderr == "" {
			t.Errorf("%v: exit status %d, want %d: %s", c.args, got, c.want, stderr)
		}
	}
}
