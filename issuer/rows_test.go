package issuer_test

import (
	"database/sql"
	"encoding/hex"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/tlog"
)

// lived is a log with rows of every kind.
func lived(t *testing.T) *issuertest.World {
	t.Helper()
	w := issuertest.New(t)
	minted := w.Permit()
	leaf := w.Report(w.Host, minted, record.EventStart, nil)
	issuertest.Must(w.Issuer.Take(w.Ctx, leaf))(t)
	c, _, err := artifact.Inspect(w.Permit().Artifact)
	if err != nil {
		t.Fatal(err)
	}
	w.Revoke(record.CauseArtifact, hex.EncodeToString(c.ID))
	agent := issuertest.DelegatingWorld(w)
	issuertest.Must(w.Descend(agent, nil, w.Delegation(w.Delegable(), w.Host, agent, nil)))(t)
	glass := w.PublishGlass(w.DraftGlass(w.DeclareGlass(true)), w.Persons...)
	w.AttestGlass(glass)
	w.PublishGlass(w.DraftGlass(w.DeclareGlass(true)), w.Persons...)
	w.ReviewGlass(glass, true, issuertest.Alice, issuertest.Carol)
	gone := w.EnrolHost("https://hosts.example/gone", issuertest.Gate)
	w.Revoke(record.CauseHost, gone.URI)
	if err := w.Issuer.PlaceHold(w.Ctx, issuer.Hold{Name: "case 7", From: w.Size()}); err != nil {
		t.Fatal(err)
	}
	clone := w.Host // a clone has the host held; authorities approve it anew
	w.Host = later(w.Host, 2, "")
	w.Permit()
	w.Advance(10 * time.Second)
	_, err = w.Ask(issuertest.Spoil{Host: clone})
	w.Refusal(err, denial.BootRollback)
	w.Approve(w.Host)
	w.Activate(w.Host)
	w.Permit()
	other := w.EnrolHost("https://hosts.example/held", issuertest.Gate)
	ahead := later(other, 2, "")
	issuertest.Must(w.Ask(issuertest.Spoil{Host: ahead}))(t)
	w.Advance(10 * time.Second)
	_, err = w.Ask(issuertest.Spoil{Host: other})
	w.Refusal(err, denial.BootRollback)
	return w
}

func checkRows(t *testing.T, w *issuertest.World, path string) error {
	t.Helper()
	log := issuertest.Must(tlog.OpenReadOnly(w.Ctx, path))(t)
	defer log.Close()
	_, err := issuer.CheckRows(w.Ctx, log.Reader, log.View)
	return err
}

// Whoever can write to the database edits each table once. The tree is as it was, and says nothing of it.
func TestT16_EveryRowFollowsFromTheEntries(t *testing.T) {
	t.Parallel()
	w := lived(t)
	if err := w.Issuer.Recompute(w.Ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.Tree.Close(); err != nil {
		t.Fatal(err)
	}
	if err := checkRows(t, w, w.Path); err != nil {
		t.Fatalf("as it was: %v", err)
	}
	data := issuertest.Must(os.ReadFile(w.Path))(t)
	edits := map[string]string{
		"un-revokes a host":            "DELETE FROM state WHERE bucket = 'revoked' AND instr(key, CAST('hosts.example/gone' AS BLOB)) > 0",
		"holds a host no more":         "DELETE FROM state WHERE bucket = 'held'",
		"lets a use count again":       "DELETE FROM spent WHERE name = 'use'",
		"lowers an act's number":       "UPDATE counters SET value = value - 1 WHERE name LIKE 'act/%' AND value > 1",
		"lowers what policies raise":   "UPDATE counters SET value = value - 1 WHERE name = 'policy'",
		"drops a counter":              "DELETE FROM counters WHERE name = 'revocation'",
		"takes a high-water mark away": "DELETE FROM state WHERE bucket = 'high-water'",
		"puts a review off":            "UPDATE state SET value = x'7fffffffffffffff' WHERE bucket = 'break-glass-open'",
		"adds a revocation":            "INSERT INTO state VALUES ('revoked', x'01', x'00')",
	}
	for _, set := range issuer.ConsumedSets {
		edits["un-spends "+set] = "DELETE FROM spent WHERE (name, key) IN (SELECT name, key FROM spent WHERE name = '" + set + "' LIMIT 1)"
		edits["spends another "+set] = "UPDATE spent SET key = x'00' WHERE (name, key) IN (SELECT name, key FROM spent WHERE name = '" + set + "' LIMIT 1)"
		edits["spends more of "+set] = "INSERT INTO spent VALUES ('" + set + "', x'00', 0)"
	}
	for _, bucket := range issuer.RecomputedBuckets {
		if bucket == "keys" || bucket == "epoch" { // this log has none: a row is too many
			edits["adds to "+bucket] = "INSERT INTO state VALUES ('" + bucket + "', x'00', x'00')"
			continue
		}
		one := "(SELECT key FROM state WHERE bucket = '" + bucket + "' LIMIT 1)"
		edits["deletes of "+bucket] = "DELETE FROM state WHERE bucket = '" + bucket + "' AND key = " + one
		if bucket != "held" { // when is for people
			edits["alters "+bucket] = "UPDATE state SET value = CAST(value || x'00' AS BLOB) WHERE bucket = '" + bucket + "' AND key = " + one
		}
	}
	for name, edit := range edits {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log.db")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			db := issuertest.Must(sql.Open("sqlite", path))(t)
			done := issuertest.Must(db.Exec(edit))(t)
			if n := issuertest.Must(done.RowsAffected())(t); n == 0 {
				t.Fatal("nothing was edited")
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if err := checkRows(t, w, path); !denial.Is(err, denial.StoreFault) {
				t.Errorf("got %v, want 906", err)
			}
		})
	}
}

