package firmwarepolicy

import (
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/hex"
	"strings"
)

//go:generate go run ../test/tpmcas tpm-cas.tsv

//go:embed tpm-cas.tsv
var knownCAs string

// KnownCA is a CA of a TPM vendor that the project knows by digest: whose it is, and where it was published. It is no
// advice to trust it.
type KnownCA struct {
	SHA256    string // of the certificate's DER
	Vendor    string
	Role      string // "root", "intermediate", or "unverified" where nobody vouches for the way that it came
	Signature string // algorithm of the certificate's own signature, in the words of crypto/x509
	NotBefore string // date
	NotAfter  string // date
	Name      string
	Published []string // addresses, or repositories and files
}

// LookupCA returns what is known of a certificate.
func LookupCA(cert *x509.Certificate) (KnownCA, bool) {
	sum := sha256.Sum256(cert.Raw)
	return lookupCA(hex.EncodeToString(sum[:]))
}

func lookupCA(sum string) (KnownCA, bool) {
	_, found, ok := strings.Cut(knownCAs, "\n"+sum+"\t")
	if !ok {
		return KnownCA{}, false
	}
	line, _, _ := strings.Cut(found, "\n")
	return knownCA(sum + "\t" + line), true
}

// KnownCAs returns the whole table: by vendor, roots first.
func KnownCAs() []KnownCA {
	var all []KnownCA
	for line := range strings.Lines(knownCAs) {
		if !strings.HasPrefix(line, "#") {
			all = append(all, knownCA(strings.TrimSuffix(line, "\n")))
		}
	}
	return all
}

func knownCA(line string) KnownCA {
	f := append(strings.Split(line, "\t"), make([]string, 8)...)
	return KnownCA{SHA256: f[0], Vendor: f[1], Role: f[2], Signature: f[3], NotBefore: f[4], NotAfter: f[5], Name: f[6], Published: strings.Fields(f[7])}
}
