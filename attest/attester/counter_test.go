package attester

import (
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/test/swtpm"
)

func TestACounterNeverGoesBack(t *testing.T) {
	dev := swtpm.New(t, swtpm.Options{})
	tpm, err := Open(t.Context(), dev.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	const index = 0x01805752
	n := tpm.Counter(index)
	if v, err := n.Value(t.Context()); v != 0 || err != nil {
		t.Fatalf("before the first raise: got %d, %v", v, err)
	}
	raise := func() uint64 {
		v, err := n.Raise(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := n.Value(t.Context()); got != v || err != nil {
			t.Errorf("got %d, %v after a raise to %d", got, err, v)
		}
		return v
	}
	last := raise()
	for range 3 {
		if v := raise(); v != last+1 {
			t.Errorf("got %d after %d", v, last)
		} else {
			last = v
		}
	}
	// Root deletes it and makes it anew.
	if err := tpm.use(t.Context(), func(c *call) error {
		name, _, err := n.find(c)
		if err != nil {
			return err
		}
		_, err = tpm2.NVUndefineSpace{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			NVIndex: tpm2.NamedHandle{Handle: index, Name: name}}.Execute(c)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if v := raise(); v <= last {
		t.Errorf("made anew, it begins at %d, not above %d", v, last)
	}
}

func TestAnIndexThatIsNoCounterIsRefused(t *testing.T) {
	dev := swtpm.New(t, swtpm.Options{})
	tpm, err := Open(t.Context(), dev.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	const index = 0x01805753
	if err := tpm.use(t.Context(), func(c *call) error {
		_, err := tpm2.NVDefineSpace{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
				Attributes: tpm2.TPMANV{AuthRead: true, AuthWrite: true, NoDA: true}})}.Execute(c)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := tpm.Counter(index).Value(t.Context()); err == nil {
		t.Error("its value was read")
	}
	if _, err := tpm.Counter(index).Raise(t.Context()); err == nil {
		t.Error("it was raised")
	}
}
