package tlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
)

// R04: a power cut may leave any of the pages that were written since the last sync, in any order, and none that were not. What was acknowledged
// was synced before: whichever pages of a later commit are there, whole or torn or in the place of another, the log opens with all of it.
func TestR04_PagesThatWereNotSyncedMayBeLostInAnyOrder(t *testing.T) {
	s := newSite(t)
	s.append(pair("first")...)
	for i := range 6 {
		s.append(pair(fmt.Sprint(i))...)
	}
	mark, err := os.ReadFile(s.path + ".mark")
	if err != nil {
		t.Fatal(err)
	}
	synced := fileSize(t, s.path+"-wal")
	for i := range 3 {
		s.append(pair(fmt.Sprintf("not acknowledged %d", i))...)
	}
	image := s.crashed()
	if err := os.WriteFile(image.path+".mark", mark, 0o600); err != nil {
		t.Fatal(err)
	}
	const frame = 24 + 4096 // of a write-ahead log: header and page
	frames := (fileSize(t, image.path+"-wal") - synced) / frame
	if (synced-32)%frame != 0 || frames < 6 {
		t.Fatalf("%d frames behind %d bytes: the model is not that of the file", frames, synced)
	}
	zero := make([]byte, frame)
	cut := func(name string, damage func(*os.File) error) {
		t.Helper()
		if s.torn(image, "-wal", damage) != 1 {
			t.Errorf("%s: does not open with all that was acknowledged", name)
		}
	}
	for n := range frames { // one page lost, torn in the middle, or another in its place
		at := synced + n*frame
		cut(fmt.Sprintf("page %d lost", n), func(f *os.File) error { _, err := f.WriteAt(zero, at); return err })
		cut(fmt.Sprintf("page %d torn", n), func(f *os.File) error { _, err := f.WriteAt(zero[:frame/2], at+frame/2); return err })
		cut(fmt.Sprintf("page %d is the next", n), func(f *os.File) error {
			next := make([]byte, frame)
			_, err := f.ReadAt(next, synced+(n+1)%frames*frame)
			_, werr := f.WriteAt(next, at)
			return errors.Join(err, werr)
		})
	}
	order := rand.New(rand.NewPCG(4, 4))
	for range 30 { // any subset
		kept := order.Uint64()
		cut(fmt.Sprintf("pages %x kept", kept), func(f *os.File) (err error) {
			for n := range frames {
				if kept>>(n%64)&1 == 0 {
					_, werr := f.WriteAt(zero, synced+n*frame)
					err = errors.Join(err, werr)
				}
			}
			return err
		})
	}
}
