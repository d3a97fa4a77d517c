package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/firmware-policy/predict"
)

// Variant is one way in which a machine differs from the honest one, and what must come of it.
type Variant struct {
	Name    string
	What    string        // what differs, for people
	Core    bool          // booted by make test-vm
	Base    string        // the machine that it is compared with, and whose policy decides; itself, for a base; default good
	Moves   []int         // PCRs that differ from those of the base, of those that are quoted
	Refused string        // what firmware shows when it refuses to boot; "" if it boots
	Enrol   denial.Reason // why its TPM cannot be enrolled; 0 if it can
	Verify  denial.Reason // why attest.Verify gives no facts; 0 if it gives them
	Decide  denial.Reason // what the baseline policy denies facts with; 0 if it allows the machine
	Bank    string        // default sha256

	make func(context.Context, *Lab, string) (*Made, error)
}

// Made is a machine ready to be switched on, with the prediction of its boot, nil where nothing predicts it.
type Made struct {
	Boot       Boot
	Prediction *predict.Prediction
}

// Variants returns the honest machine and then all variants.
func Variants() []Variant {
	return []Variant{
		{Name: "good", What: "the honest machine: Secure Boot with keys of its own, a signed unified kernel image", Core: true, make: booted(nil)},
		{Name: "command-line", What: "one more word on the kernel command line", Core: true, Moves: []int{4, 9, 11}, Decide: denial.EventUnexpected,
			make: booted(func(_ *Lab, u *UKI) error { u.CommandLine += " debug"; return nil })},
		{Name: "initrd", What: "one more file in the initrd", Moves: []int{4, 9, 11}, Decide: denial.EventUnexpected,
			make: booted(func(l *Lab, u *UKI) (err error) {
				u.Initrd, err = l.Initrd(File{"etc/motd", 0o644, []byte("changed\n")})
				return err
			})},
		{Name: "kernel", What: "one byte of a text in the kernel", Moves: []int{4, 11}, Decide: denial.EventUnexpected, make: booted(changeKernel)},
		{Name: "rollback", What: "an older image, signed with the right key", Core: true, Moves: []int{4, 11}, Decide: denial.EventUnexpected,
			make: booted(func(_ *Lab, u *UKI) error { u.Release = "ID=writ\nVERSION_ID=1\n"; return nil })},
		{Name: "secure-boot-off", What: "the same image, Secure Boot switched off", Core: true, Moves: []int{4, 7}, Decide: denial.SecureBootOff,
			make: withKeys(func(l *Lab) (SecureBoot, error) { sb := l.Keys(); sb.Off = true; return sb, nil })},
		{Name: "unsigned", What: "the same image without a signature", Core: true, Refused: accessDenied, make: signedWith(nil)},
		{Name: "other-signer", What: "signed with a key that is not in db", Refused: accessDenied, make: signedWith(func(l *Lab) *Key { return l.Other })},
		{Name: "revoked", What: "the digest of the image is in dbx", Core: true, Refused: accessDenied, make: withKeys(func(l *Lab) (SecureBoot, error) { return l.revoking(l.Good) })},
		{Name: "dbx-other", What: "another digest is in dbx", Moves: []int{7}, Decide: denial.RevocationDBStale,
			make: withKeys(func(l *Lab) (SecureBoot, error) { return l.revoking(l.Deps.Stub) })},
		{Name: "db-other", What: "a second key is in db", Moves: []int{7}, Decide: denial.SecureBootKeys, make: withKeys(twoKeys)},
		{Name: "firmware", What: "another build of the firmware", Moves: []int{0}, Decide: denial.PCRNotAllowed, make: otherFirmware},
		{Name: "memory", What: "512 MiB of memory instead of 384", make: equipped(func(b *Boot) { b.Memory = 512 })},
		{Name: "processors", What: "two processors instead of one", Moves: []int{0}, Decide: denial.PCRNotAllowed, make: equipped(func(b *Boot) { b.CPUs = 2 })},
		{Name: "kernel-path", What: "Secure Boot on, the kernel handed to firmware with -kernel", Moves: []int{1, 4, 7, 9, 11}, Verify: denial.SecureBootKeys,
			make: direct(CommandLine, false)},
		{Name: "kernel-path-evil", What: "the same with an unsigned kernel and lockdown=none", Core: true, Moves: []int{1, 4, 7, 9, 11}, Verify: denial.SecureBootKeys,
			make: direct(evilCommandLine, true)},
		{Name: "partition-table", What: "the image on a disk with a GUID partition table", Moves: []int{5}, make: partitioned},
		{Name: "sha384", What: "a TPM with two banks, quoted in SHA-384", Base: "sha384", Bank: "sha384", make: twoBanks},
		{Name: "empty-tpm", What: "a TPM that no vendor has certified", Enrol: denial.EKUntrusted, make: emptyTPM},
		{Name: "shim-grub", What: "another honest machine: shim, GRUB and a kernel as Debian signs them", Base: "shim-grub", make: debian(debianBoot{})},
		{Name: "shim-grub-line", What: "one more word on the kernel command line", Base: "shim-grub", Moves: []int{8, 9}, Decide: denial.EventUnexpected,
			make: debian(debianBoot{line: " debug"})},
		{Name: "shim-grub-older", What: "an older kernel that Debian has signed, too", Base: "shim-grub", Moves: []int{4, 9}, Decide: denial.EventUnexpected,
			make: debian(debianBoot{older: true})},
		{Name: "shim-grub-off", What: "no Secure Boot: GRUB starts the kernel in a way that leaves the event log empty", Base: "shim-grub",
			Moves: []int{4, 7}, Verify: denial.NoEvidence, make: debian(debianBoot{off: true})},
	}
}

