package tlog

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
)

// The test binary runs itself as a child, which is then killed or starved.
const childEnv = "WRIT_TLOG_CHILD"

func TestMain(m *testing.M) {
	if role := os.Getenv(childEnv); role != "" {
		os.Exit(child(role, os.Args[1]))
	}
	os.Exit(m.Run())
}

func startChild(t testing.TB, role, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0], path)
	cmd.Env = append(os.Environ(), childEnv+"="+role)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}

// child opens the log at path with the key beside it and does what its role says.
func child(role, path string) int {
	der, err := os.ReadFile(path + ".key")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	priv, _ := x509.ParsePKCS8PrivateKey(der)
	signer, err := statement.NewSigner(priv.(*ecdsa.PrivateKey))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if role == "stranger" {
		err = errors.Join(syscall.Setgid(65534), syscall.Setuid(65534))
	}
	var log *Log
	if err == nil {
		log, err = Open(context.Background(), Options{Path: path, Signer: signer, Issuer: testIssuer, LogID: testLog})
	}
	if err != nil {
		fmt.Println("open", denial.Of(err).Reason)
		return 0
	}
	fmt.Println("open ok")
	if role == "starved" {
		signal.Ignore(syscall.SIGXFSZ)
		limit := &syscall.Rlimit{Cur: 300 << 10, Max: 1 << 30}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, limit); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		childAppend(log, 400, 1)
		limit.Cur = limit.Max
		syscall.Setrlimit(syscall.RLIMIT_FSIZE, limit)
		childAppend(log, 1, 1)
		return 0
	}
	if role == "few" {
		childAppend(log, 3, 1)
		if err := log.Close(); err != nil {
			fmt.Println("close", denial.Of(err).Reason)
		}
		return 0
	}
	childAppend(log, 1<<30, 8)
	return 0
}

