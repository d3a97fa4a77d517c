package audit

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// Version is the version of a bundle's layout.
const Version = 1

// chunk is how many elements of a long list stand in one array of the manifest.
const chunk = 4096

// The keys of a manifest.
const (
	keyFiles     = 6
	manifestKeys = 9
)

// The members of a bundle that have fixed names.
const (
	nameManifest = "manifest.cbor"
	nameSeal     = "manifest.cose"
	nameKeys     = "keys/scitt-keys.cbor"
	nameHistory  = "keys/history.cbor"
	namePoint    = "checkpoint"
	nameTrust    = "tlog-policy"
)

func nameStatement(index uint64) string     { return fmt.Sprintf("statements/%016d.scitt", index) }
func nameReceipt(index uint64) string       { return fmt.Sprintf("receipts/%016d.receipt", index) }
func nameOpening(d statement.Digest) string { return fmt.Sprintf("openings/%s.cbor", d) }
func nameProof(index uint64) string         { return fmt.Sprintf("proofs/%016d.tlog-proof", index) }
func nameHead(size uint64) string           { return fmt.Sprintf("receipts/consistency-%016d.receipt", size) }
func nameStatus(n int) string               { return fmt.Sprintf("status/%016d.cwt", n) }
func nameCapsule(d statement.Digest) string { return "capsules/" + d.String() + ".cmw" }
func namePolicy(hash fmt.Stringer) string   { return "policy/" + hash.String() + ".cbor" }

// manifest is what the issuer signs about a bundle. Long lists are cut into chunks.
type manifest struct {
	Version uint64    `cbor:"1,keyasint"`
	Issuer  string    `cbor:"2,keyasint"`
	Log     string    `cbor:"3,keyasint"`
	Query   span      `cbor:"4,keyasint"`
	Head    treeHead  `cbor:"5,keyasint"` // the newest when the bundle was made; its time is the bundle's
	Files   [][]file  `cbor:"6,keyasint"`
	Lacks   [][]Lack  `cbor:"7,keyasint"`
	Counts  [][]Count `cbor:"8,keyasint"`
	Absent  []Absent  `cbor:"9,keyasint"`
}

// Absent is a part of the layout of evidence bundles that no bundle of this issuer has, and why.
type Absent struct {
	_      struct{} `cbor:",toarray"`
	Part   string   `json:"part"`
	Reason string   `json:"reason"`
}

// absent lists what the issuer never keeps as files of their own.
func absent() []Absent {
	return []Absent{
		{Part: "certs", Reason: "EK certificates stand in the capsules, as the hosts sent them"},
		{Part: "corim", Reason: "reference values stand in the appraisal policies"},
		{Part: "tsa", Reason: "the issuer asks no time-stamping authority"},
	}
}

type span struct {
	From      uint64 `cbor:"1,keyasint"`
	To        uint64 `cbor:"2,keyasint"`
	Execution []byte `cbor:"3,keyasint,omitempty"`
	Host      string `cbor:"4,keyasint,omitempty"`

	Disclose []string `cbor:"5,keyasint,omitempty"` // fields of personal data whose commitments are opened
}

// chosen reports whether the bundle holds what is about one execution or host, and not all entries of its range.
func (s *span) chosen() bool { return s.Execution != nil || s.Host != "" }

type treeHead struct {
	_    struct{} `cbor:",toarray"`
	Size uint64
	Root [32]byte
	Time uint64
}

type file struct {
	_    struct{} `cbor:",toarray"`
	Path string
	Size uint64
	Hash [32]byte // SHA-256
}

// Lack is a part of a capsule that the issuer no longer has.
type Lack struct {
	_      struct{} `cbor:",toarray"`
	Index  uint64   `json:"index"` // of the statement that it belongs to
	Part   string   `json:"part"`  // evidence, request, input, ek-chain or policy; or the field of an opening
	Reason string   `json:"reason"`
}

// The reasons of lacks.
const (
	lackDeleted = "the issuer's store has it no longer: deleted under retention, or lost"
	lackUnknown = "no act before this statement publishes it"
)

// Count is how many statements of one kind, event and code a bundle holds.
type Count struct {
	_     struct{} `cbor:",toarray"`
	Kind  string   `json:"kind"`
	Event uint64   `json:"event,omitempty"` // of a record
	Code  uint64   `json:"code,omitempty"`  // of a denial
	N     uint64   `json:"n"`
}

