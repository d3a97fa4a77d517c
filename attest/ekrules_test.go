package attest_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/softtpm"
)

// smooth returns a modulus of 2048 bits whose residues are those of a product of two primes by the key generation of
// CVE-2017-15361: a power of 65537 modulo the product of the first 39 primes. It is odd, and nobody has its factors.
func smooth() []byte {
	m := big.NewInt(1)
	for p := int64(2); p < 168; p++ {
		if big.NewInt(p).ProbablyPrime(10) {
			m.Mul(m, big.NewInt(p))
		}
	}
	n := new(big.Int).Lsh(big.NewInt(1), 2047)
	n.Add(n, new(big.Int).Sub(m, new(big.Int).Mod(n, m)))
	return n.Add(n, new(big.Int).Exp(big.NewInt(65537), big.NewInt(123456789), m)).Bytes()
}

func TestK15_WeakModulus(t *testing.T) {
	weak := smooth()
	t.Run("EK", func(t *testing.T) {
		w := newWorld(t, softtpm.Options{EK: softtpm.RSA2048, Edit: softtpm.Edit{EK: modulus(weak)}})
		_, err := attest.CheckEnrolment(ptr(w.tpm.EnrolRequest()), w.enrolOptions())
		refusedAt(t, nil, err, denial.EKWeak, denial.StageEnrolment)
		o := w.enrolOptions()
		o.AllowListed = true
		_, err = attest.CheckEnrolment(ptr(w.tpm.EnrolRequest()), o)
		refusedAt(t, nil, err, denial.EKWeak, denial.StageEnrolment)
	})
	t.Run("AK", func(t *testing.T) {
		w := newWorld(t, softtpm.Options{AK: softtpm.RSA2048, Edit: softtpm.Edit{AK: modulus(weak)}})
		_, err := attest.CheckEnrolment(ptr(w.tpm.EnrolRequest()), w.enrolOptions())
		refusedAt(t, nil, err, denial.AKAttributes, denial.StageEnrolment)
	})
	t.Run("one off in the last prime", func(t *testing.T) { // every prime but 167 still has an exponent, and so it is not weak
		w := newWorld(t, softtpm.Options{EK: softtpm.RSA2048, Edit: softtpm.Edit{EK: modulus(almostSmooth(weak))}})
		o := w.enrolOptions()
		o.AllowListed = true
		_, err := attest.CheckEnrolment(ptr(w.tpm.EnrolRequest()), o)
		if denial.Is(err, denial.EKWeak) {
			t.Error(err)
		}
	})
}

// almostSmooth adds the product of all primes below 167 until the modulus is no power of 65537 with the same exponent.
func almostSmooth(weak []byte) []byte {
	m := big.NewInt(2)
	for p := int64(3); p < 167; p++ {
		if big.NewInt(p).ProbablyPrime(10) {
			m.Mul(m, big.NewInt(p))
		}
	}
	n := new(big.Int).SetBytes(weak)
	return n.Add(n, m).Bytes()
}

func TestK16_DeniedFirmware(t *testing.T) {
	w := newWorld(t, softtpm.Options{}) // id:00001014, swtpm, id:20191023
	version := uint64(0x20191023)
	rows := []struct {
		name  string
		entry attest.FirmwareRange
		want  denial.Reason
	}{
		{"the version", attest.FirmwareRange{Manufacturer: "00001014", From: version, To: version}, denial.TPMFirmware},
		{"a range", attest.FirmwareRange{Manufacturer: "00001014", From: 0, To: version}, denial.TPMFirmware},
		{"the model", attest.FirmwareRange{Manufacturer: "id:00001014", Model: "swtpm", From: 0, To: 1 << 62}, denial.TPMFirmware},
		{"another model", attest.FirmwareRange{Manufacturer: "00001014", Model: "hwtpm", From: 0, To: version}, 0},
		{"older versions", attest.FirmwareRange{Manufacturer: "00001014", From: 0, To: version - 1}, 0},
		{"newer versions", attest.FirmwareRange{Manufacturer: "00001014", From: version + 1, To: 1 << 62}, 0},
		{"another manufacturer", attest.FirmwareRange{Manufacturer: "53544D20", From: 0, To: 1 << 62}, 0},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			o := w.enrolOptions()
			o.Rules.Firmware = []attest.FirmwareRange{row.entry}
			for _, o.AllowListed = range []bool{false, true} {
				checkRule(t, w, o, row.want)
			}
		})
	}
	t.Run("a version that cannot be read", func(t *testing.T) {
		d := attest.Device{Manufacturer: "id:00001014", Model: "swtpm", Version: "new"}
		if !(attest.FirmwareRange{Manufacturer: "1014", From: 1, To: 2}).Covers(attest.Device{Manufacturer: "id:1014", Version: d.Version}) {
			t.Error("it is not in the range")
		}
	})
}

