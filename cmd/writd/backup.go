package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/tlog"
)

func backupCommand(path *string) *cobra.Command {
	return &cobra.Command{
		Use:   "backup DIRECTORY",
		Short: "Copy the log, as it is at one moment, and check the copy",
		Long: `Backup makes a new directory with a copy of the log and of the files beside it: the mark, and where they are kept the anchor
of the TPM's counter and the last checkpoint. Then it reads the copy from end to end, as fsck does. It needs no token, and
writd may be serving meanwhile. A directory that is there is whole and checked.

Not in it are the configuration, the TLS key and the PIN, which are kept elsewhere, and the keys, which only the means of
the token can copy.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := loadConfig(*path)
			if err != nil {
				return err
			}
			size, err := c.backup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return output(cmd, map[string]any{"directory": args[0], "entries": size}, fmt.Sprintf("%d entries copied to %s and checked", size, args[0]))
		},
	}
}

// backup copies the files beside the log first: they may say less than the log does, but never more.
func (c *config) backup(ctx context.Context, dir string) (size uint64, err error) {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return 0, errors.Join(fmt.Errorf("%w: %s is there already", errMisuse, dir), err)
	}
	half, err := os.MkdirTemp(filepath.Dir(filepath.Clean(dir)), ".backup-")
	if err != nil {
		return 0, fmt.Errorf("making backup: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(half))
		}
	}()
	to := filepath.Join(half, filepath.Base(c.Log))
	for _, beside := range []string{".anchor", ".checkpoint"} {
		if err := copyFile(c.Log+beside, to+beside); err != nil {
			return 0, err
		}
	}
	if err := tlog.Backup(ctx, c.Log, to); err != nil {
		return 0, err
	}
	copied := *c
	copied.Log = to
	if size, err = copied.check(ctx); err != nil {
		return 0, err
	}
	if err := os.Rename(half, dir); err != nil {
		return 0, fmt.Errorf("naming backup: %w", err)
	}
	return size, nil
}

// copyFile copies a file, durably, if it is there.
func copyFile(from, to string) error {
	data, err := command.ReadFile(from, command.Small)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("copying: %w", err)
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("copying: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("copying: %w", err)
	}
	return nil
}

// fsck is check of a log beside its mark: who serves it takes nothing if entries are missing (906), so neither is it said to be whole.
func (c *config) fsck(ctx context.Context) (size uint64, err error) {
	var marked receipt.Head
	if _, err := os.Stat(c.Log + ".mark"); err == nil { // read first: writd may be serving, and raise both
		if marked, err = tlog.Marked(c.Log); err != nil {
			return 0, err
		}
	}
	if size, err = c.check(ctx); err == nil && size < marked.Size {
		return 0, denial.New(denial.StoreFault, "the log has lost acknowledged entries: it holds %d, its mark says %d", size, marked.Size)
	}
	return size, err
}

// check reads the whole log, under the log keys that have followed from genesis, and returns the number of its entries.
func (c *config) check(ctx context.Context) (size uint64, err error) {
	view, err := tlog.OpenReadOnly(ctx, c.Log)
	if err != nil {
		return 0, err
	}
	defer view.Close()
	for {
		g, ring, err := c.readKeys(ctx)
		if err != nil {
			return 0, err
		}
		if size, err = view.Check(ctx, ring.Of(record.PurposeLog), g.Issuer, g.Log); err != nil {
			return 0, err
		}
		_, now, err := c.readKeys(ctx)
		if err != nil {
			return 0, err
		}
		if now.Head() == ring.Head() { // or else a key was changed meanwhile
			if err := issuer.CheckKeys(ctx, view, size, ring); err != nil {
				return 0, err
			}
			return issuer.CheckRows(ctx, view.Reader, view.View)
		}
	}
}
