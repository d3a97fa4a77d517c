package tlog

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
)

// content returns everything that the log proves with: entries, nodes, heads and blobs. What an entry consumed and rows of state
// are not in it: they are projections, of which a scrub sees the structure only.
func (s *site) content() []byte {
	s.t.Helper()
	var b bytes.Buffer
	err := s.log.View(context.Background(), func(r Reader) error {
		for query, n := range map[string]int{"SELECT idx, hash, digest, entry FROM leaves ORDER BY idx": 4, "SELECT level, idx, hash FROM nodes ORDER BY level, idx": 3,
			"SELECT size, root, time, signed FROM heads ORDER BY size": 4, "SELECT digest, data FROM payloads ORDER BY key": 2, "SELECT digest, data FROM blobs ORDER BY digest": 2} {
			var rows bytes.Buffer
			if err := r.each(context.Background(), func(scan func(...any) error) error {
				cells := make([]any, n)
				for i := range cells {
					cells[i] = new([]byte)
				}
				err := scan(cells...)
				for _, c := range cells {
					fmt.Fprintf(&rows, "%x ", *c.(*[]byte))
				}
				return err
			}, query); err != nil {
				return err
			}
			fmt.Fprintf(&b, "%d %x\n", len(query), bytes.Clone(rows.Bytes()))
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	lines := bytes.Split(b.Bytes(), []byte("\n")) // a map has no order
	sortLines(lines)
	return bytes.Join(lines, nil)
}

func sortLines(lines [][]byte) {
	for i := range lines {
		for j := i; j > 0 && bytes.Compare(lines[j], lines[j-1]) < 0; j-- {
			lines[j], lines[j-1] = lines[j-1], lines[j]
		}
	}
}

// noticed reports whether a damaged log does not open, or does not pass its scrub and takes and signs nothing from then on.
func (s *site) noticed() bool {
	s.t.Helper()
	log, err := Open(context.Background(), s.options())
	if err != nil {
		return true
	}
	s.log = log
	defer s.log.Close()
	err = s.log.Scrub(context.Background())
	if err == nil {
		return false
	}
	if !denial.Is(err, denial.StoreFault) && !denial.Is(err, denial.LogInconsistent) {
		s.t.Errorf("the scrub ends with %v", err)
	}
	signed := s.token.signed.Load()
	s.refused(denial.AuditUnavailable, leaf("not signed further"))
	if s.token.signed.Load() != signed || s.log.Healthy() == nil {
		s.t.Error("after a scrub that found damage the log signs, or is healthy")
	}
	return true
}

// TestR20_ScrubFindsSeededCorruption damages the file of a log at random places: a bit, a block of zeros, a block of another place
// (a misdirected write), a torn sector. What changed anything that the log proves with is found, every time.
func TestR20_ScrubFindsSeededCorruption(t *testing.T) {
	s := newSite(t)
	s.clock.seconds.Store(testStart)
	for i := range 40 {
		s.append(Entry{Leaf: bytes.Repeat(fmt.Appendf(nil, "entry %d ", i), 20), Blobs: [][]byte{bytes.Repeat(fmt.Appendf(nil, "evidence %d ", i), 40)}, Keeps: [][]byte{fmt.Appendf(nil, "enrolment %d", i)}})
	}
	s.close()
	whole := s.copied(t)
	whole.open()
	want := whole.content()
	whole.close()
	seeds := 48
	if os.Getenv("FAULTS") == "all" {
		seeds = 4000
	}
	damage := map[string]func(r *rand.Rand, data []byte){
		"bit":       func(r *rand.Rand, data []byte) { data[r.IntN(len(data))] ^= 1 << r.IntN(8) },
		"block":     func(r *rand.Rand, data []byte) { clear(block(r, data, 4096)) },
		"misplaced": func(r *rand.Rand, data []byte) { copy(block(r, data, 4096), bytes.Clone(block(r, data, 4096))) },
		"sector": func(r *rand.Rand, data []byte) {
			for i, b := 0, block(r, data, 512); i < len(b); i++ {
				b[i] = byte(r.Uint32())
			}
		},
	}
	for name, spoil := range damage {
		found, harmless := 0, 0
		for seed := range seeds / len(damage) {
			c := s.copied(t)
			data, err := os.ReadFile(c.path)
			if err != nil {
				t.Fatal(err)
			}
			spoil(rand.New(rand.NewPCG(20, uint64(seed))), data)
			if err := os.WriteFile(c.path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if c.noticed() {
				found++
				continue
			}
			c.open()
			if !bytes.Equal(c.content(), want) {
				t.Errorf("%s, seed %d: what the log proves with has changed, and no scrub found it", name, seed)
			}
			c.close()
			harmless++
		}
		t.Logf("%s: %d found, %d changed nothing that the log proves with", name, found, harmless)
		if found == 0 {
			t.Errorf("%s: nothing was found", name)
		}
	}
}

// block returns a random aligned part of the file.
func block(r *rand.Rand, data []byte, size int) []byte {
	at := r.IntN(len(data)/size) * size
	return data[at : at+size]
}

// TestR20_SwappedFilesAreFound exchanges the files of a log for those of another history under the same key, or of yesterday.
func TestR20_SwappedFilesAreFound(t *testing.T) {
	s := newSite(t)
	s.appendN(7)
	s.close()
	yesterday := s.copied(t)
	s.open()
	s.clock.seconds.Add(int64(time.Hour / time.Second))
	s.appendN(3)
	s.close()
	other := &site{t: t, path: filepath.Join(t.TempDir(), "log.db"), token: s.token, clock: s.clock}
	other.open()
	for i := range 10 {
		other.append(leaf(fmt.Sprintf("another %d", i)))
	}
	other.close()
	stranger := newSite(t)
	stranger.appendN(10)
	stranger.close()
	for name, from := range map[string]*site{"yesterday": yesterday, "another history": other, "another log's": stranger} {
		for _, suffix := range []string{"", ".mark"} {
			c := s.copied(t)
			data, err := os.ReadFile(from.path + suffix)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(c.path+suffix, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if name == "yesterday" && suffix == ".mark" { // an older mark is what a power cut leaves: the log is whole
				continue
			}
			if !c.noticed() {
				t.Errorf("%s%s: not found", name, suffix)
			}
		}
	}
}