// evilCommandLine switches off what protects a kernel with Secure Boot.
var evilCommandLine = strings.Replace(CommandLine, "lockdown=integrity", "lockdown=none evil=1", 1)

// accessDenied is what EDK II shows when an image does not pass Secure Boot.
const accessDenied = "Access Denied"

// image builds, and unless key is nil signs, a unified kernel image that differs from the good one by edit.
func (l *Lab) image(ctx context.Context, dir string, edit func(*Lab, *UKI) error, key *Key) (string, error) {
	u := UKI{Kernel: l.Deps.Kernel, Initrd: l.initrd, CommandLine: CommandLine, Release: "ID=writ\nVERSION_ID=2\n"}
	if edit != nil {
		if err := edit(l, &u); err != nil {
			return "", err
		}
	}
	path, err := u.Build(ctx, l.Deps, dir, "uki")
	if err != nil || key == nil {
		return path, err
	}
	return Sign(ctx, path, key)
}

// prepare makes a machine for an image and these variables, with the prediction of its boot if firmware will start it.
func (l *Lab) prepare(ctx context.Context, dir, image string, sb SecureBoot, bank string) (*Made, error) {
	b, err := l.Machine(ctx, dir, image, sb)
	if err != nil {
		return nil, err
	}
	m := &Made{Boot: b}
	raw, err := os.ReadFile(image)
	if err != nil {
		return nil, err
	}
	if p, err := predict.UKI(raw, sb.Expect(), bank); err == nil {
		m.Prediction = p
	}
	return m, nil
}

func booted(edit func(*Lab, *UKI) error) func(context.Context, *Lab, string) (*Made, error) {
	return func(ctx context.Context, l *Lab, dir string) (*Made, error) {
		image := l.Good
		if edit != nil {
			var err error
			if image, err = l.image(ctx, dir, edit, l.DB); err != nil {
				return nil, err
			}
		}
		return l.prepare(ctx, dir, image, l.Keys(), "sha256")
	}
}