func checkRule(t *testing.T, w *world, o attest.EnrolOptions, want denial.Reason) {
	t.Helper()
	c, err := attest.CheckEnrolment(ptr(w.tpm.EnrolRequest()), o)
	if want != 0 {
		refusedAt(t, nil, err, want, denial.StageEnrolment)
	} else if err != nil || c.Method() != attest.MethodChain {
		t.Errorf("got %v, want a candidate by its chain", err)
	}
}

func TestFirmwareVersion(t *testing.T) {
	for text, want := range map[string]uint64{"id:00490004": 73<<16 | 4, "id:053E": 5<<16 | 62, "00070002": 7<<16 | 2} {
		if got, ok := attest.FirmwareVersion(text); !ok || got != want {
			t.Errorf("%s: got %#x, %v, want %#x", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "id:", "id:1", "id:0100000000", "1.2"} {
		if got, ok := attest.FirmwareVersion(text); ok {
			t.Errorf("%q: got %#x, want none", text, got)
		}
	}
	if got := (attest.Device{Manufacturer: "id:49465800"}).VendorName(); got != "IFX" {
		t.Errorf("got vendor %q", got)
	}
}

func TestK17_RevokedCertificate(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	other := softtpm.NewVendor(t) // of the same name, with another key
	const day = 24 * time.Hour
	mine, another := big.NewInt(2), big.NewInt(3) // softtpm gives every EK certificate the number 2
	rows := []struct {
		name   string
		lists  []*x509.RevocationList
		listed bool
		want   denial.Reason
	}{
		{"revoked", []*x509.RevocationList{w.vendor.Revoke(t, day, another, mine)}, false, denial.HostRevoked},
		{"revoked in a list that is no longer fresh", []*x509.RevocationList{w.vendor.Revoke(t, 0, mine)}, false, denial.HostRevoked},
		{"revoked in the older of two lists", []*x509.RevocationList{w.vendor.Revoke(t, day), w.vendor.Revoke(t, 0, mine)}, false, denial.HostRevoked},
		{"no list is fresh", []*x509.RevocationList{w.vendor.Revoke(t, 0, another)}, false, denial.RevocationUnknown},
		{"no list, and one is demanded", nil, true, denial.RevocationUnknown},
		{"only a list by another key of the same name", []*x509.RevocationList{other.Revoke(t, day)}, true, denial.RevocationUnknown},
		{"a list by another key revokes nothing", []*x509.RevocationList{other.Revoke(t, day, mine)}, false, 0},
		{"another is revoked", []*x509.RevocationList{w.vendor.Revoke(t, day, another)}, true, 0},
		{"one of two lists is fresh", []*x509.RevocationList{w.vendor.Revoke(t, 0), w.vendor.Revoke(t, day)}, true, 0},
		{"no list, and none is demanded", nil, false, 0},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			o := w.enrolOptions()
			o.Rules = attest.Rules{Lists: row.lists, Listed: row.listed}
			checkRule(t, w, o, row.want)
			if o.AllowListed = true; row.want == denial.HostRevoked {
				checkRule(t, w, o, row.want) // an authority's word for an EK does not undo its revocation
			} else if _, err := attest.CheckEnrolment(ptr(w.tpm.EnrolRequest()), o); err != nil {
				t.Errorf("listed: %v", err)
			}
		})
	}
	t.Run("not yet valid", func(t *testing.T) {
		o := w.enrolOptions()
		o.Now = softtpm.Now.Add(-2 * time.Hour).Add(90 * time.Minute)
		o.Rules.Lists = []*x509.RevocationList{w.vendor.Revoke(t, day)}
		o.Rules.Lists[0].ThisUpdate = o.Now.Add(time.Minute)
		checkRule(t, w, o, denial.RevocationUnknown)
	})
}

