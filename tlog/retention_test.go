package tlog

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
)

func (s *site) has(blob string) bool {
	s.t.Helper()
	data, ok, err := s.log.Blob(s.t.Context(), statement.DigestOf([]byte(blob)))
	if err != nil || ok && string(data) != blob {
		s.t.Fatalf("%q: got %q, %v", blob, data, err)
	}
	return ok
}

// TestT26_DeletedPayloadsLeaveEveryProof deletes what old entries brought. Receipts that were given away, entries, tiles,
// heads and Scrub know no difference; what a younger entry brought again, and what is never deleted, is still there.
func TestT26_DeletedPayloadsLeaveEveryProof(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.append(leaf("genesis"))
	old := s.append(Entry{Leaf: []byte("old"), Blobs: [][]byte{[]byte("personal data of the old entry"), []byte("shared")}, Keeps: [][]byte{[]byte("enrolment")}})[0]
	s.appendN(300)
	s.append(Entry{Leaf: []byte("young"), Blobs: [][]byte{[]byte("of the young"), []byte("shared"), []byte("enrolment")}})
	before := s.verifiedCheckpoint()
	young := s.log.Head().Size - 1
	s.append(Entry{Leaf: []byte("deleted"), Purge: young})
	for blob, want := range map[string]bool{"personal data of the old entry": false, "shared": true, "of the young": true, "enrolment": true} {
		if got := s.has(blob); got != want {
			t.Errorf("%s: got %v, want %v", blob, got, want)
		}
	}
	s.verify(old, []byte("old"))
	s.check() // Scrub, and every receipt and consistency proof
	path, err := s.log.ConsistencyPath(t.Context(), before.Size, s.log.Head().Size)
	if err != nil {
		t.Fatal(err)
	}
	after := s.verifiedCheckpoint()
	if err := after.Follows(before, path); err != nil {
		t.Error(err)
	}
	if _, err := receipt.VerifyTiles(after, func(tile receipt.Tile) ([]byte, error) { return s.log.Tile(t.Context(), tile) }); err != nil {
		t.Error(err)
	}
	s.append(Entry{Leaf: []byte("all"), Purge: s.log.Head().Size})
	if s.has("of the young") || s.has("shared") || !s.has("enrolment") {
		t.Error("not exactly what may be deleted is gone")
	}
	s.close() // copies the write-ahead log back
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(s.path + suffix)
		if err == nil && bytes.Contains(data, []byte("personal data")) {
			t.Errorf("what was deleted can still be read in the file %q", suffix)
		}
	}
	s.open()
	s.check()
}

func TestAnEntryThatIsRefusedDeletesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.append(Entry{Leaf: []byte("a"), Blobs: [][]byte{[]byte("x")}})
	s.appendN(2)
	s.refused(denial.PolicyRollback, Entry{Leaf: []byte("b"), Purge: 2},
		Entry{Leaf: []byte("c"), Guards: []Guard{{Counter: "hold", Value: 1, Reason: denial.PolicyRollback}}})
	if !s.has("x") {
		t.Error("the payload is gone")
	}
}

func TestSizeAtIsOfTheTimeBefore(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	start := uint64(s.clock.seconds.Load())
	for range 3 {
		s.appendN(2)
		s.clock.seconds.Add(10)
	}
	for at, want := range map[uint64]uint64{start: 0, start + 1: 2, start + 10: 2, start + 11: 4, start + 1000: 6} {
		if got, err := s.log.SizeAt(t.Context(), at); err != nil || got != want {
			t.Errorf("at %d: got %d, %v, want %d", at-start, got, err, want)
		}
	}
}

// asVersion makes of a closed log one as earlier versions wrote it.
func (s *site) asVersion(version int) {
	s.t.Helper()
	script := "ALTER TABLE leaves DROP COLUMN names; INSERT INTO blobs SELECT digest, data, key >> 16 FROM payloads; DROP TABLE payloads;"
	switch version {
	case 1:
		script += "ALTER TABLE blobs DROP COLUMN idx;"
		fallthrough
	case 2:
		script += "DROP TABLE digests; CREATE INDEX leaves_digest ON leaves (digest);"
	}
	s.tamper(script + fmt.Sprintf("PRAGMA user_version = %d", version))
}

// A log of the first version opens, and what it held is never deleted, because nobody knows which entry brought it.
func TestR18_ALogOfTheFirstVersionIsTakenOver(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.append(Entry{Leaf: []byte("a"), Blobs: [][]byte{[]byte("x")}})
	s.appendN(3)
	s.close()
	s.asVersion(1)
	s.open()
	s.append(Entry{Leaf: []byte("b"), Purge: 4})
	if !s.has("x") {
		t.Error("the payload is gone")
	}
	s.check()
}

// The index of a log of version 2 or 3 is made anew. Before that, who only reads it is told that it is of another version. What
// its entries brought is found, and deleted in its turn.
func TestALogOfAnEarlierVersionGetsItsIndex(t *testing.T) {
	t.Parallel()
	for _, version := range []int{2, 3} {
		for _, n := range []int{0, 1, groupSize, 7*groupSize + 5} {
			s := newSite(t)
			if n > 0 {
				entries := numbered(0, n)
				entries[0].Blobs = [][]byte{[]byte("of version 3")}
				s.append(entries...)
			}
			s.close()
			s.asVersion(version)
			_, err := OpenReadOnly(t.Context(), s.path)
			wantReason(t, err, denial.UnsupportedVersion)
			s.open()
			s.wantFound(n)
			s.append(numbered(n, groupSize)...)
			s.wantFound(n + groupSize)
			if got := s.has("of version 3"); got != (n > 0) {
				t.Errorf("version %d, %d entries: the blob is there: %v", version, n, got)
			}
			s.append(Entry{Leaf: []byte("deleted"), Purge: uint64(n + 1)})
			if s.has("of version 3") {
				t.Errorf("version %d, %d entries: the blob has not been deleted", version, n)
			}
			s.check()
			s.close()
		}
	}
}

// What is missing is found out before anything is changed.
func TestALogOfVersionTwoThatIsDamagedStaysAsItIs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.append(numbered(0, groupSize)...)
	s.close()
	s.asVersion(2)
	s.tamper("DELETE FROM leaves WHERE idx = 7")
	_, err := Open(t.Context(), s.options())
	wantReason(t, err, denial.StoreFault)
	s.tamper("SELECT digest FROM leaves INDEXED BY leaves_digest WHERE digest = x''; PRAGMA user_version = 2")
}

// Who reads a log before it can open it, as writd does for the log key, can have it brought to this version first.
func TestALogOfAnEarlierVersionIsMigratedForWhoReadsIt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.appendN(3)
	s.close()
	s.asVersion(2)
	_, err := OpenReadOnly(t.Context(), s.path)
	wantReason(t, err, denial.UnsupportedVersion)
	if strings.Contains(err.Error(), "%!") {
		t.Errorf("got %v", err)
	}
	if err := Migrate(s.path); err != nil {
		t.Fatal(err)
	}
	view, err := OpenReadOnly(t.Context(), s.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := view.Close(); err != nil {
		t.Error(err)
	}
	s.open()
	s.check()
	if err := Migrate(s.path); !denial.Is(err, denial.StoreFault) {
		t.Errorf("got %v of a log that is open, want %d", err, denial.StoreFault.Code())
	}
}
