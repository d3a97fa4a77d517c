package attest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"time"

	"github.com/governed-execution/writ/denial"
)

// Rules are what the verifier demands of an EK certificate beside a pinned root. The zero Rules demand nothing more.
type Rules struct {
	Path     []*x509.Certificate    // certificates that may stand between a host's and a root: trusted no more than those that the host sends
	Lists    []*x509.RevocationList // of CAs on the way; those of others are passed over
	Listed   bool                   // every certificate below a root must stand under a list of its CA
	Firmware []FirmwareRange        // TPM firmware that is not enrolled
}

const (
	maxCertificate = 8 << 10 // bytes: the longest of the known vendors has 3 KiB
	maxCAKey       = 8192    // bits of an RSA key
)

// readCertificate parses one certificate that a host has sent, and refuses one that would cost more than a TPM's can.
func readCertificate(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificate {
		return nil, denial.New(denial.EKUntrusted, "a certificate has more than %d bytes", maxCertificate)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, denial.New(denial.EKUntrusted, "a certificate cannot be read")
	}
	return cert, nil
}

// path finds the way from an EK certificate to a pinned root (RFC 5280, section 6). It checks, in this order:
//   - the certificates that the host sent along parse, and the keys on the way are RSA of 2048 to 8192 bits, P-256,
//     P-384 or P-521 (321);
//   - each certificate is signed by the next, up to a root: with SHA-256 or better, or it is one of sha1Exceptions; all
//     are valid at that time, the root included; all but the first are CAs with room for the rest of the way, under no
//     constraint that excludes it, and without unknown critical extensions (321);
//   - no certificate below the root is revoked (803), and those under a CA with a list, or all if the rules say so, are
//     under a list that is valid at that time (806).
//
// What the host sent along serves to find the way, and nothing is trusted on its account (K24). Where there are several
// ways, one that passes is enough.
func (r *Rules) path(leaf *x509.Certificate, sent [][]byte, roots []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	helpers := slices.Clone(r.Path)
	for _, der := range sent {
		cert, err := readCertificate(der)
		if err != nil {
			return nil, err
		}
		if weakCA(cert) {
			return nil, errWeakCA()
		}
		helpers = append(helpers, cert)
	}
	chains, err := waysTo(leaf, helpers, roots, now, sha1Excepted)
	if err != nil {
		return nil, denial.New(denial.EKUntrusted, "the EK certificate does not lead to a pinned root")
	}
	var refusal error
	for _, chain := range chains {
		if err = r.checkWay(chain, now); err == nil {
			return chain, nil
		} else if refusal == nil {
			refusal = err
		}
	}
	return nil, refusal
}

func errWeakCA() error {
	return denial.New(denial.EKUntrusted, "the key of a CA is too weak, too long, or of an unknown kind")
}

// waysTo returns every way from a leaf to a root. Those of the helpers that excepted names may be signed with SHA-1.
func waysTo(leaf *x509.Certificate, helpers, roots []*x509.Certificate, now time.Time, excepted func(*x509.Certificate) bool) ([][]*x509.Certificate, error) {
	// x509 takes a nil pool for the system's roots: these pools are never nil.
	ends, between := x509.NewCertPool(), x509.NewCertPool()
	for _, root := range roots {
		ends.AddCert(root)
	}
	var links []link
	for _, cert := range helpers {
		if i := slices.IndexFunc(roots, func(root *x509.Certificate) bool { return signedWithSHA1(cert, root, now) }); i >= 0 && excepted(cert) {
			links = append(links, link{cert, roots[i]})
			ends.AddCert(cert)
			continue
		}
		between.AddCert(cert)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: ends, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // x509 does not know the purpose: checkProfile has checked it
	})
	for n, chain := range chains {
		for _, l := range links {
			if chain[len(chain)-1].Equal(l.cert) {
				chains[n] = append(chain, l.issuer)
			}
		}
	}
	return chains, err
}

