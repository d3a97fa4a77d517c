package vm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/governed-execution/writ/test/vm/talk"
)

// Boot says what a machine is made of.
type Boot struct {
	Firmware  string   // OVMF code
	Variables string   // variable store; the machine writes to it
	TPM       string   // state directory of a software TPM that is off; the machine writes to it
	Disk      string   // FAT file system to boot from; not written to
	Data      string   // ext4 file system for /data, written to; "" for none
	Network   bool     // a network card and the host at 10.0.2.2
	Direct    *Direct  // start a kernel through the firmware's -kernel path, not from a disk
	Memory    int      // MiB; default 384
	CPUs      int      // default 1
	More      []string // further arguments of QEMU
}

// Direct is a kernel that QEMU hands to the firmware.
type Direct struct{ Kernel, Initrd, CommandLine string }

// Machine is a machine that is switched on.
type Machine struct {
	tpm     *child
	qemu    *child
	console *console
	port    net.Conn
	in      *bufio.Reader
}

// Start switches a machine on. The caller must Close it.
func Start(ctx context.Context, b Boot) (*Machine, error) {
	m := &Machine{console: newConsole()}
	if err := m.start(ctx, b); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// start connects the processes by pairs of sockets that they inherit: there is no path that could be too long, and nobody
// has to wait until somebody listens.
func (m *Machine) start(ctx context.Context, b Boot) error {
	tpmEnd, controlEnd, err := socketPair()
	if err != nil {
		return err
	}
	defer tpmEnd.Close()
	defer controlEnd.Close()
	serialEnd, ourEnd, err := socketPair()
	if err != nil {
		return err
	}
	defer serialEnd.Close()
	defer ourEnd.Close()
	if m.port, err = net.FileConn(ourEnd); err != nil {
		return fmt.Errorf("connecting the serial port: %w", err)
	}
	m.in = bufio.NewReaderSize(m.port, 1<<16)
	if m.tpm, err = spawn(newConsole(), []*os.File{tpmEnd}, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+b.TPM, "--ctrl", "type=unixio,clientfd=3"); err != nil {
		return err
	}
	m.qemu, err = spawn(m.console, []*os.File{controlEnd, serialEnd}, "qemu-system-x86_64", b.arguments(3, 4)...)
	return err
}

// socketPair returns the two ends of a connection.
func socketPair() (a, b *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making sockets: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket"), nil
}

// arguments are those of QEMU. Emulation in software is asked for by name, because /dev/kvm may be there and not work.
func (b Boot) arguments(control, serial int) []string {
	accel := "tcg"
	if v := os.Getenv("VM_ACCEL"); v != "" {
		accel = v
	}
	args := []string{"-machine", "q35,smm=off,accel=" + accel, "-cpu", "max", "-m", strconv.Itoa(orElse(b.Memory, 384)), "-smp", strconv.Itoa(orElse(b.CPUs, 1)),
		"-nodefaults", "-no-user-config", "-display", "none", "-global", "ICH9-LPC.disable_s3=1",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + b.Firmware,
		"-drive", "if=pflash,format=raw,unit=1,file=" + b.Variables,
		"-chardev", "socket,id=ctpm,fd=" + strconv.Itoa(control), "-tpmdev", "emulator,id=tpm0,chardev=ctpm", "-device", "tpm-tis,tpmdev=tpm0",
		"-chardev", "stdio,id=con,signal=off", "-serial", "chardev:con",
		"-chardev", "socket,id=data,fd=" + strconv.Itoa(serial), "-serial", "chardev:data"}
	if b.Disk != "" {
		args = append(args, "-drive", "if=none,id=d0,format=raw,snapshot=on,file="+b.Disk, "-device", "nvme,drive=d0,serial=boot,bootindex=0")
	}
	if b.Data != "" {
		args = append(args, "-drive", "if=none,id=d1,format=raw,cache=unsafe,file="+b.Data, "-device", "nvme,drive=d1,serial=data")
	}
	if b.Network {
		args = append(args, "-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,romfile=")
	} else {
		args = append(args, "-net", "none")
	}
	if d := b.Direct; d != nil {
		args = append(args, "-kernel", d.Kernel, "-initrd", d.Initrd, "-append", d.CommandLine)
	}
	return append(args, b.More...)
}

func orElse(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

// Ready waits until the guest has started.
func (m *Machine) Ready(ctx context.Context) error {
	for {
		line, err := m.line(ctx)
		if err != nil {
			return fmt.Errorf("waiting for the guest: %w\n%s", err, m.console.tail(2000))
		}
		if strings.TrimSpace(string(line)) == talk.Ready {
			return nil
		}
	}
}

// Ask has the guest do something and returns its reply. What went wrong in the guest is an error; how a program ended there
// is not.
func (m *Machine) Ask(ctx context.Context, q talk.Request) (*talk.Reply, error) {
	enc, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	if _, err := m.port.Write(append(enc, '\n')); err != nil {
		return nil, fmt.Errorf("asking the guest: %w", err)
	}
	line, err := m.line(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking the guest to %s: %w\n%s", q.Op, err, m.console.tail(2000))
	}
	var r talk.Reply
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, fmt.Errorf("reading the guest's reply: %w", err)
	}
	if r.Fault != "" {
		return nil, fmt.Errorf("asking the guest to %s: it says: %s", q.Op, r.Fault)
	}
	return &r, nil
}

// line reads one line of the serial port, before ctx ends.
func (m *Machine) line(ctx context.Context) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() { _ = m.port.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := m.in.ReadBytes('\n')
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return line, err
}

// Await waits until the console has shown one of the texts, and returns it.
func (m *Machine) Await(ctx context.Context, texts ...string) (string, error) {
	for {
		changed, now := m.console.look()
		for _, t := range texts {
			if strings.Contains(now, t) {
				return t, nil
			}
		}
		select {
		case <-changed:
		case err := <-m.qemu.done:
			m.qemu.done <- err
			return "", fmt.Errorf("waiting for the console: the machine went off: %v\n%s", err, m.console.tail(1000))
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for the console: %w\n%s", ctx.Err(), m.console.tail(2000))
		}
	}
}

// Off asks the guest to switch the machine off, and waits until it has.
func (m *Machine) Off(ctx context.Context) error {
	if _, err := m.Ask(ctx, talk.Request{Op: talk.Off}); err != nil {
		return err
	}
	return errors.Join(m.qemu.wait(ctx), m.tpm.wait(ctx))
}

// Console returns what the machine has shown so far.
func (m *Machine) Console() string {
	_, text := m.console.look()
	return text
}

// Close ends the machine, as if its power failed if it is still on.
func (m *Machine) Close() error {
	var err error
	if m.port != nil {
		err = m.port.Close()
	}
	return errors.Join(err, m.qemu.kill(), m.tpm.kill())
}

// console keeps what a machine shows.
type console struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed at the next write
}

func newConsole() *console { return &console{changed: make(chan struct{})} }

// Write keeps what the machine shows.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
	return c.text.Write(p)
}

func (c *console) look() (<-chan struct{}, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed, c.text.String()
}

func (c *console) tail(n int) string {
	_, text := c.look()
	return text[max(0, len(text)-n):]
}

// child is a process that ends with this one.
type child struct {
	cmd  *exec.Cmd
	done chan error
}

// spawn starts a program, with open files from descriptor 3 on, in a process group of its own. The kernel kills it if this
// process dies.
func spawn(out *console, files []*os.File, name string, args ...string) (*child, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	c := &child{cmd, make(chan error, 1)}
	go func() { c.done <- cmd.Wait() }()
	return c, nil
}

func (c *child) wait(ctx context.Context) error {
	select {
	case err := <-c.done:
		c.done <- nil
		return err
	case <-ctx.Done():
		return fmt.Errorf("waiting for %s to end: %w", c.cmd.Args[0], ctx.Err())
	}
}

// kill ends the program and waits for it. A program that has ended, or never began, is no error.
func (c *child) kill() error {
	if c == nil {
		return nil
	}
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending %s: %w", c.cmd.Args[0], err)
	}
	c.done <- <-c.done
	return nil
}
