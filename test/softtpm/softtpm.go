// Package softtpm makes TPMs out of nothing but software keys, for tests and benchmarks: an EK with a certificate under
// a vendor root of its own, an AK, a cnf key, and complete, valid evidence. What it makes is believed only by a verifier
// that pins the vendor root it was made under. Each part can be spoilt before it is signed, through Edit.
package softtpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/test/stock"
)

// Algorithm is a kind of key.
type Algorithm uint8

// The kinds of keys.
const (
	P256 Algorithm = iota
	P384
	RSA2048
	RSA2048PSS // for an AK: scheme RSAPSS instead of RSASSA
)

// Edit holds functions that change a part before it is named, signed or certified. Nil functions change nothing.
type Edit struct {
	EK, AK, CNF, Gate func(*tpm2.TPMTPublic)
	Certificate       func(*x509.Certificate)
	Quote, Certify    func(*tpm2.TPMSAttest)
	Session           func(*tpm2.TPMSAttest)
}

// Options describe a TPM.
type Options struct {
	EK, AK Algorithm
	Edit   Edit
}

// Vendor is a TPM vendor: a self-signed root.
type Vendor struct {
	Root *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewVendor makes a vendor with a fresh root.
func NewVendor(tb testing.TB) *Vendor {
	tb.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(tb)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Software TPM vendor"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: Now.Add(-time.Hour), NotAfter: Now.AddDate(9, 0, 0),
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(tb)
	return &Vendor{Root: must(x509.ParseCertificate(der))(tb), key: key}
}

// Now is a time at which all certificates of this package are valid.
var Now = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// Issue returns the certificate of a key, as DER, signed by the vendor.
func (v *Vendor) Issue(tb testing.TB, template *x509.Certificate, key crypto.PublicKey) []byte {
	tb.Helper()
	return must(x509.CreateCertificate(rand.Reader, template, v.Root, key, v.key))(tb)
}

// Revoke returns a list of the certificates that the vendor has revoked, valid from Now for the given time.
func (v *Vendor) Revoke(tb testing.TB, valid time.Duration, serials ...*big.Int) *x509.RevocationList {
	tb.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: Now.Add(-time.Hour), NextUpdate: Now.Add(valid)}
	for _, n := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: Now.Add(-time.Hour)})
	}
	return must(x509.ParseRevocationList(must(x509.CreateRevocationList(rand.Reader, list, v.Root, v.key))(tb)))(tb)
}

// TPM is a software TPM. Its clock and counters stand in what it attests; change them freely.
type TPM struct {
	EK          []byte // TPM2B_PUBLIC
	AK          []byte // TPM2B_PUBLIC
	Certificate []byte // DER, of the EK
	Clock       tpm2.TPMSClockInfo
	Firmware    uint64
	Edit        Edit
	Banks       map[string]map[int64][]byte // PCRs 0 to 7 of banks beside the quoted one, for audit sessions
	Kept        byte                        // which of PCRs 0 to 7 these banks have; default all; 0: they are listed without any PCR, as many TPMs list a bank that is off
	AtOnce      int                         // how many PCRs one command reads; default 8
	Boot        []byte                      // tells this boot from others in audit sessions
	CNF         *ecdsa.PrivateKey           // the cnf key of all evidence; nil: a fresh one each time

	ekPublic  tpm2.TPMTPublic
	ekKey     crypto.Signer
	akPublic  tpm2.TPMTPublic
	akKey     crypto.Signer
	qualified []byte
}

// New makes a TPM of the vendor.
func (v *Vendor) New(tb testing.TB, o Options) *TPM {
	tb.Helper()
	t := &TPM{
		Clock: tpm2.TPMSClockInfo{Clock: 1000, ResetCount: 1, Safe: true}, Firmware: 0x2019102300163636, Edit: o.Edit, Kept: 255, AtOnce: 8,
	}
	t.ekKey, t.ekPublic = newKey(tb, o.EK, ekAttributes, o.Edit.EK)
	t.EK = encode(t.ekPublic)
	t.NewAK(tb, o.AK)
	template := EKTemplate(tb)
	if o.Edit.Certificate != nil {
		o.Edit.Certificate(template)
	}
	t.Certificate = v.Issue(tb, template, t.ekKey.Public())
	return t
}

// NewAK gives the TPM another AK in place of the one that it has.
func (t *TPM) NewAK(tb testing.TB, a Algorithm) {
	tb.Helper()
	t.akKey, t.akPublic = newKey(tb, a, akAttributes, t.Edit.AK)
	t.AK, t.qualified = encode(t.akPublic), QualifiedName(t.akPublic)
}

// EKDigest returns SHA-256 of the EK's TPMT_PUBLIC.
func (t *TPM) EKDigest() [32]byte { return sha256.Sum256(t.EK[2:]) }

// AKName returns the TPM Name of the AK.
func (t *TPM) AKName() []byte { return name(t.akPublic) }

// EnrolRequest returns a request to enrol the AK.
func (t *TPM) EnrolRequest() attest.EnrolRequest {
	return attest.EnrolRequest{EK: t.EK, Chain: [][]byte{t.Certificate}, AK: t.AK}
}

// GateRequest returns a request to enrol the AK and a fresh gate key, and the private part of that key.
func (t *TPM) GateRequest(tb testing.TB) (attest.EnrolRequest, *ecdsa.PrivateKey) {
	tb.Helper()
	key, public := newKey(tb, P256, gateAttributes, t.Edit.Gate)
	extra := attest.GateQualifyingData(t.EKDigest())
	r, c := t.EnrolRequest(), t.certify(tb, public, extra[:])
	r.GateKey, r.Certify = encode(public), &c
	return r, key.(*ecdsa.PrivateKey)
}

// EKTemplate returns what an EK certificate holds beside its key: the TCG profile, as swtpm's own CA writes it.
func EKTemplate(tb testing.TB) *x509.Certificate {
	tb.Helper()
	tcg := asn1.ObjectIdentifier{2, 23, 133}
	var device pkix.RDNSequence
	for i, value := range []string{"id:00001014", "swtpm", "id:20191023"} {
		oid := append(append(asn1.ObjectIdentifier{}, tcg...), 2, i+1)
		device = append(device, pkix.RelativeDistinguishedNameSET{{Type: oid, Value: value}})
	}
	directory := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: must(asn1.Marshal(device))(tb)}
	return &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: Now.Add(-time.Hour), NotAfter: Now.AddDate(9, 0, 0), BasicConstraintsValid: true,
		KeyUsage:           x509.KeyUsageKeyEncipherment,
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{append(append(asn1.ObjectIdentifier{}, tcg...), 8, 1)},
		ExtraExtensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: must(asn1.Marshal([]asn1.RawValue{directory}))(tb)},
		},
	}
}

func must[T any](v T, err error) func(testing.TB) T { return stock.Must(v, err) }

func generate(tb testing.TB, a Algorithm) crypto.Signer {
	tb.Helper()
	switch a {
	case P256:
		return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(tb)
	case P384:
		return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(tb)
	}
	return must(rsa.GenerateKey(rand.Reader, 2048))(tb)
}
