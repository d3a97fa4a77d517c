package firmwarepolicy

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strconv"
	"strings"

	"github.com/governed-execution/writ/attest"
)

// The TOML form of a policy of kind anchors. "writ roots import" writes it.
type (
	tomlAnchors struct {
		tomlHeader
		ListsRequired bool           `toml:"lists_required"`
		Withdrawn     []string       `toml:"withdrawn,omitempty,multiline"`
		Roots         []tomlBlock    `toml:"root,omitempty"`
		Path          []tomlBlock    `toml:"path,omitempty"`
		Lists         []tomlBlock    `toml:"list,omitempty"`
		Firmware      []tomlFirmware `toml:"firmware,omitempty"`
	}
	// tomlBlock is a certificate or a list of revocations. What it says of itself is for people, and must be true.
	tomlBlock struct {
		Name   string `toml:"name,omitempty"`   // subject of the certificate, issuer of the list
		SHA256 string `toml:"sha256,omitempty"` // of the DER
		PEM    string `toml:"pem,multiline"`
	}
	tomlFirmware struct {
		Manufacturer string `toml:"manufacturer"`
		Model        string `toml:"model,omitempty"`
		From         string `toml:"from"`
		To           string `toml:"to"`
		Why          string `toml:"why"`
	}
)

const (
	pemCertificate = "CERTIFICATE"
	pemList        = "X509 CRL"
)

func readAnchors(data []byte) (*anchorsBody, error) {
	var t tomlAnchors
	if err := strictTOML(data, &t); err != nil {
		return nil, err
	}
	b := &anchorsBody{ListsRequired: t.ListsRequired}
	var err error
	if b.Roots, err = readBlocks("root", pemCertificate, t.Roots); err != nil {
		return nil, err
	}
	if b.Path, err = readBlocks("path", pemCertificate, t.Path); err != nil {
		return nil, err
	}
	if b.Lists, err = readBlocks("list", pemList, t.Lists); err != nil {
		return nil, err
	}
	for _, text := range t.Withdrawn {
		sum, err := hex.DecodeString(text)
		if err != nil {
			return nil, refuse("withdrawn: name a root by its SHA-256, 64 hexadecimal digits")
		}
		b.Withdrawn = append(b.Withdrawn, sum)
	}
	for _, f := range t.Firmware {
		from, errFrom := ParseFirmwareVersion(f.From)
		to, errTo := ParseFirmwareVersion(f.To)
		if errFrom != nil || errTo != nil {
			return nil, refuse("firmware: write a version as two numbers, such as \"73.4\"")
		}
		b.Firmware = append(b.Firmware, attest.FirmwareRange{Manufacturer: f.Manufacturer, Model: f.Model, From: from, To: to, Why: f.Why})
	}
	return b, nil
}

func (b *anchorsBody) form(h tomlHeader) any {
	t := tomlAnchors{tomlHeader: h, ListsRequired: b.ListsRequired}
	t.Roots, t.Path, t.Lists = blocksOf(pemCertificate, b.Roots), blocksOf(pemCertificate, b.Path), blocksOf(pemList, b.Lists)
	for _, w := range b.Withdrawn {
		t.Withdrawn = append(t.Withdrawn, hex.EncodeToString(w))
	}
	for _, f := range b.Firmware {
		t.Firmware = append(t.Firmware, tomlFirmware{f.Manufacturer, f.Model, versionText(f.From), versionText(f.To), f.Why})
	}
	return t
}

// readBlocks reads the DER in PEM blocks, and refuses what they falsely say of it (407).
func readBlocks(what, kind string, blocks []tomlBlock) ([][]byte, error) {
	var ders [][]byte
	for _, b := range blocks {
		block, rest := pem.Decode([]byte(b.PEM))
		if block == nil || block.Type != kind || strings.TrimSpace(string(rest)) != "" {
			return nil, refuse("%s: pem is one block of type %q", what, kind)
		}
		is := blockOf(kind, block.Bytes)
		if b.Name != "" && b.Name != is.Name || b.SHA256 != "" && b.SHA256 != is.SHA256 {
			return nil, refuse("%s %q: the pem is that of %q with SHA-256 %s", what, b.Name, is.Name, is.SHA256)
		}
		ders = append(ders, block.Bytes)
	}
	return ders, nil
}

func blocksOf(kind string, ders [][]byte) (blocks []tomlBlock) {
	for _, der := range ders {
		blocks = append(blocks, blockOf(kind, der))
	}
	return blocks
}

func blockOf(kind string, der []byte) tomlBlock {
	sum := sha256.Sum256(der)
	b := tomlBlock{SHA256: hex.EncodeToString(sum[:]), PEM: string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))}
	if c, err := x509.ParseCertificate(der); kind == pemCertificate && err == nil {
		b.Name = c.Subject.String()
	} else if l, err := x509.ParseRevocationList(der); kind == pemList && err == nil {
		b.Name = l.Issuer.String()
	}
	return b
}

// versionText writes a firmware version as two numbers.
func versionText(v uint64) string { return fmt.Sprintf("%d.%d", v>>16, v&0xffff) }

// ParseFirmwareVersion reads a firmware version of two numbers, such as "73.4".
func ParseFirmwareVersion(s string) (uint64, error) {
	major, minor, _ := strings.Cut(s, ".")
	high, errHigh := strconv.ParseUint(major, 10, 16)
	low, errLow := strconv.ParseUint(minor, 10, 16)
	if errHigh != nil || errLow != nil {
		return 0, fmt.Errorf("reading firmware version %q: want two numbers, such as 73.4", s)
	}
	return high<<16 | low, nil
}