// A serving issuer finds it and permits nothing more.
func TestT16_NothingIsPermittedOnceARowIsWrong(t *testing.T) {
	t.Parallel()
	w := issuertest.New(t)
	w.Permit()
	db := issuertest.Must(sql.Open("sqlite", w.Path))(t)
	issuertest.Must(db.Exec("DELETE FROM spent WHERE name = 'request'"))(t)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Tree.Scrub(w.Ctx); err != nil {
		t.Fatalf("the tree is as it was: %v", err)
	}
	if err := w.Issuer.Recompute(w.Ctx); !denial.Is(err, denial.StoreFault) {
		t.Fatalf("got %v, want 906", err)
	}
	_, err := w.Ask(issuertest.Spoil{})
	w.Refusal(err, denial.AuditUnavailable)
}

// Payloads that are gone by retention take no proof away; payloads that are gone otherwise are missed.
func TestT26_RowsAreRecomputedWithoutPayloads(t *testing.T) {
	t.Parallel()
	w := issuertest.New(t)
	w.Permit()
	w.Advance(issuer.MinRetention + time.Hour)
	w.Permit()
	issuertest.Must(w.Issuer.Purge(w.Ctx, w.Now().Add(-issuer.MinRetention)))(t)
	if err := w.Issuer.Recompute(w.Ctx); err != nil {
		t.Fatal(err)
	}
	db := issuertest.Must(sql.Open("sqlite", w.Path))(t)
	issuertest.Must(db.Exec("DELETE FROM payloads"))(t)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Issuer.Recompute(w.Ctx); !denial.Is(err, denial.StoreFault) {
		t.Errorf("got %v, want 906", err)
	}
}

// Every bucket and every set of this package is recomputed, or here is said why not.
func TestT16_NoRowIsForgotten(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, name := range append(issuer.RecomputedBuckets, issuer.ConsumedSets...) {
		seen[name] = true
	}
	for _, name := range []string{"high-water", "genesis", "purged"} { // compared on their own
		seen[name] = true
	}
	files := issuertest.Must(filepath.Glob("*.go"))(t)
	found := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree := issuertest.Must(parser.ParseFile(token.NewFileSet(), file, nil, 0))(t)
		ast.Inspect(tree, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 || !strings.HasPrefix(v.Names[0].Name, "bucket") && !strings.HasPrefix(v.Names[0].Name, "once") {
				return true
			}
			lit, ok := v.Values[0].(*ast.BasicLit)
			if !ok {
				return true
			}
			found++
			if text, err := strconv.Unquote(lit.Value); err != nil || !seen[text] && !seen[v.Names[0].Name] {
				t.Errorf("%s (%s) is not recomputed: see replay.go", v.Names[0].Name, lit.Value)
			}
			return true
		})
	}
	if found < 25 {
		t.Errorf("found %d buckets and sets", found)
	}
}

// BenchmarkRecompute computes the rows of a log of ROWS artifacts again.
func BenchmarkRecompute(b *testing.B) {
	n := 200
	if text := os.Getenv("ROWS"); text != "" {
		n = issuertest.Must(strconv.Atoi(text))(b)
	}
	w := issuertest.New(b)
	w.Rate = 1e9
	w.Restart()
	for range n {
		w.Permit()
	}
	for b.Loop() {
		if _, err := issuer.CheckRows(w.Ctx, w.Tree.Reader, w.Tree.View); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/artifact")
}

// A change of authorities that lets the versions of policies begin anew (P04) says so in a row, until the next policy.
func TestT16_ChangesOfAuthoritiesAreRecomputed(t *testing.T) {
	t.Parallel()
	w := issuertest.New(t)
	c := w.HandOver()
	c.People.Reset = []record.PolicyKind{record.Authorization}
	for _, step := range []func(){
		func() { w.HandedOver(c) },
		func() { w.Publish(w.Authorization()) },
		func() { w.Apply(statement.KeyChange, w.HandOver()) },
	} {
		w.Advance(time.Second)
		step()
		if err := w.Issuer.Recompute(w.Ctx); err != nil {
			t.Fatal(err)
		}
	}
}
