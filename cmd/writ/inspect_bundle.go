package main

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// Limits on a bundle that is shown.
const (
	maxMembers  = 1 << 20
	maxManifest = 64 << 20
)

// manifest is the manifest of a bundle (docs/bundle.md), as far as it is shown.
type manifest struct {
	Version uint64 `cbor:"1,keyasint"`
	Issuer  string `cbor:"2,keyasint"`
	Log     string `cbor:"3,keyasint"`
	Query   struct {
		From      uint64 `cbor:"1,keyasint"`
		To        uint64 `cbor:"2,keyasint"`
		Execution []byte `cbor:"3,keyasint,omitempty"`
		Host      string `cbor:"4,keyasint,omitempty"`

		Disclose []string `cbor:"5,keyasint,omitempty"`
	} `cbor:"4,keyasint"`
	Head   head                  `cbor:"5,keyasint"`
	Files  [][]statement.RawItem `cbor:"6,keyasint"`
	Lacks  [][]audit.Lack        `cbor:"7,keyasint"`
	Counts [][]audit.Count       `cbor:"8,keyasint"`
	Absent []audit.Absent        `cbor:"9,keyasint"`
}

type head struct {
	_    struct{} `cbor:",toarray"`
	Size uint64
	Root [32]byte
	Time uint64
}

// bundleView is what "writ inspect bundle --json" writes.
type bundleView struct {
	Verified bool     `json:"verified"` // never
	Manifest *sheet   `json:"manifest"` // null if there is none
	Members  []member `json:"members"`
	Bytes    int64    `json:"bytes"` // of all members
}

type member struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	Size int64  `json:"size"`
}

func (a *app) inspectBundle() *cobra.Command {
	return &cobra.Command{
		Use:   "bundle FILE",
		Short: "List the members of a bundle and what its manifest says",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("reading input: %w", err)
			}
			defer f.Close()
			v, err := viewBundle(f)
			if err != nil {
				return err
			}
			return a.print(cmd, v, unverified+"\n"+v.text())
		},
	}
}

func viewBundle(r io.Reader) (*bundleView, error) {
	v, in := &bundleView{Members: []member{}}, tar.NewReader(r)
	for {
		h, err := in.Next()
		switch {
		case err == io.EOF && len(v.Members) == 0:
			return nil, denial.New(denial.NotCanonical, "the file holds no members of a tar file").Try(audit.HintBundle)
		case err == io.EOF:
			return v, nil
		case err != nil:
			return nil, denial.New(denial.NotCanonical, "the tar file is malformed").Try(audit.HintBundle)
		case len(v.Members) == maxMembers:
			return nil, denial.New(denial.StructureLimit, "the bundle has more than %d members", maxMembers)
		}
		m := member{Name: h.Name, Size: h.Size}
		if m.Kind, err = v.kind(h, in); err != nil {
			return nil, err
		}
		v.Members, v.Bytes = append(v.Members, m), v.Bytes+h.Size
	}
}

// kind says what a member is, by its name and, for a statement, by its header. The manifest is read.
func (v *bundleView) kind(h *tar.Header, in io.Reader) (string, error) {
	switch dir, name := path.Split(h.Name); {
	case h.Typeflag != tar.TypeReg:
		return "not a file", nil
	case h.Name == "manifest.cbor":
		return "manifest", v.readManifest(h, in)
	case h.Name == "manifest.cose":
		return "signature of the manifest", nil
	case dir == "keys/", h.Name == "tlog-policy":
		return "keys, for information", nil
	case h.Name == "checkpoint":
		return "checkpoint of the log", nil
	case dir == "statements/" && strings.HasSuffix(name, ".scitt"):
		return statementKind(h, in)
	case dir == "receipts/" && strings.HasPrefix(name, "consistency-"):
		return "tree head", nil
	case dir == "receipts/":
		return "receipt, detached", nil
	case dir == "proofs/":
		return "inclusion proof under the checkpoint", nil
	case dir == "status/":
		return "status list", nil
	case dir == "capsules/":
		return "evidence, request and input of a decision", nil
	case dir == "openings/":
		return openingField(in)
	case dir == "policy/":
		return "policy", nil
	}
	return "unknown", nil
}

