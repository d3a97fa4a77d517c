// Command tpmcas makes firmware-policy/tpm-cas.tsv, the table of known CAs of TPM vendors: what a certificate is called,
// whose it is and where it was published, by SHA-256. It reads certificates and the sources that MANIFEST.tsv gives for
// them from the corpus (WRIT_CORPUS), and does nothing where that is absent. No certificate becomes part of the project.
package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/governed-execution/writ/attest"

	"github.com/governed-execution/writ/test/need"
)

func main() {
	corpus := need.CorpusIfAny()
	if corpus == "" {
		fmt.Fprintln(os.Stderr, "tpmcas: WRIT_CORPUS does not say where the corpus is; the table stays as it is")
		return
	}
	table, err := makeTable(corpus)
	if err == nil {
		err = os.WriteFile(os.Args[1], table, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tpmcas:", err)
		os.Exit(1)
	}
}

// header says what the columns are.
const header = "# Known CAs of TPM vendors, made by test/tpmcas. That one is here says whose it is, not that it should be trusted.\n" +
	"# sha256\tvendor\trole\tsignature\tnot_before\tnot_after\tname\tpublished\n"

// ca is one row.
type ca struct {
	cert      *x509.Certificate
	sum       string
	vendor    string
	root      bool
	vouched   bool // in a collection, not just in a file of its own that came over plain HTTP
	published []string
}

func makeTable(corpus string) ([]byte, error) {
	files, err := stores(corpus)
	if err != nil {
		return nil, err
	}
	urls, err := publishedURLs(corpus)
	if err != nil {
		return nil, err
	}
	cas := map[string]*ca{}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(corpus, f.path))
		if err != nil {
			return nil, fmt.Errorf("reading certificates: %w", err)
		}
		for _, cert := range certificates(data) {
			add(cas, cert, f, urls)
		}
	}
	var rows []string
	for _, c := range cas {
		rows = append(rows, c.row())
	}
	slices.Sort(rows)
	var out bytes.Buffer
	out.WriteString(header)
	for _, r := range rows {
		_, text, _ := strings.Cut(r, "\x00")
		out.WriteString(text)
	}
	return out.Bytes(), nil
}

// store is a file of CAs in the corpus.
type store struct {
	path, repository, source string
	doubtful                 bool // the manifest calls it an edge case: nobody vouches for where it came from
}

// stores returns the files of CAs that the manifest lists, in its order.
func stores(corpus string) ([]store, error) {
	manifest, err := os.ReadFile(filepath.Join(corpus, "MANIFEST.tsv"))
	if err != nil {
		return nil, fmt.Errorf("reading manifest: %w", err)
	}
	var all []store
	for _, line := range strings.Split(string(manifest), "\n") {
		field := strings.Split(line, "\t")
		if len(field) < 5 || !strings.HasPrefix(field[0], "ekcert/store-") && !strings.HasPrefix(field[0], "ekcert/trustedtpm/") {
			continue
		}
		if ext := path.Ext(field[0]); ext != ".yaml" && ext != ".md" {
			all = append(all, store{field[0], field[3], field[4], field[2] == "edge"})
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("reading manifest: it lists no CAs")
	}
	return all, nil
}

// certificates returns those in PEM or DER that can be read. DER may have bytes behind it.
func certificates(data []byte) (all []*x509.Certificate) {
	var ders [][]byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		ders = append(ders, block.Bytes)
	}
	if der, _, err := attest.UnwrapCertificate(data); ders == nil && err == nil {
		ders = [][]byte{der}
	}
	for _, der := range ders {
		if cert, err := x509.ParseCertificate(der); err == nil && cert.IsCA {
			all = append(all, cert)
		}
	}
	return all
}

