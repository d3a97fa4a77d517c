package gate

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// The files of a state directory. Whoever can write them can make this gate refuse, and can make it forget uses; the
// issuer consumes each use too, and refuses a chain that does not continue (X13).
const (
	keyFile   = "gate.key" // TPM blob of the gate key
	usesFile  = "uses"     // one line a use: append only
	chainFile = "chain"    // place in the chain of records, and the record that waits for its receipt
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

// MaxWaiting is how many records a gate keeps while the issuer cannot be reached. Beyond it every command is refused.
const MaxWaiting = 1024

// Init makes a state directory with the gate key. It refuses to replace one.
func Init(dir string, key *attester.Key) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making gate state: %w", err)
	}
	s := &state{dir}
	if _, err := os.Stat(s.path(chainFile)); err == nil {
		return fmt.Errorf("making gate state: %s holds the state of a gate already", dir)
	}
	if err := key.Save(s.path(keyFile)); err != nil {
		return err
	}
	c := chain{Epoch: make([]byte, 16), Seen: map[string]uint64{}}
	if _, err := rand.Read(c.Epoch); err != nil {
		return fmt.Errorf("making epoch: %w", err)
	}
	if err := s.replace(usesFile, nil); err != nil {
		return err
	}
	return s.saveChain(&c)
}

func openState(dir string) (*state, error) {
	s := &state{dir}
	for _, name := range []string{keyFile, usesFile, chainFile} {
		if _, err := os.Stat(s.path(name)); err != nil {
			return nil, denial.New(denial.StateRollback, "the gate's state has no %s: its history is not known", name)
		}
	}
	_, err := s.loadChain()
	return s, err
}

func (s *state) path(name string) string { return filepath.Join(s.dir, name) }

// lock takes the state for this process and goroutine. The returned function gives it back, once.
func (s *state) lock() (unlock func(), err error) {
	f, err := os.OpenFile(s.path(lockFile), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking gate state: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking gate state: %w", err)
	}
	return sync.OnceFunc(func() { f.Close() }), nil
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
	if len(data) < 32 || sha256.Sum256(data[32:]) != [32]byte(data[:32]) || statement.Unmarshal(data[32:], &c) != nil || len(c.Epoch) != 16 {
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

// seen returns the newest iat accepted of a status list, and see raises it.
func (s *state) seen(uri string) uint64 {
	c, err := s.loadChain()
	if err != nil {
		return 1 << 62 // no history: nothing is new enough
	}
	return c.Seen[uri]
}

func (s *state) see(uri string, issued uint64) error {
	c, err := s.loadChain()
	if err != nil || c.Seen[uri] >= issued {
		return err
	}
	if c.Seen == nil || len(c.Seen) >= 32 {
		c.Seen = map[string]uint64{}
	}
	c.Seen[uri] = issued
	return s.saveChain(c)
}

// pending returns how many records wait for a receipt.
func (s *state) pending() int {
	c, err := s.loadChain()
	if err != nil {
		return 0
	}
	if c.InFlight != nil {
		return len(c.Waiting) + 1
	}
	return len(c.Waiting)
}

// consume appends a use of the artifact to the journal, synced, and returns its number, unless most are used already:
// then it returns a number above most and writes nothing. A damaged journal is STATE_ROLLBACK; only a last line without
// its end, which no use can have been granted on, is dropped.
func (s *state) consume(cti []byte, expires, most uint64) (uint64, error) {
	f, err := os.OpenFile(s.path(usesFile), os.O_RDWR|os.O_APPEND|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, denial.New(denial.StateRollback, "the gate's journal of uses cannot be opened")
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return 0, denial.New(denial.StoreFault, "the gate's journal of uses cannot be read")
	}
	if end := bytes.LastIndexByte(data, '\n') + 1; end < len(data) {
		if err := f.Truncate(int64(end)); err != nil {
			return 0, denial.New(denial.StoreFault, "the gate's journal of uses cannot be mended")
		}
		data = data[:end]
	}
	used, err := countUses(data, hex.EncodeToString(cti))
	if err != nil {
		return 0, err
	}
	if used >= most {
		return most + 1, nil
	}
	if _, err = f.WriteString(useLine(hex.EncodeToString(cti), used+1, expires)); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return 0, denial.New(denial.StoreFault, "the use cannot be written down")
	}
	return used + 1, nil
}

func useLine(cti string, n, expires uint64) string {
	line := fmt.Sprintf("%s %d %d", cti, n, expires)
	sum := sha256.Sum256([]byte(line))
	return line + " " + hex.EncodeToString(sum[:8]) + "\n"
}

func countUses(data []byte, cti string) (used uint64, err error) {
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) != 4 {
			return 0, denial.New(denial.StateRollback, "the gate's journal of uses is damaged")
		}
		n, err1 := strconv.ParseUint(fields[1], 10, 64)
		expires, err2 := strconv.ParseUint(fields[2], 10, 64)
		if err1 != nil || err2 != nil || useLine(fields[0], n, expires) != line {
			return 0, denial.New(denial.StateRollback, "the gate's journal of uses is damaged")
		}
		if fields[0] == cti {
			used = max(used, n)
		}
	}
	return used, nil
}
