package artifact_test

import (
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// madeLog is a log that a test makes: its entries, and who signs its head as what.
type madeLog struct {
	key         statement.Signer
	issuer, uri string
	time        uint64
	entries     [][]byte
}

// receipt returns the receipt of an entry.
func (l madeLog) receipt(w *issuertest.World, index int) []byte {
	w.Helper()
	head := receipt.Head{Size: uint64(len(l.entries)), Root: rootOf(l.entries), Time: l.time}
	signed := issuertest.Must(receipt.SignHead(w.Ctx, l.key, l.issuer, l.uri, head))(w)
	return issuertest.Must(receipt.Make(signed, head.Size, uint64(index), pathOf(l.entries, index)))(w)
}

// rootOf and pathOf are RFC 9162, sections 2.1.1 and 2.1.3.1.
func rootOf(entries [][]byte) receipt.Hash {
	if len(entries) == 1 {
		return receipt.LeafHash(entries[0])
	}
	k := split(len(entries))
	left, right := rootOf(entries[:k]), rootOf(entries[k:])
	return sha256.Sum256(slices.Concat([]byte{1}, left[:], right[:]))
}

func pathOf(entries [][]byte, index int) []receipt.Hash {
	switch k := split(len(entries)); {
	case len(entries) == 1:
		return nil
	case index < k:
		return append(pathOf(entries[:k], index), rootOf(entries[k:]))
	default:
		return append(pathOf(entries[k:], index-k), rootOf(entries[:k]))
	}
}

// split returns the greatest power of two below n.
func split(n int) int {
	k := 1
	for 2*k < n {
		k *= 2
	}
	return k
}

// change is a key change with the logs that its two statements have receipts of, and their places in those.
type change struct {
	statements record.Bundle
	logs       [2]madeLog
	places     [2]int
	receipts   func(statement int, made [][]byte) [][]byte
}

// newChange returns the change of the steps, logged at entries 1 and 2 now, under the log key in use.
func newChange(w *issuertest.World, steps ...record.KeyStep) *change {
	w.Helper()
	c := &change{statements: w.Sign(statement.KeyChange, w.KeyChange(steps...), issuertest.Alice, issuertest.Bob), places: [2]int{1, 2}}
	for i := range c.logs {
		c.logs[i] = madeLog{w.Keys[record.PurposeLog], issuertest.Issuer, issuertest.Log, w.Seconds(), [][]byte{[]byte("genesis"), c.statements[0], c.statements[1]}}
	}
	return c
}

// encode returns the history of the changes.
func encode(w *issuertest.World, changes ...*change) []byte {
	w.Helper()
	h := artifact.KeyHistory{Genesis: w.Act}
	for _, c := range changes {
		var statements [][]byte
		for i, leaf := range c.statements {
			receipts := [][]byte{c.logs[i].receipt(w, c.places[i])}
			if c.receipts != nil {
				receipts = c.receipts(i, receipts)
			}
			statements = append(statements, issuertest.Must(statement.Attach(leaf, receipts...))(w))
		}
		h.Changes = append(h.Changes, statements)
	}
	return issuertest.Must(h.Encode())(w)
}

// TestP18_KeyChangesAreLoggedAsTheyShould: two statements of a change, good by themselves, and logs that say something else of them.
func TestP18_KeyChangesAreLoggedAsTheyShould(t *testing.T) {
	w := issuertest.New(t)
	trust := w.Trust()
	status := w.Keys[record.PurposeStatus].Key()
	suspend := w.Step(record.PurposeStatus, status, record.KeyActive, record.KeySuspended)
	newLog, turn := w.Replacement(record.PurposeLog, record.KeyRetired)
	newArtifact, announceArtifact := w.Announce(record.PurposeArtifact)
	for name, row := range map[string]struct {
		steps []record.KeyStep // default: suspend
		edit  func(*change)
		code  denial.Reason // 0: it is followed
	}{
		"as it should":               {},
		"another issuer in the head": {edit: func(c *change) { c.logs[0].issuer += "/2"; c.logs[1].issuer += "/2" }, code: denial.ReceiptInvalid},
		"another log in the head":    {edit: func(c *change) { c.logs[0].uri += "/2"; c.logs[1].uri += "/2" }, code: denial.ReceiptInvalid},
		"heads of two sizes":         {edit: func(c *change) { c.logs[1].entries = append(c.logs[1].entries, []byte("more")) }, code: denial.ReceiptInvalid},
		"heads of two trees": {edit: func(c *change) { c.logs[1].entries = [][]byte{[]byte("other"), c.statements[0], c.statements[1]} },
			code: denial.ReceiptInvalid},
		"heads of two times":             {edit: func(c *change) { c.logs[1].time++ }, code: denial.ReceiptInvalid},
		"heads by two keys":              {steps: turn, edit: func(c *change) { c.logs[1].key = newLog }, code: denial.ReceiptInvalid},
		"heads by the new key":           {steps: turn, edit: func(c *change) { c.logs[0].key, c.logs[1].key = newLog, newLog }},
		"heads by the key before":        {steps: turn},
		"heads by a key that waits":      {steps: turn[:1], edit: func(c *change) { c.logs[0].key, c.logs[1].key = newLog, newLog }, code: denial.KeyOutsideValidity},
		"heads by a key of another kind": {steps: []record.KeyStep{announceArtifact}, edit: func(c *change) { c.logs[0].key, c.logs[1].key = newArtifact, newArtifact }, code: denial.KeyUnknown},
		"an entry before genesis": {edit: func(c *change) {
			for i := range c.logs {
				c.logs[i].entries, c.places[i] = c.logs[i].entries[1:], i
			}
		}, code: denial.LogInconsistent},
		"entries in another order": {edit: func(c *change) {
			for i := range c.logs {
				c.logs[i].entries, c.places[i] = [][]byte{[]byte("genesis"), c.statements[1], c.statements[0]}, 2-i
			}
		}, code: denial.LogInconsistent},
		"a receipt header without receipts": {edit: func(c *change) { c.receipts = func(int, [][]byte) [][]byte { return nil } }, code: denial.ReceiptInvalid},
		"two receipts":                      {edit: func(c *change) { c.receipts = func(_ int, r [][]byte) [][]byte { return append(r, r[0]) } }, code: denial.NoReceipt},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.For(t)
			steps := row.steps
			if steps == nil {
				steps = []record.KeyStep{suspend}
			}
			c := newChange(w, steps...)
			if row.edit != nil {
				row.edit(c)
			}
			got, err := trust.Follow(encode(w, c))
			switch {
			case row.code != 0:
				if !denial.Is(err, row.code) || got != nil {
					t.Errorf("got %v, want %s", err, row.code)
				}
			case err != nil:
				t.Errorf("got %v, want it followed", err)
			default:
				if again, err := got.Follow(encode(w, c)); err != nil || again == nil || again.KeyRing().Sequence() != 1 {
					t.Errorf("followed twice: %v", err)
				}
			}
		})
	}
}

