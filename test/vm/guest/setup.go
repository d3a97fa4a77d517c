package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mountAll mounts the file systems of the kernel and, if there is a second disk, the ext4 file system on it at /data.
func mountAll() error {
	for _, m := range []struct{ source, target, kind string }{
		{"proc", "/proc", "proc"},
		{"sys", "/sys", "sysfs"},
		{"dev", "/dev", "devtmpfs"},
		{"sec", "/sys/kernel/security", "securityfs"},
		{"tmp", "/tmp", "tmpfs"},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return fmt.Errorf("making %s: %w", m.target, err)
		}
		if err := unix.Mount(m.source, m.target, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	disk, err := findDisk("data")
	if err != nil || disk == "" {
		return err
	}
	if err := os.MkdirAll("/data", 0o755); err != nil {
		return fmt.Errorf("making /data: %w", err)
	}
	if err := unix.Mount(disk, "/data", "ext4", 0, ""); err != nil {
		return fmt.Errorf("mounting /data: %w", err)
	}
	return nil
}

// findDisk returns the NVMe disk with the given serial number, "" if there is none. The kernel looks for disks while it
// starts /init, so that the first look may come too early: as long as a controller has no disk yet, it looks again.
func findDisk(serial string) (string, error) {
	for deadline := time.Now().Add(10 * time.Second); ; {
		controllers, err := filepath.Glob("/sys/class/nvme/nvme*")
		if err != nil {
			return "", err
		}
		missing := false
		for _, c := range controllers {
			text, err := os.ReadFile(c + "/serial")
			if err != nil || len(text) < len(serial) || string(text[:len(serial)]) != serial {
				continue
			}
			disk := "/dev/" + filepath.Base(c) + "n1"
			if _, err := os.Stat(disk); err == nil {
				return disk, nil
			}
			missing = true
		}
		if !missing {
			return "", nil
		}
		if time.Now().After(deadline) {
			return "", errors.New("waiting for the data disk: it does not come")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// startNetwork loads the modules in /modules and configures eth0 for QEMU's user network. It does nothing if the image has
// no modules. The file names are numbered in the order of their dependence.
func startNetwork() error {
	modules, err := filepath.Glob("/modules/*.ko")
	if err != nil || len(modules) == 0 {
		return err
	}
	for _, path := range modules {
		if err := loadModule(path); err != nil {
			return err
		}
	}
	for _, c := range []struct {
		name string
		ip   net.IP
		mask net.IPMask
	}{
		{"lo", net.IPv4(127, 0, 0, 1), net.CIDRMask(8, 32)},
		{"eth0", net.IPv4(10, 0, 2, 15), net.CIDRMask(24, 32)},
	} {
		if err := configure(c.name, c.ip, c.mask); err != nil {
			return fmt.Errorf("configuring %s: %w", c.name, err)
		}
	}
	return nil
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("loading %s: %w", filepath.Base(path), err)
	}
	return nil
}

// configure gives an interface an IPv4 address and takes it up.
func configure(name string, ip net.IP, mask net.IPMask) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, set := range []struct {
		request uint
		value   []byte
	}{{unix.SIOCSIFADDR, ip.To4()}, {unix.SIOCSIFNETMASK, mask}} {
		r, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := r.SetInet4Addr(set.value); err != nil {
			return err
		}
		if err := interfaceControl(fd, set.request, r); err != nil {
			return err
		}
	}
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return interfaceControl(fd, unix.SIOCSIFFLAGS, r)
}

func interfaceControl(fd int, request uint, r *unix.Ifreq) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(unsafe.Pointer(r))); errno != 0 {
		return errno
	}
	return nil
}

// openSerial opens a serial port without echo or any change of bytes.
func openSerial(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("reading the settings of %s: %w", path, err)
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("setting %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}
