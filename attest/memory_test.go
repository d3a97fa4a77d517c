package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
)

// A hit gives what a replay gives, and whatever differs in anything that facts depend on is replayed.
func TestKnownLogNeverChangesAVerdict(t *testing.T) {
	b := bootlog.New(bootlog.Options{Banks: []string{"sha256", "sha384"}})
	pcrs, ak := b.Select("sha256", bootPCRs...), []byte("one AK")
	c := NewMemory(1 << 20)
	first, err := c.replay(ak, bootLogs{firmware: b.Log}, "sha256", single("sha256", pcrs))
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.replay(slices.Clone(ak), bootLogs{firmware: slices.Clone(b.Log)}, "sha256", single("sha256", pcrs))
	if err != nil || !reflect.DeepEqual(first, again) {
		t.Errorf("got %+v, %v, want the same facts", again, err)
	}
	if hits, misses := c.Counts(); hits != 1 || misses != 1 {
		t.Fatalf("%d hits and %d misses, want 1 and 1", hits, misses)
	}
	other := bytes.Clone(b.Log)
	other[len(other)-1] ^= 1
	wrong := b.Select("sha256", bootPCRs...)
	wrong[4] = bytes.Repeat([]byte{1}, 32)
	for name, ask := range map[string]struct {
		ak     []byte
		logs   bootLogs
		bank   string
		values map[string]map[int64][]byte
		want   denial.Reason // 0: accepted
	}{
		"other AK":               {[]byte("another AK"), bootLogs{firmware: b.Log}, "sha256", single("sha256", pcrs), 0},
		"other PCRs":             {ak, bootLogs{firmware: b.Log}, "sha256", single("sha256", wrong), denial.LogReplayMismatch},
		"fewer PCRs":             {ak, bootLogs{firmware: b.Log}, "sha256", single("sha256", b.Select("sha256", 0, 7)), 0},
		"no PCRs":                {ak, bootLogs{firmware: b.Log}, "sha256", nil, denial.LogUncovered},
		"PCR 24":                 {ak, bootLogs{firmware: b.Log}, "sha256", single("sha256", map[int64][]byte{24: {}}), denial.LogUncovered},
		"other log":              {ak, bootLogs{firmware: other}, "sha256", single("sha256", pcrs), denial.EventDigestMismatch},
		"no log":                 {ak, bootLogs{}, "sha256", single("sha256", pcrs), denial.LogMalformed},
		"long log":               {ak, bootLogs{firmware: make([]byte, MaxBootLog+1)}, "sha256", single("sha256", pcrs), denial.RequestLimit},
		"a system log":           {ak, bootLogs{firmware: b.Log, os: []byte(measured(16, "x", "x"))}, "sha256", single("sha256", pcrs), 0},
		"other bank":             {ak, bootLogs{firmware: b.Log}, "sha384", single("sha384", pcrs), denial.LogUncovered},
		"bank of SHA-1":          {ak, bootLogs{firmware: b.Log}, "sha1", single("sha1", pcrs), denial.BankNotAllowed},
		"two banks":              {ak, bootLogs{firmware: b.Log}, "sha256", map[string]map[int64][]byte{"sha256": pcrs, "sha384": b.Select("sha384", 0, 7)}, 0},
		"two banks, one wrong":   {ak, bootLogs{firmware: b.Log}, "sha256", map[string]map[int64][]byte{"sha256": pcrs, "sha384": {4: make([]byte, 48)}}, denial.LogReplayMismatch},
		"the other bank, no PCR": {ak, bootLogs{firmware: b.Log}, "sha256", map[string]map[int64][]byte{"sha256": pcrs, "sha1": {}}, denial.BankUncapped},
	} {
		before, _ := c.Counts()
		f, err := c.replay(ask.ak, ask.logs, ask.bank, ask.values)
		plain, plainErr := ask.logs.replayBanks(ask.bank, ask.values, nil)
		if after, _ := c.Counts(); after != before {
			t.Errorf("%s: a hit", name)
		}
		if !reflect.DeepEqual(f, plain) || (err == nil) != (plainErr == nil) || err == nil && ask.want != 0 {
			t.Errorf("%s: got %v, %v, a replay gives %v, %v", name, f, err, plain, plainErr)
		}
		if ask.want != 0 {
			expect(t, err, ask.want)
			if _, err := c.replay(ask.ak, ask.logs, ask.bank, ask.values); !denial.Is(err, ask.want) {
				t.Errorf("%s, asked again: got %v, want %v", name, err, ask.want)
			}
		}
	}
}