// link is a certificate that x509 does not follow to its issuer, because SHA-1 signed it.
type link struct{ cert, issuer *x509.Certificate }

// signedWithSHA1 reports whether a root signed a certificate with RSA and SHA-1, and is valid at that time, may sign
// certificates, puts no constraint on names, and leaves room for as many CAs below as the certificate. The certificate
// itself is then checked as the end of a way.
func signedWithSHA1(cert, root *x509.Certificate, now time.Time) bool {
	if cert.SignatureAlgorithm != x509.SHA1WithRSA || string(cert.RawIssuer) != string(root.RawSubject) {
		return false
	}
	constrained := slices.ContainsFunc(root.Extensions, isNameConstraints) || slices.ContainsFunc(cert.Extensions, isNameConstraints)
	deep := root.MaxPathLen >= 0 && (cert.MaxPathLen < 0 || cert.MaxPathLen >= root.MaxPathLen)
	may := root.IsCA && (root.KeyUsage == 0 || root.KeyUsage&x509.KeyUsageCertSign != 0) && len(root.UnhandledCriticalExtensions) == 0
	if constrained || deep || !may || now.Before(root.NotBefore) || now.After(root.NotAfter) {
		return false
	}
	key, ok := root.PublicKey.(*rsa.PublicKey)
	digest := sha1.Sum(cert.RawTBSCertificate)
	return ok && rsa.VerifyPKCS1v15(key, crypto.SHA1, digest[:], cert.Signature) == nil
}

// weakCA reports whether a CA has another key than those that path allows. One that signs with P-521 is not weak.
func weakCA(ca *x509.Certificate) bool {
	switch k := ca.PublicKey.(type) {
	case *rsa.PublicKey:
		bits := k.N.BitLen()
		return bits < 2048 || bits > maxCAKey
	case *ecdsa.PublicKey:
		return k.Curve.Params().BitSize < 256
	}
	return true
}

// Objections returns what speaks against a CA on the way to a root at a time, for people: as the root itself, or below it.
func Objections(ca *x509.Certificate, root bool, now time.Time) (all []string) {
	if now.Before(ca.NotBefore) {
		all = append(all, "not valid yet")
	}
	if now.After(ca.NotAfter) {
		all = append(all, "expired")
	}
	if weakCA(ca) {
		all = append(all, "its key is too weak, too long, or of an unknown kind")
	}
	switch ca.SignatureAlgorithm {
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1, x509.MD5WithRSA, x509.MD2WithRSA:
		if !root && !sha1Excepted(ca) {
			all = append(all, "signed with a broken hash")
		}
	}
	return all
}

// checkWay checks keys and revocations on one way.
func (r *Rules) checkWay(chain []*x509.Certificate, now time.Time) error {
	if slices.ContainsFunc(chain[1:], weakCA) {
		return errWeakCA()
	}
	for i, cert := range chain[:len(chain)-1] {
		if err := r.checkRevoked(cert, chain[i+1], now); err != nil {
			return err
		}
	}
	return nil
}

func (r *Rules) checkRevoked(cert, issuer *x509.Certificate, now time.Time) error {
	fresh, listed := false, r.Listed
	for _, list := range r.Lists {
		if string(list.RawIssuer) != string(issuer.RawSubject) || list.CheckSignatureFrom(issuer) != nil {
			continue
		}
		for _, revoked := range list.RevokedCertificateEntries {
			if revoked.SerialNumber.Cmp(cert.SerialNumber) == 0 {
				return denial.New(denial.HostRevoked, "the TPM's vendor has revoked the EK certificate or that of a CA above it")
			}
		}
		listed = true
		fresh = fresh || !now.Before(list.ThisUpdate) && now.Before(list.NextUpdate)
	}
	if listed && !fresh {
		return denial.New(denial.RevocationUnknown, "no list says today which certificates a CA of the TPM's vendor has revoked")
	}
	return nil
}

func isNameConstraints(e pkix.Extension) bool {
	return e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 30})
}