// A change was logged after the one that it follows, by the log's own clock.
func TestP18_KeyChangesFollowInTime(t *testing.T) {
	w := issuertest.New(t)
	status := w.Keys[record.PurposeStatus].Key()
	first := newChange(w, w.Step(record.PurposeStatus, status, record.KeyActive, record.KeySuspended))
	digest := statement.DigestOf(issuertest.Must(statement.Decode(first.statements[0], statement.MaxStatement))(t).Payload())
	next := w.KeyChange(w.Step(record.PurposeStatus, status, record.KeySuspended, record.KeyActive))
	next.Sequence, next.Previous = 2, digest[:]
	claims := w.ActClaims(issuertest.Issuer, statement.KeyChange, next)
	claims.Sequence = 2
	second := &change{statements: w.SignWith(claims, statement.KeyChange, next, issuertest.Alice, issuertest.Bob), logs: first.logs, places: [2]int{3, 4}}
	entries := append(slices.Clone(first.logs[0].entries), second.statements...)
	for at, want := range map[uint64]denial.Reason{w.Seconds() - 1: denial.LogInconsistent, w.Seconds(): 0, w.Seconds() + 1: 0} {
		for i := range second.logs {
			second.logs[i].time, second.logs[i].entries = at, entries
		}
		got, err := w.Trust().Follow(encode(w, first, second))
		if want == 0 && (err != nil || got.KeyRing().Sequence() != 2) || want != 0 && !denial.Is(err, want) {
			t.Errorf("logged %d s after the first: got %v, want %s", int64(at-w.Seconds()), err, want)
		}
	}
}