// The key of logs differs with the bank and the number of each PCR, also where values are the same. A PCR that does not exist has
// no key.
func TestKeysOfLogs(t *testing.T) {
	t.Parallel()
	v := make([]byte, 32)
	key := func(values map[string]map[int64][]byte) memoryKey {
		k, ok := newLogKey([]byte("AK"), bootLogs{}, "sha256", values)
		if !ok {
			t.Errorf("%v has no key", values)
		}
		return k
	}
	seen := map[memoryKey]bool{}
	for _, values := range []map[string]map[int64][]byte{
		single("sha256", map[int64][]byte{1: v}), single("sha256", map[int64][]byte{2: v}), single("sha3-256", map[int64][]byte{1: v}),
		{"sha256": {1: v}, "sha384": {}}, {"sha256": {}, "sha384": {1: v}},
	} {
		seen[key(values)] = true
	}
	if len(seen) != 5 {
		t.Errorf("five sets of values have %d keys", len(seen))
	}
	for _, pcr := range []int64{-1, 24} {
		if _, ok := newLogKey(nil, bootLogs{}, "sha256", single("sha256", map[int64][]byte{7: v, pcr: v})); ok {
			t.Errorf("PCR %d has a key", pcr)
		}
	}
}

// What is used again stays, and what was used longest ago gives way.
func TestMemoryForgetsWhatWasNotUsed(t *testing.T) {
	t.Parallel()
	ak, certify := certifier(t)
	m, all := NewMemory(8*certificationEntrySize), make([]Certification, 9)
	for i := range all {
		all[i] = certify([]byte{byte(i)})
		for _, c := range []Certification{all[0], all[i]} { // the first again and again
			if err := m.verify(ak, c); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, c := range all {
		if _, known := m.entries[newCertificationKey(ak, c)]; known != (i != 1) {
			t.Errorf("certification %d: known: %v", i, known)
		}
	}
}

// single is the values of one bank.
func single(bank string, pcrs map[int64][]byte) map[string]map[int64][]byte {
	return map[string]map[int64][]byte{bank: pcrs}
}

// What a caller does with claims does not reach the memory.
func TestClaimsAreNoPartOfTheMemory(t *testing.T) {
	b := bootlog.New(bootlog.Options{GRUB: true})
	pcrs, c := b.Select("sha256", bootPCRs...), NewMemory(1<<20)
	spoil := func() Claims {
		f, err := c.replay(nil, bootLogs{firmware: b.Log}, "sha256", single("sha256", pcrs))
		if err != nil {
			t.Fatal(err)
		}
		facts := &Facts{claims: f.claims("sha256")}
		mine, theirs := facts.Claims(), facts.Claims()
		mine.BootApps[0].Digest, mine.Commands[0], mine.CommandLine[0], mine.SecureBoot.Authorities[0] = "", "", "", ""
		mine.Disks[0].Partitions[0].Name, mine.Measured[9][0], mine.Measured[14] = "x", "", nil
		mine.Shim.Generations["shim"], mine.Unexplained[8], mine.Sections["x"] = 0, 7, "x"
		return theirs
	}
	if first, second := spoil(), spoil(); !reflect.DeepEqual(first, second) || first.Commands[0] == "" || first.Measured[9][0] == "" {
		t.Errorf("the second caller got %+v, the first %+v", second, first)
	}
}

func TestMemoryIsBoundedAndSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	b := bootlog.New(bootlog.Options{})
	pcrs, in := b.Select("sha256", bootPCRs...), bootLogs{firmware: b.Log}
	one := logEntrySize + 4*len(b.Log)
	c := NewMemory(10 * one)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for n := range 30 {
				if _, err := c.replay(fmt.Appendf(nil, "AK %d", (worker+n)%15), in, "sha256", single("sha256", pcrs)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := c.recent.Len(); n != 10 || len(c.entries) != n || c.size != n*one || c.size > c.limit {
		t.Errorf("%d and %d entries of %d bytes, want 10 of %d", n, len(c.entries), c.size, one)
	}
	small := NewMemory(7 * one)
	if _, err := small.replay(nil, in, "sha256", single("sha256", pcrs)); err != nil || small.size != 0 {
		t.Errorf("an entry of more than an eighth is kept (%v)", err)
	}
	var none *Memory
	if _, err := none.replay(nil, in, "sha256", single("sha256", pcrs)); err != nil {
		t.Error(err)
	}
}

// certifier returns an AK and what signs with it.
func certifier(t *testing.T) (*attestationKey, func(attest []byte) Certification) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	ak := &attestationKey{public: public, pub: &key.PublicKey, scheme: tpm2.TPMAlgECDSA, hashAlg: tpm2.TPMAlgSHA256, hash: crypto.SHA256}
	return ak, func(attest []byte) Certification {
		digest := sha256.Sum256(attest)
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return Certification{Attest: attest, Signature: tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA,
			&tpm2.TPMSSignatureECC{Hash: tpm2.TPMAlgSHA256, SignatureR: tpm2.TPM2BECCParameter{Buffer: r.FillBytes(make([]byte, 32))},
				SignatureS: tpm2.TPM2BECCParameter{Buffer: s.FillBytes(make([]byte, 32))}})})}
	}
}

