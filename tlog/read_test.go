package tlog

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/need"
)

func TestRowsAreWrittenAndDeleted(t *testing.T) {
	s := newSite(t)
	ctx := context.Background()
	s.append(Entry{Leaf: []byte("a"), Puts: []Put{
		{"hosts", []byte("one"), []byte("1")}, {"hosts", []byte("two"), []byte{}}, {"hosts", nil, []byte("empty key")},
		{"hosts", []byte{0xff}, []byte("f")}, {"hosts", []byte{0xff, 0xff}, []byte("ff")}, {"other", []byte("one"), []byte("x")}}})
	s.append(Entry{Leaf: []byte("b"), Puts: []Put{
		{"hosts", []byte("one"), []byte("2")}, {"hosts", []byte("gone"), []byte("x")}, {"hosts", []byte("gone"), nil}}})
	for key, want := range map[string]string{"one": "2", "two": "", "": "empty key"} {
		value, ok, err := s.log.Value(ctx, "hosts", []byte(key))
		if err != nil || !ok || string(value) != want {
			t.Errorf("row %q: got %q, %v, %v, want %q", key, value, ok, err, want)
		}
	}
	if _, ok, err := s.log.Value(ctx, "hosts", []byte("gone")); err != nil || ok {
		t.Errorf("deleted row: got %v, %v, want none", ok, err)
	}
	for prefix, want := range map[string]string{"": " one two \xff \xff\xff", "o": "one", "\xff": "\xff \xff\xff", "\xff\xff": "\xff\xff", "x": ""} {
		var keys []string
		if err := s.log.Each(ctx, "hosts", []byte(prefix), func(key, value []byte) error {
			keys = append(keys, string(key))
			return nil
		}); err != nil || strings.Join(keys, " ") != want {
			t.Errorf("prefix %q: got %q, %v, want %q", prefix, keys, err, want)
		}
	}
	stop := errors.New("enough")
	if err := s.log.Each(ctx, "hosts", nil, func(_, _ []byte) error { return stop }); err != stop {
		t.Errorf("got %v, want the error of the callback", err)
	}
	s.check()
}

func TestBlobsAreStoredByDigest(t *testing.T) {
	s := newSite(t)
	big := bytes.Repeat([]byte("evidence"), 1<<17)
	s.append(Entry{Leaf: []byte("a"), Blobs: [][]byte{big, nil}})
	s.append(Entry{Leaf: []byte("b"), Blobs: [][]byte{big}})
	for _, want := range [][]byte{big, {}} {
		data, ok, err := s.log.Blob(context.Background(), statement.DigestOf(want))
		if err != nil || !ok || !bytes.Equal(data, want) {
			t.Errorf("blob of %d bytes: got %d bytes, %v, %v", len(want), len(data), ok, err)
		}
	}
	s.check()
}

