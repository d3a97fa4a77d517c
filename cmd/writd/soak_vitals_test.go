package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// vitals are what a process has, and what the log has, at one time.
type vitals struct {
	at                                       time.Duration // since the soak began
	memory, heap, files, threads, goroutines float64       // heap and goroutines: writd's alone
	entries, disk, scrubbed                  float64
}

// life is what was seen of one process.
type life struct {
	pid  int
	seen []vitals
}

// bound is how much something may grow. It grows by the slope of a least-squares line through the least of each fortieth of the soak: what is there
// for a moment comes with the load of the machine, and a leak raises the least as well. Processes of a kind that followed each other have one
// slope, and each its own level.
type bound struct {
	process, what string
	of            func(vitals) float64
	unit          float64
	hourly        float64 // what it may grow in an hour, in units
	grain         float64 // and once: how far a line goes up by chance
	why           string
}

func bounds() []bound {
	const (
		cache  = "It holds what is bounded and fills in the first hours (16,384 rows that were looked up, cnf keys that were certified), and what a request holds while it is answered: the history of keys that each gate asks for is longer after each change."
		memory = "It follows the heap in use, times five (see gcPercent), and is given back late on a busy machine."
		pooled = "Idle connections to the database and of HTTP are kept: some more where more came at once."
		none   = "Nothing that lasts is made for a request."
	)
	return []bound{
		{"writd", "resident memory, MiB", func(v vitals) float64 { return v.memory }, 1 << 20, 4, 48, memory},
		{"writd", "heap in use, MiB", func(v vitals) float64 { return v.heap }, 1 << 20, 2, 8, cache},
		{"writd", "descriptors", func(v vitals) float64 { return v.files }, 1, 0.5, 8, pooled},
		{"writd", "goroutines", func(v vitals) float64 { return v.goroutines }, 1, 0.5, 8, none},
		{"writd", "threads", func(v vitals) float64 { return v.threads }, 1, 0.5, 4, none},
		{"signer", "resident memory, MiB", func(v vitals) float64 { return v.memory }, 1 << 20, 2, 16, memory},
		{"signer", "descriptors", func(v vitals) float64 { return v.files }, 1, 0.2, 3, none},
		{"signer", "threads", func(v vitals) float64 { return v.threads }, 1, 0.2, 4, none},
	}
}

// sample looks at the processes again and again, and tells each minute what was seen.
func (s *soak) sample() {
	every := min(max(s.length/300, 100*time.Millisecond), 20*time.Second)
	minutes := time.NewTicker(time.Minute)
	looks := time.NewTicker(every)
	s.wg.Go(func() {
		defer minutes.Stop()
		defer looks.Stop()
		s.look()
		for {
			select {
			case <-looks.C:
				s.look()
			case <-minutes.C:
				s.tell()
			case <-s.halted:
				return
			}
		}
	})
}

func (s *soak) look() {
	s.keep("writd", s.serving.Process.Pid, s.vitals())
	if pids := s.signers(); len(pids) == 1 && s.signer.Load()%2 == 0 {
		if v, err := processVitals(pids[0]); err == nil {
			s.keep("signer", pids[0], v)
		}
	}
}

// keep keeps what was seen of a process.
func (s *soak) keep(process string, pid int, v vitals) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.at = time.Since(s.begun)
	all := s.lives[process]
	if len(all) == 0 || all[len(all)-1].pid != pid {
		all = append(all, life{pid: pid})
	}
	last := &all[len(all)-1]
	last.seen = append(last.seen, v)
	s.lives[process] = all
}

// vitals returns what writd and its log have.
func (s *soak) vitals() vitals {
	v, err := processVitals(s.serving.Process.Pid)
	if err != nil {
		s.Errorf("looking at writd: %v", err)
	}
	resp, err := s.admin.Get("http://writd/metrics")
	if err != nil {
		s.Errorf("looking at writd: %v", err)
		return v
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.Errorf("looking at writd: %v", err)
	}
	for name, into := range map[string]*float64{"go_gc_heap_live_bytes": &v.heap, "go_goroutines": &v.goroutines, "writ_log_entries": &v.entries, "writ_log_scrubbed_seconds": &v.scrubbed} {
		_, rest, found := bytes.Cut(text, []byte("\n"+name+" "))
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		if *into, err = strconv.ParseFloat(string(line), 64); !found || err != nil {
			s.Errorf("looking at writd: the metrics do not say %s", name)
		}
	}
	v.disk = float64(s.logFilesSize())
	return v
}

