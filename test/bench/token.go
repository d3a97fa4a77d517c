package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/governed-execution/writ/custody"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/softhsm"
	"github.com/governed-execution/writ/test/tpmtoken"
)

// device is a PKCS#11 token without keys.
type device struct {
	module, label, pinFile string
	env                    []string // NAME=VALUE: what a process must have to find the token
	aim                    float64  // of its own raw rate
	stop                   func() error
}

// devices make a token of a kind in a directory. A further kind is one more entry here.
var devices = map[string]func(ctx context.Context, dir string) (*device, error){"softhsm": newSoftHSM, "tpm2-pkcs11": newTPM}

// isDevice tells whether a token of a kind is one beside the machine, whose work is not that of the processes that use it.
func isDevice(kind string) bool { return kind == "tpm2-pkcs11" }

func newSoftHSM(_ context.Context, dir string) (*device, error) {
	t, err := softhsm.Init(dir)
	if err != nil {
		return nil, err
	}
	return &device{module: t.Module, label: t.Label, pinFile: t.PINFile, env: t.Env(), aim: 0.40, stop: func() error { return nil }}, nil
}

// newTPM makes a token of a TPM in software. Its processes have a core: a TPM is a device of its own.
func newTPM(ctx context.Context, dir string) (*device, error) {
	if err := tpmtoken.Available(); err != nil {
		return nil, err
	}
	t, err := tpmtoken.Init(ctx, dir)
	if err != nil {
		return nil, err
	}
	if err := enclose(t.Processes()...); err != nil {
		return nil, errors.Join(err, t.Stop())
	}
	return &device{module: t.Module, label: t.Label, pinFile: t.PINFile, env: t.Env(), aim: 0.80, stop: t.Stop}, nil
}

// place is where the keys are used.
type place int

const (
	inProcess place = iota // in the issuer's own process, by package hsm
	apart                  // in a signer process, by package custody: as writd serve does
	places
)

func (p place) String() string { return [...]string{"in process", "signer process"}[p] }

// placesOf returns the places that -keys names.
func placesOf(name string) ([]place, error) {
	switch name {
	case "":
		return []place{inProcess, apart}, nil
	case "process":
		return []place{inProcess}, nil
	case "apart":
		return []place{apart}, nil
	}
	return nil, fmt.Errorf("choosing keys: no place %q", name)
}

// custodian is what both places have in common.
type custodian interface {
	Signer(ctx context.Context, p hsm.Purpose, pinned statement.Thumbprint) (statement.Signer, error)
	Close() error
}

// token is a device that is in use, in both places at once.
type token struct {
	*device
	direct *hsm.Token
	in     [places]custodian
	keys   map[hsm.Purpose]statement.Key
	child  int // id of the signer process
	use    atomic.Int32
}

// openToken makes a device of a kind, points this process at it, and logs in twice.
func openToken(ctx context.Context, kind, dir string) (*token, error) {
	open, ok := devices[kind]
	if !ok {
		return nil, fmt.Errorf("opening token: no kind %q", kind)
	}
	d, err := open(ctx, filepath.Join(dir, "token"))
	if err != nil {
		return nil, err
	}
	t := &token{device: d}
	if err := t.login(ctx); err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

func (t *token) login(ctx context.Context) (err error) {
	for _, v := range t.env {
		name, value, _ := strings.Cut(v, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	if t.direct, err = hsm.Open(ctx, hsm.Config{Module: t.module, Token: t.label, PIN: hsm.PINFromFile(t.pinFile)}); err != nil {
		return err
	}
	t.in[inProcess] = t.direct
	t.keys = map[hsm.Purpose]statement.Key{}
	for _, p := range hsm.Purposes() { // before the other process logs in: not every module sees later what another one makes
		if t.keys[p], err = t.direct.Create(ctx, p); err != nil {
			return err
		}
	}
	process, err := custody.Open(ctx, custody.Config{Module: t.module, Token: t.label, PINFile: t.pinFile})
	if err != nil {
		return err
	}
	t.in[apart] = process
	t.child, err = childWith(signerCommand)
	return err
}

// signerCommand is the argument with which package custody has this program be its signer process.
const signerCommand = "signer"

// signer returns the use of the key for a purpose.
func (t *token) signer(ctx context.Context, p hsm.Purpose) (s *switched, err error) {
	s = &switched{use: &t.use}
	for i, c := range t.in {
		if s.of[i], err = c.Signer(ctx, p, t.keys[p].Thumbprint()); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// at has all keys used in a place from now on.
func (t *token) at(p place) { t.use.Store(int32(p)) }

// cpuTime returns the CPU time that this process and the signer process have used.
func (t *token) cpuTime() time.Duration { return cpuTime() + cpuTimeOf(t.child) }

func (t *token) close() (err error) {
	for _, c := range t.in {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
	}
	return errors.Join(err, t.stop())
}

// switched is a key that is used where the token says. It counts its signatures.
type switched struct {
	of         [places]statement.Signer
	use        *atomic.Int32
	signatures atomic.Int64
}

// Key returns the public key.
func (s *switched) Key() statement.Key { return s.of[0].Key() }

// Sign has the token sign.
func (s *switched) Sign(ctx context.Context, tbs statement.ToBeSigned) ([]byte, error) {
	s.signatures.Add(1)
	return s.of[s.use.Load()].Sign(ctx, tbs)
}

// childWith returns the id of the process that this one started with an argument.
func childWith(arg string) (int, error) {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, path := range all {
		line, err := os.ReadFile(path)
		if args := strings.Split(string(line), "\x00"); err != nil || len(args) < 2 || args[1] != arg {
			continue
		}
		id, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if stat := statOf(id); err == nil && len(stat) > 1 && stat[1] == strconv.Itoa(os.Getpid()) {
			return id, nil
		}
	}
	return 0, fmt.Errorf("finding the %s process: there is none", arg)
}

// statOf returns the fields of /proc/ID/stat from the third on, nil if there is no such process.
func statOf(id int) []string {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
	_, rest, _ := strings.Cut(string(raw), ") ") // behind the name, which may hold blanks
	return strings.Fields(rest)
}

// cpuTimeOf returns the CPU time that another process has used, to a hundredth of a second.
func cpuTimeOf(id int) time.Duration {
	const user, system, tick = 11, 12, time.Second / 100
	stat := statOf(id)
	if len(stat) <= system {
		return 0
	}
	u, _ := strconv.Atoi(stat[user])
	s, _ := strconv.Atoi(stat[system])
	return time.Duration(u+s) * tick
}
