package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/attest"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
)

func (a *app) rootsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "roots", Short: "Say which TPM vendors are believed"}
	publish := a.publishCommand()
	publish.Short = "Send signed anchors to the issuer"
	cmd.AddCommand(a.rootsImport(), publish)
	return cmd
}

// rootsFlags are what becomes of the CAs that were found.
type rootsFlags struct {
	act           actFlags
	id, toml      string
	version       uint64
	valid         time.Duration
	known, all    bool
	vendors       []string
	roots, path   []string // SHA-256 in hexadecimal, from the start
	intermediates bool
	lists, listed bool
	withdraw      []string
	deny          []string
	denyAdvised   bool
}

func (a *app) rootsImport() *cobra.Command {
	var f rootsFlags
	cmd := &cobra.Command{
		Use:   "import PATH...",
		Short: "Read TPM vendors' CAs, say what they are, and make anchors of those that you choose (role policy)",
		Long: `Import reads certificates and revocation lists in PEM or DER: files, and folders with all below them, such as the unpacked
TrustedTpm.cab of Microsoft. It says of each CA whose it is, if this version knows it by its digest, and what speaks against
it. It asks no network. That a CA is known does not mean that you should trust it.

Choose roots with --root, --vendor or --known. With --toml they are written as a policy of kind anchors, to be read and then
signed with "writ policy sign"; with --key they are signed at once, and published, or with --out written for further
signatures. The anchors in force say which TPMs can be enrolled; each version replaces the one before.`,
		Example: `  writ roots import TrustedTpm/
  writ roots import TrustedTpm/ --vendor Infineon --intermediates --id https://issuer.example/anchors --version 1 --toml anchors.toml`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.importRoots(cmd, &f, args) },
	}
	f.act.addOptional(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.id, "id", "", "URI of the anchors")
	fl.Uint64Var(&f.version, "version", 0, "version of the anchors: above the one in force")
	fl.DurationVar(&f.valid, "valid", 365*24*time.Hour, "for how long the anchors are good")
	fl.StringVar(&f.toml, "toml", "", "write the anchors to this file, unsigned")
	fl.StringArrayVar(&f.roots, "root", nil, "choose a root, or an intermediate CA as one, by the first 8 or more digits of its SHA-256; repeat for several")
	fl.StringSliceVar(&f.vendors, "vendor", nil, "choose every known root of a vendor against which nothing speaks")
	fl.BoolVar(&f.known, "known", false, "choose every known root against which nothing speaks")
	fl.StringArrayVar(&f.path, "path", nil, "add an intermediate CA for TPMs that do not hold it, by its SHA-256; repeat for several")
	fl.BoolVar(&f.intermediates, "intermediates", false, "add every intermediate CA that a chosen CA has signed")
	fl.BoolVar(&f.lists, "lists", false, "add the revocation lists of chosen CAs")
	fl.BoolVar(&f.listed, "lists-required", false, "enrol no TPM whose certificates do not stand under a list")
	fl.StringArrayVar(&f.withdraw, "withdraw", nil, "withdraw a root that genesis names, by its whole SHA-256; repeat for several")
	fl.StringArrayVar(&f.deny, "deny", nil, "enrol no TPM made with this firmware: VENDOR:FROM-TO, such as 53544D20:73.0-73.4; repeat for several")
	fl.BoolVar(&f.denyAdvised, "deny-advised", false, "enrol no TPM made with firmware that its vendor's advisory calls flawed")
	fl.BoolVar(&f.all, "all", false, "show every intermediate CA too")
	return cmd
}

func (a *app) importRoots(cmd *cobra.Command, f *rootsFlags, paths []string) error {
	found, err := findCAs(paths, time.Now())
	if err != nil {
		return err
	}
	set, err := f.choose(found)
	if err != nil {
		return err
	}
	if f.toml == "" && len(f.act.keys) == 0 {
		return a.print(cmd, found.sheet(true), found.sheet(f.all).String())
	}
	if f.id == "" || f.version == 0 {
		return misuse("anchors need --id and --version")
	}
	doc, err := firmwarepolicy.NewAnchors(set)
	if err != nil {
		return err
	}
	if f.toml == "" {
		return a.signPolicy(cmd, &f.act, doc)
	}
	text, err := doc.TOML()
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.toml, text, 0o644); err != nil {
		return fmt.Errorf("writing anchors: %w", err)
	}
	if len(f.act.keys) > 0 {
		return a.signPolicy(cmd, &f.act, doc)
	}
	s := found.sheet(f.all || a.json)
	s.put("file", f.toml)
	s.put("hash", doc.Hash().String())
	return a.print(cmd, s, s.String()+"read it, then: writ policy sign "+f.toml)
}