// processVitals reads what the system says of a process. Of one that has closed itself to its user only root sees the descriptors.
func processVitals(pid int) (v vitals, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return v, err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		switch name {
		case "VmRSS":
			v.memory, err = strconv.ParseFloat(fields[0], 64)
			v.memory *= 1024
		case "Threads":
			v.threads, err = strconv.ParseFloat(fields[0], 64)
		}
		if err != nil {
			return v, err
		}
	}
	if v.memory == 0 || v.threads == 0 {
		return v, errors.New("the process is ending")
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		err = nil
	}
	v.files = float64(len(files))
	return v, err
}

// tell prints what was seen since it last did.
func (s *soak) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := func(process string) (v vitals) {
		if all := s.lives[process]; len(all) > 0 {
			seen := all[len(all)-1].seen
			v = seen[len(seen)-1]
		}
		return v
	}
	w, c := newest("writd"), newest("signer")
	slices.Sort(s.took)
	at := func(q float64) time.Duration {
		if len(s.took) == 0 {
			return 0
		}
		return s.took[min(len(s.took)-1, int(q*float64(len(s.took))))].Round(100 * time.Microsecond)
	}
	s.Logf("%v: %.0f entries of %.0f bytes; %d permits, p50 %v, p99 %v; writd %.1f MiB, heap %.2f MiB, %.0f descriptors, %.0f goroutines, %.0f threads; signer %.1f MiB, %.0f descriptors, %.0f threads",
		w.at.Round(time.Second), w.entries, w.disk/w.entries, len(s.took), at(0.5), at(0.99), w.memory/(1<<20), w.heap/(1<<20), w.files, w.goroutines, w.threads,
		c.memory/(1<<20), c.files, c.threads)
	s.took = nil
}

// growth holds what was seen against the bounds.
func (s *soak) growth() {
	var names []string
	for name, n := range s.acts {
		names = append(names, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(names)
	s.Logf("acts: %s", strings.Join(names, ", "))
	s.Logf("%d answers were 903 while the signer process was away, %d were not given in time; %d artifacts", s.away, s.late, len(s.given))
	if w := s.vitals(); w.scrubbed < float64(s.begun.Unix()) {
		s.Error("the log was not scrubbed in the whole soak")
	}
	for _, b := range bounds() {
		if seen, grows := b.judge(s.lives[b.process], s.length); grows {
			s.Errorf("%s. %s", seen, b.why)
		} else {
			s.Log(seen)
		}
	}
}

// long is from when on memory is held against its bound, and a signer process lives long enough for any.
const long = 10 * time.Minute

// judge tells what grew, and whether by more than it may, in a soak of a length. The first fifth of it, and the first minute of a process that
// others went before, do not count: caches and pools fill.
func (b *bound) judge(lives []life, length time.Duration) (seen string, grows bool) {
	points := 0
	var groups [][][2]float64
	for i, l := range lives {
		one := l.least(b.of, length/40, func(v vitals) bool {
			return v.at > length/5 && (i == 0 || length < long || v.at > l.seen[0].at+time.Minute)
		})
		groups, points = append(groups, one), points+len(one)
	}
	hours := (length - length/5).Hours()
	slope, level := line(groups)
	slope, level = slope/b.unit, level/b.unit
	most := b.hourly*hours + b.grain
	if length < long {
		most *= 4 // pools still fill: it is what each request or connection leaves behind that shows
	}
	seen = fmt.Sprintf("%-6s %-20s level %8.2f, slope %+9.3f an hour, %+8.3f over the soak (at most %.2f)", b.process, b.what, level, slope, slope*hours, most)
	if length < long && (b.process != "writd" || b.unit > 1) {
		return seen, false
	}
	if points < 20 {
		return fmt.Sprintf("%s: in %d of 32 parts of the soak, want most", seen, points), true
	}
	return seen, !(slope*hours <= most)
}

// least returns the least of each window of time, with the hour that it was seen at, of what counts.
func (l *life) least(of func(vitals) float64, window time.Duration, counts func(vitals) bool) (all [][2]float64) {
	last := time.Duration(-1)
	for _, v := range l.seen {
		if !counts(v) {
			continue
		}
		if at := v.at / window; at != last {
			all, last = append(all, [2]float64{v.at.Hours(), of(v)}), at
		} else if now := &all[len(all)-1]; of(v) < now[1] {
			*now = [2]float64{v.at.Hours(), of(v)}
		}
	}
	return all
}

// line returns the slope of the least-squares lines through groups of points, each with its own intercept, and the mean of all points.
func line(groups [][][2]float64) (slope, mean float64) {
	var xy, xx, sum, n float64
	for _, g := range groups {
		var x, y float64
		for _, p := range g {
			x, y = x+p[0], y+p[1]
		}
		sum, n = sum+y, n+float64(len(g))
		x, y = x/float64(len(g)), y/float64(len(g))
		for _, p := range g {
			xy, xx = xy+(p[0]-x)*(p[1]-y), xx+(p[0]-x)*(p[0]-x)
		}
	}
	return xy / xx, sum / n
}

// pages is a reader of the console.
type pages struct {
	settings []string // of the console, for the configuration
	address  string
	client   *http.Client
	turn     int
}

func newPages(tb testing.TB) *pages {
	tb.Helper()
	p, dir := &pages{address: freeAddress(tb)}, tb.TempDir()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(tb)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "soak"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(tb)
	cert := must(x509.ParseCertificate(der))(tb)
	spki := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			tb.Fatal(err)
		}
		return path
	}
	certificate := write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	private := write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))(tb)}))
	readers := write("readers.toml", fmt.Appendf(nil, "[[reader]]\nname = \"ada\"\nspki = \"%x\"\nroles = [\"auditor\"]\n", spki))
	p.settings = []string{"[console]", fmt.Sprintf("listen = %q", p.address), fmt.Sprintf("tls_cert = %q", certificate), fmt.Sprintf("tls_key = %q", private),
		fmt.Sprintf("client_ca = %q", certificate), fmt.Sprintf("readers = %q", readers)}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	p.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}}}
	return p
}

