package gate

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// OwnCgroup in place of a directory is the control group that the gate itself runs in.
const OwnCgroup = "own"

// cgroup is the control group (v2) of one run: what is in it is killed as a whole, and nothing leaves it by forking. Its
// directory is locked while a gate or keeper goes on with it, so that one that nobody keeps any more is known.
type cgroup struct {
	path string
	dir  *os.File
}

const cgroupPrefix = "writ-"

// newCgroup makes a control group below base, which must be delegated to this user. It kills what is left in those whose gate and
// keeper have been killed.
func newCgroup(base string) (*cgroup, error) {
	if base == OwnCgroup {
		var err error
		if base, err = ownCgroup(); err != nil {
			return nil, err
		}
	}
	abandoned, err := filepath.Glob(filepath.Join(base, cgroupPrefix+"*"))
	if err != nil {
		return nil, fmt.Errorf("looking for control groups: %w", err)
	}
	for _, path := range abandoned {
		if c, err := openCgroup(path); err == nil { // or else somebody keeps it, or has removed it
			c.end()
		}
	}
	var name [8]byte
	if _, err := rand.Read(name[:]); err != nil {
		return nil, fmt.Errorf("naming control group: %w", err)
	}
	path := filepath.Join(base, cgroupPrefix+hex.EncodeToString(name[:]))
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, fmt.Errorf("making control group: %w", err)
	}
	c, err := openCgroup(path)
	if err != nil {
		os.Remove(path)
	}
	return c, err
}

// openCgroup locks a control group. Another file system than that of control groups is none.
func openCgroup(path string) (*cgroup, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening control group: %w", err)
	}
	var fs unix.Statfs_t
	if err = unix.Fstatfs(int(dir.Fd()), &fs); err == nil && fs.Type != unix.CGROUP2_SUPER_MAGIC {
		err = errors.New("it is not on a file system of type cgroup2")
	}
	if err == nil {
		err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		dir.Close()
		return nil, fmt.Errorf("taking control group %s: %w", path, err)
	}
	return &cgroup{path, dir}, nil
}

// ownCgroup returns the directory of this process's control group (cgroups(7)).
func ownCgroup() (string, error) {
	memberships, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("finding own control group: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("finding own control group: %w", err)
	}
	for line := range strings.Lines(string(memberships)) {
		path, unified := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		for mount := range strings.Lines(string(mounts)) {
			where, kind, _ := strings.Cut(mount, " - ")
			if fields := strings.Fields(where); unified && strings.HasPrefix(kind, "cgroup2 ") && len(fields) > 4 {
				return filepath.Join(fields[4], path), nil
			}
		}
	}
	return "", errors.New("finding own control group: this host has no control groups of version 2")
}

// file returns the descriptor that a program is started into, nil of no control group.
func (c *cgroup) file() *os.File {
	if c == nil {
		return nil
	}
	return c.dir
}

// end kills what is in the control group, waits until nothing is, and removes it.
func (c *cgroup) end() {
	if c == nil {
		return
	}
	defer c.dir.Close()
	killCgroup(int(c.dir.Fd()))
	for c.populated() {
		killCgroup(int(c.dir.Fd()))
	}
	removeCgroup(c.path) // one that the program has put something into is left for the next run
}

// killCgroup kills everything in a control group. What cannot be killed so is found to be there still.
func killCgroup(dir int) {
	fd, err := unix.Openat(dir, "cgroup.kill", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_, _ = unix.Write(fd, []byte("1"))
}

// populated waits for a change, at most a second, while there is something in the control group, and reports whether there was.
func (c *cgroup) populated() bool {
	f, err := os.Open(filepath.Join(c.path, "cgroup.events"))
	if err != nil {
		return false
	}
	defer f.Close()
	buf := make([]byte, 256)
	n, err := f.Read(buf)
	if err != nil || !strings.Contains(string(buf[:n]), "populated 1") {
		return false
	}
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}, 1000)
	return true
}

// removeCgroup removes a control group with those below it.
func removeCgroup(path string) {
	entries, _ := os.ReadDir(path)
	for _, e := range entries {
		if e.IsDir() {
			removeCgroup(filepath.Join(path, e.Name()))
		}
	}
	_ = os.Remove(path)
}
