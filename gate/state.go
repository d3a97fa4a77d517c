package gate

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// The files of a state directory. Whoever can write them can make this gate refuse, and can make it forget uses; the
// issuer consumes each use too, and refuses a chain that does not continue (X13).
const (
	keyFile   = "gate.key" // TPM blob of the gate key
	usesFile  = "uses"     // one line a use
	chainFile = "chain"    // place in the chain of records, and what waits for its receipt
	keysFile  = "keys"     // the newest key history of the issuer that was followed; empty before the first
	lockFile  = "lock"
)

type state struct{ dir string }

// chain is the gate's place in its chain of records.
type chain struct {
	Epoch    []byte            `cbor:"1,keyasint"`
	Next     uint64            `cbor:"2,keyasint"`
	Previous []byte            `cbor:"3,keyasint"`
	InFlight []byte            `cbor:"4,keyasint"` // the next record, signed and perhaps sent: the issuer may have logged it
	Waiting  [][]byte          `cbor:"5,keyasint"` // encoded records that come after it, unsigned
	Seen     map[string]uint64 `cbor:"6,keyasint"` // status list URI to the newest iat accepted
}

// maxSeen is how many status lists a gate remembers: of more than two million artifacts.
const maxSeen = 32

// Reserve makes the directory that Init will fill, and refuses one that holds the state of a gate. Call it before the gate key is
// enrolled: enrolling another key ends the one of a gate that is there.
func Reserve(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making gate state: %w", err)
	}
	if _, err := os.Lstat((&state{dir}).path(chainFile)); err == nil {
		return fmt.Errorf("making gate state: %s holds the state of a gate already; name a fresh directory", dir)
	}
	return nil
}

// Init makes a state directory with the gate key. It refuses to replace one. A gate whose state is lost or damaged
// starts over with a fresh directory and a freshly enrolled key, never with the old key: the issuer knows where the
// chain of that key stands.
func Init(dir string, key *attester.Key) error {
	if err := Reserve(dir); err != nil {
		return err
	}
	s := &state{dir}
	if err := key.Save(s.path(keyFile)); err != nil {
		return err
	}
	c := chain{Epoch: make([]byte, 16), Seen: map[string]uint64{}}
	if _, err := rand.Read(c.Epoch); err != nil {
		return fmt.Errorf("making epoch: %w", err)
	}
	for _, name := range []string{usesFile, keysFile} {
		if err := s.replace(name, nil); err != nil {
			return err
		}
	}
	return s.saveChain(&c)
}

// openState refuses a directory that others can write to, one that has lost a file (508), and one with something else than files of the
// same kind in their places: a FIFO would hold the lock for ever, and what a symbolic link leads to may be another's to write.
func openState(dir string) (*state, error) {
	s := &state{dir}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, denial.New(denial.StateRollback, "the gate has no state directory: its history is not known")
	}
	if !ours(info) {
		return nil, fmt.Errorf("opening gate state: %s must belong to the gate's user and be writable by no other", dir)
	}
	for _, name := range []string{keyFile, usesFile, keysFile, chainFile} {
		info, err := os.Lstat(s.path(name))
		if err != nil {
			return nil, denial.New(denial.StateRollback, "the gate's state has no %s: its history is not known", name)
		}
		if !info.Mode().IsRegular() || !ours(info) {
			return nil, fmt.Errorf("opening gate state: %s must be a regular file that belongs to the gate's user and is writable by no other", s.path(name))
		}
	}
	_, err = s.loadChain()
	return s, err
}

// ours reports whether a file or directory belongs to this user and no other may write to it.
func ours(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode().Perm()&0o022 == 0 && st.Uid == uint32(os.Geteuid())
}

func (s *state) path(name string) string { return filepath.Join(s.dir, name) }

// lockPoll is how often a lock that another holds is tried.
const lockPoll = 5 * time.Millisecond

// lock takes the state for this process and goroutine, or gives up when ctx ends. The returned function gives it back;
// calling it again does nothing.
func (s *state) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(s.path(lockFile), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking gate state: %w", err)
	}
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return sync.OnceFunc(func() { f.Close() }), nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			break
		}
		select {
		case <-time.After(lockPoll):
			continue
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		break
	}
	f.Close()
	return nil, fmt.Errorf("locking gate state: %w", err)
}

// replace writes a file whole and durably.
func (s *state) replace(name string, data []byte) error {
	tmp, err := os.CreateTemp(s.dir, "."+name)
	if err != nil {
		return fmt.Errorf("writing gate state: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), s.path(name))
	}
	if err == nil {
		err = s.syncDir()
	}
	if err != nil {
		return fmt.Errorf("writing gate state: %w", err)
	}
	return nil
}

func (s *state) syncDir() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (s *state) loadChain() (*chain, error) {
	data, err := os.ReadFile(s.path(chainFile))
	if err != nil {
		return nil, denial.New(denial.StateRollback, "the gate's chain cannot be read")
	}
	var c chain
	sum, body := data[:min(32, len(data))], data[min(32, len(data)):]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:]) || statement.Unmarshal(body, &c) != nil || len(c.Epoch) != 16 {
		return nil, denial.New(denial.StateRollback, "the gate's chain is damaged")
	}
	return &c, nil
}

func (s *state) saveChain(c *chain) error {
	data, err := statement.Marshal(c)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	return s.replace(chainFile, append(sum[:], data...))
}

// see remembers the time of a status list, so that no older one is accepted again.
func (s *state) see(c *chain, uri string, issued uint64) error {
	if c.Seen[uri] >= issued {
		return nil
	}
	if c.Seen == nil {
		c.Seen = map[string]uint64{}
	}
	c.Seen[uri] = issued
	if len(c.Seen) > maxSeen {
		oldest := uri
		for u, t := range c.Seen {
			if t < c.Seen[oldest] {
				oldest = u
			}
		}
		delete(c.Seen, oldest)
	}
	return s.saveChain(c)
}

// pending returns how many records wait for a receipt.
func (s *state) pending() int {
	c, err := s.loadChain()
	switch {
	case err != nil:
		return 0
	case c.InFlight != nil:
		return len(c.Waiting) + 1
	}
	return len(c.Waiting)
}
