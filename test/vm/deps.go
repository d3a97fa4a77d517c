package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

// Deps says where the parts are that come in packages of the distribution.
type Deps struct {
	Firmware  string // OVMF code
	Variables string // an OVMF variable store without keys
	Stub      string // systemd-stub
	Kernel    string // newest
	Older     string // another one that Debian has signed
	Modules   string // directory of the kernel's modules
	Cache     string // where make vm-deps unpacks kernels
}

// programs are what must be on PATH.
var programs = []string{"qemu-system-x86_64", "swtpm", "swtpm_setup", "swtpm_localca", "objcopy", "sbsign", "mformat", "mmd", "mcopy", "mke2fs", "sfdisk", "tpm2_checkquote"}

// FindDeps returns where the parts are, or an error that names all that are missing.
func FindDeps() (*Deps, error) {
	var missing []string
	for _, p := range programs {
		if _, err := findProgram(p); err != nil {
			missing = append(missing, p)
		}
	}
	d := &Deps{Firmware: "/usr/share/OVMF/OVMF_CODE_4M.fd", Variables: "/usr/share/OVMF/OVMF_VARS_4M.fd",
		Stub: "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"}
	for _, f := range []string{d.Firmware, d.Variables, d.Stub} {
		if _, err := os.Stat(f); err != nil {
			missing = append(missing, f)
		}
	}
	if err := d.findKernel(); err != nil {
		missing = append(missing, err.Error())
	}
	if missing != nil {
		return nil, fmt.Errorf("missing %s: run make vm-deps", strings.Join(missing, ", "))
	}
	return d, nil
}

// findProgram finds a program also where only root's PATH leads.
func findProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	return path, err
}

// CacheDir returns the directory in which make vm-deps unpacks kernels: WRIT_VM_CACHE, or writ-vm in the user's cache.
func CacheDir() (string, error) {
	if dir := os.Getenv("WRIT_VM_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "writ-vm"), err
}

func (d *Deps) findKernel() (err error) {
	if d.Cache, err = CacheDir(); err != nil {
		return err
	}
	kernels, err := filepath.Glob(d.Cache + "/linux/boot/vmlinuz-*-cloud-amd64")
	if err != nil {
		return err
	}
	if len(kernels) == 0 {
		return errors.New("a kernel in " + d.Cache)
	}
	sort.Strings(kernels)
	d.Kernel = kernels[len(kernels)-1]
	release := strings.TrimPrefix(filepath.Base(d.Kernel), "vmlinuz-")
	d.Modules = filepath.Join(d.Cache, "linux/lib/modules", release, "kernel")
	older, err := filepath.Glob(d.Cache + "/older/boot/vmlinuz-*-cloud-amd64")
	if err != nil {
		return err
	}
	if len(older) == 0 {
		return errors.New("an older kernel in " + d.Cache)
	}
	d.Older = older[len(older)-1]
	_, err = os.Stat(d.Modules)
	return err
}
