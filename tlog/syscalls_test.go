package tlog

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/test/need"
)

// storeCalls are the system calls by which the log reaches its files.
var storeCalls = []string{"openat", "read", "pread64", "write", "pwrite64", "ftruncate", "fsync", "fdatasync", "unlink", "unlinkat", "close", "fcntl", "fstat"}

func straced(t *testing.T) {
	t.Helper()
	if err := exec.Command("strace", "-o", "/dev/null", "-f", "true").Run(); err != nil {
		need.Missing(t, "strace is needed, and the right to trace: %v; test/deps/install installs it", err)
	}
}

// run has a child append with the n-th of a system call injected. It returns what the child was answered, and whether there was
// an n-th.
func (s *site) run(call, fault string, n int) (acks []acked, injected bool) {
	s.t.Helper()
	trace := s.path + ".trace"
	args := []string{"-f", "-qq", "-o", trace, "-e", "trace=" + call, "-e", fmt.Sprintf("inject=%s:%s:when=%d", call, fault, n)}
	for _, suffix := range []string{"", "-wal", "-shm", ".mark", ".lock"} {
		args = append(args, "-P", s.path+suffix)
	}
	cmd := exec.Command("strace", append(args, os.Args[0], s.path)...)
	cmd.Env = append(os.Environ(), childEnv+"=few", "GOMAXPROCS=1")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the child may be killed, which is the point
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		if line := lines.Text(); strings.HasPrefix(line, "appended") && complete(line) {
			acks = append(acks, parseAck(s.t, line))
		}
	}
	said, err := os.ReadFile(trace)
	if err != nil {
		s.t.Fatalf("strace: %v\n%s", err, errs.String())
	}
	return acks, bytes.Contains(said, []byte("(INJECTED)")) || bytes.Contains(said, []byte("killed by SIGKILL"))
}

// TestR02_EachSystemCallFailsOrIsTheLast has each instance of each system call on the files of the log fail with EIO, or the process killed in
// it, while a child opens the log and appends. Whatever happens: the log opens, passes its scrub, holds all that was acknowledged, nothing by
// half, and goes on. A part of the instances, unless FAULTS is all.
func TestR02_EachSystemCallFailsOrIsTheLast(t *testing.T) {
	straced(t)
	priv := newKey(t)
	seed := &site{t: t, path: filepath.Join(t.TempDir(), "log.db"), token: newToken(t, priv), clock: &clock{}}
	seed.clock.seconds.Store(time.Now().Unix() - 60)
	seed.open()
	seed.append(pair("0000000000000000")...)
	seed.append(pair("0000000000000001")...)
	seed.close()
	step := 29
	if os.Getenv("FAULTS") == "all" {
		step = 1
	}
	runs, acknowledged, count := 0, 0, map[string]int{}
	for _, call := range storeCalls {
		for _, fault := range []string{"error=EIO", "signal=SIGKILL"} {
			for n := 1; ; n += step {
				s := seed.copied(t)
				writeKey(t, s.path+".key", priv)
				acks, injected := s.run(call, fault, n)
				if !injected {
					break
				}
				s.clock.seconds.Store(time.Now().Unix() + 1)
				s.open()
				s.checkAcks(acks)
				s.checkPairs()
				s.append(pair("after")...)
				s.check()
				s.close()
				runs, acknowledged = runs+1, acknowledged+len(acks)
				count[call]++
			}
		}
	}
	t.Logf("%d runs, %d acknowledged pairs: %v", runs, acknowledged, count)
	if runs < 15 || count["pwrite64"]+count["write"] == 0 || count["fsync"]+count["fdatasync"] == 0 || acknowledged == 0 {
		t.Errorf("%d runs with %d acknowledged pairs are not enough to show anything: %v", runs, acknowledged, count)
	}
}
