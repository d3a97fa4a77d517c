package gate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/governed-execution/writ/denial"
)

const (
	maxJournal  = 1 << 20        // bytes beyond which old uses are dropped
	keptExpired = 24 * time.Hour // for how long after its artifact's expiry a use is kept
)

// spent is one use of an artifact: a line of the journal.
type spent struct {
	cti     string // hexadecimal
	n       uint64 // 1 for the first use
	expires uint64 // of the artifact
}

// line returns the line with its checksum, which finds damage, not malice.
func (u spent) line() string {
	text := fmt.Sprintf("%s %d %d", u.cti, u.n, u.expires)
	sum := sha256.Sum256([]byte(text))
	return text + " " + hex.EncodeToString(sum[:8]) + "\n"
}

func parseSpent(line string) (spent, error) {
	fields := strings.Fields(line)
	if len(fields) == 4 {
		n, err1 := strconv.ParseUint(fields[1], 10, 64)
		expires, err2 := strconv.ParseUint(fields[2], 10, 64)
		if u := (spent{fields[0], n, expires}); err1 == nil && err2 == nil && u.line() == line {
			return u, nil
		}
	}
	return spent{}, denial.New(denial.StateRollback, "the gate's journal of uses is damaged")
}

// consume appends a use of the artifact to the journal, synced, and returns its number, unless most are used already:
// then it returns a number above most and writes nothing. A missing or damaged journal is STATE_ROLLBACK; only a last
// line without its end, which no use can have been granted on, is dropped.
func (s *state) consume(cti []byte, expires, most uint64, now time.Time) (uint64, error) {
	journal, err := s.readJournal(now)
	if err != nil {
		return 0, err
	}
	next := spent{cti: hex.EncodeToString(cti), n: 1, expires: expires}
	for _, u := range journal {
		if u.cti == next.cti {
			next.n = max(next.n, u.n+1)
		}
	}
	if next.n > most {
		return next.n, nil
	}
	return next.n, s.append(next)
}

// append writes a use down, durably.
func (s *state) append(u spent) error {
	f, err := os.OpenFile(s.path(usesFile), os.O_WRONLY|os.O_APPEND|unix.O_CLOEXEC, 0)
	if err != nil {
		return denial.New(denial.StateRollback, "the gate's journal of uses cannot be opened")
	}
	defer f.Close()
	if _, err = f.WriteString(u.line()); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return denial.New(denial.StoreFault, "the use cannot be written down")
	}
	return nil
}

// readJournal returns the uses in the journal. It rewrites a journal that ends in a torn line, and one that has grown
// and is at least half of uses that nobody can ask for any more.
func (s *state) readJournal(now time.Time) ([]spent, error) {
	data, err := os.ReadFile(s.path(usesFile))
	if err != nil {
		return nil, denial.New(denial.StateRollback, "the gate's journal of uses cannot be read")
	}
	whole := data[:bytes.LastIndexByte(data, '\n')+1]
	var uses []spent
	var live strings.Builder
	for line := range strings.Lines(string(whole)) {
		u, err := parseSpent(line)
		if err != nil {
			return nil, err
		}
		uses = append(uses, u)
		if !now.After(time.Unix(int64(u.expires), 0).Add(keptExpired)) {
			live.WriteString(line)
		}
	}
	switch {
	case len(whole) > maxJournal && live.Len() <= len(whole)/2:
		err = s.replace(usesFile, []byte(live.String()))
	case len(whole) < len(data):
		err = s.replace(usesFile, whole)
	}
	if err != nil {
		return nil, denial.New(denial.StoreFault, "the gate's journal of uses cannot be rewritten")
	}
	return uses, nil
}
