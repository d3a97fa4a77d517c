package issuertest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// Backup copies the log, and returns the file.
func (w *World) Backup() string {
	w.Helper()
	path := filepath.Join(w.TempDir(), "backup.db")
	if err := tlog.Backup(w.Ctx, w.Path, path); err != nil {
		w.Fatal(err)
	}
	return path
}

// Restore puts a backup in the place of the log, beside the mark of what was there, and lets it go on by an epoch that edit may
// change. It returns the denial where that fails; the log is open then no more.
func (w *World) Restore(backup string, edit func(*record.Epoch)) error {
	w.Helper()
	lost := w.Tree.Head().Head
	if err := w.Tree.Close(); err != nil {
		w.Fatal(err)
	}
	for _, name := range []string{"-wal", "-shm"} {
		if err := os.Remove(w.Path + name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.Fatal(err)
		}
	}
	if err := os.WriteFile(w.Path, Must(os.ReadFile(backup))(w), 0o600); err != nil {
		w.Fatal(err)
	}
	view := Must(tlog.OpenReadOnly(w.Ctx, w.Path))(w)
	defer view.Close()
	head := Must(view.Last(w.Ctx))(w)
	genesis := statement.DigestOf(Must(statement.Decode(w.Act[0], statement.MaxStatement))(w).Payload())
	e := record.Epoch{Version: record.Version, Number: Must(issuer.NextEpoch(w.Ctx, view, Issuer))(w), Genesis: genesis[:], Log: Log,
		Size: head.Size, Root: head.Root[:], Lost: &record.Lost{Size: lost.Size, Root: lost.Root[:]}, Time: w.Seconds(), Why: "the disk is gone"}
	if edit != nil {
		edit(&e)
	}
	c := statement.Claims{Issuer: Issuer, Subject: record.EpochSubject(Issuer), IssuedAt: w.Seconds() - 120, Expires: w.Seconds() + 3600, Sequence: e.Number}
	r, err := issuer.VerifyEpoch(w.Ctx, view, w.SignWith(c, statement.Epoch, e, w.Persons...))
	if err != nil {
		return err
	}
	restored, err := tlog.Open(w.Ctx, tlog.Options{Path: w.Path, Signer: w.Keys[record.PurposeLog], Earlier: w.earlier, Issuer: Issuer, LogID: Log, Now: w.Now, Restored: r.Restored()})
	if err != nil {
		return err
	}
	w.Tree = restored
	if err := r.Begin(w.Ctx, w.Tree, w.Now()); err != nil {
		return err
	}
	w.Restart()
	return nil
}
