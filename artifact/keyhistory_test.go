package artifact_test

import (
	"slices"
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// turned is an issuer whose keys have each been replaced once, with a trust file of before.
type turned struct {
	*issuertest.World
	before *artifact.Trust
	old    map[string]*issuertest.Key
}

func newTurned(t *testing.T) *turned {
	t.Helper()
	w := &turned{World: issuertest.New(t), old: map[string]*issuertest.Key{}}
	w.before = w.Trust()
	for _, p := range record.Purposes() {
		w.old[p] = w.Rotate(p)
	}
	return w
}

func (w *turned) follow(t *artifact.Trust) *artifact.Trust {
	w.Helper()
	return issuertest.Must(t.Follow(w.History()))(w)
}

func (w *turned) copyOf(t *artifact.Trust) *artifact.Trust {
	c := *t
	c.Keys = slices.Clone(t.Keys)
	return &c
}

func refused(t *testing.T, err error, want denial.Reason) {
	t.Helper()
	if !denial.Is(err, want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func seconds(k artifact.TrustKey) (from, to uint64) {
	if !k.NotBefore.IsZero() {
		from = uint64(k.NotBefore.Unix())
	}
	if !k.NotAfter.IsZero() {
		to = uint64(k.NotAfter.Unix())
	}
	return from, to
}

// TestP18_ATrustFileFollowsTheKeys: one of before the changes comes to the keys of today, each for its time, and one that was
// written today says the same by itself.
func TestP18_ATrustFileFollowsTheKeys(t *testing.T) {
	w := newTurned(t)
	today := w.copyOf(w.before)
	today.PinKeys(w.Ring())
	if today.KeyPin == nil || today.KeyPin.Change != 4 || len(today.Keys) != 8 {
		t.Fatalf("got %d keys and pin %+v, want 8 keys after change 4", len(today.Keys), today.KeyPin)
	}
	written := issuertest.Must(artifact.ParseTrust(issuertest.Must(today.Marshal())(t)))(t)
	trusts := map[string]*artifact.Trust{"followed": w.follow(w.before), "written today": written, "written and followed": w.follow(written)}
	for name, trust := range trusts {
		keys := issuertest.Must(trust.StatementKeys())(t)
		for _, p := range record.Purposes() {
			i := slices.IndexFunc(today.Keys, func(k artifact.TrustKey) bool { return k.Key.Thumbprint() == w.old[p].Key().Thumbprint() })
			_, until := seconds(today.Keys[i])
			if until == 0 {
				t.Fatalf("%s: the %s key of before has no end", name, p)
			}
			for _, k := range []*issuertest.Key{w.old[p], w.Keys[p]} {
				if !keys.Has(k.Key().Thumbprint(), artifact.Purpose(p).Kinds()[0]) {
					t.Errorf("%s: a %s key is missing", name, p)
				}
			}
			if err := trust.CheckKey(w.old[p].Key().Thumbprint(), until-1); err != nil {
				t.Errorf("%s: the %s key of before, then: %v", name, p, err)
			}
			refused(t, trust.CheckKey(w.old[p].Key().Thumbprint(), until-1, until), denial.KeyOutsideValidity)
			refused(t, trust.CheckKey(w.Keys[p].Key().Thumbprint(), until-3600), denial.KeyOutsideValidity)
			if err := trust.CheckThen(w.Keys[p].Key().Thumbprint(), w.Seconds()); err != nil {
				t.Errorf("%s: the %s key of today: %v", name, p, err)
			}
		}
		if n := len(trust.NoteKeys(w.Seconds() + 10)); n != 1 {
			t.Errorf("%s: %d keys sign checkpoints today, want 1", name, n)
		}
		if n := len(trust.NoteKeys(0)); n != 2 {
			t.Errorf("%s: %d keys have signed checkpoints, want 2", name, n)
		}
	}
	if trusts["written today"].KeyRing() != nil || trusts["followed"].KeyRing().Sequence() != 4 || (*artifact.Trust)(nil).KeyRing() != nil {
		t.Error("what was followed, and what was not, is not told apart")
	}
}

// A key that counted when the file was written, and that it leaves out, stays unknown; one that was announced later does not.
func TestATrustFileLeavesKeysOut(t *testing.T) {
	w := newTurned(t)
	without := func(base *artifact.Trust, key *issuertest.Key) *artifact.Trust {
		c := w.copyOf(base)
		c.Keys = slices.DeleteFunc(c.Keys, func(k artifact.TrustKey) bool { return k.Key.Thumbprint() == key.Key().Thumbprint() })
		return w.follow(c)
	}
	today := w.copyOf(w.before)
	today.PinKeys(w.Ring())
	p := record.PurposeArtifact
	for name, row := range map[string]struct {
		trust    *artifact.Trust
		out, not *issuertest.Key
	}{
		"of genesis, in a file of before": {without(w.before, w.old[p]), w.old[p], w.Keys[p]},
		"of today":                        {without(today, w.Keys[p]), w.Keys[p], w.old[p]},
		"of before, in a file of today":   {without(today, w.old[p]), w.old[p], w.Keys[p]},
	} {
		keys := issuertest.Must(row.trust.StatementKeys())(t)
		if keys.Has(row.out.Key().Thumbprint(), statement.Artifact) {
			t.Errorf("%s: the key is known", name)
		}
		if !keys.Has(row.not.Key().Thumbprint(), statement.Artifact) {
			t.Errorf("%s: the other one is not", name)
		}
		refused(t, row.trust.CheckKey(row.out.Key().Thumbprint(), w.Seconds()), denial.KeyUnknown)
		refused(t, row.trust.CheckClaimed(row.out.Key().Thumbprint(), w.Seconds()), denial.KeyUnknown)
	}
	bare := w.copyOf(w.before)
	bare.Keys = nil
	if err := w.follow(bare).CheckKey(w.Keys[p].Key().Thumbprint(), w.Seconds()); err != nil {
		t.Errorf("a file with no key at all, which trusts genesis: %v", err)
	}
}

// P19: what PinKeys writes of keys that are suspended or fell.
func TestP19_WhatFellIsNotPinned(t *testing.T) {
	w := &turned{World: issuertest.New(t)}
	w.before = w.Trust()
	fell := map[string]*issuertest.Key{}
	for _, p := range record.Purposes() {
		fell[p] = w.Compromise(p)
	}
	_, steps := w.Replacement(record.PurposeRecord, record.KeySuspended)
	w.Change(steps...)
	today := w.copyOf(w.before)
	today.PinKeys(w.Ring())
	pinned := func(k *issuertest.Key) bool {
		return slices.ContainsFunc(today.Keys, func(own artifact.TrustKey) bool { return own.Key.Thumbprint() == k.Key().Thumbprint() })
	}
	for p, want := range map[string]bool{record.PurposeArtifact: true, record.PurposeRecord: true, record.PurposeLog: false, record.PurposeStatus: false} {
		if pinned(fell[p]) != want {
			t.Errorf("the %s key that fell: pinned %v, want %v", p, !want, want)
		}
		if suspended := p == record.PurposeRecord; pinned(w.Keys[p]) == suspended {
			t.Errorf("the %s key of today: pinned %v", p, suspended)
		}
	}
	followed := w.follow(w.before)
	refused(t, followed.CheckKey(fell[record.PurposeArtifact].Key().Thumbprint(), w.Seconds()), denial.KeyRevoked)
	refused(t, followed.CheckClaimed(fell[record.PurposeLog].Key().Thumbprint(), w.Seconds()-1), denial.KeyRevoked)
	refused(t, followed.CheckKey(w.Keys[record.PurposeRecord].Key().Thumbprint(), w.Seconds()), denial.KeyRevoked)
}

// TestKeyHistoriesAreRefused breaks one thing of a history, or of the trust file that follows it, at a time.
func TestKeyHistoriesAreRefused(t *testing.T) {
	w := newTurned(t)
	raw := w.History()
	stranger := issuertest.New(t)
	for name, row := range map[string]struct {
		trust   func(*artifact.Trust)
		history func(*artifact.KeyHistory)
		want    denial.Reason
	}{
		"no genesis pinned":            {trust: func(t *artifact.Trust) { t.Genesis = statement.Digest{} }, want: denial.KeyUnknown},
		"another genesis pinned":       {trust: func(t *artifact.Trust) { t.Genesis[0] ^= 1 }, want: denial.KeyUnknown},
		"another issuer":               {trust: func(t *artifact.Trust) { t.Issuer += "/2" }, want: denial.IdentityConflict},
		"another log":                  {trust: func(t *artifact.Trust) { t.Log += "/2" }, want: denial.IdentityConflict},
		"genesis of one person":        {history: func(h *artifact.KeyHistory) { h.Genesis = h.Genesis[:1] }, want: denial.ThresholdNotMet},
		"a change of one person":       {history: func(h *artifact.KeyHistory) { h.Changes[0] = h.Changes[0][:1] }, want: denial.ThresholdNotMet},
		"a change that is no envelope": {history: func(h *artifact.KeyHistory) { h.Changes[1][0] = []byte{0xd2} }, want: denial.WrongType},
		"a change left out":            {history: func(h *artifact.KeyHistory) { h.Changes = slices.Delete(h.Changes, 1, 2) }, want: denial.StateRollback},
		"changes in another order":     {history: func(h *artifact.KeyHistory) { h.Changes[0], h.Changes[1] = h.Changes[1], h.Changes[0] }, want: denial.StateRollback},
		"a change twice":               {history: func(h *artifact.KeyHistory) { h.Changes = append(h.Changes, h.Changes[3]) }, want: denial.LogInconsistent},
		"no receipt": {history: func(h *artifact.KeyHistory) {
			h.Changes[0][0] = issuertest.Must(statement.Decode(h.Changes[0][0], 1<<16))(t).Leaf()
		}, want: denial.NoReceipt},
		"the receipt of another statement": {history: func(h *artifact.KeyHistory) {
			env := issuertest.Must(statement.Decode(h.Changes[0][1], 1<<17))(t)
			other := issuertest.Must(issuertest.Must(statement.Decode(h.Changes[0][0], 1<<17))(t).Receipts())(t)
			h.Changes[0][1] = issuertest.Must(statement.Attach(env.Leaf(), other[0]))(t)
		}, want: denial.ReceiptInvalid},
		"a key that the issuer never had": {trust: func(tr *artifact.Trust) { tr.Keys[0].Key = stranger.Keys[record.PurposeLog].Key() }, want: denial.KeyUnknown},
		"a key for another purpose":       {trust: func(tr *artifact.Trust) { tr.Keys[0].Purpose = artifact.PurposeStatus }, want: denial.KeyUnknown},
		"fewer changes than pinned": {trust: func(tr *artifact.Trust) { tr.PinKeys(w.Ring()) },
			history: func(h *artifact.KeyHistory) { h.Changes = h.Changes[:3] }, want: denial.StateRollback},
		"another change than pinned": {trust: func(tr *artifact.Trust) { tr.PinKeys(w.Ring()); tr.KeyPin.Digest[0] ^= 1 }, want: denial.LogInconsistent},
	} {
		t.Run(name, func(t *testing.T) {
			trust, history := w.copyOf(w.before), issuertest.Must(artifact.DecodeKeyHistory(raw))(t)
			if row.trust != nil {
				row.trust(trust)
			}
			if row.history != nil {
				row.history(history)
			}
			followed, err := trust.Follow(issuertest.Must(history.Encode())(t))
			refused(t, err, row.want)
			if followed != nil || trust.KeyRing() != nil {
				t.Error("something was followed")
			}
		})
	}
	followed := w.follow(w.before)
	short := issuertest.Must(artifact.DecodeKeyHistory(raw))(t)
	short.Changes = short.Changes[:2]
	_, err := followed.Follow(issuertest.Must(short.Encode())(t))
	refused(t, err, denial.StateRollback)
	for name, bytes := range map[string][]byte{"nothing": nil, "not a history": {0xa0}, "with more behind it": append(slices.Clone(raw), 0)} {
		if h, err := artifact.DecodeKeyHistory(bytes); err == nil || h != nil {
			t.Errorf("%s was read", name)
		}
	}
	_, err = artifact.DecodeKeyHistory(make([]byte, artifact.MaxKeyHistory+1))
	refused(t, err, denial.StructureLimit)
	later := issuertest.Must(statement.Marshal(map[uint64]any{1: uint64(2), 2: [][]byte{}, 3: [][][]byte{}}))(t)
	_, err = artifact.DecodeKeyHistory(later)
	refused(t, err, denial.UnsupportedVersion)
	if _, err = (*artifact.Trust)(nil).Follow(raw); !denial.Is(err, denial.KeyUnknown) {
		t.Errorf("no trust file at all: %v", err)
	}
}