func statementKind(h *tar.Header, in io.Reader) (string, error) {
	if h.Size > maxEnvelope {
		return "too large for a statement", nil
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return "", denial.New(denial.NotCanonical, "the tar file is cut short").Try(audit.HintBundle)
	}
	env, err := statement.Decode(data, maxEnvelope)
	if err != nil {
		return "malformed statement", nil
	}
	var r record.Record
	if env.Kind() == statement.Record && statement.Unmarshal(env.Payload(), &r) == nil {
		return env.Kind().String() + ": " + r.Event.String(), nil
	}
	return env.Kind().String(), nil
}

// openingField says which field of personal data an opening discloses. It does not show the value: the report does, once verified.
func openingField(in io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(in, 4<<10))
	if err != nil {
		return "", denial.New(denial.NotCanonical, "the tar file is cut short").Try(audit.HintBundle)
	}
	o, err := record.DecodeOpening(data)
	if err != nil {
		return "malformed opening", nil
	}
	return "personal data: " + o.Field, nil
}

func (v *bundleView) readManifest(h *tar.Header, in io.Reader) error {
	if h.Size > maxManifest {
		return denial.New(denial.StructureLimit, "the manifest has more than %d bytes", maxManifest)
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return denial.New(denial.NotCanonical, "the tar file is cut short").Try(audit.HintBundle)
	}
	var m manifest
	if err := statement.Unmarshal(data, &m); err != nil {
		return err
	}
	v.Manifest = m.sheet()
	return nil
}

func (m *manifest) sheet() *sheet {
	s := &sheet{}
	s.put("version", m.Version)
	s.put("issuer", m.Issuer)
	s.put("log", m.Log)
	if len(m.Query.Execution) > 0 {
		s.put("execution", m.Query.Execution)
	}
	s.putText("host", m.Query.Host)
	if len(m.Query.Disclose) > 0 {
		s.put("disclosed", m.Query.Disclose)
	}
	s.say("entries", map[string]uint64{"from": m.Query.From, "to": m.Query.To}, fmt.Sprintf("%d up to, not including, %d", m.Query.From, m.Query.To))
	s.put("tree_size", m.Head.Size)
	s.put("root", m.Head.Root[:])
	s.putTime("made", m.Head.Time)
	files := 0
	for _, c := range m.Files {
		files += len(c)
	}
	s.put("files", files)
	s.put("counts", m.counts())
	s.put("gaps", m.gaps())
	return s
}

func (m *manifest) counts() *sheet {
	s := &sheet{}
	for _, chunk := range m.Counts {
		for _, c := range chunk {
			name := c.Kind
			if c.Event != 0 {
				name = record.Event(c.Event).String()
			}
			if c.Code != 0 {
				name += " " + strconv.FormatUint(c.Code, 10)
			}
			s.put(name, c.N)
		}
	}
	return s
}

func (m *manifest) gaps() []string {
	out := []string{}
	for _, chunk := range m.Lacks {
		for _, l := range chunk {
			out = append(out, fmt.Sprintf("entry %d has no %s: %s", l.Index, l.Part, l.Reason))
		}
	}
	return out
}

// text renders the view for people.
func (v *bundleView) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "bundle of %d members, %d bytes in them; check it with writ audit verify\n", len(v.Members), v.Bytes)
	if v.Manifest == nil {
		b.WriteString("manifest  none\n")
	} else {
		b.WriteString("manifest\n")
		v.Manifest.write(&b, "  ")
	}
	for _, m := range v.Members {
		fmt.Fprintf(&b, "%10d  %-28s  %s\n", m.Size, clean(m.Kind), clean(m.Name))
	}
	return b.String()
}