// childAppend appends pairs of entries from several goroutines and prints one line for each answer: the index, key and
// receipts of what was appended, or the refusal.
func childAppend(log *Log, n, workers int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range n {
				key := fmt.Sprintf("%016x", rand.Uint64())
				done, err := log.Append(context.Background(), pair(key)...)
				mu.Lock()
				if err != nil {
					fmt.Println("refused", denial.Of(err).Reason)
				} else {
					fmt.Printf("appended %d %d %s %x %x\n", done[0].Index, done[0].Time, key, done[0].Receipt, done[1].Receipt)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// pair returns two entries that belong together, with rows that show whether both are there.
func pair(key string) []Entry {
	data := []byte("evidence of " + key)
	return []Entry{
		{Leaf: []byte("permit " + key), Once: []Once{{"request", []byte(key), denial.RequestReplayed}},
			Puts: []Put{{"permit", []byte(key), []byte("first")}}, Bumps: []string{"first"}, Blobs: [][]byte{data}},
		{Leaf: []byte("record " + key), Once: []Once{{"use", []byte(key), denial.ArtifactReplayed}},
			Puts: []Put{{"record", []byte(key), []byte("second")}}, Bumps: []string{"second"}},
	}
}

// acked is one answer that a child printed.
type acked struct {
	index, time uint64
	key         string
	receipts    [2][]byte
}

func parseAck(t testing.TB, line string) (a acked) {
	t.Helper()
	var first, second string
	if _, err := fmt.Sscanf(line, "appended %d %d %s %s %s", &a.index, &a.time, &a.key, &first, &second); err != nil {
		t.Fatalf("line %q: %v", line, err)
	}
	a.receipts[0], _ = hex.DecodeString(first)
	a.receipts[1], _ = hex.DecodeString(second)
	return a
}

// checkAcks checks that everything a child was answered is in the log, under the receipts it was given, and that a
// request cannot be appended again.
func (s *site) checkAcks(acks []acked) {
	s.t.Helper()
	ctx, v := context.Background(), receipt.NewVerifier(s.keys())
	for _, a := range acks {
		for i, e := range pair(a.key) {
			index := a.index + uint64(i)
			entry, err := s.log.Leaf(ctx, index)
			if err != nil || string(entry) != string(e.Leaf) {
				s.t.Fatalf("acknowledged entry %d: got %q, %v, want %q", index, entry, err, e.Leaf)
			}
			p, err := v.Verify(a.receipts[i], entry)
			if err != nil || p.Index != index || p.Time != a.time {
				s.t.Fatalf("receipt of entry %d: %+v, %v", index, p, err)
			}
			if h, err := s.log.HeadOver(ctx, p.Size); err != nil || h.Size != p.Size || h.Root != p.Root {
				s.t.Fatalf("head of %d entries that was handed out: %+v, %v", p.Size, h.Head, err)
			}
		}
	}
	for _, a := range acks[max(0, len(acks)-3):] {
		s.refused(denial.RequestReplayed, pair(a.key)...)
	}
}

// checkPairs checks that no pair is there by half.
func (s *site) checkPairs() {
	s.t.Helper()
	ctx := context.Background()
	var leaves, rows uint64
	count := func(_, _ []byte) error { rows++; return nil }
	err := errors.Join(s.log.Each(ctx, "permit", nil, count), s.log.Each(ctx, "record", nil, count))
	leaves, err2 := s.log.size(ctx)
	first, err3 := s.log.Counter(ctx, "first")
	second, err4 := s.log.Counter(ctx, "second")
	if err := errors.Join(err, err2, err3, err4); err != nil {
		s.t.Fatal(err)
	}
	if leaves%2 != 0 || rows != leaves || first != leaves/2 || second != leaves/2 {
		s.t.Fatalf("%d entries, %d rows, counters %d and %d", leaves, rows, first, second)
	}
}

// A child that appends under load is killed at a random moment, again and again, on one log (T03, T04, R01).
func TestR01_KilledUnderLoadLosesNothing(t *testing.T) {
	cycles := 20
	if testing.Short() {
		cycles = 3
	}
	priv := newKey(t)
	s := &site{t: t, path: filepath.Join(t.TempDir(), "log.db"), token: newToken(t, priv), clock: &clock{}}
	writeKey(t, s.path+".key", priv)
	var all []acked
	for cycle := range cycles {
		cmd, lines := startChild(t, "load", s.path)
		var acks []acked
		for stop := 1 + rand.IntN(60); len(acks) < stop && lines.Scan(); {
			if line := lines.Text(); line != "open ok" {
				acks = append(acks, parseAck(t, line))
			}
		}
		if len(acks) == 0 {
			t.Fatalf("cycle %d: the child appended nothing", cycle)
		}
		cmd.Process.Kill()
		for lines.Scan() { // what was answered before the kill arrived
			if line := lines.Text(); strings.HasSuffix(line, "\n") || complete(line) {
				acks = append(acks, parseAck(t, line))
			}
		}
		cmd.Wait()
		s.clock.seconds.Store(time.Now().Unix() + 1)
		s.open()
		s.checkAcks(acks)
		s.checkPairs()
		s.close()
		all = append(all, acks...)
	}
	s.open()
	s.checkAcks(all)
	s.check()
	s.close()
	t.Logf("%d acknowledged pairs over %d kills", len(all), cycles)
}

// complete reports whether a line was not cut by the kill.
func complete(line string) bool { return len(strings.Fields(line)) == 6 }

// The file system refuses to let the files grow: a write fails with a real error of the kernel.
func TestT06_WriteErrorOfTheKernelLatchesTheLog(t *testing.T) {
	priv := newKey(t)
	s := &site{t: t, path: filepath.Join(t.TempDir(), "log.db"), token: newToken(t, priv), clock: &clock{}}
	writeKey(t, s.path+".key", priv)
	_, lines := startChild(t, "starved", s.path)
	var acks []acked
	refused := 0
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "appended") && refused > 0:
			t.Fatal("the log went on after a failed write")
		case strings.HasPrefix(line, "appended"):
			acks = append(acks, parseAck(t, line))
		case line == "refused AUDIT_UNAVAILABLE":
			refused++
		case line != "open ok":
			t.Fatalf("got %q", line)
		}
	}
	if len(acks) == 0 || refused < 2 {
		t.Fatalf("got %d appended and %d refused", len(acks), refused)
	}
	s.clock.seconds.Store(time.Now().Unix() + 1)
	s.open()
	s.checkAcks(acks)
	s.checkPairs()
	s.append(pair("after")...)
	s.check()
	s.close()
}

func TestT08_SecondProcessIsRefused(t *testing.T) {
	priv := newKey(t)
	s := &site{t: t, path: filepath.Join(t.TempDir(), "log.db"), token: newToken(t, priv), clock: &clock{}}
	writeKey(t, s.path+".key", priv)
	s.clock.seconds.Store(testStart)
	s.open()
	defer s.close()
	_, lines := startChild(t, "second", s.path)
	if !lines.Scan() || lines.Text() != "open STORE_FAULT" {
		t.Errorf("got %q, want STORE_FAULT", lines.Text())
	}
}

