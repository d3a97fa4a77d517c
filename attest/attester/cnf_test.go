package attester

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
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
	_, err = other.Collect(t.Context(), CollectOptions{Selection: low, Bind: bound.PCRs, CNF: k, EventLog: []byte{}})
	wantDenial(t, err, denial.HostMismatch)

	altered := *k
	altered.Private = append([]byte(nil), k.Private...)
	altered.Private[len(altered.Private)-1] ^= 1
	_, err = tpm.Signer(t.Context(), &altered)
	wantDenial(t, err, denial.HostMismatch)
}

// occasion collects evidence with a cnf key for a fresh challenge, and has it verified. It returns the key that it came with, and
// how many keys the AK certified.
func occasion(t *testing.T, tpm *TPM, machine *bootlog.Boot, cnf *Key) (*Key, int) {
	t.Helper()
	o := CollectOptions{Challenge: attest.NewNonce(), RequestDigest: statement.DigestOf([]byte("request")), Exporter: [32]byte{1},
		Selection: low, Bind: []int{4, 7}, CNF: cnf, EventLog: machine.Log}
	certified, plain := 0, tpm.link.rw
	meddle(tpm, tpm2.TPMCCCertify, func(io.ReadWriter) []byte { certified++; return nil })
	c, err := tpm.Collect(t.Context(), o)
	tpm.link.rw = plain
	if err != nil {
		t.Fatal(err)
	}
	facts := must(attest.Verify(must(attest.DecodeEvidence(c.Evidence))(t), attest.Want{AK: must(tpm.AK(t.Context()))(t), Challenge: o.Challenge,
		Request: o.RequestDigest, Exporter: o.Exporter, Selection: low, Bind: o.Bind}))(t)
	if key, _, _ := facts.CNF(); !key.Equal(must(c.CNF.Verifier())(t)) {
		t.Error("the verifier sees another cnf key")
	}
	return c.CNF, certified
}

// A cnf key is certified once: the TPM signs nothing but the quote for each further occasion, whoever keeps the key meanwhile.
func TestAKeptCNFKeyIsNotCertifiedAgain(t *testing.T) {
	emulator, machine := swtpm.New(t, swtpm.Options{}), bootlog.New(bootlog.Options{})
	boots := func() *TPM {
		var list []swtpm.Extend
		for _, e := range machine.Extends {
			list = append(list, swtpm.Extend(e))
		}
		if err := emulator.ExtendAll(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		return connect(t, emulator)
	}
	tpm := boots()
	path := filepath.Join(t.TempDir(), "cnf")
	key, certified := occasion(t, tpm, machine, must(tpm.NewCNF(t.Context(), attest.Selection{Bank: "sha256", PCRs: []int{4, 7}}))(t))
	if certified != 1 {
		t.Errorf("certified %d times at first, want 1", certified)
	}
	if err := key.Save(path); err != nil {
		t.Fatal(err)
	}
	disconnect(t, tpm)
	if err := emulator.Reset(t.Context()); err != nil { // the same boot again
		t.Fatal(err)
	}
	tpm = boots()
	kept := must(ReadKey(path))(t)
	again, certified := occasion(t, tpm, machine, kept)
	if certified != 0 || !reflect.DeepEqual(again, key) {
		t.Errorf("certified %d times, want 0; the key is kept as %+v", certified, again)
	}
	if err := sign(t, must(tpm.Signer(t.Context(), again))(t), statement.Possession); err != nil {
		t.Errorf("signing: %v", err)
	}
	// One that another AK certified is certified by this one.
	other := *kept
	other.AK = append([]byte{}, kept.AK...)
	other.AK[5] ^= 1
	if again, certified = occasion(t, tpm, machine, &other); certified != 1 || !bytes.Equal(again.AK, kept.AK) {
		t.Errorf("certified %d times for AK %x, want 1 for %x", certified, again.AK, kept.AK)
	}
	if bytes.Equal(other.AK, kept.AK) {
		t.Error("the key of the caller was changed")
	}
}

func TestAKeyThatIsBoundElsewhereIsNotCollectedWith(t *testing.T) {
	emulator := swtpm.New(t, swtpm.Options{})
	tpm := connect(t, emulator)
	o := CollectOptions{Challenge: attest.NewNonce(), Selection: low, Bind: []int{4, 7}, EventLog: []byte{}}
	o.CNF = must(tpm.Collect(t.Context(), o))(t).CNF
	must(tpm.Collect(t.Context(), o))(t)
	for name, edit := range map[string]func(*CollectOptions){
		"other PCRs": func(o *CollectOptions) { o.Bind = []int{4} },
		"another bank": func(o *CollectOptions) {
			k := *o.CNF
			k.Bank, o.CNF = "sha384", &k
		},
		"a gate key": func(o *CollectOptions) {
			k, _, err := tpm.NewGateKey(t.Context(), must(tpm.EKs(t.Context()))(t)[0])
			o.CNF = must(k, err)(t)
		},
	} {
		other := o
		edit(&other)
		c, err := tpm.Collect(t.Context(), other)
		if wantDenial(t, err, denial.KeyBinding); c != nil {
			t.Errorf("%s: evidence beside an error", name)
		}
	}
	disconnect(t, tpm)
	boot(t, emulator, measure{7, "other keys"})
	_, err := connect(t, emulator).Collect(t.Context(), o)
	wantDenial(t, err, denial.KeyBinding)
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

		"certified by nobody":     func(k *Key) { k.Certify = &attest.Certification{Attest: []byte{1}, Signature: []byte{1}} },
		"an AK that says nothing": func(k *Key) { k.AK = []byte{1} },
		"a certified gate key":    func(k *Key) { k.Role, k.AK, k.Certify = Gate, []byte{1}, &attest.Certification{} },
	} {
		bad := *good
		edit(&bad)
		if _, err := DecodeKey(must(bad.Encode())(t)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestKeyFileThatIsTooLargeIsNone(t *testing.T) {
	t.Parallel()
	if _, err := ReadKey("/dev/zero"); err == nil || !strings.Contains(err.Error(), "more than 65536 bytes") {
		t.Errorf("got %v", err)
	}
}