func add(cas map[string]*ca, cert *x509.Certificate, f store, urls map[string]string) {
	digest := sha256.Sum256(cert.Raw)
	sum := hex.EncodeToString(digest[:])
	c := cas[sum]
	if c == nil {
		c = &ca{cert: cert, sum: sum, vendor: vendorOf(strings.Join(cert.Subject.Organization, " "))}
		cas[sum] = c
	}
	published := f.repository + "/" + f.source
	if url := urls[sum]; url != "" && strings.HasPrefix(f.path, "ekcert/store-tpm-ca-certificates/") {
		published = url
	}
	c.vouched = c.vouched || !f.doubtful
	if folder, ok := strings.CutPrefix(f.source, "tests/examples/TrustedTPM/"); ok {
		published = "TrustedTpm.cab/" + folder
		c.vendor = cmp.Or(c.vendor, vendorOf(folder))
		c.root = c.root || strings.HasSuffix(folder, "/RootCA")
	}
	c.root = c.root || bytes.Equal(cert.RawSubject, cert.RawIssuer)
	if !slices.Contains(c.published, published) {
		c.published = append(c.published, published)
	}
}

// vendors are the words in a certificate's names by which its vendor is known, in the order of looking.
var vendors = [...][2]string{
	{"Microsoft", "Microsoft"}, {"Infineon", "Infineon"}, {"IFX", "Infineon"}, {"STM", "STMicroelectronics"}, {"STSAFE", "STMicroelectronics"},
	{"ST Micro", "STMicroelectronics"}, {"Nuvoton", "Nuvoton"}, {"NTC", "Nuvoton"}, {"Nation", "NationZ"}, {"NSTPM", "NationZ"}, {"NSEC", "NationZ"},
	{"Intel", "Intel"}, {"OnDie", "Intel"}, {"CSME", "Intel"}, {"AMD", "AMD"}, {"Advanced Micro", "AMD"}, {"PRG-", "AMD"}, {"Atmel", "Atmel"},
	{"NSING", "NationZ"}, {"Google", "Google"}, {"tpm_ek", "Google"}, {"Alibaba", "Alibaba"}, {"Aliyun", "Alibaba"}, {"Qualcomm", "Qualcomm"}, {"QC", "Qualcomm"},
	{"VeriSign", "VeriSign"}, {"GlobalSign", "GlobalSign"},
}

func vendorOf(text string) string {
	for _, v := range vendors {
		if strings.Contains(text, v[0]) {
			return v[1]
		}
	}
	return ""
}

// row returns the line of the table behind what it is sorted by.
func (c *ca) row() string {
	role := "intermediate"
	switch {
	case !c.vouched:
		role = "unverified"
	case c.root:
		role = "root"
	}
	name := c.cert.Subject.CommonName
	if name == "" {
		name = c.cert.Subject.String()
	}
	name = strings.Join(strings.FieldsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	slices.Sort(c.published)
	vendor := cmp.Or(c.vendor, vendorOf(c.cert.Subject.String()), vendorOf(c.cert.Issuer.String()), "unknown")
	return fmt.Sprintf("%s\x01%s\x01%s\x01%s\x00%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", vendor, strings.Replace(role, "root", "", 1), name, c.sum,
		c.sum, vendor, role, c.cert.SignatureAlgorithm, c.cert.NotBefore.UTC().Format("2006-01-02"), c.cert.NotAfter.UTC().Format("2006-01-02"),
		name, strings.Join(c.published, " "))
}

// publishedURLs reads where vendors publish their CAs, by SHA-256, from the two lists of a curated bundle: a line with the
// address, and below it one with the digest.
func publishedURLs(corpus string) (map[string]string, error) {
	urls := map[string]string{}
	for _, name := range []string{"tpm-roots.yaml", "tpm-intermediates.yaml"} {
		data, err := os.ReadFile(filepath.Join(corpus, "ekcert/store-tpm-ca-certificates", name))
		if err != nil {
			return nil, fmt.Errorf("reading addresses: %w", err)
		}
		url := ""
		for _, line := range strings.Split(string(data), "\n") {
			key, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "- ")), ": ")
			value = strings.Trim(value, `"`)
			switch key {
			case "url":
				url = value
			case "sha256":
				urls[strings.ToLower(strings.ReplaceAll(value, ":", ""))] = url
			}
		}
	}
	return urls, nil
}