// read reads the next page.
func (p *pages) read(ctx context.Context) error {
	all := []string{"/", "/decisions", "/decisions?show=denied", "/hosts", "/policies", "/keys", "/log", "/entries/1", "/style.css"}
	path := all[p.turn%len(all)]
	p.turn++
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+p.address+path, nil)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("got %d of %s: %s", resp.StatusCode, path, body)
	}
	return err
}

// TestR16_WhatGrowsIsSeen: a leak is, and what is there for a moment, or comes with a new process, is not taken for one.
func TestR16_WhatGrowsIsSeen(t *testing.T) {
	const length = 20 * time.Minute
	b := bound{"writd", "descriptors", func(v vitals) float64 { return v.files }, 1, 0.5, 8, ""}
	for name, c := range map[string]struct {
		files func(i int) float64 // at the i-th of 240 looks
		ends  int                 // looks in the life of a process
		grows bool
	}{
		"flat":                         {func(int) float64 { return 50 }, 240, false},
		"bursts that become more":      {func(i int) float64 { return 50 + float64(i%3)*float64(i) }, 240, false},
		"filling at first":             {func(i int) float64 { return 50 + float64(min(i, 40)) }, 240, false},
		"one a minute":                 {func(i int) float64 { return 50 + float64(i)/12 }, 240, true},
		"one a minute below bursts":    {func(i int) float64 { return 50 + float64(i)/12 + float64(i%3)*20 }, 240, true},
		"three processes, each higher": {func(i int) float64 { return 50 + float64(i/80)*20 }, 80, false},
		"three processes that leak":    {func(i int) float64 { return 50 + float64(i%80)/12 }, 80, true},
		"nobody looked":                {func(int) float64 { return 50 }, 0, true},
	} {
		var lives []life
		for i := range 240 {
			if c.ends == 0 {
				break
			}
			if i%c.ends == 0 {
				lives = append(lives, life{pid: i})
			}
			l := &lives[len(lives)-1]
			l.seen = append(l.seen, vitals{at: time.Duration(i) * length / 240, files: c.files(i)})
		}
		if seen, grows := b.judge(lives, length); grows != c.grows {
			t.Errorf("%s: got %v: %s", name, grows, seen)
		}
	}
}
