package vectors

import (
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Format names the form of the files.
const Format = "writ-vectors-1"

// Index is the file index.json.
type Index struct {
	Format string            `json:"format"`
	About  string            `json:"about"`
	Made   string            `json:"made"`  // when, RFC 3339
	Files  map[string]string `json:"files"` // file to type
}

// File holds the vectors of one type.
type File struct {
	Format  string   `json:"format"`
	Type    string   `json:"type"`
	Vectors []Vector `json:"vectors"`
}

// Vector is one input and what the verifier answers. Exactly one of the inputs is there.
type Vector struct {
	ID     string   `json:"id"`
	Rows   []string `json:"rows,omitempty"` // rows of the project's table of attacks
	Layer  string   `json:"layer,omitempty"`
	Breaks string   `json:"breaks,omitempty"` // what is wrong; empty where the input is accepted
	Says   string   `json:"says,omitempty"`   // about an input that is accepted
	Signer string   `json:"signer"`           // who signed: "swtpm", or "software" where no TPM would
	Code   int      `json:"code"`             // 0: accepted
	Name   string   `json:"name"`             // of the code

	Evidence   *Evidence   `json:"evidence,omitempty"`
	Enrolment  *Enrolment  `json:"enrolment,omitempty"`
	Statement  *Statement  `json:"statement,omitempty"`
	Artifact   *Artifact   `json:"artifact,omitempty"`
	Status     *Status     `json:"status,omitempty"`
	Request    *Request    `json:"request,omitempty"`
	Possession *Possession `json:"possession,omitempty"`
	Checkpoint *Checkpoint `json:"checkpoint,omitempty"`
	Delegation *Delegation `json:"delegation,omitempty"`
}

// Evidence is what a host sends about its boot, and what the verifier holds against it.
type Evidence struct {
	Collection Bytes            `json:"collection,omitempty"` // the whole, where its encoding is what is broken
	Attest     Bytes            `json:"attest,omitempty"`     // TPMS_ATTEST of TPM2_Quote
	Signature  Bytes            `json:"signature,omitempty"`  // TPMT_SIGNATURE
	AK         Bytes            `json:"ak,omitempty"`         // TPM2B_PUBLIC; absent: that of want
	Bank       string           `json:"bank,omitempty"`
	PCRs       map[string]Bytes `json:"pcrs,omitempty"`
	Log        Bytes            `json:"log,omitempty"`       // crypto-agile boot log
	OSLog      Bytes            `json:"os_log,omitempty"`    // of systemd
	IMAList    Bytes            `json:"ima_list,omitempty"`  // binary_runtime_measurements
	Session    *Session         `json:"session,omitempty"`   // audit session
	CNF        Bytes            `json:"cnf,omitempty"`       // TPM2B_PUBLIC
	Certify    [2]Bytes         `json:"certify"`             // of the cnf key by the AK: TPMS_ATTEST, TPMT_SIGNATURE
	Challenge  Bytes            `json:"challenge,omitempty"` // absent: that of want
	Request    Bytes            `json:"request,omitempty"`   // absent: that of want
	Want       Want             `json:"want"`
	Facts      *Facts           `json:"facts,omitempty"` // that evidence which is accepted shows
}

// Want is what the verifier demands of evidence.
type Want struct {
	AK         Bytes    `json:"ak"` // TPM2B_PUBLIC of the enrolled AK
	Challenge  Bytes    `json:"challenge"`
	Request    Bytes    `json:"request"`
	Exporter   Bytes    `json:"exporter"`
	Qualifying Bytes    `json:"qualifying_data"` // that the three give; the TPM signs it as extraData
	Bank       string   `json:"bank"`
	PCRs       []int    `json:"pcrs"`
	Bind       []int    `json:"bind"`
	Audit      bool     `json:"audit,omitempty"` // evidence must have an audit session
	Known      []string `json:"known,omitempty"` // digests of files that IMA may measure
	Keys       []Bytes  `json:"keys,omitempty"`  // SubjectPublicKeyInfo of keys that sign files
	Watch      []string `json:"watch,omitempty"` // paths that become facts
}

// Session is an audit session of the TPM: docs/formats/evidence.cddl has the commands.
type Session struct {
	Attest    Bytes   `json:"attest"`    // TPMS_ATTEST
	Signature Bytes   `json:"signature"` // TPMT_SIGNATURE
	Responses []Bytes `json:"responses"` // parameters of each response
}

// Facts are some of what a log proves.
type Facts struct {
	SecureBootPresent bool     `json:"secure_boot_present"`
	SecureBootEnabled bool     `json:"secure_boot_enabled"`
	Authorities       int      `json:"authorities"` // how many keys verified something
	BootApps          []string `json:"boot_apps"`   // digests of the images of PCR 2 and PCR 4, in order
	CommandLine       []string `json:"command_line"`
}

// Enrolment is what a host sends to enrol its AK, and what the verifier holds against it.
type Enrolment struct {
	EK       Bytes     `json:"ek"`    // TPM2B_PUBLIC
	Chain    []Bytes   `json:"chain"` // EK certificate and intermediates, DER
	AK       Bytes     `json:"ak"`    // TPM2B_PUBLIC
	GateKey  Bytes     `json:"gate_key,omitempty"`
	Certify  [2]Bytes  `json:"certify"` // of the gate key by the AK; empty without one
	EKDigest Bytes     `json:"ek_digest"`
	Roots    []Bytes   `json:"roots"` // DER
	Now      time.Time `json:"now"`
	Listed   bool      `json:"listed"` // an authority vouches for the EK without a certificate

	Path     []Bytes    `json:"path,omitempty"`      // certificates that may stand between leaf and root, DER
	Lists    []Bytes    `json:"lists,omitempty"`     // revocation lists, DER
	MustList bool       `json:"must_list,omitempty"` // every certificate below a root must stand under a list of its CA
	Firmware []Firmware `json:"firmware,omitempty"`  // that is not enrolled
}

// Firmware is a range of versions of TPM firmware: major << 16 | minor, both ends inclusive.
type Firmware struct {
	Manufacturer string `json:"manufacturer"`
	Model        string `json:"model,omitempty"`
	From         uint64 `json:"from"`
	To           uint64 `json:"to"`
}

// Checkpoint is a checkpoint of a log, and what a relying party holds against it.
type Checkpoint struct {
	Raw       Bytes     `json:"raw"`                 // signed note
	Keys      []string  `json:"keys"`                // of the log, as C2SP signed-note writes them
	Threshold *int      `json:"threshold,omitempty"` // of operators of witnesses; absent: none are demanded
	Witnesses []Witness `json:"witnesses,omitempty"`
	Since     uint64    `json:"since,omitempty"` // when it must have been cosigned at the earliest, seconds since 1970 UTC
	Old       *Tree     `json:"old,omitempty"`   // that it must continue
	Path      []Bytes   `json:"path,omitempty"`  // consistency path from there
}

// Witness is a witness, and who runs it.
type Witness struct {
	Operator string `json:"operator"`
	Key      string `json:"key"`
}

// Tree is a tree that was verified before.
type Tree struct {
	Origin string `json:"origin"`
	Size   uint64 `json:"size"`
	Root   Bytes  `json:"root"`
}

// Statement is a COSE_Sign1, the kind of statement that is expected, and who may sign it.
type Statement struct {
	Raw   Bytes  `json:"raw"`
	Kind  string `json:"kind"`
	Limit int    `json:"limit"` // greatest size in bytes
	Keys  []Key  `json:"keys"`
}

// Key is a trusted key.
type Key struct {
	COSE  Bytes    `json:"cose"` // COSE_Key
	Kinds []string `json:"kinds"`
}

// Artifact is an artifact with its receipts, and what a relying party holds against it.
type Artifact struct {
	Raw      Bytes     `json:"raw"`
	Trust    Bytes     `json:"trust"` // trust file
	Now      time.Time `json:"now"`
	Audience string    `json:"audience"`
	Status   Bytes     `json:"status,omitempty"` // status list token
	Use      *Use      `json:"use,omitempty"`
}

// Use is what is to be done.
type Use struct {
	Target     string   `json:"target"`
	Operations string   `json:"operations"`
	Code       Bytes    `json:"code,omitempty"` // SHA-256
	Argv       []string `json:"argv,omitempty"`
}

// Status is a status list token.
type Status struct {
	Raw      Bytes     `json:"raw"`
	Trust    Bytes     `json:"trust"`
	Now      time.Time `json:"now"`
	LastSeen uint64    `json:"last_seen"`
}

// Request is the request of an initiator.
type Request struct {
	Raw Bytes     `json:"raw"`
	Key Bytes     `json:"key"` // COSE_Key of the initiator
	Now time.Time `json:"now"`
}

// Delegation is what the holder of an artifact lets somebody else ask for, and if a request is there, that for the child.
type Delegation struct {
	Parent  Bytes     `json:"parent"` // artifact, without receipts
	Key     Bytes     `json:"key"`    // COSE_Key of its issuer
	Raw     Bytes     `json:"raw"`
	Request Bytes     `json:"request,omitempty"` // payload of the request for the child
	Now     time.Time `json:"now"`
}

// Possession is a proof of possession for an artifact that is accepted.
type Possession struct {
	Artifact   Artifact  `json:"artifact"`
	Raw        Bytes     `json:"raw"`
	Nonce      Bytes     `json:"nonce"`
	Parameters Bytes     `json:"parameters"` // SHA-256
	Now        time.Time `json:"now"`
}

// Bytes are hexadecimal in JSON, or "file:" and the name of a gzip file beside it.
type Bytes []byte

const fileMark = "file:"

// MarshalText writes hexadecimal, or the mark of a file as it is.
func (b Bytes) MarshalText() ([]byte, error) {
	if strings.HasPrefix(string(b), fileMark) {
		return b, nil
	}
	return []byte(hex.EncodeToString(b)), nil
}

// UnmarshalText reads hexadecimal, or keeps the mark of a file.
func (b *Bytes) UnmarshalText(text []byte) (err error) {
	if strings.HasPrefix(string(text), fileMark) {
		*b = slices.Clone(text)
		return nil
	}
	*b, err = hex.DecodeString(string(text))
	return err
}

// Load reads all vectors of a directory, in the order of the names of their files.
func Load(dir string) ([]Vector, error) {
	var index Index
	if err := read(filepath.Join(dir, "index.json"), &index); err != nil {
		return nil, err
	}
	if index.Format != Format {
		return nil, fmt.Errorf("reading vectors: format %q, want %q", index.Format, Format)
	}
	var all []Vector
	names := make([]string, 0, len(index.Files))
	for name := range index.Files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		var f File
		if err := read(filepath.Join(dir, name), &f); err != nil {
			return nil, err
		}
		for i := range f.Vectors {
			if err := resolve(dir, &f.Vectors[i]); err != nil {
				return nil, fmt.Errorf("reading vector %s: %w", f.Vectors[i].ID, err)
			}
		}
		all = append(all, f.Vectors...)
	}
	return all, nil
}

