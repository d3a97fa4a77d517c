package record

import (
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// P20: an epoch that leaves something out is none.
func TestP20_EpochsAreComplete(t *testing.T) {
	good := func() *Epoch {
		d := make([]byte, 32)
		return &Epoch{Version: Version, Number: 1, Genesis: d, Log: "https://issuer.example/log", Size: 3, Root: d, Lost: &Lost{Size: 4, Root: d}, Time: 1, Why: "the disk is gone"}
	}
	if err := good().Check(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		edit func(*Epoch)
		want denial.Reason
	}{
		"version":          {func(e *Epoch) { e.Version = 2 }, denial.UnsupportedVersion},
		"number":           {func(e *Epoch) { e.Number = 0 }, denial.ClaimAbsent},
		"genesis":          {func(e *Epoch) { e.Genesis = nil }, denial.ClaimAbsent},
		"log":              {func(e *Epoch) { e.Log = "log" }, denial.ClaimAbsent},
		"size":             {func(e *Epoch) { e.Size = 0 }, denial.ClaimAbsent},
		"root":             {func(e *Epoch) { e.Root = e.Root[1:] }, denial.ClaimAbsent},
		"time":             {func(e *Epoch) { e.Time = 0 }, denial.ClaimAbsent},
		"why":              {func(e *Epoch) { e.Why = "" }, denial.ClaimAbsent},
		"a long why":       {func(e *Epoch) { e.Why = string(make([]byte, 1025)) }, denial.ClaimAbsent},
		"nothing lost":     {func(e *Epoch) { e.Lost.Size = 3 }, denial.PayloadForm},
		"lost has no root": {func(e *Epoch) { e.Lost.Root = nil }, denial.PayloadForm},
	} {
		e := good()
		c.edit(e)
		if err := e.Check(); !denial.Is(err, c.want) {
			t.Errorf("%s: got %v, want %d", name, err, c.want.Code())
		}
	}
	e := good()
	for _, c := range []struct {
		size uint64
		root byte
		want bool
	}{{3, 0, true}, {4, 0, true}, {4, 1, false}, {5, 0, false}} {
		if got := e.Covers(c.size, [32]byte{c.root}); got != c.want {
			t.Errorf("a tree of %d, root %d: got %v", c.size, c.root, got)
		}
	}
	if e.Lost = nil; !e.Covers(9, [32]byte{1}) {
		t.Error("an act that does not say how much is lost covers anything")
	}
	if role, ok := roleOf(statement.Epoch); !ok || role != RoleRoot || !role.Dual() {
		t.Errorf("epochs are of role %s", role)
	}
}
