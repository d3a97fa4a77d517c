package attest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

// sha1Way is a leaf under an intermediate CA that its root signed with SHA-1.
type sha1Way struct {
	root, ca, leaf x509.Certificate // templates
	signedBy       *rsa.PrivateKey  // nil: by the root
}

func newSHA1Way(now time.Time) *sha1Way {
	template := func(n int64, name string, depth int) x509.Certificate {
		return x509.Certificate{SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: name}, IsCA: depth >= 0, BasicConstraintsValid: true,
			MaxPathLen: depth, MaxPathLenZero: depth == 0, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	}
	y := &sha1Way{root: template(1, "root", 1), ca: template(2, "intermediate", 0), leaf: template(3, "leaf", -1)}
	y.ca.SignatureAlgorithm, y.leaf.KeyUsage = x509.SHA1WithRSA, x509.KeyUsageKeyEncipherment
	return y
}

func (y *sha1Way) issue(t *testing.T, rootKey, caKey *rsa.PrivateKey) (root, ca, leaf *x509.Certificate) {
	t.Helper()
	make := func(template, parent *x509.Certificate, public *rsa.PublicKey, key *rsa.PrivateKey) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	signer := rootKey
	if y.signedBy != nil {
		signer = y.signedBy
	}
	root = make(&y.root, &y.root, &rootKey.PublicKey, rootKey)
	return root, make(&y.ca, &y.root, &caKey.PublicKey, signer), make(&y.leaf, &y.ca, &caKey.PublicKey, caKey)
}

// A vendor's intermediate that is signed with SHA-1 is on the way to a root only if it is excepted by name, and then every
// other check holds for it as for any CA.
func TestSHA1Intermediate(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var keys [3]*rsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			t.Fatal(err)
		}
	}
	yes := func(*x509.Certificate) bool { return true }
	rows := []struct {
		name     string
		edit     func(*sha1Way)
		excepted func(*x509.Certificate) bool
		ok       bool
	}{
		{"excepted", func(*sha1Way) {}, yes, true},
		{"not excepted", func(*sha1Way) {}, sha1Excepted, false},
		{"signed by another key", func(y *sha1Way) { y.signedBy = keys[2] }, yes, false},
		{"the root has expired", func(y *sha1Way) { y.root.NotAfter = now.Add(-time.Minute) }, yes, false},
		{"the root is not valid yet", func(y *sha1Way) { y.root.NotBefore = now.Add(time.Minute) }, yes, false},
		{"the root is no CA", func(y *sha1Way) { y.root.IsCA, y.root.MaxPathLen = false, -1 }, yes, false},
		{"the root may not sign certificates", func(y *sha1Way) { y.root.KeyUsage = x509.KeyUsageCRLSign }, yes, false},
		{"the root leaves no room", func(y *sha1Way) { y.root.MaxPathLen, y.root.MaxPathLenZero = 0, true }, yes, false},
		{"the root constrains names", func(y *sha1Way) { y.root.PermittedDNSDomains = []string{"example.org"} }, yes, false},
		{"the intermediate constrains names", func(y *sha1Way) { y.ca.PermittedDNSDomains = []string{"example.org"} }, yes, false},
		{"the intermediate has expired", func(y *sha1Way) { y.ca.NotAfter = now.Add(-time.Minute) }, yes, false},
		{"the intermediate is no CA", func(y *sha1Way) { y.ca.IsCA, y.ca.MaxPathLen, y.ca.MaxPathLenZero = false, -1, false }, yes, false},
		{"the intermediate has an unknown critical extension", func(y *sha1Way) {
			y.ca.ExtraExtensions = []pkix.Extension{{Id: []int{2, 23, 133, 99}, Critical: true, Value: []byte{5, 0}}}
		}, yes, false},
		{"the leaf is signed with SHA-1 too", func(y *sha1Way) { y.leaf.SignatureAlgorithm = x509.SHA1WithRSA }, yes, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			y := newSHA1Way(now)
			row.edit(y)
			root, ca, leaf := y.issue(t, keys[0], keys[1])
			chains, err := waysTo(leaf, []*x509.Certificate{ca}, []*x509.Certificate{root}, now, row.excepted)
			if ok := err == nil; ok != row.ok {
				t.Fatalf("got %v, want accepted: %v", err, row.ok)
			}
			if row.ok && (len(chains) != 1 || len(chains[0]) != 3 || !chains[0][2].Equal(root)) {
				t.Errorf("got %d ways", len(chains))
			}
		})
	}
}

func TestSHA1ExceptionsAreDigests(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range sha1Exceptions {
		if len(e) != 64 || seen[e] {
			t.Errorf("%s is no digest, or stands twice", e)
		}
		seen[e] = true
	}
}
