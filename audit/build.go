package audit

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// Log is what Build reads. Leaves calls fn for the entries [from, to) in order and fails if one is missing. Receipt
// returns the receipt of an entry under the first head that covers it; Consistency the receipt from the tree of from
// entries to that of to, for which there is a signed head. Blob returns stored data by its SHA-256.
type Log interface {
	Leaves(ctx context.Context, from, to uint64, fn func(index uint64, leaf []byte) error) error
	Receipt(ctx context.Context, index uint64) ([]byte, error)
	Consistency(ctx context.Context, from, to uint64) ([]byte, error)
	Blob(ctx context.Context, digest statement.Digest) ([]byte, bool, error)
}

// Sealer signs for the issuer. SealManifest also logs what it signs, and returns it with its receipt.
type Sealer interface {
	SealCapsule(ctx context.Context, subject string, payload []byte) ([]byte, error)
	SealManifest(ctx context.Context, subject string, hash []byte) ([]byte, error)
}

// Index finds entries without reading the log. Each method returns indices, ascending. Context is of the entries that
// later ones are verified with: genesis, acts, enrolments and key births. OfArtifact takes the id of an artifact (cti), and
// returns it, the records about it and the artifacts that descend from it directly; OfExecution returns the artifacts with
// an execution id, and the refusals of requests for one; OfHost all about a host.
type Index interface {
	Context(ctx context.Context) ([]uint64, error)
	OfExecution(ctx context.Context, id []byte) ([]uint64, error)
	OfArtifact(ctx context.Context, cti []byte) ([]uint64, error)
	OfHost(ctx context.Context, uri string) ([]uint64, error)
}

// Office is what an issuer does for a bundle.
type Office interface {
	Sealer
	Index
}

// Bundle is a finished bundle in a temporary file.
type Bundle struct{ s *spool }

// Write writes the bundle as a tar file: the same bytes every time.
func (b *Bundle) Write(ctx context.Context, w io.Writer) error { return b.s.write(ctx, w) }

// Digest returns the SHA-256 of the manifest's signature and receipt, which no two bundles share.
func (b *Bundle) Digest() statement.Digest { return b.s.members[nameSeal].hash }

// Close frees the bundle.
func (b *Bundle) Close() error { return b.s.Close() }