func TestT01_DirectoryThatCannotBeWritten(t *testing.T) {
	if os.Getuid() != 0 {
		t.Log("not root: the child stays who it is")
	}
	priv := newKey(t)
	dir := t.TempDir()
	s := &site{t: t, path: filepath.Join(dir, "log.db"), token: newToken(t, priv), clock: &clock{}}
	writeKey(t, s.path+".key", priv)
	s.clock.seconds.Store(testStart)
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, state := range []string{"empty", "with a log"} {
		if state == "with a log" {
			s.open()
			s.appendN(2)
			s.close()
		}
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
		role := "stranger"
		if os.Getuid() != 0 {
			role = "second"
		}
		_, lines := startChild(t, role, s.path)
		if !lines.Scan() || lines.Text() != "open AUDIT_UNAVAILABLE" {
			t.Errorf("%s: got %q, want AUDIT_UNAVAILABLE", state, lines.Text())
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// The files of a running log are copied, as after a power cut, and cut or changed at many places. Either all that was
// acknowledged is there, or the log does not open.
func TestT05_TornFiles(t *testing.T) {
	s := newSite(t)
	s.append(pair("first")...)
	s.close() // puts something into the database itself
	s.open()
	var keys []string
	for i := range 6 {
		keys = append(keys, fmt.Sprint(i))
		s.append(pair(keys[i])...)
	}
	image := s.crashed()
	acknowledged := fileSize(t, image.path+"-wal")
	s.tornEverywhere(image, "-wal")
	s.tornEverywhere(image, "")
	whole := s.crashed() // one whose database holds everything
	whole.open()
	whole.close()
	s.tornEverywhere(whole, "")

	// What is committed behind the last acknowledged entry may be torn anywhere: the log opens.
	mark, err := os.ReadFile(s.path + ".mark")
	if err != nil {
		t.Fatal(err)
	}
	s.append(pair("not acknowledged")...)
	image = s.crashed()
	if err := os.WriteFile(image.path+".mark", mark, 0o600); err != nil {
		t.Fatal(err)
	}
	size := fileSize(t, image.path+"-wal")
	for at := acknowledged; at <= size; at += max(1, (size-acknowledged)/25) {
		if s.torn(image, "-wal", func(f *os.File) error { return f.Truncate(at) }) != 1 {
			t.Errorf("cut at %d of %d, behind what was acknowledged: does not open", at, size)
		}
	}
}

// tornEverywhere cuts and changes one file of the image at about 40 places.
func (s *site) tornEverywhere(image *site, suffix string) {
	s.t.Helper()
	size, opened, tried := fileSize(s.t, image.path+suffix), 0, 0
	for at := int64(0); at < size; at += max(1, size/40) {
		opened += s.torn(image, suffix, func(f *os.File) error { return f.Truncate(at) })
		opened += s.torn(image, suffix, func(f *os.File) error {
			_, err := f.WriteAt([]byte{0xa5, 0x5a, 0xa5}, at)
			return err
		})
		tried += 2
	}
	s.t.Logf("log.db%s of %d bytes: %d of %d damaged copies opened with everything in them", suffix, size, opened, tried)
}

func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// torn damages one file of a copy of the image and opens it. It returns 1 if the log opened, having checked that all
// acknowledged pairs are there.
func (s *site) torn(image *site, suffix string, damage func(*os.File) error) int {
	s.t.Helper()
	dir, err := os.MkdirTemp(s.t.TempDir(), "torn")
	if err != nil {
		s.t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	c := &site{t: s.t, path: filepath.Join(dir, "log.db"), token: s.token, clock: s.clock}
	for _, each := range []string{"", "-wal", ".mark"} {
		if _, err := os.Stat(image.path + each); err == nil {
			copyFile(s.t, image.path+each, c.path+each)
		}
	}
	f, err := os.OpenFile(c.path+suffix, os.O_RDWR, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := errors.Join(damage(f), f.Close()); err != nil {
		s.t.Fatal(err)
	}
	log, err := Open(context.Background(), c.options())
	if err != nil {
		if !denial.Is(err, denial.StoreFault) && !denial.Is(err, denial.LogInconsistent) {
			s.t.Fatalf("got %v, want STORE_FAULT or LOG_INCONSISTENT", err)
		}
		return 0
	}
	c.log = log
	defer log.Close()
	if err := log.Scrub(context.Background()); err != nil { // damage in a page that opening does not read
		if !denial.Is(err, denial.StoreFault) && !denial.Is(err, denial.LogInconsistent) {
			s.t.Fatalf("scrub: got %v, want STORE_FAULT or LOG_INCONSISTENT", err)
		}
		return 0
	}
	c.checkPairs()
	for _, key := range []string{"first", "0", "3", "5"} {
		c.refused(denial.RequestReplayed, pair(key)...)
	}
	return 1
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