// way is an EK certificate under an intermediate CA under a vendor's root.
type way struct {
	w      *world
	ca     *x509.Certificate // what the intermediate is to hold
	public crypto.PublicKey  // of the intermediate, if not that of its own key
	leaf   *x509.Certificate
}

// request issues the certificates and returns the enrolment request with them.
func (y *way) request(t *testing.T) attest.EnrolRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ek, err := x509.ParseCertificate(y.w.tpm.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	public := crypto.PublicKey(key.Public())
	if y.public != nil {
		public = y.public
	}
	leaf, err := x509.CreateCertificate(rand.Reader, y.leaf, y.ca, ek.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	r := y.w.tpm.EnrolRequest()
	r.Chain = [][]byte{leaf, y.w.vendor.Issue(t, y.ca, public)}
	return r
}

func TestWayToTheRoot(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	extension := func(critical bool, value []byte, id ...int) []pkix.Extension {
		return []pkix.Extension{{Id: id, Critical: critical, Value: value}}
	}
	specification := []byte{0x30, 0x0d, 0x30, 0x0b, 0x06, 0x05, 0x67, 0x81, 0x05, 0x02, 0x10, 0x31, 0x02, 0x30, 0x00}
	rows := []struct {
		name string
		edit func(*way)
		want denial.Reason
	}{
		{"as it should be", func(*way) {}, 0},
		{"the intermediate has expired", func(y *way) { y.ca.NotAfter = softtpm.Now.Add(-time.Minute) }, denial.EKUntrusted},
		{"the intermediate is not valid yet", func(y *way) { y.ca.NotBefore = softtpm.Now.Add(time.Minute) }, denial.EKUntrusted},
		{"the EK certificate has expired", func(y *way) { y.leaf.NotAfter = softtpm.Now.Add(-time.Minute) }, denial.EKUntrusted},
		{"the intermediate is no CA", func(y *way) { y.ca.IsCA = false }, denial.EKUntrusted},
		{"the intermediate may not sign certificates", func(y *way) { y.ca.KeyUsage = x509.KeyUsageCRLSign }, denial.EKUntrusted},
		{"the intermediate leaves room for no CA", func(y *way) { y.ca.MaxPathLenZero = true }, 0},
		{"the intermediate has an unknown critical extension", func(y *way) {
			y.ca.ExtraExtensions = extension(true, []byte{5, 0}, 2, 23, 133, 99)
		}, denial.EKUntrusted},
		{"an unknown extension that is not critical", func(y *way) { y.ca.ExtraExtensions = extension(false, []byte{5, 0}, 2, 23, 133, 99) }, 0},
		{"the intermediate may issue for other names only", func(y *way) {
			y.ca.PermittedDNSDomainsCritical, y.ca.PermittedDNSDomains = true, []string{"example.org"}
			y.leaf.DNSNames = []string{"example.com"}
			names := y.leaf.ExtraExtensions[0].Value
			var all []asn1.RawValue
			if _, err := asn1.Unmarshal(names, &all); err != nil {
				panic(err)
			}
			all = append(all, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("example.com")})
			y.leaf.ExtraExtensions[0].Value, _ = asn1.Marshal(all)
		}, denial.EKUntrusted},
		{"the intermediate has RSA-1024", func(y *way) {
			y.public = &rsa.PublicKey{N: new(big.Int).SetBytes(odd(128)), E: 65537}
		}, denial.EKUntrusted},
		{"the intermediate has RSA-16384", func(y *way) {
			y.public = &rsa.PublicKey{N: new(big.Int).SetBytes(odd(2048)), E: 65537}
		}, denial.EKUntrusted},
		{"the intermediate has another key", func(y *way) { y.public = &rsa.PublicKey{N: new(big.Int).SetBytes(odd(256)), E: 65537} }, denial.EKUntrusted},
		{"the EK certificate is longer than any", func(y *way) {
			y.leaf.ExtraExtensions = append(y.leaf.ExtraExtensions, extension(false, make([]byte, 8<<10), 2, 23, 133, 99)...)
		}, denial.EKUntrusted},
		{"the specification of the TPM is critical", func(y *way) {
			y.leaf.ExtraExtensions = append(y.leaf.ExtraExtensions, extension(true, specification, 2, 5, 29, 9)...)
		}, 0},
		{"the specification of the TPM is critical and cannot be read", func(y *way) {
			y.leaf.ExtraExtensions = append(y.leaf.ExtraExtensions, extension(true, append(specification[:len(specification):len(specification)], 0), 2, 5, 29, 9)...)
		}, denial.EKUntrusted},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			y := &way{w: w, leaf: softtpm.EKTemplate(t), ca: &x509.Certificate{
				SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Intermediate"}, IsCA: true, BasicConstraintsValid: true,
				KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: w.vendor.Root.NotBefore, NotAfter: w.vendor.Root.NotAfter}}
			row.edit(y)
			r := y.request(t)
			_, err := attest.CheckEnrolment(&r, w.enrolOptions())
			if row.want != 0 {
				refusedAt(t, nil, err, row.want, denial.StageEnrolment)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	y := &way{w: w, leaf: softtpm.EKTemplate(t), ca: &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Intermediate"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: w.vendor.Root.NotBefore, NotAfter: w.vendor.Root.NotAfter}}
	r := y.request(t)
	ca, err := x509.ParseCertificate(r.Chain[1])
	if err != nil {
		t.Fatal(err)
	}
	t.Run("the verifier has the intermediate", func(t *testing.T) {
		o, alone := w.enrolOptions(), r
		alone.Chain = r.Chain[:1]
		o.Rules.Path = []*x509.Certificate{ca}
		if _, err := attest.CheckEnrolment(&alone, o); err != nil {
			t.Error(err)
		}
		o.Roots = []*x509.Certificate{softtpm.NewVendor(t).Root}
		_, err := attest.CheckEnrolment(&alone, o)
		refusedAt(t, nil, err, denial.EKUntrusted, denial.StageEnrolment)
	})
	t.Run("K17 the intermediate is revoked", func(t *testing.T) {
		o := w.enrolOptions()
		o.Rules.Lists = []*x509.RevocationList{w.vendor.Revoke(t, time.Hour, ca.SerialNumber)}
		_, err := attest.CheckEnrolment(&r, o)
		refusedAt(t, nil, err, denial.HostRevoked, denial.StageEnrolment)
		o.Rules.Lists = []*x509.RevocationList{w.vendor.Revoke(t, time.Hour)}
		if _, err := attest.CheckEnrolment(&r, o); err != nil {
			t.Error(err)
		}
		o.Rules.Listed = true // and the intermediate has no list
		_, err = attest.CheckEnrolment(&r, o)
		refusedAt(t, nil, err, denial.RevocationUnknown, denial.StageEnrolment)
	})
	t.Run("the root has expired", func(t *testing.T) {
		o := w.enrolOptions()
		o.Now = w.vendor.Root.NotAfter.Add(time.Second)
		_, err := attest.CheckEnrolment(&r, o)
		refusedAt(t, nil, err, denial.EKUntrusted, denial.StageEnrolment)
	})
}
