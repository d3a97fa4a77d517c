package vm

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"github.com/governed-execution/writ/firmware-policy/predict"
	"github.com/governed-execution/writ/test/swtpm"
)

// CommandLine is the kernel command line of an honest machine. With rootfstype=ramfs IMA sees the files of the initrd,
// which on the usual tmpfs its built-in policy passes over.
const CommandLine = "console=ttyS0 rootfstype=ramfs ima_policy=tcb ima_hash=sha256 lockdown=integrity panic=-1"

// Lab is what all machines of one run share: keys, the guest program, and a TPM from the factory. It may be used by
// several goroutines.
type Lab struct {
	Deps  *Deps
	Dir   string
	Guest []byte // the program /init
	PK    *Key   // also the only entry of KEK
	DB    *Key   // may sign what boots
	Other *Key   // in no variable
	TPM   *swtpm.TPM
	Good  string // path of the signed image of an honest machine

	initrd []byte // of the good image
	boots  atomic.Int64
}

// NewLab makes a lab in a directory, whose path must be short.
func NewLab(ctx context.Context, dir string) (*Lab, error) {
	deps, err := FindDeps()
	if err != nil {
		return nil, err
	}
	l := &Lab{Deps: deps, Dir: dir}
	for name, key := range map[string]**Key{"pk": &l.PK, "db": &l.DB, "other": &l.Other} {
		if *key, err = NewKey(dir, name); err != nil {
			return nil, err
		}
	}
	if l.Guest, err = BuildProgram(ctx, dir, "./test/vm/guest"); err != nil {
		return nil, err
	}
	if l.initrd, err = l.Initrd(); err != nil {
		return nil, err
	}
	if l.Good, err = l.image(ctx, dir, nil, l.DB); err != nil {
		return nil, err
	}
	if l.TPM, err = swtpm.Start(ctx, filepath.Join(dir, "tpm"), swtpm.Options{CA: filepath.Join(dir, "ca")}); err != nil {
		return nil, err
	}
	return l, l.TPM.Stop()
}

// manufacture makes another TPM of the lab's vendor, with the given banks, and leaves it off.
func (l *Lab) manufacture(ctx context.Context, dir string, banks ...string) error {
	t, err := swtpm.Start(ctx, dir, swtpm.Options{CA: filepath.Join(l.Dir, "ca"), Banks: banks})
	if err != nil {
		return err
	}
	return t.Stop()
}

// BuildProgram builds a package of this module as a static program and returns it.
func BuildProgram(ctx context.Context, dir, pkg string) ([]byte, error) {
	out := filepath.Join(dir, filepath.Base(pkg)+".program")
	gomod, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, fmt.Errorf("finding the module: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -buildid=", "-o", out, pkg)
	cmd.Dir = string(gomod[:len(gomod)-1])
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building %s: %w: %s", pkg, err, text)
	}
	return os.ReadFile(out)
}

// Initrd returns an initrd with the guest program and more files.
func (l *Lab) Initrd(more ...File) ([]byte, error) {
	return Initrd(append([]File{{"init", 0o755, l.Guest}}, more...))
}

const sha256 = crypto.SHA256

// owner is the SignatureOwner of all signatures of a lab.
var owner = predict.MustGUID("b0c0ffee-5a5a-4b4b-8c8c-777269740001")

// Keys returns the Secure Boot variables of an honest machine of the lab. More signature lists may be forbidden.
func (l *Lab) Keys(dbx ...byte) SecureBoot {
	pk := predict.SignatureList(predict.CertX509, owner, l.PK.Cert)
	return SecureBoot{PK: pk, KEK: pk, DB: predict.SignatureList(predict.CertX509, owner, l.DB.Cert), DBX: dbx}
}

// Scratch makes a fresh directory with a short path for one boot.
func (l *Lab) Scratch() (string, error) {
	dir := filepath.Join(l.Dir, strconv.FormatInt(l.boots.Add(1), 10))
	return dir, os.Mkdir(dir, 0o700)
}

// Machine prepares a boot of an image by a machine of its own: fresh variables, and a copy of the factory's TPM.
func (l *Lab) Machine(ctx context.Context, dir, image string, sb SecureBoot) (Boot, error) {
	b := Boot{Firmware: l.Deps.Firmware, Variables: filepath.Join(dir, "vars.fd"), TPM: filepath.Join(dir, "tpm"), Disk: filepath.Join(dir, "boot.img")}
	if err := WriteVariables(l.Deps.Variables, b.Variables, sb); err != nil {
		return Boot{}, err
	}
	if err := os.CopyFS(b.TPM, os.DirFS(filepath.Join(l.Dir, "tpm", "state"))); err != nil {
		return Boot{}, fmt.Errorf("copying TPM: %w", err)
	}
	return b, Disk(ctx, b.Disk, image, nil)
}

// Expect returns the Secure Boot variables in the form of a prediction.
func (sb SecureBoot) Expect() predict.Keys {
	return predict.Keys{Enabled: len(sb.PK) > 0 && !sb.Off, PK: sb.PK, KEK: sb.KEK, DB: sb.DB, DBX: sb.DBX}
}

// SignedImage builds an image with the guest program and more files, signed with the key in db, and returns its path.
func (l *Lab) SignedImage(ctx context.Context, name, commandLine string, more ...File) (string, error) {
	initrd, err := l.Initrd(more...)
	if err != nil {
		return "", err
	}
	path, err := UKI{Kernel: l.Deps.Kernel, Initrd: initrd, CommandLine: commandLine, Release: "ID=writ\nVERSION_ID=" + name + "\n"}.Build(ctx, l.Deps, l.Dir, name)
	if err != nil {
		return "", err
	}
	signed, err := Sign(ctx, path, l.DB)
	if err != nil {
		return "", err
	}
	return path, os.Rename(signed, path)
}

// networkModules are the kernel's modules for a virtio network card, in the order of their dependence.
var networkModules = []string{"drivers/virtio/virtio_ring.ko", "drivers/virtio/virtio.ko", "drivers/virtio/virtio_pci_modern_dev.ko",
	"drivers/virtio/virtio_pci_legacy_dev.ko", "drivers/virtio/virtio_pci.ko", "net/core/failover.ko", "drivers/net/net_failover.ko", "drivers/net/virtio_net.ko"}

// NetworkModules returns what the guest needs in its initrd to bring the network up.
func (l *Lab) NetworkModules() ([]File, error) {
	var files []File
	for i, name := range networkModules {
		data, err := os.ReadFile(filepath.Join(l.Deps.Modules, name))
		if err != nil {
			return nil, fmt.Errorf("reading module: %w", err)
		}
		files = append(files, File{fmt.Sprintf("modules/%d-%s", i, filepath.Base(name)), 0o644, data})
	}
	return files, nil
}
