package tlog

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// tamper runs SQL on the closed database, as one could who can write the file.
func (s *site) tamper(script string) {
	s.t.Helper()
	db, err := sql.Open("sqlite", s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(script); err != nil {
		s.t.Fatal(err)
	}
}

// refusedOpen checks that the log does not open.
func (s *site) refusedOpen(o Options, want denial.Reason) {
	s.t.Helper()
	log, err := Open(context.Background(), o)
	if err == nil {
		log.Close()
	}
	wantReason(s.t, err, want)
}

func TestOpenRefusesWhatDoesNotFit(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		want   denial.Reason
	}{
		"last entry gone":        {"DELETE FROM leaves WHERE idx = 6", denial.StoreFault},
		"first entry gone":       {"DELETE FROM leaves WHERE idx = 0", denial.StoreFault},
		"entry too many":         {"INSERT INTO leaves SELECT 7, hash, digest, names, entry FROM leaves WHERE idx = 6", denial.StoreFault},
		"last batch cut off":     {"DELETE FROM leaves WHERE idx = 6; DELETE FROM heads WHERE size = 7", denial.StoreFault},
		"everything gone":        {"DELETE FROM leaves; DELETE FROM heads; DELETE FROM nodes", denial.StoreFault},
		"node gone":              {"DELETE FROM nodes WHERE level = 2 AND idx = 0", denial.StoreFault},
		"node changed":           {"UPDATE nodes SET hash = zeroblob(32) WHERE level = 2 AND idx = 0", denial.LogInconsistent},
		"node too short":         {"UPDATE nodes SET hash = zeroblob(31) WHERE level = 2 AND idx = 0", denial.StoreFault},
		"last leaf hash changed": {"UPDATE leaves SET hash = zeroblob(32) WHERE idx = 6", denial.LogInconsistent},
		"root changed":           {"UPDATE heads SET root = zeroblob(32) WHERE size = 7", denial.LogInconsistent},
		"root too short":         {"UPDATE heads SET root = x'00' WHERE size = 7", denial.StoreFault},
		"time changed":           {"UPDATE heads SET time = time - 1 WHERE size = 7", denial.LogInconsistent},
		"signature changed":      {"UPDATE heads SET signed = CAST(substr(signed, 1, length(signed) - 1) || x'00' AS BLOB) WHERE size = 7", denial.LogInconsistent},
		"head of another size":   {"UPDATE heads SET signed = (SELECT signed FROM heads WHERE size = 6) WHERE size = 7", denial.LogInconsistent},
		"later version":          {fmt.Sprintf("PRAGMA user_version = %d", schemaVersion+1), denial.UnsupportedVersion},
		"another program's":      {"PRAGMA application_id = 7", denial.StoreFault},
		"table gone":             {"DROP TABLE nodes", denial.StoreFault},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.appendN(7)
			s.close()
			s.tamper(c.script)
			s.refusedOpen(s.options(), c.want)
		})
	}
}

func TestOpenRefusesAnotherOwner(t *testing.T) {
	s := newSite(t)
	s.appendN(3)
	s.close()
	o := s.options()
	o.LogID = "https://other.example/log"
	s.refusedOpen(o, denial.LogInconsistent)
	o = s.options()
	o.Issuer = "https://other.example"
	s.refusedOpen(o, denial.LogInconsistent)
	o = s.options()
	o.Signer = newToken(t, newKey(t))
	s.refusedOpen(o, denial.LogInconsistent)
	if _, err := Open(context.Background(), Options{Path: s.path}); err == nil {
		t.Error("opened without a key")
	}

	// With the old key named as an earlier one, the new one goes on.
	o.Earlier = []statement.Key{s.token.Key()}
	log, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := log.Append(context.Background(), leaf("under the new key")); err != nil {
		t.Error(err)
	}
	if err := log.Scrub(context.Background()); err != nil {
		t.Error(err)
	}
	o.Earlier = []statement.Key{o.Signer.Key()}
	log.Close()
	s.refusedOpen(o, denial.KeyAmbiguous)
}