type class struct {
	kind  string
	event uint64
	code  uint64
}

// classOf returns how a statement is counted.
func classOf(kind statement.Kind, rec *record.Record) class {
	c := class{kind: kind.String()}
	if rec != nil {
		c.event = uint64(rec.Event)
		if len(rec.Reasons) > 0 {
			c.code = rec.Reasons[0]
		}
	}
	return c
}

func countsOf(n map[class]uint64) []Count {
	var all []Count
	for c, n := range n {
		all = append(all, Count{Kind: c.kind, Event: c.event, Code: c.code, N: n})
	}
	slices.SortFunc(all, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Event, b.Event), cmp.Compare(a.Code, b.Code))
	})
	return all
}

// chunked cuts a list into chunks.
func chunked[T any](list []T) [][]T {
	out := [][]T{}
	for c := range slices.Chunk(list, chunk) {
		out = append(out, c)
	}
	return out
}

// write writes a manifest with the members of an index as its files, a chunk at a time.
func (m *manifest) write(w io.Writer, files *index) error {
	before, err := encoded(m.Version, m.Issuer, m.Log, m.Query, m.Head)
	if err != nil {
		return err
	}
	after, err := encoded(m.Lacks, m.Counts, m.Absent)
	if err != nil {
		return err
	}
	out := statement.AppendMap(nil, len(before)+1+len(after))
	for i, v := range before {
		out = append(append(out, byte(i+1)), v...)
	}
	out = statement.AppendArray(append(out, keyFiles), int((files.n+chunk-1)/chunk))
	if _, err := w.Write(out); err != nil {
		return err
	}
	if err := writeFiles(w, files); err != nil {
		return err
	}
	out = out[:0]
	for i, v := range after {
		out = append(append(out, byte(keyFiles+1+i)), v...)
	}
	_, err = w.Write(out)
	return err
}

func writeFiles(w io.Writer, files *index) error {
	var list []file
	return files.each(0, func(i int64, m member) error {
		list = append(list, file{Path: m.path, Size: uint64(m.size), Hash: m.hash})
		if len(list) < chunk && i+1 < files.n {
			return nil
		}
		raw, err := statement.Marshal(list)
		if err == nil {
			_, err = w.Write(raw)
		}
		list = list[:0]
		return err
	})
}

// encoded encodes each value.
func encoded(values ...any) (all [][]byte, err error) {
	for _, v := range values {
		raw, err := statement.Marshal(v)
		if err != nil {
			return nil, err
		}
		all = append(all, raw)
	}
	return all, nil
}

// manifestReader reads a manifest key by key.
type manifestReader struct {
	*statement.Stream
	key uint64
}

// readManifest begins to read a manifest, and refuses one that lacks a key (104) or has one that this version does not know (911).
func readManifest(r io.Reader) (*manifestReader, error) {
	m := &manifestReader{Stream: statement.NewStream(r)}
	n, err := m.Map()
	switch {
	case err != nil:
		return nil, err
	case n > manifestKeys:
		return nil, denial.New(denial.UnsupportedVersion, "a map holds a key that this version does not know")
	case n < manifestKeys:
		return nil, denial.New(denial.ClaimAbsent, "a key of the manifest is missing")
	}
	return m, nil
}

// next reads the next key, and checks that it is in its place.
func (m *manifestReader) next() error {
	var key uint64
	if err := m.Next(&key); err != nil {
		return err
	}
	if m.key++; key != m.key {
		return denial.New(denial.ClaimAbsent, "key %d of the manifest is missing", m.key)
	}
	return nil
}

// values reads the next keys, each into one of the values.
func (m *manifestReader) values(into ...any) error {
	for _, v := range into {
		if err := m.next(); err != nil {
			return err
		}
		if err := m.Next(v); err != nil {
			return err
		}
	}
	return nil
}

// listOf reads the list of the next key, and refuses one that is cut otherwise than chunked does.
func listOf[T any](m *manifestReader, each func(T) error) error {
	if err := m.next(); err != nil {
		return err
	}
	n, err := m.Array()
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		var list []T
		if err := m.Next(&list); err != nil {
			return err
		}
		if len(list) == 0 || len(list) > chunk || n > 1 && len(list) != chunk {
			return denial.New(denial.PayloadForm, "a list of the manifest is not cut as it should be")
		}
		for _, v := range list {
			if err := each(v); err != nil {
				return err
			}
		}
	}
	return nil
}
