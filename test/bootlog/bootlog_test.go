package bootlog_test

import (
	"bytes"
	"crypto"
	"net"
	"reflect"
	"testing"

	"github.com/google/go-eventlog/extract"
	pb "github.com/google/go-eventlog/proto/state"
	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tpmeventlog"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/swtpm"
)

func TestSameOptionsGiveSameBytes(t *testing.T) {
	o := bootlog.Options{Banks: []string{"sha256", "sha384"}}
	a, b := bootlog.New(o), bootlog.New(o)
	if !bytes.Equal(a.Log, b.Log) || !reflect.DeepEqual(a.Extends, b.Extends) {
		t.Error("two boots with the same options differ")
	}
}

// Each option must move the PCRs that it moves on a real machine, and no other.
func TestOptionsMovePCRs(t *testing.T) {
	plain := bootlog.New(bootlog.Options{}).PCRs("sha256")
	for _, c := range []struct {
		name  string
		o     bootlog.Options
		moved []int64
	}{
		{"firmware", bootlog.Options{Firmware: "2.8.2"}, []int64{0}},
		{"image", bootlog.Options{Image: []byte("another")}, []int64{4, 11}},
		{"command line", bootlog.Options{CommandLine: "init=/bin/sh"}, []int64{9, 12}},
		{"initrd", bootlog.Options{Initrd: []byte("another")}, []int64{9, 11}},
		{"secure boot", bootlog.Options{NoSecureBoot: true}, []int64{4, 7}},
		{"locality", bootlog.Options{Locality: 3}, []int64{0}},
		{"second bank", bootlog.Options{Banks: []string{"sha256", "sha384"}}, nil},
	} {
		var moved []int64
		changed := bootlog.New(c.o).PCRs("sha256")
		for pcr := range int64(24) {
			if !bytes.Equal(plain[pcr], changed[pcr]) {
				moved = append(moved, pcr)
			}
		}
		if !reflect.DeepEqual(moved, c.moved) {
			t.Errorf("%s moved PCRs %v, want %v", c.name, moved, c.moved)
		}
	}
}

// The extends must bring a real TPM to the PCR values that the log promises.
func TestSoftwareTPMReachesTheValues(t *testing.T) {
	banks := map[string]tpm2.TPMAlgID{"sha256": tpm2.TPMAlgSHA256, "sha384": tpm2.TPMAlgSHA384}
	b := bootlog.New(bootlog.Options{Banks: []string{"sha256", "sha384"}})
	tpm := swtpm.New(t, swtpm.Options{Banks: b.Banks})
	var list []swtpm.Extend
	for _, e := range b.Extends {
		list = append(list, swtpm.Extend(e))
	}
	if err := tpm.ExtendAll(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", tpm.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for bank, alg := range banks {
		for pcr, want := range b.PCRs(bank) {
			r, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
				{Hash: alg, PCRSelect: tpm2.PCClientCompatible.PCRs(uint(pcr))}}}}.Execute(transport.FromReadWriter(conn))
			if err != nil || len(r.PCRValues.Digests) != 1 {
				t.Fatalf("reading %s PCR %d: %v", bank, pcr, err)
			}
			if got := r.PCRValues.Digests[0].Buffer; !bytes.Equal(got, want) {
				t.Errorf("%s PCR %d = %x, want %x", bank, pcr, got, want)
			}
		}
	}
}

// Code that others wrote must read the log as we mean it.
func TestGoEventlogReadsGeneratedLogs(t *testing.T) {
	for name, o := range map[string]bootlog.Options{
		"UKI":                    {},
		"GRUB":                   {GRUB: true},
		"UKI, no Secure Boot":    {NoSecureBoot: true},
		"GRUB, locality 3":       {GRUB: true, Locality: 3},
		"UKI, two banks, sha384": {Banks: []string{"sha256", "sha384"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := bootlog.New(o)
			bank, algo, h := "sha256", pb.HashAlgo_SHA256, crypto.SHA256
			if len(o.Banks) == 2 {
				bank, algo, h = "sha384", pb.HashAlgo_SHA384, crypto.SHA384
			}
			pcrs := register.PCRBank{TCGHashAlgo: algo}
			for pcr, v := range b.PCRs(bank) {
				pcrs.PCRs = append(pcrs.PCRs, register.PCR{Index: int(pcr), Digest: v, DigestAlg: h})
			}
			loader := extract.UnsupportedLoader
			if o.GRUB {
				loader = extract.GRUB
			}
			state, err := tpmeventlog.ReplayAndExtract(b.Log, pcrs, extract.Opts{Loader: loader})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := state.SecureBoot.Enabled, !o.NoSecureBoot; got != want {
				t.Errorf("Secure Boot is %v, want %v", got, want)
			}
			if o.GRUB && state.LinuxKernel.CommandLine == "" {
				t.Error("no kernel command line")
			}
		})
	}
}
