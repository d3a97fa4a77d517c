package artifact

import (
	"slices"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// MaxKeyHistory is the greatest size of a key history in bytes.
const MaxKeyHistory = 4 << 20

// historyVersion is the version of a key history.
const historyVersion = 1

// KeyHistory is what an issuer serves of its keys: the genesis act, and every key change since with its receipts. It needs
// no signature of its own: each change is signed by the authorities of its time and by the key that it follows, and whoever
// pins the digest of genesis comes to the same ring (see Trust.Follow).
type KeyHistory struct {
	Genesis [][]byte
	Changes [][][]byte // of each change its statements, each with one receipt
	Epochs  [][][]byte // of each epoch of the log likewise
}

type keyHistory struct {
	Version uint64     `cbor:"1,keyasint"`
	Genesis [][]byte   `cbor:"2,keyasint"`
	Changes [][][]byte `cbor:"3,keyasint"`
	Epochs  [][][]byte `cbor:"4,keyasint,omitempty"`
}

// Encode returns the history in its one encoding.
func (h KeyHistory) Encode() ([]byte, error) {
	return statement.Marshal(keyHistory{historyVersion, h.Genesis, h.Changes, h.Epochs})
}

// DecodeKeyHistory reads what Encode wrote. It verifies nothing.
func DecodeKeyHistory(data []byte) (*KeyHistory, error) {
	var h keyHistory
	if len(data) > MaxKeyHistory {
		return nil, denial.New(denial.StructureLimit, "a key history has at most %d bytes", MaxKeyHistory)
	}
	if err := statement.Unmarshal(data, &h); err != nil {
		return nil, err
	}
	if h.Version != historyVersion {
		return nil, denial.New(denial.UnsupportedVersion, "key history version %d", h.Version)
	}
	return &KeyHistory{h.Genesis, h.Changes, h.Epochs}, nil
}

// KeyPin is how far somebody has followed the keys of an issuer: the number of a key change, and the SHA-256 of its payload.
type KeyPin struct {
	_      struct{} `cbor:",toarray"`
	Change uint64
	Digest []byte
}

func (p *KeyPin) check() error {
	if p != nil && (p.Change == 0 || len(p.Digest) != 32) {
		return denial.New(denial.PayloadForm, "a place in the chain of key changes is a number above 0 and a SHA-256")
	}
	return nil
}

// Follow returns the trust file with all keys that have followed from those of genesis. It checks, in this order: the
// history decodes (3xx, 911); its genesis is the pinned one (305), signed by its quorum (326), for the issuer and the log of the
// trust file (706); each change is signed by enough authorities (326), was logged with all its statements under one head of a
// log key that the issuer had then, after the one before it (324, 325, 305), and is the next of the chain (see record.KeyRing.Apply), under a head whose key counts after it (208, 802);
// the chain is one with that which the trust file pins or has followed before, and no shorter (325, 508); every key that
// the file names is one of the issuer for that purpose (305); the epochs of the log are as Epochs says, and no fewer or others than were
// followed before (508, 325). A key that counted when the file was written, and that it does not name,
// stays unknown. What is refused leaves t as it was.
func (t *Trust) Follow(history []byte) (*Trust, error) {
	h, err := DecodeKeyHistory(history)
	if err != nil {
		return nil, err
	}
	if t == nil || t.Genesis == (statement.Digest{}) {
		return nil, denial.New(denial.KeyUnknown, "no genesis is pinned")
	}
	g, act, err := record.VerifyGenesis(h.Genesis, t.Genesis)
	if err != nil {
		return nil, err
	}
	if g.Issuer != t.Issuer || g.Log != t.Log {
		return nil, denial.New(denial.IdentityConflict, "genesis is of another issuer or log than those of the trust file")
	}
	f := follower{trust: t, ring: record.NewKeyRing(g, act.Digest())}
	f.stood = []standing{{0, f.ring.Authorities()}}
	dropped := t.drops(f.ring, nil)
	for _, change := range h.Changes {
		if err := f.apply(change); err != nil {
			return nil, err
		}
		dropped = t.drops(f.ring, dropped)
	}
	next, err := t.adopt(f.ring, dropped)
	if err != nil {
		return nil, err
	}
	if next.epochs, err = f.epochs(h.Epochs); err != nil {
		return nil, err
	}
	if err := next.keepsEpochs(t); err != nil {
		return nil, err
	}
	return next, nil
}

// drops returns the keys that counted when the file was written, and that it does not name: whoever wrote it does not trust them.
// Of another ring than that of the time it returns what was known before. A file without any key trusts whatever follows from genesis.
func (t *Trust) drops(ring *record.KeyRing, known map[statement.Thumbprint]bool) map[statement.Thumbprint]bool {
	at := uint64(0)
	if t.KeyPin != nil {
		at = t.KeyPin.Change
	}
	if ring.Sequence() != at || len(t.Keys) == 0 {
		return known
	}
	dropped := map[statement.Thumbprint]bool{}
	for _, k := range pinnable(ring) {
		dropped[k.Key.Thumbprint()] = !slices.ContainsFunc(t.Keys, func(own TrustKey) bool { return own.Key.Thumbprint() == k.Key.Thumbprint() })
	}
	return dropped
}

// adopt returns the trust file with a ring, which must continue what was known before.
func (t *Trust) adopt(ring *record.KeyRing, dropped map[statement.Thumbprint]bool) (*Trust, error) {
	if t.ring != nil {
		if err := ring.Continues(t.ring); err != nil {
			return nil, err
		}
	}
	next := *t
	next.ring, next.dropped = ring, dropped
	if err := next.reaches(t.KeyPin, denial.StateRollback); err != nil {
		return nil, err
	}
	for _, k := range t.Keys {
		if known := ring.Find(k.Key.Thumbprint()); known == nil || known.Purpose != string(k.Purpose) {
			return nil, denial.New(denial.KeyUnknown, "the trust file names a %s key that the issuer never had", k.Purpose)
		}
	}
	return &next, nil
}

// reaches refuses a pin that the keys at hand have not come to, with the reason for that, or that is another chain's (325).
func (t *Trust) reaches(p *KeyPin, short denial.Reason) error {
	if p == nil {
		return nil
	}
	var have statement.Digest
	known := false
	switch {
	case t.ring != nil:
		have, known = t.ring.Change(p.Change)
	case t.KeyPin != nil && p.Change == t.KeyPin.Change:
		have, known = statement.Digest(t.KeyPin.Digest), true
	case t.KeyPin != nil && p.Change < t.KeyPin.Change:
		return nil // the file was written after that change
	}
	switch {
	case !known:
		return denial.New(short, "the issuer's keys have changed %d times, and not all of these changes are at hand", p.Change)
	case string(p.Digest) != string(have[:]):
		return denial.New(denial.LogInconsistent, "another change of keys stands in the place of number %d", p.Change)
	}
	return nil
}

// follower follows one change after the other.
type follower struct {
	trust       *Trust
	ring        *record.KeyRing
	index, time uint64 // of the last statement of the change before
	stood       []standing
}

// standing is who the authorities were behind an entry.
type standing struct {
	entry  uint64
	people *record.Authorities
}

// authoritiesAt returns who the authorities were at an entry of the log, as far as the changes that were followed tell.
func (f *follower) authoritiesAt(index uint64) *record.Authorities {
	for _, s := range slices.Backward(f.stood) {
		if s.entry < index {
			return s.people
		}
	}
	return nil // nothing stands before genesis
}

// apply checks a change and its receipts, and goes on to the ring after it. The head over a change of the log key is signed
// by the new one.
func (f *follower) apply(change [][]byte) error {
	leaves, envelopes, err := decodeAll(change)
	if err != nil {
		return err
	}
	act, err := f.ring.Authorities().Verify(leaves, statement.KeyChange)
	if err != nil {
		return err
	}
	keys, err := f.logKeys(act)
	if err != nil {
		return err
	}
	var head *receipt.Proof
	for _, env := range envelopes {
		if head, err = f.logged(env, keys, head); err != nil {
			return err
		}
	}
	next, err := f.ring.Apply(act, head.Time)
	if err != nil {
		return err
	}
	f.ring, f.stood = next, append(f.stood, standing{f.index, next.Authorities()})
	return next.Find(head.Key).CheckClaimed(head.Time)
}

// logKeys returns the log keys of the ring and those that the change announces.
func (f *follower) logKeys(act *record.Act) (keys statement.Keys, err error) {
	c, err := record.ReadKeyChange(act.Payload())
	if err != nil {
		return keys, err
	}
	all := f.ring.Of(record.PurposeLog)
	for _, b := range c.Births() {
		if b.Purpose == record.PurposeLog && f.ring.Find(b.Key.Thumbprint()) == nil {
			all = append(all, b.Key)
		}
	}
	for _, k := range all {
		if err := keys.Add(k, statement.Receipt); err != nil {
			return keys, err
		}
	}
	return keys, nil
}

// logged verifies the receipt of a statement of a change, which is under the same head as the one before it, if there is one.
func (f *follower) logged(env *statement.Envelope, keys statement.Keys, before *receipt.Proof) (*receipt.Proof, error) {
	receipts, err := env.Receipts()
	if err != nil {
		return nil, err
	}
	if len(receipts) != 1 {
		return nil, denial.New(denial.NoReceipt, "a key change of a history has exactly one receipt for each statement")
	}
	p, err := receipt.Verify(receipts[0], env.Leaf(), keys)
	switch {
	case err != nil:
		return nil, err
	case p.Issuer != f.trust.Issuer || p.Log != f.trust.Log:
		return nil, denial.New(denial.ReceiptInvalid, "the receipt is of another log")
	case before != nil && (p.Size != before.Size || p.Root != before.Root || p.Time != before.Time || p.Key != before.Key):
		return nil, denial.New(denial.ReceiptInvalid, "the statements of a key change are under different heads")
	case p.Index <= f.index || p.Time < f.time:
		return nil, denial.New(denial.LogInconsistent, "a key change stands in the log before the one that it follows")
	}
	f.index, f.time = p.Index, p.Time
	return p, nil
}