// Build makes the bundle of a query over the log under a signed head of it. Beside what was asked for it holds what
// is needed to verify that: genesis, all acts, and the records of enrolments and keys that stand before it. A range
// that would cut an act in two ends behind it. It refuses a range that the head does not cover (908).
func Build(ctx context.Context, log Log, head receipt.Head, office Office, q Query) (*Bundle, error) {
	s, err := newSpool()
	if err != nil {
		return nil, err
	}
	b := &builder{spool: s, log: log, head: head, office: office, query: q, counts: map[class]uint64{}, sizes: map[uint64]bool{}}
	if err := b.build(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return &Bundle{s}, nil
}

type builder struct {
	*spool
	log     Log
	head    receipt.Head
	office  Office
	query   Query
	genesis record.Genesis
	heads   *receipt.Verifier
	found   *selection
	counts  map[class]uint64
	sizes   map[uint64]bool // of the heads that receipts are under
	lacks   []Lack
}

func (b *builder) build(ctx context.Context) (err error) {
	if b.query.To == 0 {
		b.query.To = b.head.Size
	}
	if b.head.Size < 2 || b.query.From >= b.query.To || b.query.To > b.head.Size {
		return denial.New(denial.RequestLimit, "the log has no signed entries %d to %d", b.query.From, b.query.To)
	}
	if err := b.readGenesis(ctx); err != nil {
		return err
	}
	if err := b.wholeActs(ctx); err != nil {
		return err
	}
	if b.found, err = choose(ctx, b.log, b.office, b.query); err != nil {
		return err
	}
	for _, index := range b.found.indices {
		if err := b.log.Leaves(ctx, index, index+1, func(_ uint64, leaf []byte) error { return b.statement(ctx, index, leaf) }); err != nil {
			return fmt.Errorf("reading entry %d: %w", index, err)
		}
	}
	for _, part := range []func(context.Context) error{b.consistency, b.policies, b.keys, b.seal} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// wholeActs moves the end of the range so that it does not cut an act in two.
func (b *builder) wholeActs(ctx context.Context) error {
	var last *entry
	for cut := true; cut && b.query.To < b.head.Size; {
		err := b.log.Leaves(ctx, b.query.To-1, b.query.To+1, func(index uint64, leaf []byte) error {
			e, err := readEntry(index, leaf)
			if err != nil {
				return fmt.Errorf("reading entry %d: %w", index, err)
			}
			cut = last != nil && isAct(e.kind) && sameAct(last, e)
			last = e
			return nil
		})
		if err != nil {
			return err
		}
		if cut {
			b.query.To++
		}
		last = nil
	}
	return nil
}

func (b *builder) readGenesis(ctx context.Context) error {
	return b.log.Leaves(ctx, 0, 1, func(_ uint64, leaf []byte) error {
		env, err := statement.Decode(leaf, statement.MaxStatement)
		if err != nil {
			return err
		}
		if err := statement.Unmarshal(env.Payload(), &b.genesis); err != nil {
			return err
		}
		keys, err := b.genesis.IssuerKeys()
		b.heads = receipt.NewVerifier(keys)
		return err
	})
}

// statement adds one entry with its receipt and, if it has one, its capsule.
func (b *builder) statement(ctx context.Context, index uint64, leaf []byte) error {
	e, err := readEntry(index, leaf)
	if err != nil {
		return err
	}
	r, err := b.log.Receipt(ctx, index)
	if err != nil {
		return err
	}
	proof, err := b.heads.Verify(r, leaf)
	if err != nil {
		return err
	}
	b.sizes[proof.Size] = true
	raw, err := statement.Attach(leaf, r)
	if err != nil {
		return err
	}
	b.counts[classOf(e.kind, e.record)]++
	if err := b.add(nameStatement(index), raw); err != nil {
		return err
	}
	return b.capsule(ctx, e)
}

// consistency adds the proof that each head that a receipt is under belongs to the head of the bundle.
func (b *builder) consistency(ctx context.Context) error {
	for _, size := range slices.Sorted(maps.Keys(b.sizes)) {
		if size >= b.head.Size {
			continue
		}
		raw, err := b.log.Consistency(ctx, size, b.head.Size)
		if err != nil {
			return fmt.Errorf("proving head of %d entries: %w", size, err)
		}
		if err := b.add(nameHead(size), raw); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) policies(context.Context) error {
	for hash, doc := range b.found.policies {
		if err := b.add(namePolicy(hash), doc); err != nil {
			return err
		}
	}
	return nil
}

// keys adds the keys that genesis names, for people: a verifier uses its own.
func (b *builder) keys(context.Context) error {
	raw, err := keySet(&b.genesis)
	if err != nil {
		return err
	}
	return b.add(nameKeys, raw)
}

// seal adds the manifest of all that was added, and its signature.
func (b *builder) seal(ctx context.Context) error {
	m := manifest{Version: Version, Issuer: b.genesis.Issuer, Log: b.genesis.Log,
		Query: span{From: b.query.From, To: b.query.To, Execution: b.query.Execution, Host: b.query.Host},
		Head:  treeHead{Size: b.head.Size, Root: b.head.Root, Time: b.head.Time},
		Lacks: chunked(b.lacks), Counts: chunked(countsOf(b.counts))}
	var files []file
	for _, f := range b.sorted() {
		files = append(files, file{Path: f.path, Size: uint64(f.size), Hash: f.hash})
	}
	m.Files = chunked(files)
	raw, err := statement.Marshal(m)
	if err != nil {
		return err
	}
	hash := sha256.Sum256(raw)
	seal, err := b.office.SealManifest(ctx, b.genesis.Log, hash[:])
	if err != nil {
		return fmt.Errorf("sealing manifest: %w", err)
	}
	if err := b.add(nameManifest, raw); err != nil {
		return err
	}
	return b.add(nameSeal, seal)
}
