package attester

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/swtpm"
)

var bound = attest.Selection{Bank: "sha256", PCRs: []int{7, 8}}

func TestCNFKeySignsOnlyWhileItsPCRsHold(t *testing.T) {
	emulator := swtpm.New(t, swtpm.Options{})
	boot(t, emulator, measure{7, "keys"}, measure{8, "command line"})
	tpm := connect(t, emulator)
	key := must(tpm.NewCNF(t.Context(), bound))(t)
	path := filepath.Join(t.TempDir(), "cnf")
	if err := key.Save(path); err != nil {
		t.Fatal(err)
	}
	if info := must(os.Stat(path))(t); info.Mode().Perm() != 0o600 {
		t.Errorf("the file of the key has mode %o, want 600", info.Mode().Perm())
	}
	read := must(ReadKey(path))(t)
	if !reflect.DeepEqual(read, key) {
		t.Error("the key was read back differently")
	}
	signer := must(tpm.Signer(t.Context(), read))(t)
	for _, kind := range statement.Kinds() {
		if kind != statement.Possession && kind != statement.Delegation {
			wantDenial(t, sign(t, signer, kind), denial.WrongType)
		} else if err := sign(t, signer, kind); err != nil {
			t.Errorf("signing a %s: %v", kind, err)
		}
	}
	disconnect(t, tpm)

	boot(t, emulator, measure{9, "not bound"})
	tpm = connect(t, emulator)
	if err := sign(t, must(tpm.Signer(t.Context(), read))(t), statement.Possession); err != nil {
		t.Errorf("signing after another PCR changed: %v", err)
	}
	disconnect(t, tpm)

	boot(t, emulator, measure{8, "a second command line"})
	tpm = connect(t, emulator)
	wantDenial(t, sign(t, must(tpm.Signer(t.Context(), read))(t), statement.Possession), denial.KeyBinding)
	disconnect(t, tpm)

	// The same boot again gives the key back; that a reboot ends an artifact is for the verifier to say.
	if err := emulator.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	boot(t, emulator, measure{7, "keys"}, measure{8, "command line"})
	if err := sign(t, must(connect(t, emulator).Signer(t.Context(), read))(t), statement.Possession); err != nil {
		t.Errorf("signing after the same boot: %v", err)
	}
}

// raw calls f with the key loaded, past every check of this package: what is refused is refused by the TPM.
func raw(t *testing.T, tpm *TPM, k *Key, f func(c *call, loaded *key) error) error {
	t.Helper()
	return tpm.use(t.Context(), func(c *call) error {
		loaded, err := c.load(k)
		if err != nil {
			t.Fatal(err)
		}
		defer loaded.free()
		return f(c, loaded)
	})
}

func signWith(c *call, loaded *key, auth tpm2.Session) error {
	_, err := tpm2.Sign{
		KeyHandle:  tpm2.AuthHandle{Handle: loaded.handle, Name: loaded.name, Auth: auth},
		Digest:     tpm2.TPM2BDigest{Buffer: make([]byte, 32)},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
	}.Execute(c)
	return err
}

func TestF24_TheTPMRefusesACNFKeyWithoutItsPolicy(t *testing.T) {
	emulator := swtpm.New(t, swtpm.Options{})
	boot(t, emulator, measure{7, "keys"})
	tpm := connect(t, emulator)
	k := must(tpm.NewCNF(t.Context(), bound))(t)
	other := *k
	other.PCRs = []int{9}
	for name, auth := range map[string]func(*call) tpm2.Session{
		"empty password":    func(*call) tpm2.Session { return tpm2.PasswordAuth(nil) },
		"HMAC session":      func(*call) tpm2.Session { return tpm2.HMAC(tpm2.TPMAlgSHA256, 16) },
		"other PCRs":        func(c *call) tpm2.Session { return c.policyPCR(&other) },
		"the wanted policy": func(c *call) tpm2.Session { return c.policyPCR(k) },
	} {
		err := raw(t, tpm, k, func(c *call, loaded *key) error { return signWith(c, loaded, auth(c)) })
		switch {
		case name == "the wanted policy":
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case name == "other PCRs":
			if !errors.Is(err, tpm2.TPMRCPolicyFail) {
				t.Errorf("%s: got %v, want TPM_RC_POLICY_FAIL", name, err)
			}
		case !errors.Is(err, tpm2.TPMRCAuthUnavailable):
			t.Errorf("%s: got %v, want TPM_RC_AUTH_UNAVAILABLE", name, err)
		}
	}
}

