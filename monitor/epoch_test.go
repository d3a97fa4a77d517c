package monitor

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/stock"
)

// P20: a log that is restored is a fork to a monitor, as long as no act of the authorities covers what it has seen; with it, what
// is lost is told, and kept.
func TestP20_AnEpochIsToldAndWithoutItIsAFork(t *testing.T) {
	signer := stock.Signer(t)
	for name, c := range map[string]struct {
		seen, now uint64 // entries of the lost log at the last look, and of the restored one
		epoch     func(*Epoch)
		want      denial.Reason
		lost      int
	}{
		"covered, shorter now":      {seen: 9, now: 6, lost: 1},
		"covered, as long now":      {seen: 9, now: 9, lost: 1},
		"covered, longer now":       {seen: 9, now: 300, lost: 1},
		"seen before the backup":    {seen: 5, now: 6},
		"seen less than the backup": {seen: 3, now: 6},
		"no act, shorter":           {seen: 9, now: 6, epoch: func(e *Epoch) { *e = Epoch{} }, want: denial.StateRollback},
		"no act, longer":            {seen: 9, now: 12, epoch: func(e *Epoch) { *e = Epoch{} }, want: denial.LogInconsistent},
		"less than was seen":        {seen: 9, now: 6, epoch: func(e *Epoch) { e.Covers = func(size uint64, _ [32]byte) bool { return size < 9 } }, want: denial.StateRollback},
		"less than was seen, longer": {seen: 9, now: 12, epoch: func(e *Epoch) { e.Covers = func(size uint64, _ [32]byte) bool { return size < 9 } },
			want: denial.LogInconsistent},
		"another head was restored": {seen: 9, now: 6, epoch: func(e *Epoch) { e.Root[0] ^= 1 }, want: denial.LogInconsistent},
	} {
		t.Run(name, func(t *testing.T) {
			old, restored := newHistory(t, signer), newHistory(t, signer)
			restored.add("entry", 5)
			head := restored.log.Head().Head
			old.add("entry", min(c.seen, 5))
			if c.seen > 5 {
				old.add("lost", c.seen)
			}
			restored.add("new", c.now)
			o := old.options()
			look(t, o)
			o.Log = restored.url
			e := Epoch{Number: 1, Size: head.Size, Root: head.Root, Covers: func(uint64, [32]byte) bool { return true }, Words: "entries are lost"}
			if c.epoch != nil {
				c.epoch(&e)
			}
			if e.Number != 0 {
				o.Epochs = []Epoch{e}
			}
			if c.want != 0 {
				refused(t, o, c.want)
				return
			}
			r := look(t, o)
			if r.Epoch != 1 || len(r.Lost) != c.lost || (r.Since == nil) != (c.lost == 1) {
				t.Errorf("got %+v", r)
			}
			if _, err := os.Stat(filepath.Join(o.Dir, "before-epoch-1.checkpoint")); (err == nil) != (c.lost == 1) {
				t.Errorf("what is lost: %v", err)
			}
			if r = look(t, o); len(r.Lost) != 0 || r.Since == nil || len(o.evidence(t)) != 0 {
				t.Errorf("the look after: got %+v, evidence %v", r, o.evidence(t))
			}
			o.Views = []string{old.url} // a mirror that still shows what is lost
			if r = look(t, o); len(r.Views) != 1 || (r.Views[0].Error == "") != (c.lost == 0) {
				t.Errorf("got views %+v", r.Views)
			}
			restored.add("more", c.now+1) // from here on, as ever
			look(t, o)
			other := newHistory(t, signer).add("entry", 5)
			other.add("forged", c.now+2)
			o.Log, o.Views = other.url, nil
			if c.lost == 1 {
				o.Epochs[0].Covers = func(size uint64, _ [32]byte) bool { return size <= c.seen && size != c.now+1 }
			} else {
				o.Epochs = nil
			}
			refused(t, o, denial.LogInconsistent)
		})
	}
}
