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
// renewed certificate must have the same key (A03, A04). Or by what an OpenID Connect provider calls the person for ever:
// issuer and subject, not a name or an address, which another person may get one day.
type Reader struct {
	Name    string
	SPKI    [sha256.Size]byte // SHA-256 of the certificate's SubjectPublicKeyInfo; zero: has no certificate
	Issuer  string            // iss and sub of ID tokens; empty: cannot sign in
	Subject string
	Roles   []Role
}

// CheckReaders refuses a reader without name, or without key and subject, one who stands twice, and a role that does not
// exist.
func CheckReaders(readers []Reader) error {
	seen := map[any]bool{}
	for _, r := range readers {
		key, subject := r.SPKI != [sha256.Size]byte{}, r.Subject != ""
		switch {
		case r.Name == "" || !key && !subject || subject != (r.Issuer != "") || len(r.Roles) == 0:
			return errors.New("checking readers: each needs a name, a role, and a key or both issuer and subject")
		case key && seen[r.SPKI] || subject && seen[person{r.Issuer, r.Subject}]:
			return errors.New("checking readers: a key or a subject stands twice")
		}
		seen[r.SPKI], seen[person{r.Issuer, r.Subject}] = true, true
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

// tlsConfig is the one configuration of the listener, whatever name a client asks for (A02): TLS 1.3, no resumption, and
// either a client certificate by one of the CAs (A01), or sign-in. Without one of the two, or with both, there is none.
func tlsConfig(o *Options) (*tls.Config, error) {
	config := &tls.Config{Certificates: []tls.Certificate{o.Certificate}, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, NextProtos: []string{"http/1.1"}}
	switch {
	case o.SignIn != nil && len(o.ClientCAs) > 0:
		return nil, errors.New("opening console: one listener takes certificates or lets sign in, not both")
	case o.SignIn != nil:
		return config, o.SignIn.Check()
	case len(o.ClientCAs) == 0:
		return nil, errors.New("opening console: it needs the CA of its readers' certificates")
	}
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	for _, c := range o.ClientCAs {
		config.ClientCAs.AddCert(c)
	}
	return config, nil
}

// reader finds who asks. It refuses a connection without a verified client certificate, or where readers sign in a
// request without session, and a person who is no reader (909).
func (c *Console) reader(r *http.Request) (*Reader, error) {
	if c.o.SignIn != nil {
		p, err := c.who(r)
		if err != nil {
			return nil, err
		}
		return c.readerOf(func(reader *Reader) bool { return reader.Issuer == p.issuer && reader.Subject == p.subject })
	}
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.PeerCertificates) == 0 {
		return nil, denial.New(denial.Unauthenticated, "no client certificate")
	}
	key := SPKIOf(r.TLS.PeerCertificates[0])
	return c.readerOf(func(reader *Reader) bool { return reader.SPKI == key })
}

// readerOf finds a reader. The list is read for each request, so that who is taken from it is out at once.
func (c *Console) readerOf(match func(*Reader) bool) (*Reader, error) {
	readers, err := c.o.Readers()
	if err == nil {
		err = CheckReaders(readers)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the list of readers: %w", err)
	}
	for i := range readers {
		if match(&readers[i]) {
			return &readers[i], nil
		}
	}
	return nil, denial.New(denial.Unauthenticated, "no reader has this key or subject")
}

// may reports whether one of the reader's roles is among those of a page.
func (r *Reader) may(p page) bool {
	return slices.ContainsFunc(r.Roles, func(role Role) bool { return slices.Contains(p.roles, role) })
}