func read(path string, to any) error {
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	if err != nil {
		return fmt.Errorf("reading vectors: %w", err)
	}
	return nil
}

// resolve puts the content of files into the place of their names.
func resolve(dir string, v *Vector) error {
	for _, b := range v.Large() {
		name, ok := strings.CutPrefix(string(*b), fileMark)
		if !ok {
			continue
		}
		content, err := unpack(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		*b = content
	}
	return nil
}

// maxFile is the greatest size of a file once it is unpacked.
const maxFile = 4 << 20

func unpack(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading file: %w", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("reading file: %w", err)
	}
	content, err := io.ReadAll(io.LimitReader(z, maxFile))
	if err != nil {
		return nil, fmt.Errorf("reading file: %w", err)
	}
	return content, nil
}

// Large returns the byte strings that may stand in files.
func (v *Vector) Large() (all []*Bytes) {
	if e := v.Evidence; e != nil {
		all = append(all, &e.Collection, &e.Attest, &e.Log, &e.OSLog, &e.IMAList)
	}
	if e := v.Enrolment; e != nil {
		for i := range e.Chain {
			all = append(all, &e.Chain[i])
		}
		for i := range e.Roots {
			all = append(all, &e.Roots[i])
		}
		for i := range e.Lists {
			all = append(all, &e.Lists[i])
		}
	}
	if s := v.Statement; s != nil {
		all = append(all, &s.Raw)
	}
	if r := v.Request; r != nil {
		all = append(all, &r.Raw)
	}
	if p := v.Possession; p != nil {
		all = append(all, &p.Artifact.Raw, &p.Artifact.Trust, &p.Artifact.Status)
	}
	if d := v.Delegation; d != nil {
		all = append(all, &d.Parent, &d.Raw)
	}
	if a := v.Artifact; a != nil {
		all = append(all, &a.Raw, &a.Trust, &a.Status)
	}
	if s := v.Status; s != nil {
		all = append(all, &s.Raw, &s.Trust)
	}
	return all
}