func TestOpenRefusesDamagedFiles(t *testing.T) {
	s := newSite(t)
	s.appendN(3)
	s.close()
	for name, damage := range map[string]func(path string) error{
		"no database":     func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte("no log "), 1000), 0o600) },
		"mark cut":        func(p string) error { return os.Truncate(p+".mark", markSize-1) },
		"mark too long":   func(p string) error { return os.Truncate(p+".mark", markSize+1) },
		"mark changed":    func(p string) error { return os.WriteFile(p+".mark", make([]byte, 40), 0o600) },
		"mark is forward": func(p string) error { return os.WriteFile(p+".mark", encodeMark(4, [32]byte{1}), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			c := s.copied(t)
			if name == "mark changed" {
				damage = func(p string) error {
					b := encodeMark(3, [32]byte{})
					b[0] ^= 1
					return os.WriteFile(p+".mark", b, 0o600)
				}
			}
			if err := damage(c.path); err != nil {
				t.Fatal(err)
			}
			c.refusedOpen(c.options(), denial.StoreFault)
		})
	}
	t.Run("mark with another root", func(t *testing.T) {
		c := s.copied(t)
		if err := os.WriteFile(c.path+".mark", encodeMark(2, [32]byte{1}), 0o600); err != nil {
			t.Fatal(err)
		}
		c.refusedOpen(c.options(), denial.LogInconsistent)
	})
	for name, content := range map[string][]byte{"mark empty": nil, "mark of zeros": make([]byte, markSize)} {
		t.Run(name, func(t *testing.T) {
			c := s.copied(t)
			if err := os.WriteFile(c.path+".mark", content, 0o600); err != nil {
				t.Fatal(err)
			}
			c.open()
			c.check()
			c.close()
		})
	}
}

// copied returns a site with a copy of the files of a closed log.
func (s *site) copied(t testing.TB) *site {
	t.Helper()
	c := &site{t: t, path: filepath.Join(t.TempDir(), "log.db"), token: s.token, clock: s.clock}
	for _, suffix := range []string{"", ".mark"} {
		data, err := os.ReadFile(s.path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.path+suffix, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestT16_ScrubFindsWhatWasChanged(t *testing.T) {
	flip := func(column, table, where string) string {
		return fmt.Sprintf("UPDATE %s SET %s = CAST(x'00' || substr(%s, 2) AS BLOB) WHERE %s", table, column, column, where)
	}
	for name, c := range map[string]struct {
		script string
		want   denial.Reason
	}{
		"bit in an entry":     {flip("entry", "leaves", "idx = 3"), denial.StoreFault},
		"leaf hash":           {flip("hash", "leaves", "idx = 3"), denial.StoreFault},
		"digest":              {flip("digest", "leaves", "idx = 3"), denial.StoreFault},
		"entry and its hash":  {"UPDATE leaves SET (entry, hash, digest) = (SELECT entry, hash, digest FROM leaves WHERE idx = 2) WHERE idx = 3", denial.StoreFault},
		"entry gone":          {"DELETE FROM leaves WHERE idx = 3", denial.StoreFault},
		"node":                {flip("hash", "nodes", "level = 1 AND idx = 1"), denial.StoreFault},
		"node gone":           {"DELETE FROM nodes WHERE level = 1 AND idx = 1", denial.StoreFault},
		"node too many":       {"INSERT INTO nodes VALUES (9, 9, zeroblob(32))", denial.StoreFault},
		"root of an old head": {flip("root", "heads", "size = 4"), denial.LogInconsistent},
		"time of an old head": {"UPDATE heads SET time = 1 WHERE size = 4", denial.LogInconsistent},
		"signature of a head": {flip("signed", "heads", "size = 4"), denial.LogInconsistent},
		"head too many":       {"INSERT INTO heads VALUES (99, zeroblob(32), 1900000000, NULL)", denial.StoreFault},
		"blob":                {flip("data", "payloads", "true"), denial.StoreFault},
		"blob that is kept":   {flip("data", "blobs", "true"), denial.StoreFault},
		"name":                {"UPDATE leaves SET names = CAST(substr(names, 2) AS BLOB) WHERE idx = 7", denial.StoreFault},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.appendN(7)
			s.append(Entry{Leaf: []byte("last"), Blobs: [][]byte{[]byte("evidence")}, Keeps: [][]byte{[]byte("enrolment")}})
			s.append(leaf("stores the head of the last"))
			s.check()
			if err := s.log.db.script(c.script); err != nil {
				t.Fatal(err)
			}
			wantReason(t, s.log.Scrub(context.Background()), c.want)
			s.refused(denial.AuditUnavailable, leaf("not signed further"))
		})
	}
}

// A path with characters that mean something in a URI.
func TestOpenTakesAnyPath(t *testing.T) {
	s := newSite(t)
	s.close()
	s.path = filepath.Join(t.TempDir(), "a?b=c#d %41&mode=memory")
	s.open()
	s.appendN(2)
	s.close()
	if _, err := os.Stat(s.path); err != nil {
		t.Error(err)
	}
	s.open()
	s.check()
}