func TestAKeyOfAnotherTPMIsRefused(t *testing.T) {
	tpm, other := connect(t, swtpm.New(t, swtpm.Options{})), connect(t, swtpm.New(t, swtpm.Options{}))
	k := must(tpm.NewCNF(t.Context(), bound))(t)
	_, err := other.Signer(t.Context(), k)
	wantDenial(t, err, denial.HostMismatch)
	_, err = other.Certify(t.Context(), k, [32]byte{1})
	wantDenial(t, err, denial.HostMismatch)

	altered := *k
	altered.Private = append([]byte(nil), k.Private...)
	altered.Private[len(altered.Private)-1] ^= 1
	_, err = tpm.Signer(t.Context(), &altered)
	wantDenial(t, err, denial.HostMismatch)
}

func TestABusyHostStillSigns(t *testing.T) {
	tpm := connect(t, swtpm.New(t, swtpm.Options{}))
	signer := must(tpm.Signer(t.Context(), must(tpm.NewCNF(t.Context(), bound))(t)))(t)
	signs := 0
	meddle(tpm, tpm2.TPMCCSign, func(rw io.ReadWriter) []byte {
		if signs++; signs < 3 {
			extendVia(t, rw, 10) // as IMA does, between PolicyPCR and Sign
		}
		return nil
	})
	if err := sign(t, signer, statement.Possession); err != nil || signs != 3 {
		t.Errorf("signing took %d attempts and gave %v, want 3 and no error", signs, err)
	}
	meddle(tpm, tpm2.TPMCCSign, func(rw io.ReadWriter) []byte { extendVia(t, rw, 10); return nil })
	if err := sign(t, signer, statement.Possession); !errors.Is(err, errRestless) {
		t.Errorf("with a PCR that never rests: got %v, want %v", err, errRestless)
	}
}

func TestAFailedPolicyCommandLeavesNoSession(t *testing.T) {
	tpm := connect(t, swtpm.New(t, swtpm.Options{}))
	signer := must(tpm.Signer(t.Context(), must(tpm.NewCNF(t.Context(), bound))(t)))(t)
	meddle(tpm, tpm2.TPMCCPolicyPCR, func(io.ReadWriter) []byte {
		return binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 10}, uint32(tpm2.TPMRCPCR))
	})
	if err := sign(t, signer, statement.Possession); !errors.Is(err, tpm2.TPMRCPCR) {
		t.Errorf("got %v, want TPM_RC_PCR", err)
	}
}

func TestKeyFilesThatAreNone(t *testing.T) {
	tpm := connect(t, swtpm.New(t, swtpm.Options{}))
	good := must(tpm.NewCNF(t.Context(), bound))(t)
	must(DecodeKey(must(good.Encode())(t)))(t)
	for name, edit := range map[string]func(*Key){
		"no role":          func(k *Key) { k.Role = "" },
		"unknown role":     func(k *Key) { k.Role = "ak" },
		"cnf without PCRs": func(k *Key) { k.PCRs = nil },
		"no public area":   func(k *Key) { k.Public = nil },
		"cut public area":  func(k *Key) { k.Public = k.Public[:20] },
	} {
		bad := *good
		edit(&bad)
		if _, err := DecodeKey(must(bad.Encode())(t)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