func signedWith(key func(*Lab) *Key) func(context.Context, *Lab, string) (*Made, error) {
	return func(ctx context.Context, l *Lab, dir string) (*Made, error) {
		var k *Key
		if key != nil {
			k = key(l)
		}
		image, err := l.image(ctx, dir, nil, k)
		if err != nil {
			return nil, err
		}
		return l.prepare(ctx, dir, image, l.Keys(), "sha256")
	}
}

func withKeys(keys func(*Lab) (SecureBoot, error)) func(context.Context, *Lab, string) (*Made, error) {
	return func(ctx context.Context, l *Lab, dir string) (*Made, error) {
		sb, err := keys(l)
		if err != nil {
			return nil, err
		}
		return l.prepare(ctx, dir, l.Good, sb, "sha256")
	}
}

func equipped(edit func(*Boot)) func(context.Context, *Lab, string) (*Made, error) {
	return func(ctx context.Context, l *Lab, dir string) (*Made, error) {
		m, err := l.prepare(ctx, dir, l.Good, l.Keys(), "sha256")
		if err == nil {
			edit(&m.Boot)
		}
		return m, err
	}
}

// revoking returns the keys of an honest machine with the digest of an image in dbx.
func (l *Lab) revoking(path string) (SecureBoot, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return SecureBoot{}, err
	}
	image, err := predict.ParseImage(raw)
	if err != nil {
		return SecureBoot{}, err
	}
	return l.Keys(predict.SignatureList(predict.CertSHA256, owner, image.Authenticode(sha256))...), nil
}

func twoKeys(l *Lab) (SecureBoot, error) {
	sb := l.Keys()
	sb.DB = append(sb.DB, predict.SignatureList(predict.CertX509, owner, l.Other.Cert)...)
	return sb, nil
}

// changeKernel changes a text that only a BIOS would show.
func changeKernel(l *Lab, u *UKI) error {
	raw, err := os.ReadFile(u.Kernel)
	if err != nil {
		return err
	}
	at := bytes.Index(raw, []byte("No setup signature found"))
	if at < 0 {
		return errors.New("changing the kernel: it does not have the text")
	}
	raw[at] = 'n'
	dir, err := l.Scratch()
	if err != nil {
		return err
	}
	u.Kernel = filepath.Join(dir, "vmlinuz")
	return os.WriteFile(u.Kernel, raw, 0o600)
}

func otherFirmware(ctx context.Context, l *Lab, dir string) (*Made, error) {
	m, err := l.prepare(ctx, dir, l.Good, l.Keys(), "sha256")
	if err != nil {
		return nil, err
	}
	m.Boot.Firmware = "/usr/share/OVMF/OVMF_CODE.fd"
	return m, WriteVariables("/usr/share/OVMF/OVMF_VARS.fd", m.Boot.Variables, l.Keys())
}

// direct hands kernel and initrd to the firmware, which starts a kernel that db does not admit all the same (CVE-2025-2296).
// The kernel is Debian's, whose key is not in db, or a changed one, which nobody has signed.
func direct(commandLine string, changed bool) func(context.Context, *Lab, string) (*Made, error) {
	return func(ctx context.Context, l *Lab, dir string) (*Made, error) {
		m, err := l.prepare(ctx, dir, l.Good, l.Keys(), "sha256")
		if err != nil {
			return nil, err
		}
		u := UKI{Kernel: l.Deps.Kernel}
		if changed {
			if err := changeKernel(l, &u); err != nil {
				return nil, err
			}
		}
		initrd := filepath.Join(dir, "initrd")
		m.Boot.Disk, m.Prediction = "", nil
		m.Boot.Direct = &Direct{Kernel: u.Kernel, Initrd: initrd, CommandLine: commandLine}
		return m, os.WriteFile(initrd, l.initrd, 0o600)
	}
}