func TestWhatIsNoKeyHistoryIsNotFollowed(t *testing.T) {
	w := issuertest.New(t)
	for name, row := range map[string]struct {
		raw  []byte
		code denial.Reason
	}{
		"nothing":          {nil, denial.NotCanonical},
		"an array":         {[]byte{0x80}, denial.PayloadForm},
		"an empty map":     {[]byte{0xa0}, denial.ClaimAbsent},
		"a byte behind it": {append(w.History(), 0), denial.TrailingData},
		"the longest":      {make([]byte, artifact.MaxKeyHistory), denial.TrailingData},
		"a longer one":     {make([]byte, artifact.MaxKeyHistory+1), denial.StructureLimit},
	} {
		got, err := w.Trust().Follow(row.raw)
		if !denial.Is(err, row.code) || got != nil {
			t.Errorf("%s: got %v, want %s", name, err, row.code)
		}
	}
}

// A trust file with one key leaves all others of its time out, and its own bounds hold whatever was followed.
func TestATrustFileNarrowsWhatIsFollowed(t *testing.T) {
	w := &turned{World: issuertest.New(t)}
	w.before = w.Trust()
	logKey, artifactKey := w.Keys[record.PurposeLog].Key().Thumbprint(), w.Keys[record.PurposeArtifact].Key().Thumbprint()
	one := w.copyOf(w.before)
	one.Keys = slices.DeleteFunc(one.Keys, func(k artifact.TrustKey) bool { return k.Purpose != artifact.PurposeLog })
	if len(one.Keys) != 1 {
		t.Fatalf("%d log keys", len(one.Keys))
	}
	one.Keys[0].NotAfter = w.Now()
	followed := w.follow(one)
	refused(t, followed.CheckKey(artifactKey, w.Seconds()), denial.KeyUnknown)
	refused(t, followed.CheckClaimed(logKey, w.Seconds()), denial.KeyOutsideValidity)
	refused(t, followed.CheckThen(logKey, w.Seconds()), denial.KeyOutsideValidity)
	if err := followed.CheckClaimed(logKey, w.Seconds()-1); err != nil {
		t.Errorf("within its time: %v", err)
	}
}

// P19: a key that fell before it was in use, or at that moment, never counted, and is not pinned; one of genesis has no beginning.
func TestP19_KeysThatNeverCountedAreNotPinned(t *testing.T) {
	for name, ago := range map[string]uint64{"when it was put in use": 0, "before": 1} {
		w := issuertest.New(t)
		genesis := w.Rotate(record.PurposeArtifact)
		trust := w.Trust()
		if trust.KeyPin == nil || trust.KeyPin.Change != 1 {
			t.Fatalf("after one change: pin %+v", trust.KeyPin)
		}
		_, steps := w.Replacement(record.PurposeArtifact, record.KeyCompromised)
		steps[1].Since -= ago
		fallen := w.Keys[record.PurposeArtifact].Key().Thumbprint()
		w.Change(steps...)
		trust.PinKeys(w.Ring())
		for _, k := range trust.Keys {
			switch k.Key.Thumbprint() {
			case fallen:
				t.Errorf("fell %s: pinned from %v to %v", name, k.NotBefore, k.NotAfter)
			case genesis.Key().Thumbprint():
				if !k.NotBefore.IsZero() || k.NotAfter != w.Now().Truncate(time.Second).Add(time.Second) {
					t.Errorf("the key of genesis is pinned from %v to %v", k.NotBefore, k.NotAfter)
				}
			}
		}
	}
}
