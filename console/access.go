package console

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/governed-execution/writ/denial"
)

// Role says which pages a reader may see.
type Role string

// The roles. No role may change anything.
const (
	Operator     Role = "operator"      // keeps the service running: log and hosts
	Custodian    Role = "custodian"     // keeps the keys: log and keys
	PolicyAuthor Role = "policy-author" // writes policies: policies and hosts
	Auditor      Role = "auditor"       // sees all
)

// Roles returns every role.
func Roles() []Role { return []Role{Operator, Custodian, PolicyAuthor, Auditor} }

// Reader is a person who may read. The person is known by the key of the client certificate, not by a name in it: a
// renewed certificate must have the same key (A03, A04).
type Reader struct {
	Name  string
	SPKI  [sha256.Size]byte // SHA-256 of the certificate's SubjectPublicKeyInfo
	Roles []Role
}

// CheckReaders refuses a reader without name or key, one who stands twice, and a role that does not exist.
func CheckReaders(readers []Reader) error {
	seen := map[[sha256.Size]byte]bool{}
	for _, r := range readers {
		switch {
		case r.Name == "" || r.SPKI == [sha256.Size]byte{} || len(r.Roles) == 0:
			return errors.New("checking readers: each needs a name, a key and a role")
		case seen[r.SPKI]:
			return errors.New("checking readers: a key stands twice")
		}
		seen[r.SPKI] = true
		for _, role := range r.Roles {
			if !slices.Contains(Roles(), role) {
				return fmt.Errorf("checking readers: %q has a role that does not exist", r.Name)
			}
		}
	}
	return nil
}

// SPKIOf returns what a reader is known by.
func SPKIOf(c *x509.Certificate) [sha256.Size]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// tlsConfig is the one configuration of the listener, whatever name a client asks for (A02): TLS 1.3, a client
// certificate by one of the CAs, no resumption. Without a CA there is none (A01).
func tlsConfig(cert tls.Certificate, cas []*x509.Certificate) (*tls.Config, error) {
	if len(cas) == 0 {
		return nil, errors.New("opening console: it needs the CA of its readers' certificates")
	}
	pool := x509.NewCertPool()
	for _, c := range cas {
		pool.AddCert(c)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, NextProtos: []string{"http/1.1"}}, nil
}

// reader finds who asks. It refuses a connection without a verified client certificate, and a key that no reader has
// (909). The list is read for each request, so that who is taken from it is out at once.
func (c *Console) reader(r *http.Request) (*Reader, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.PeerCertificates) == 0 {
		return nil, denial.New(denial.Unauthenticated, "no client certificate")
	}
	readers, err := c.o.Readers()
	if err == nil {
		err = CheckReaders(readers)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the list of readers: %w", err)
	}
	key := SPKIOf(r.TLS.PeerCertificates[0])
	for i := range readers {
		if readers[i].SPKI == key {
			return &readers[i], nil
		}
	}
	return nil, denial.New(denial.Unauthenticated, "no reader has the key of this certificate")
}

// may reports whether one of the reader's roles is among those of a page.
func (r *Reader) may(p page) bool {
	return slices.ContainsFunc(r.Roles, func(role Role) bool { return slices.Contains(p.roles, role) })
}
