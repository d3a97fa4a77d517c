package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/issuer/server"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/test/swtpm"
)

// site is an issuer on loopback that admits a host with a TPM that is a program of its own, and the files that writ needs there.
type site struct {
	*issuertest.World
	t   *testing.T
	tpm *swtpm.TPM
	dir string
	url string
}

func newSite(t *testing.T) *site {
	s := &site{World: issuertest.New(t), t: t, tpm: swtpm.New(t, swtpm.Options{}), dir: t.TempDir()}
	s.Advance(time.Since(s.Now())) // writ goes by the clock of the machine
	s.boot(s.tpm)
	s.write("boot.log", s.Boot.Log)
	s.serve()
	if status, _, said := call(t, "key", "new", "-o", s.path("robot.pem")); status != exitYes {
		t.Fatal(said)
	}
	signer := must(readSigner(s.path("robot.pem")))(t)
	s.Apply(statement.Enrolment, record.Enrolment{Version: record.Version, ID: issuertest.Robot, Time: s.Seconds(), Nonce: fill(16, 1),
		Initiator: &record.Initiator{Kind: record.Service, Key: signer.Key()}})
	s.enrol()
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name string, data []byte) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), data, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// boot extends the PCRs of a TPM as the boot of the World does.
func (s *site) boot(tpm *swtpm.TPM) {
	s.t.Helper()
	var list []swtpm.Extend
	for _, e := range s.Boot.Extends {
		list = append(list, swtpm.Extend(e))
	}
	if err := tpm.ExtendAll(s.t.Context(), list); err != nil {
		s.t.Fatal(err)
	}
}

// serve serves the issuer until the test ends.
func (s *site) serve() {
	s.t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(s.t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(s.t)
	s.write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	public, admin := must(net.Listen("tcp", "127.0.0.1:0"))(s.t), must(net.Listen("unix", s.path("admin.sock")))(s.t)
	s.url = "https://" + public.Addr().String()
	srv := server.New(server.Options{Issuer: s.Issuer, Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ctx, public, admin) }()
	s.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	})
}

// enrol admits the TPM's host. Authorities vouch for its EK.
func (s *site) enrol() {
	s.t.Helper()
	tpm := must(attester.Open(s.t.Context(), s.tpm.Socket))(s.t)
	ek := must(tpm.EKs(s.t.Context()))(s.t)[0].Digest()
	if err := tpm.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.Apply(statement.Enrolment, record.Enrolment{Version: record.Version, ID: issuertest.OtherURI, Time: s.Seconds(), Nonce: fill(16, 2),
		Host: &record.Host{EK: ek[:], Labels: s.Host.Labels, Gate: issuertest.Gate, Listed: true}})
	if status, _, said := call(s.t, "host", "enroll", "--server", s.url, "--ca", s.path("ca.pem"), "--tpm", s.tpm.Socket); status != exitYes {
		s.t.Fatal(said)
	}
}

// request has the host ask for an artifact.
func (s *site) request(tpm *swtpm.TPM, out string, more ...string) (status int, stderr string) {
	s.t.Helper()
	status, _, stderr = call(s.t, append([]string{"request", "--server", s.url, "--ca", s.path("ca.pem"), "--tpm", tpm.Socket, "--eventlog", s.path("boot.log"),
		"--initiator", issuertest.Robot, "--key", s.path("robot.pem"), "--host", issuertest.OtherURI, "--audience", issuertest.Gate,
		"--exec", strings.TrimPrefix(issuertest.Target, "file:"), "--code", hex.EncodeToString(issuertest.Code[:]), "-o", s.path(out)}, more...)...)
	return status, stderr
}

// key returns the thumbprints of the key that an artifact names and of the one that is kept beside it.
func (s *site) key(name string) (named, kept statement.Thumbprint) {
	s.t.Helper()
	c, _, err := artifact.Inspect(must(os.ReadFile(s.path(name)))(s.t))
	if err != nil {
		s.t.Fatal(err)
	}
	k := must(attester.ReadKey(s.path(name + ".cnf")))(s.t)
	return c.Confirmation.Key.Thumbprint(), must(k.Verifier())(s.t).Thumbprint()
}

func (s *site) refuses(tpm *swtpm.TPM, code, why string, more ...string) {
	s.t.Helper()
	entries := s.Size()
	status, said := s.request(tpm, "none.cose", more...)
	if status != exitDenied || !strings.Contains(said, code) || !strings.Contains(said, why) || !strings.Contains(said, "hint: Ask without --reuse-cnf") {
		s.t.Errorf("status %d, want %d with %s, %q and what to try:\n%s", status, exitDenied, code, why, said)
	}
	if _, err := os.Stat(s.path("none.cose")); err == nil || s.Size() != entries {
		s.t.Errorf("a request that cannot succeed was sent: %d entries, %d before", s.Size(), entries)
	}
}

func TestRequestUsesAKeyAgain(t *testing.T) {
	s := newSite(t)
	for _, name := range []string{"first.cose", "other.cose"} {
		if status, said := s.request(s.tpm, name); status != exitYes {
			t.Fatal(said)
		}
	}
	reuse := []string{"--reuse-cnf", s.path("first.cose.cnf")}
	if status, said := s.request(s.tpm, "second.cose", reuse...); status != exitYes {
		t.Fatal(said)
	}
	first, kept := s.key("first.cose")
	second, keptToo := s.key("second.cose")
	other, _ := s.key("other.cose")
	if first != second || kept != first || keptToo != first || other == first {
		t.Errorf("keys: first %x beside %x, again %x beside %x, new %x", first, kept, second, keptToo, other)
	}
	if a, b := must(os.ReadFile(s.path("first.cose.cnf")))(t), must(os.ReadFile(s.path("second.cose.cnf")))(t); string(a) != string(b) {
		t.Error("the key is not kept as it was, certification and all")
	}

	stranger := swtpm.New(t, swtpm.Options{})
	s.boot(stranger)
	s.refuses(stranger, "701 HOST_MISMATCH", "was not made by this TPM", reuse...)
	d := sha256.Sum256([]byte("something else was loaded"))
	if err := s.tpm.ExtendAll(t.Context(), []swtpm.Extend{{PCR: 11, Digests: map[string][]byte{"sha256": d[:]}}}); err != nil {
		t.Fatal(err)
	}
	s.refuses(s.tpm, "702 KEY_BINDING", "a PCR among [4 7 11] has changed", reuse...)
	s.Publish(strings.Replace(s.Appraisal(), "bind = [4, 7, 11]", "bind = [4, 7]", 1))
	s.refuses(s.tpm, "702 KEY_BINDING", "bound to PCRs [4 7 11]", reuse...)

	if status, said := s.request(s.tpm, "none.cose", "--reuse-cnf", s.path("absent")); status != exitFault || !strings.Contains(said, "hint: ") {
		t.Errorf("status %d without the file of the key:\n%s", status, said)
	}
}
