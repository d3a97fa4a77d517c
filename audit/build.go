package audit

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// Log is what Build reads.
type Log interface {
	Entries
	Tree
}

// Entries are what a log holds. Leaves calls fn for the entries [from, to) in order and fails if one is missing. Blob
// returns stored data by its SHA-256.
type Entries interface {
	Leaves(ctx context.Context, from, to uint64, fn func(index uint64, leaf []byte) error) error
	Blob(ctx context.Context, digest statement.Digest) ([]byte, bool, error)
}

// Tree proves entries. Checkpoint returns the newest signed head and its checkpoint, cosigned where witnesses have done so.
// Receipt returns the receipt of an entry under the first head that covers it; Path the inclusion path of an entry in the
// tree of size entries; Consistency the receipt from the tree of from entries to that of to, for which there is a signed
// head.
type Tree interface {
	Checkpoint(ctx context.Context) (receipt.Head, []byte, error)
	Receipt(ctx context.Context, index uint64) ([]byte, error)
	Path(ctx context.Context, index, size uint64) ([]receipt.Hash, error)
	Consistency(ctx context.Context, from, to uint64) ([]byte, error)
}

// Sealer signs for the issuer. SealManifest also logs what it signs, and returns it with its receipt. StatusLists returns
// the tokens of all status lists in force, KeyHistory genesis and the key changes with their receipts (artifact.KeyHistory).
type Sealer interface {
	StatusLists(ctx context.Context) ([][]byte, error)
	KeyHistory(ctx context.Context) ([]byte, error)
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
type Bundle struct {
	s    *spool
	seal statement.Digest
}

// Write writes the bundle as a tar file: the same bytes every time.
func (b *Bundle) Write(ctx context.Context, w io.Writer) error { return b.s.write(ctx, w) }

// Digest returns the SHA-256 of the manifest's signature and receipt, which no two bundles share.
func (b *Bundle) Digest() statement.Digest { return b.seal }

// Close frees the bundle.
func (b *Bundle) Close() error { return b.s.Close() }

// Build makes the bundle of a query over the log under its newest signed head. Beside what was asked for it holds what
// is needed to verify that: genesis, all acts, and the records of enrolments and keys that stand before it. A range
// that would cut an act in two ends behind it. It refuses a range that the head does not cover (908).
func Build(ctx context.Context, log Log, office Office, q Query) (*Bundle, error) {
	s, err := newSpool()
	if err != nil {
		return nil, err
	}
	b := &builder{spool: s, log: log, office: office, query: q, counts: map[class]uint64{}, opened: map[statement.Digest]bool{}}
	if err := b.build(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &Bundle{s, b.sealed}, nil
}

type builder struct {
	*spool
	log     Log
	head    receipt.Head
	point   []byte // checkpoint of head
	office  Office
	query   Query
	genesis record.Genesis
	history []byte
	ring    *record.KeyRing // that history gives
	heads   *receipt.Verifier
	found   *selection
	counts  map[class]uint64
	size    uint64 // of the greatest head that a receipt so far is under
	sealed  statement.Digest
	lacks   []Lack
	act     statement.Digest // whose personal data was opened last
	opened  map[statement.Digest]bool
}

func (b *builder) build(ctx context.Context) (err error) {
	if b.head, b.point, err = b.log.Checkpoint(ctx); err != nil {
		return fmt.Errorf("reading checkpoint: %w", err)
	}
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
	for _, part := range []func(context.Context) error{b.policies, b.standing, b.seal} {
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
			cut = last != nil && record.IsAct(e.kind) && sameAct(last, e)
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
		return b.followKeys(ctx, statement.DigestOf(env.Payload()))
	})
}

// followKeys reads the key history. The tree head was read before, so that no key of it is missing.
func (b *builder) followKeys(ctx context.Context, genesis statement.Digest) (err error) {
	if b.history, err = b.office.KeyHistory(ctx); err != nil {
		return fmt.Errorf("reading key history: %w", err)
	}
	own := &artifact.Trust{Genesis: genesis, Issuer: b.genesis.Issuer, Log: b.genesis.Log}
	if own, err = own.Follow(b.history); err != nil {
		return fmt.Errorf("reading key history: %w", err)
	}
	b.ring = own.KeyRing()
	keys, err := b.ring.StatementKeys()
	b.heads = receipt.NewVerifier(keys)
	return err
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
	if err := b.consistency(ctx, proof.Size); err != nil {
		return err
	}
	raw, err := statement.Attach(leaf, r)
	if err != nil {
		return err
	}
	b.counts[classOf(e.kind, e.record)]++
	if err := b.add(nameStatement(index), raw); err != nil {
		return err
	}
	if err := b.proofs(ctx, index, r); err != nil {
		return err
	}
	if err := b.openings(ctx, e); err != nil {
		return err
	}
	return b.capsule(ctx, e)
}

// proofs adds the receipt of an entry once more, for those who take it detached, and its proof under the checkpoint.
func (b *builder) proofs(ctx context.Context, index uint64, receiptOf []byte) error {
	if err := b.add(nameReceipt(index), receiptOf); err != nil {
		return err
	}
	path, err := b.log.Path(ctx, index, b.head.Size)
	if err != nil {
		return fmt.Errorf("proving entry %d: %w", index, err)
	}
	return b.add(nameProof(index), receipt.MakeProof(index, path, b.point))
}

// consistency adds the proof that a head that a receipt is under belongs to the head of the bundle. Later entries have no smaller
// heads.
func (b *builder) consistency(ctx context.Context, size uint64) error {
	if size <= b.size || size >= b.head.Size {
		return nil
	}
	b.size = size
	raw, err := b.log.Consistency(ctx, size, b.head.Size)
	if err != nil {
		return fmt.Errorf("proving head of %d entries: %w", size, err)
	}
	return b.add(nameHead(size), raw)
}

func (b *builder) policies(context.Context) error {
	for hash, doc := range b.found.policies {
		if err := b.add(namePolicy(hash), doc); err != nil {
			return err
		}
	}
	return nil
}

// standing adds what is of the log as a whole: its checkpoint, the status lists in force, its key history, and, for people and
// other programs, the keys in it and a policy for the checkpoint. A verifier uses its own.
func (b *builder) standing(ctx context.Context) error {
	keys, err := keySet(b.ring)
	if err != nil {
		return err
	}
	policy, err := tlogPolicy(&b.genesis, b.ring)
	if err != nil {
		return err
	}
	lists, err := b.office.StatusLists(ctx)
	if err != nil {
		return fmt.Errorf("reading status lists: %w", err)
	}
	for n, raw := range lists {
		if err := b.add(nameStatus(n), raw); err != nil {
			return err
		}
	}
	return errors.Join(b.add(namePoint, b.point), b.add(nameKeys, keys), b.add(nameHistory, b.history), b.add(nameTrust, policy))
}

// seal adds the manifest of all that was added, and its signature.
func (b *builder) seal(ctx context.Context) error {
	m := manifest{Version: Version, Issuer: b.genesis.Issuer, Log: b.genesis.Log,
		Query: span{From: b.query.From, To: b.query.To, Execution: b.query.Execution, Host: b.query.Host, Disclose: b.query.Disclose},
		Head:  treeHead{Size: b.head.Size, Root: b.head.Root, Time: b.head.Time},
		Lacks: chunked(b.lacks), Counts: chunked(countsOf(b.counts)), Absent: absent()}
	if err := b.finish(); err != nil {
		return err
	}
	written, err := b.append(nameManifest, func(w io.Writer) error { return m.write(w, b.index) })
	if err != nil {
		return err
	}
	seal, err := b.office.SealManifest(ctx, b.genesis.Log, written.hash[:])
	if err != nil {
		return fmt.Errorf("sealing manifest: %w", err)
	}
	last, err := b.append(nameSeal, func(w io.Writer) error { _, err := w.Write(seal); return err })
	b.sealed = last.hash
	return err
}