// choose marks what was chosen and returns it.
func (f *rootsFlags) choose(found *foundCAs) (firmwarepolicy.AnchorSet, error) {
	set := firmwarepolicy.AnchorSet{ID: f.id, Version: f.version, Expires: uint64(time.Now().Add(f.valid).Unix()), ListsRequired: f.listed}
	if err := f.chooseRoots(found); err != nil {
		return set, err
	}
	if err := f.choosePath(found); err != nil {
		return set, err
	}
	for _, c := range found.cas {
		switch c.chosen {
		case "root":
			set.Roots = append(set.Roots, c.cert)
		case "path":
			set.Path = append(set.Path, c.cert)
		}
	}
	if f.lists {
		set.Lists = found.chooseLists()
	}
	for _, w := range f.withdraw {
		sum, err := hex.DecodeString(w)
		if err != nil || len(sum) != sha256.Size {
			return set, misuse("--withdraw wants a SHA-256 of 64 hexadecimal digits")
		}
		set.Withdrawn = append(set.Withdrawn, [sha256.Size]byte(sum))
	}
	if f.denyAdvised {
		set.Firmware = firmwarepolicy.Advisories()
	}
	for _, d := range f.deny {
		r, err := parseFirmware(d)
		if err != nil {
			return set, err
		}
		set.Firmware = append(set.Firmware, r)
	}
	return set, nil
}

// chooseRoots marks the chosen roots. Those that were named must be there, and nothing may speak against them.
func (f *rootsFlags) chooseRoots(found *foundCAs) error {
	for _, v := range f.vendors {
		if !slices.ContainsFunc(found.cas, func(c *foundCA) bool { return c.isKnownRoot() && strings.EqualFold(c.known.Vendor, v) }) {
			return misuse("no known root of vendor %q was found", v)
		}
	}
	for _, c := range found.cas {
		wanted := f.known || slices.ContainsFunc(f.vendors, func(v string) bool { return strings.EqualFold(c.known.Vendor, v) })
		if wanted && c.isKnownRoot() && len(c.against) == 0 {
			c.chosen = "root"
		}
	}
	for _, prefix := range f.roots {
		c, err := found.named(prefix)
		if err != nil {
			return err
		}
		c.chosen = "root"
	}
	return nil
}

// choosePath marks the intermediate CAs: those named, and those that lead to a chosen CA.
func (f *rootsFlags) choosePath(found *foundCAs) error {
	for _, prefix := range f.path {
		c, err := found.named(prefix)
		if err != nil {
			return err
		}
		if c.chosen == "" {
			c.chosen = "path"
		}
	}
	for more := f.intermediates; more; {
		more = false
		for _, c := range found.cas {
			if c.chosen == "" && len(c.against) == 0 && found.signedByChosen(c.cert) {
				c.chosen, more = "path", true
			}
		}
	}
	return nil
}

// signedByChosen reports whether the name of a chosen CA, and its key where both name it, are those of a certificate's
// issuer.
func (f *foundCAs) signedByChosen(cert *x509.Certificate) bool {
	return slices.ContainsFunc(f.cas, func(c *foundCA) bool { return c.chosen != "" && c.cert != cert && issued(c.cert, cert) })
}

// parseFirmware reads VENDOR:FROM-TO.
func parseFirmware(text string) (attest.FirmwareRange, error) {
	vendor, versions, _ := strings.Cut(text, ":")
	low, high, ranged := strings.Cut(versions, "-")
	if !ranged {
		high = low
	}
	from, errFrom := firmwarepolicy.ParseFirmwareVersion(low)
	to, errTo := firmwarepolicy.ParseFirmwareVersion(high)
	if errFrom != nil || errTo != nil {
		return attest.FirmwareRange{}, misuse("--deny wants VENDOR:FROM-TO, such as 53544D20:73.0-73.4")
	}
	return attest.FirmwareRange{Manufacturer: vendor, From: from, To: to, Why: "denied by authorities"}, nil
}