func TestReadsOfWhatIsNotThere(t *testing.T) {
	s := newSite(t)
	ctx := context.Background()
	if h := s.log.Head(); h.Size != 0 || h.Signed != nil {
		t.Errorf("head of an empty log: %+v", h)
	}
	s.appendN(4)
	for name, read := range map[string]func() error{
		"leaf":                      func() error { _, err := s.log.Leaf(ctx, 4); return err },
		"leaves":                    func() error { return s.log.Leaves(ctx, 2, 5, func(uint64, []byte) error { return nil }) },
		"receipt":                   func() error { _, err := s.log.Receipt(ctx, 4); return err },
		"path beyond the tree":      func() error { _, err := s.log.Path(ctx, 3, 5); return err },
		"path of a later entry":     func() error { _, err := s.log.Path(ctx, 3, 3); return err },
		"consistency beyond":        func() error { _, err := s.log.Consistency(ctx, 2, 5); return err },
		"consistency from nothing":  func() error { _, err := s.log.Consistency(ctx, 0, 4); return err },
		"consistency to the past":   func() error { _, err := s.log.Consistency(ctx, 4, 2); return err },
		"consistency path backward": func() error { _, err := s.log.ConsistencyPath(ctx, 4, 2); return err },
		"head":                      func() error { _, err := s.log.HeadOver(ctx, 5); return err },
	} {
		if err := read(); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", name, err)
		}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.log.Leaf(gone, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
}

// The same entry may stand in the log twice; its digest finds the first.
func TestFindGivesTheFirst(t *testing.T) {
	s := newSite(t)
	s.append(leaf("a"), leaf("b"), leaf("b"))
	index, ok, err := s.log.Find(context.Background(), statement.DigestOf([]byte("b")))
	if err != nil || !ok || index != 1 {
		t.Errorf("got %d, %v, %v, want 1", index, ok, err)
	}
	s.check()
}

func TestViewIsOneState(t *testing.T) {
	s := newSite(t)
	ctx := context.Background()
	put := func(v string) Entry {
		return Entry{Leaf: []byte(v), Puts: []Put{{"b", []byte("k"), []byte(v)}}, Bumps: []string{"n"}}
	}
	s.append(put("one"), put("two"))
	if err := s.log.View(ctx, func(r Reader) error {
		s.append(put("three"))
		value, _, err := r.Value(ctx, "b", []byte("k"))
		n, err2 := r.Counter(ctx, "n")
		_, err3 := r.Leaf(ctx, 2)
		if err != nil || err2 != nil || string(value) != "two" || n != 2 || r.Head().Size != 2 || !errors.Is(err3, ErrNotFound) {
			t.Errorf("got %q, %d, head %d, %v, %v, %v", value, n, r.Head().Size, err, err2, err3)
		}
		for i := range r.Head().Size {
			raw, err := r.Receipt(ctx, i)
			if err != nil {
				return err
			}
			if _, err := receipt.Verify(raw, []byte([]string{"one", "two"}[i]), s.keys()); err != nil {
				t.Error(err)
			}
		}
		// A callback may read on in the same state.
		return r.Each(ctx, "b", nil, func(key, _ []byte) error {
			_, ok, err := r.Value(ctx, "b", key)
			if !ok {
				t.Error("the row is gone")
			}
			return err
		})
	}); err != nil {
		t.Fatal(err)
	}
	if n, err := s.log.Counter(ctx, "n"); err != nil || n != 3 {
		t.Errorf("counter: got %d, %v, want 3", n, err)
	}
	s.check()
}

func TestReadOnlyReadsBesideTheWriter(t *testing.T) {
	s := newSite(t)
	ctx := context.Background()
	row := func(v string) Entry { return Entry{Leaf: []byte(v), Puts: []Put{{"b", []byte("k"), []byte(v)}}} }
	read := func(want string) {
		t.Helper()
		r, err := OpenReadOnly(ctx, s.path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if value, ok, err := r.Value(ctx, "b", []byte("k")); err != nil || !ok || string(value) != want {
			t.Errorf("got %q, %v, %v, want %q", value, ok, err, want)
		}
		if _, err := r.db.Exec("DELETE FROM leaves"); err == nil {
			t.Error("a read-only log was written")
		}
		raw, err := r.Receipt(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := receipt.Verify(raw, []byte("two"), s.keys()); err != nil {
			t.Error(err)
		}
	}
	s.append(row("one"), row("two"))
	s.append(row("three"))
	read("three")
	s.append(row("four"))
	read("four")
	s.close()
	read("four")
	s.open()
	s.check()
	_, err := OpenReadOnly(ctx, s.path+"absent")
	wantReason(t, err, denial.StoreFault)
	if _, err := os.Stat(s.path + "absent"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("opening created a file (%v)", err)
	}
}

// TestTesseraLog rebuilds a log of another implementation and compares the root at each size with its checkpoints.
func TestTesseraLog(t *testing.T) {
	dir := need.Corpus(t)
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, "receipts", "tessera-log", name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	s := newSite(t)
	bundle := read("tile__entries__000.p__15")
	for n := 1; len(bundle) > 0; n++ {
		end := 2 + int(bundle[0])<<8 + int(bundle[1])
		s.append(Entry{Leaf: bundle[2:end]})
		bundle = bundle[end:]
		lines := strings.Split(string(read(fmt.Sprintf("checkpoint.%d", n))), "\n")
		want, err := base64.StdEncoding.DecodeString(lines[2])
		if err != nil || lines[1] != fmt.Sprint(n) {
			t.Fatalf("checkpoint %d: %v, %v", n, lines, err)
		}
		if got := s.log.Head().Root; !bytes.Equal(got[:], want) {
			t.Errorf("root of %d entries: got %x, want %x", n, got, want)
		}
	}
	if got := s.log.Head().Size; got != 15 {
		t.Errorf("got %d entries, want 15", got)
	}
	s.check()
}

func TestLastKey(t *testing.T) {
	s, ctx := newSite(t), context.Background()
	for _, want := range []string{"", "b", "b", "c"} {
		if want != "" {
			s.append(Entry{Leaf: []byte("entry " + want + fmt.Sprint(s.log.Head().Size)), Puts: []Put{{"bucket", []byte(want), []byte{1}}, {"other", []byte("z"), []byte{1}}}})
		}
		key, found, err := s.log.LastKey(ctx, "bucket")
		if err != nil || found != (want != "") || string(key) != want {
			t.Errorf("got %q, %v, %v, want %q", key, found, err, want)
		}
	}
}
