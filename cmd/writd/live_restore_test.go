package main

import (
	"bytes"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/softhsm"
	"github.com/governed-execution/writ/test/stock"
	"github.com/governed-execution/writ/test/swtpm"
)

// logFiles are the names of the log and of the files beside it.
func (l *live) logFiles() []string {
	l.Helper()
	return must(filepath.Glob(l.path("log.db*")))(l)
}

// restore puts the files of a backup in the place of those that are there.
func (l *live) restore(backup string) {
	l.Helper()
	for _, name := range l.logFiles() {
		if err := os.Remove(name); err != nil {
			l.Fatal(err)
		}
	}
	for _, name := range must(filepath.Glob(backup + "/*"))(l) {
		l.write(filepath.Base(name), must(os.ReadFile(name))(l))
	}
}

// refuses has serve end with a denial, and nothing served.
func (l *live) refuses(want denial.Reason) {
	l.Helper()
	status, out := l.status("serve")
	if status != exitDenied || !strings.Contains(out, want.String()) {
		l.Fatalf("got exit status %d, want %d with %s:\n%s", status, exitDenied, want, out)
	}
}

// P20, R19: TestP20_R19_BackupAndRestoreDrill is the drill of docs/operating.md: a backup of an issuer that serves, its loss, a restore on a clean
// machine, and what keeps an old backup from being served as if nothing had been since.
func TestP20_R19_BackupAndRestoreDrill(t *testing.T) {
	tpm := swtpm.New(t, swtpm.Options{})
	soft := softhsm.New(t)
	l := newLive(t, softTable(soft), "tpm = \""+tpm.Socket+"\"")
	l.serve()
	l.admit()
	m := l.enrol("spiffe://example/host/a")
	m.asked()

	// While it serves: a backup is whole, checked, and none of its secrets.
	old := l.path("backup-monday")
	work := l.load(l.enrol("spiffe://example/host/b"))
	within(t, "it serves", func() bool { n, _ := work.count(); return n > 5 })
	if out := l.must("backup", old); !strings.Contains(out, "copied to") || !strings.Contains(out, "and checked") {
		t.Errorf("got %s", out)
	}
	within(t, "it serves on", func() bool { n, _ := work.count(); return n > 10 })
	work.stop()
	l.verify(work.given...)
	if status, out := l.status("backup", old); status != exitMisuse {
		t.Errorf("got exit status %d of a backup into the place of another: %s", status, out)
	}
	files := map[string]bool{}
	for _, name := range must(filepath.Glob(old + "/*"))(t) {
		files[filepath.Base(name)] = true
		if info := must(os.Stat(name))(t); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	if len(files) != 4 || !files["log.db"] || !files["log.db.mark"] || !files["log.db.anchor"] || !files["log.db.checkpoint"] {
		t.Errorf("got the files %v", files)
	}

	// Afterwards the issuer starts again, which raises the counter, and the host is revoked: the old backup does not know.
	l.stop()
	l.serve()
	m.close()
	l.applied(statement.Revocation, record.Revocation{Version: record.Version, Cause: record.CauseHost, Target: m.uri,
		Time: uint64(time.Now().Unix()), Why: "stolen", Nonce: stock.Random(16)})
	if _, err := m.ask(t.Context()); !denial.Is(err, denial.HostRevoked) {
		t.Fatalf("got %v of a revoked host, want %d", err, denial.HostRevoked.Code())
	}
	session := must(l.client.Dial(t.Context()))(t) // a challenge that lives when the issuer goes down
	challenge := must(session.Challenge(t.Context()))(t)
	l.stop()
	newest := l.path("backup-last")
	l.must("backup", newest)

	// An old database beside the mark of the newest one: what was acknowledged is missing (906).
	if err := os.WriteFile(l.path("log.db"), must(os.ReadFile(filepath.Join(old, "log.db")))(t), 0o600); err != nil {
		t.Fatal(err)
	}
	l.refuses(denial.StoreFault)
	if status, out := l.status("fsck"); status != exitDenied || !strings.Contains(out, "lost acknowledged entries") {
		t.Errorf("got exit status %d of fsck: %s", status, out)
	}
	// The whole old backup: its log is in itself as it must be, but the counter of the TPM has gone on (508).
	l.restore(old)
	l.must("fsck")
	l.refuses(denial.StateRollback)
	// Nor is it served without its anchor.
	if err := os.Remove(l.path("log.db.anchor")); err != nil {
		t.Fatal(err)
	}
	l.refuses(denial.StateRollback)
	// A backup in which a bit of an entry has changed.
	l.restore(newest)
	damaged := must(os.ReadFile(l.path("log.db")))(t)
	leaf := must(statement.Decode(work.given[0], 2*statement.MaxStatement))(t).Leaf()
	if at := bytes.Index(damaged, leaf[len(leaf)-64:]); at < 0 { // its signature
		t.Fatal("the log does not hold the artifact")
	} else {
		damaged[at] ^= 1
	}
	l.write("log.db", damaged)
	if status, out := l.status("fsck"); status == 0 {
		t.Errorf("a damaged backup passes: %s", out)
	}

	// The clean machine: configuration, TLS key and token as before, the newest backup.
	begun := time.Now()
	l.restore(newest)
	l.must("fsck")
	l.must("doctor")
	l.serve()
	t.Logf("restored and serving after %v", time.Since(begun).Round(time.Millisecond))
	l.verify(work.given...) // receipts and status are as before
	m.close()
	if _, err := m.ask(t.Context()); !denial.Is(err, denial.HostRevoked) {
		t.Errorf("got %v of the revoked host, want %d: the revocation is lost", err, denial.HostRevoked.Code())
	}
	again := l.enrol("spiffe://example/host/c")
	again.asked()

	// Challenges of before are void: they went with their connections.
	fresh := must(l.client.Dial(t.Context()))(t)
	defer fresh.Close()
	if _, err := again.answer(t.Context(), fresh, challenge); !denial.Is(err, denial.ChallengeUnknown) {
		t.Errorf("got %v for a challenge of before, want %d", err, denial.ChallengeUnknown.Code())
	}
	l.stop()
	l.must("fsck")

	// Whoever can write to the database has the host count as not revoked (T16). No hash says so, but the entries do.
	db := must(sql.Open("sqlite", l.path("log.db")))(t)
	must(db.Exec("DELETE FROM state WHERE bucket = 'revoked'"))(t)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if status, out := l.status("fsck"); status == 0 || !strings.Contains(out, "906") {
		t.Errorf("got %d of a log that has lost a revocation: %s", status, out)
	}
	l.serve()
	for t.Context().Err() == nil { // until it is found, which it is as soon as the rows are recomputed
		if _, err := again.ask(t.Context()); denial.Is(err, denial.AuditUnavailable) {
			break
		}
	}
}
