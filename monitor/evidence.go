package monitor

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
)

// Evidence is a directory below evidence/ in Options.Dir. One file holds each checkpoint, one the root of the first entries of the
// longer tree, and the consistency path from them to it, as lines in base64: the longer tree begins otherwise than the shorter
// one, and the log has signed both.
const (
	nameShorter = "shorter.checkpoint"
	nameLonger  = "longer.checkpoint"
	namePath    = "prefix"
)

// fork keeps the evidence and returns what was found, LOG_INCONSISTENT. If it cannot be kept, that is said too.
func (o *Options) fork(shorter, longer *seen, root receipt.Hash, path []receipt.Hash) error {
	lines := encodeLine(root)
	for _, h := range path {
		lines = append(lines, encodeLine(h)...)
	}
	if err := o.keepEvidence(map[string][]byte{nameShorter: shorter.raw, nameLonger: longer.raw, namePath: lines}); err != nil {
		return errors.Join(denial.New(denial.LogInconsistent, "the log has signed two histories of its first %d entries, and the evidence could NOT be kept", shorter.Size), err)
	}
	return denial.New(denial.LogInconsistent, "the log has signed two histories of its first %d entries; the evidence is kept", shorter.Size)
}

func encodeLine(h receipt.Hash) []byte {
	return append(base64.StdEncoding.AppendEncode(nil, h[:]), '\n')
}

// keepEvidence writes the files into a directory that is named by their digest: it appears whole, and is never written again.
func (o *Options) keepEvidence(files map[string][]byte) (err error) {
	all := filepath.Join(o.Dir, "evidence")
	if err := os.MkdirAll(all, 0o700); err != nil {
		return fmt.Errorf("keeping evidence: %w", err)
	}
	dir, err := os.MkdirTemp(all, ".new-")
	if err != nil {
		return fmt.Errorf("keeping evidence: %w", err)
	}
	defer os.RemoveAll(dir)
	sum := sha256.New()
	for _, name := range []string{nameShorter, nameLonger, namePath} {
		sum.Write(files[name])
		if err := Keep(filepath.Join(dir, name), files[name]); err != nil {
			return err
		}
	}
	if err := os.Rename(dir, filepath.Join(all, hex.EncodeToString(sum.Sum(nil)[:8]))); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("keeping evidence: %w", err)
	}
	return syncDir(all)
}

// before refuses if evidence from before is there.
func (o *Options) before() error {
	found, err := os.ReadDir(filepath.Join(o.Dir, "evidence"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading evidence: %w", err)
	}
	for _, e := range found {
		if filepath.Ext(e.Name()) == "" {
			return denial.New(denial.LogInconsistent, "evidence that this log has signed two histories is kept since an earlier look")
		}
	}
	return nil
}

// VerifyEvidence returns nil if a directory holds evidence that the log with the keys has signed two histories. Nothing but the
// directory and the keys is needed. It checks that both checkpoints are of the log (301, 305, 324, 325) and that either their sizes
// are the same and their roots are not, or the path leads to the longer tree from another root than that of the shorter
// one (324).
func VerifyEvidence(dir string, keys []receipt.NoteKey) error {
	var c [2]*receipt.Checkpoint
	for i, name := range []string{nameShorter, nameLonger} {
		raw, err := readSmall(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if c[i], err = receipt.VerifyCheckpoint(raw, keys, nil); err != nil {
			return err
		}
	}
	raw, err := readSmall(filepath.Join(dir, namePath))
	if err != nil {
		return err
	}
	var hashes []receipt.Hash
	for line := range bytes.Lines(raw) {
		h, err := base64.StdEncoding.Strict().DecodeString(string(bytes.TrimSuffix(line, []byte("\n"))))
		if err != nil || len(h) != len(receipt.Hash{}) {
			return denial.New(denial.ReceiptInvalid, "the path is not one")
		}
		hashes = append(hashes, receipt.Hash(h))
	}
	if len(hashes) == 0 || c[0].Origin != c[1].Origin {
		return denial.New(denial.ReceiptInvalid, "the path is empty, or the checkpoints are of two logs")
	}
	if err := c[1].VerifyPrefix(c[0].Size, hashes[0], hashes[1:]); err != nil {
		return err
	}
	if hashes[0] == c[0].Root {
		return denial.New(denial.ReceiptInvalid, "the longer tree begins as the shorter one: this is no evidence of two histories")
	}
	return nil
}

// Keep replaces a file durably, so that after a crash either the old or the new one is there, whole.
func Keep(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return fmt.Errorf("keeping %s: %w", filepath.Base(path), err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("keeping %s: %w", filepath.Base(path), err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("syncing directory: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}
