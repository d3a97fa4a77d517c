package vm

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// UKI is what a unified kernel image is made of: systemd-stub with the rest as sections.
type UKI struct {
	Kernel      string // path
	Initrd      []byte
	CommandLine string
	Release     string // text of the section .osrel
}

// Build writes the image, without a signature, and returns its path.
func (u UKI) Build(ctx context.Context, d *Deps, dir, name string) (string, error) {
	out := filepath.Join(dir, name+".efi")
	args := []string{}
	for _, s := range []struct {
		name    string
		address int
		data    []byte
		path    string
	}{
		{".osrel", 0x20000, []byte(u.Release), ""},
		{".cmdline", 0x30000, []byte(u.CommandLine), ""},
		{".linux", 0x2000000, nil, u.Kernel},
		{".initrd", 0x4000000, u.Initrd, ""},
	} {
		if s.path == "" {
			s.path = filepath.Join(dir, name+s.name)
			if err := os.WriteFile(s.path, s.data, 0o600); err != nil {
				return "", fmt.Errorf("writing section: %w", err)
			}
		}
		args = append(args, "--add-section", s.name+"="+s.path, "--change-section-vma", s.name+"="+strconv.Itoa(s.address))
	}
	return out, tool(ctx, "objcopy", append(args, d.Stub, out)...)
}

// Sign writes a signed copy of an image and returns its path.
func Sign(ctx context.Context, image string, k *Key) (string, error) {
	out := image + ".signed"
	return out, tool(ctx, "sbsign", "--key", k.KeyPEM, "--cert", k.CertPEM, "--output", out, image)
}

// Disk writes a FAT file system with an image where firmware looks for one, and returns its path. More files may be added
// under their paths.
func Disk(ctx context.Context, path string, image string, more map[string]string) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("making disk: %w", err)
	}
	if err := f.Truncate(64 << 20); err != nil {
		f.Close()
		return fmt.Errorf("making disk: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("making disk: %w", err)
	}
	if err := tool(ctx, "mformat", "-i", path, "-F", "-v", "ESP", "::"); err != nil {
		return err
	}
	if err := tool(ctx, "mmd", "-i", path, "::/EFI", "::/EFI/BOOT", "::/EFI/debian"); err != nil {
		return err
	}
	if err := tool(ctx, "mcopy", "-i", path, image, "::/EFI/BOOT/BOOTX64.EFI"); err != nil {
		return err
	}
	for _, to := range slices.Sorted(maps.Keys(more)) {
		if err := tool(ctx, "mcopy", "-i", path, more[to], "::"+to); err != nil {
			return err
		}
	}
	return nil
}

// DataDisk writes an ext4 file system with the content of a directory, empty if none is given.
func DataDisk(ctx context.Context, path, content string) error {
	args := []string{"-q", "-t", "ext4"}
	if content != "" {
		args = append(args, "-d", content)
	}
	return tool(ctx, "mke2fs", append(args, path, "64M")...)
}

// tool runs a program of the distribution.
func tool(ctx context.Context, name string, args ...string) error {
	return toolWith(ctx, "", name, args...)
}

// toolWith runs a program of the distribution that reads a text.
func toolWith(ctx context.Context, text, name string, args ...string) error {
	path, err := findProgram(name)
	if err != nil {
		return fmt.Errorf("running %s: %w", name, err)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("running %s: %w: %s", name, err, bytes.TrimSpace(out[max(0, len(out)-600):]))
	}
	return nil
}
