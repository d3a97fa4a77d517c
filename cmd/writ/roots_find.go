package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
)

const maxImportFiles = 100_000

// foundCAs are what an import has read.
type foundCAs struct {
	cas        []*foundCA
	lists      []*foundList
	unreadable []unreadable
	others     int // files in folders that hold neither a certificate nor a list
	files      int
	bySum      map[string]*foundCA
	now        time.Time
}

// foundCA is a certificate.
type foundCA struct {
	cert    *x509.Certificate
	sum     string
	known   firmwarepolicy.KnownCA
	isKnown bool
	root    bool
	against []string
	files   []string
	chosen  string // "root", "path" or ""
}

type foundList struct {
	list   *x509.RevocationList
	file   string
	chosen bool
}

type unreadable struct {
	File string `json:"file"`
	Why  string `json:"why"`
}

func (c *foundCA) isKnownRoot() bool { return c.isKnown && c.known.Role == "root" }

// findCAs reads files, and folders with all below them.
func findCAs(paths []string, now time.Time) (*foundCAs, error) {
	f := &foundCAs{bySum: map[string]*foundCA{}, now: now}
	for _, path := range paths {
		err := filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() || file != path && !d.Type().IsRegular():
				return nil
			case f.files >= maxImportFiles:
				return fmt.Errorf("more than %d files", maxImportFiles)
			}
			f.files++
			return f.read(file, file == path)
		})
		if err != nil {
			return nil, fmt.Errorf("reading CAs: %w", err)
		}
	}
	if len(paths) > 0 && len(f.cas)+len(f.lists) == 0 {
		if len(f.unreadable) > 0 {
			return nil, misuse("reading CAs: %s: %s", f.unreadable[0].File, f.unreadable[0].Why)
		}
		return nil, misuse("reading CAs: nothing that was named holds a certificate or a revocation list")
	}
	slices.SortStableFunc(f.cas, func(a, b *foundCA) int {
		return cmp.Or(cmp.Compare(a.vendor(), b.vendor()), cmp.Compare(b.role(), a.role()), cmp.Compare(a.name(), b.name()), cmp.Compare(a.sum, b.sum))
	})
	return f, nil
}

// read reads one file. Of a file that was not named itself, nothing is said if it holds nothing.
func (f *foundCAs) read(file string, named bool) error {
	data, err := readInput(file)
	if errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err != nil {
		f.unreadable = append(f.unreadable, unreadable{file, err.Error()})
		return nil
	}
	certs, lists := pemBlocks(data, "CERTIFICATE"), pemBlocks(data, "X509 CRL")
	if b, _ := pem.Decode(data); b == nil {
		certs, lists = derIn(data)
	}
	if len(certs)+len(lists) == 0 {
		if f.others++; named {
			f.unreadable = append(f.unreadable, unreadable{file, "it holds neither a certificate nor a revocation list"})
		}
		return nil
	}
	for _, der := range certs {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			f.unreadable = append(f.unreadable, unreadable{file, err.Error()})
			continue
		}
		f.add(cert, file)
	}
	for _, der := range lists {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			f.unreadable = append(f.unreadable, unreadable{file, err.Error()})
			continue
		}
		f.lists = append(f.lists, &foundList{list: list, file: file})
	}
	return nil
}

// derIn returns what a file holds that is not PEM: a list, or what may be a certificate, with bytes behind it or not.
func derIn(data []byte) (certs, lists [][]byte) {
	if _, err := x509.ParseRevocationList(data); err == nil {
		return nil, [][]byte{data}
	}
	if der, _, err := attest.UnwrapCertificate(data); err == nil {
		return [][]byte{der}, nil
	}
	return nil, nil
}

func (f *foundCAs) add(cert *x509.Certificate, file string) {
	digest := sha256.Sum256(cert.Raw)
	sum := hex.EncodeToString(digest[:])
	if c := f.bySum[sum]; c != nil {
		c.files = append(c.files, file)
		return
	}
	c := &foundCA{cert: cert, sum: sum, files: []string{file}, root: bytes.Equal(cert.RawSubject, cert.RawIssuer)}
	c.known, c.isKnown = firmwarepolicy.LookupCA(cert)
	c.root = c.root || c.isKnownRoot()
	if err := firmwarepolicy.CheckCA(cert); err != nil {
		c.against = append(c.against, "not a CA, or one with an unknown critical extension")
	}
	c.against = append(c.against, attest.Objections(cert, c.root, f.now)...)
	f.bySum[sum] = c
	f.cas = append(f.cas, c)
}

// named returns the one CA whose SHA-256 begins so, if nothing speaks against it (321).
func (f *foundCAs) named(prefix string) (*foundCA, error) {
	prefix = strings.ToLower(strings.ReplaceAll(prefix, ":", ""))
	if len(prefix) < 8 {
		return nil, misuse("name a CA by at least 8 digits of its SHA-256")
	}
	var one *foundCA
	for _, c := range f.cas {
		if !strings.HasPrefix(c.sum, prefix) {
			continue
		}
		if one != nil {
			return nil, misuse("two CAs have a SHA-256 that begins with %s", prefix)
		}
		one = c
	}
	if one == nil {
		return nil, misuse("no CA that was read has a SHA-256 that begins with %s", prefix)
	}
	if len(one.against) > 0 {
		return nil, denial.New(denial.EKUntrusted, "CA %s: %s", one.sum[:16], strings.Join(one.against, ", "))
	}
	return one, nil
}

// chooseLists marks and returns the lists that a chosen CA signed.
func (f *foundCAs) chooseLists() (lists []*x509.RevocationList) {
	for _, l := range f.lists {
		if slices.ContainsFunc(f.cas, func(c *foundCA) bool { return c.chosen != "" && l.list.CheckSignatureFrom(c.cert) == nil }) {
			l.chosen = true
			lists = append(lists, l.list)
		}
	}
	return lists
}

// issued reports whether names, and key identifiers where both have one, say that a CA issued a certificate.
func issued(ca, cert *x509.Certificate) bool {
	return bytes.Equal(ca.RawSubject, cert.RawIssuer) &&
		(len(cert.AuthorityKeyId) == 0 || len(ca.SubjectKeyId) == 0 || bytes.Equal(ca.SubjectKeyId, cert.AuthorityKeyId))
}
