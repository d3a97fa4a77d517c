package vm

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"path"
	"slices"
	"strings"
)

// File is one file of an initrd.
type File struct {
	Path string // without a leading slash
	Mode uint32 // permissions
	Data []byte
}

// Initrd returns a gzipped cpio archive ("newc") of the files and of the directories that they are in. Equal files give
// equal bytes: there are no times, owners or names of the machine that makes it in it.
func Initrd(files []File) ([]byte, error) {
	var archive bytes.Buffer
	inode := 0
	entry := func(name string, mode uint32, data []byte) {
		inode++
		fmt.Fprintf(&archive, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
		archive.WriteString(name + "\x00")
		pad(&archive)
		archive.Write(data)
		pad(&archive)
	}
	var made []string
	for _, f := range files {
		for _, dir := range parents(f.Path) {
			if !slices.Contains(made, dir) {
				made = append(made, dir)
				entry(dir, 0o040755, nil)
			}
		}
		entry(f.Path, 0o100000|f.Mode, f.Data)
	}
	entry("TRAILER!!!", 0, nil)
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := zip.Write(archive.Bytes()); err != nil {
		return nil, fmt.Errorf("compressing initrd: %w", err)
	}
	if err := zip.Close(); err != nil {
		return nil, fmt.Errorf("compressing initrd: %w", err)
	}
	return out.Bytes(), nil
}

// pad fills up to a multiple of four bytes.
func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}

// parents returns the directories above a path, outermost first.
func parents(name string) []string {
	dir := path.Dir(name)
	if dir == "." {
		return nil
	}
	var out []string
	for i, r := range dir + "/" {
		if r == '/' {
			out = append(out, strings.TrimSuffix(dir[:i], "/"))
		}
	}
	return out
}
