package issuer_test

import (
	"context"
	"os"
	"strconv"
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/tlog"
)

// family is a log of artifacts that descend from one another: each but the first from the one at (n-1)/fan.
type family struct {
	*issuertest.World
	base   artifact.Claims
	first  uint64 // index of artifact 0
	ids    []byte // cti of each, which is its execution too
	parent artifact.Digest
}

const fan = 3

func newFamily(tb testing.TB, n int) *family {
	w := issuertest.New(tb)
	m := w.Permit()
	c, digest, err := artifact.Inspect(m.Artifact)
	if err != nil {
		tb.Fatal(err)
	}
	f := &family{World: w, base: c, first: w.Size(), ids: issuertest.Random(16 * n), parent: artifact.SHA256Digest(digest)}
	for from := 0; from < n; from += 2000 {
		var entries []tlog.Entry
		for i := from; i < min(from+2000, n); i++ {
			entries = append(entries, tlog.Entry{Leaf: f.leaf(i)})
		}
		issuertest.Must(w.Tree.Append(w.Ctx, issuertest.Must(issuer.Indexed(entries))(tb)...))(tb)
	}
	return f
}

func (f *family) id(n int) []byte { return f.ids[16*n : 16*n+16] }

func (f *family) leaf(n int) []byte {
	c := f.base
	c.ID, c.Execution.ID = f.id(n), f.id(n)
	c.Lineage = artifact.Lineage{Root: f.id(0), Parents: []artifact.Parent{}, Origin: c.Lineage.Origin}
	if n > 0 {
		for up := n; up > 0; up = (up - 1) / fan {
			c.Lineage.Depth++
		}
		c.Lineage.Parents = []artifact.Parent{{ID: f.id((n - 1) / fan), Statement: f.parent.Value, Delegation: f.parent.Value}}
	}
	return issuertest.Must(artifact.Sign(f.Ctx, f.Keys[record.PurposeArtifact], c))(f)
}

// asked counts the queries of an index.
type asked struct {
	*issuer.Issuer
	n int
}

func (a *asked) OfArtifact(ctx context.Context, cti []byte) ([]uint64, error) {
	a.n++
	return a.Issuer.OfArtifact(ctx, cti)
}

// lineage returns how many artifacts of the family are of the lineage of one, and how often the index was asked.
func (f *family) lineage(n int) (found, queries int) {
	f.Helper()
	index := &asked{Issuer: f.Issuer}
	for _, it := range issuertest.Must(audit.Gather(f.Ctx, f.Tree, index, audit.Query{Execution: f.id(n), To: f.Size()}))(f) {
		if it.Index >= f.first && it.Permitted() {
			found++
		}
	}
	return found, index.n
}

// deepest returns the last of n artifacts, how many it descends from, and an artifact of the middle with how many descend from it.
func deepest(n int) (last, ancestors, middle, descendants int) {
	last, middle = n-1, n-1
	for up := last; up > 0; up = (up - 1) / fan {
		ancestors++
	}
	for range ancestors / 2 {
		middle = (middle - 1) / fan
	}
	for low, high := middle, middle; low < n; low, high = low*fan+1, high*fan+fan {
		descendants += min(high, n-1) - low + 1
	}
	return last, ancestors, middle, descendants - 1
}

// The lineage of an artifact is found by asking for it and its kin alone, however long the log is.
func TestLineageAsksForKinAlone(t *testing.T) {
	t.Parallel()
	f := newFamily(t, 400)
	last, up, middle, down := deepest(400)
	var above int
	for n := middle; n > 0; n = (n - 1) / fan {
		above++
	}
	if found, queries := f.lineage(last); found != up+1 || queries > 2*(up+1) {
		t.Errorf("ancestors: %d artifacts by %d queries, want %d by at most %d", found, queries, up+1, 2*(up+1))
	}
	if found, queries := f.lineage(middle); found != above+down+1 || queries > 2*(above+down+1) {
		t.Errorf("descendants: %d artifacts by %d queries, want %d by at most %d", found, queries, above+down+1, 2*(above+down+1))
	}
}

// BenchmarkLineage finds ancestors and descendants in a log of LINEAGE artifacts.
func BenchmarkLineage(b *testing.B) {
	n := 20_000
	if text := os.Getenv("LINEAGE"); text != "" {
		n = issuertest.Must(strconv.Atoi(text))(b)
	}
	f := newFamily(b, n)
	last, _, middle, _ := deepest(n)
	for name, of := range map[string]int{"ancestors": last, "descendants": middle} {
		b.Run(name, func(b *testing.B) {
			here := &family{World: f.World.For(b), first: f.first, ids: f.ids}
			var found, queries int
			for b.Loop() {
				found, queries = here.lineage(of)
			}
			b.ReportMetric(float64(n), "entries")
			b.ReportMetric(float64(found), "found")
			b.ReportMetric(float64(queries), "index-lookups")
		})
	}
}