// partitioned puts the file system into a partition that begins at 1 MiB.
func partitioned(ctx context.Context, l *Lab, dir string) (*Made, error) {
	m, err := l.prepare(ctx, dir, l.Good, l.Keys(), "sha256")
	if err != nil {
		return nil, err
	}
	fs, err := os.ReadFile(m.Boot.Disk)
	if err != nil {
		return nil, err
	}
	const start = 1 << 20
	disk := make([]byte, start+len(fs)+start)
	copy(disk[start:], fs)
	if err := os.WriteFile(m.Boot.Disk, disk, 0o600); err != nil {
		return nil, err
	}
	table := fmt.Sprintf("label: gpt\nlabel-id: 5b193300-fc78-40cd-8002-e86c45580b47\nstart=2048, size=%d, type=U, uuid=6a898cc3-1dd2-11b2-99a6-080020736631\n", len(fs)/512)
	if err := toolWith(ctx, table, "sfdisk", "-q", m.Boot.Disk); err != nil {
		return nil, err
	}
	// What sfdisk does not write is still as it was: the file system.
	return m, nil
}

// debianBoot says how a machine of Debian's own parts differs from the usual.
type debianBoot struct {
	line  string // appended to the command line
	older bool   // the kernel before the newest
	off   bool   // without Secure Boot keys
}

// debian boots with shim, GRUB and a kernel that GRUB reads from the disk.
func debian(how debianBoot) func(context.Context, *Lab, string) (*Made, error) {
	return func(ctx context.Context, l *Lab, dir string) (*Made, error) {
		m, err := l.prepare(ctx, dir, l.Good, SecureBoot{}, "sha256")
		if err != nil {
			return nil, err
		}
		m.Prediction = nil
		variables, kernel := "/usr/share/OVMF/OVMF_VARS_4M.ms.fd", l.Deps.Kernel
		if how.off {
			variables = l.Deps.Variables
		}
		if how.older {
			kernel = l.Deps.Older
		}
		store, err := os.ReadFile(variables)
		if err != nil {
			return nil, err
		}
		config := "search --file /vmlinuz --set=root\nlinux /vmlinuz " + CommandLine + how.line + "\ninitrd /initrd\nboot\n"
		err = errors.Join(os.WriteFile(m.Boot.Variables, store, 0o600), os.WriteFile(filepath.Join(dir, "grub.cfg"), []byte(config), 0o600),
			os.WriteFile(filepath.Join(dir, "initrd"), l.initrd, 0o600))
		if err != nil {
			return nil, err
		}
		return m, Disk(ctx, m.Boot.Disk, filepath.Join(l.Deps.Cache, "shim/usr/lib/shim/shimx64.efi.signed"), map[string]string{
			"/EFI/BOOT/grubx64.efi": filepath.Join(l.Deps.Cache, "grub/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"),
			"/EFI/debian/grub.cfg":  filepath.Join(dir, "grub.cfg"),
			"/vmlinuz":              kernel,
			"/initrd":               filepath.Join(dir, "initrd"),
		})
	}
}

// emptyTPM gives the machine a TPM without anything: it makes seeds of its own when it is switched on.
func emptyTPM(ctx context.Context, l *Lab, dir string) (*Made, error) {
	m, err := l.prepare(ctx, dir, l.Good, l.Keys(), "sha256")
	if err != nil {
		return nil, err
	}
	return m, errors.Join(os.RemoveAll(m.Boot.TPM), os.Mkdir(m.Boot.TPM, 0o700))
}

// base returns the name of the machine that a variant is compared with.
func (v Variant) base() string {
	if v.Base == "" {
		return "good"
	}
	return v.Base
}

// twoBanks gives the machine a TPM of its own, whose banks are SHA-256 and SHA-384.
func twoBanks(ctx context.Context, l *Lab, dir string) (*Made, error) {
	m, err := l.prepare(ctx, dir, l.Good, l.Keys(), "sha384")
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(m.Boot.TPM); err != nil {
		return nil, err
	}
	m.Boot.TPM = filepath.Join(dir, "two", "state")
	return m, l.manufacture(ctx, filepath.Join(dir, "two"), "sha256", "sha384")
}