// The key of a certification is a digest of what it is about, the AK, the attestation and the signature, each behind its
// length; only what verified has one.
func TestKeysOfCertifications(t *testing.T) {
	t.Parallel()
	ak, certify := certifier(t)
	another, _ := certifier(t)
	c, m := certify([]byte("attestation")), NewMemory(1<<20)
	if err := m.verify(ak, c); err != nil {
		t.Fatal(err)
	}
	var b []byte
	for _, part := range [][]byte{[]byte("certification"), ak.public, c.Attest, c.Signature} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
	}
	if _, ok := m.entries[sha256.Sum256(b)]; !ok || len(m.entries) != 1 {
		t.Error("a certification that verified is not remembered by its parts")
	}
	for name, ask := range map[string]struct {
		ak *attestationKey
		c  Certification
	}{
		"another AK":          {another, c},
		"another attestation": {ak, Certification{Attest: []byte("Attestation"), Signature: c.Signature}},
		"another signature":   {ak, Certification{Attest: c.Attest, Signature: certify([]byte("Attestation")).Signature}},
		"a byte moved":        {ak, Certification{Attest: append(slices.Clone(c.Attest), c.Signature[0]), Signature: c.Signature[1:]}},
		"swapped":             {ak, Certification{Attest: c.Signature, Signature: c.Attest}},
	} {
		for range 2 {
			if err := m.verify(ask.ak, ask.c); err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
	}
	if hits, misses := m.Counts(); hits != 0 || misses != 11 || len(m.entries) != 1 {
		t.Errorf("%d hits, %d misses, %d entries: want 0, 11 and 1", hits, misses, len(m.entries))
	}
	if err := m.verify(ak, c); err != nil {
		t.Error(err)
	}
	if hits, _ := m.Counts(); hits != 1 {
		t.Errorf("%d hits, want 1", hits)
	}
	var none *Memory
	if err := none.verify(ak, c); err != nil {
		t.Error(err)
	}
	expect(t, none.verify(another, c), denial.KeyBinding)
}

func TestMemoryOfCertificationsIsBounded(t *testing.T) {
	t.Parallel()
	ak, certify := certifier(t)
	m := NewMemory(10 * certificationEntrySize)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := range 15 {
				if err := m.verify(ak, certify([]byte{byte(n)})); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := m.recent.Len(); n != 10 || len(m.entries) != n || m.size != n*certificationEntrySize {
		t.Errorf("%d and %d entries of %d bytes, want 10", n, len(m.entries), m.size)
	}
}
