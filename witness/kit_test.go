package witness

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/stock"
	"github.com/governed-execution/writ/tlog"
)

const (
	testIssuer = "https://issuer.example"
	testLog    = testIssuer + "/log"
	testOrigin = "issuer.example/log"
	testTime   = 1_800_000_000
)

// site is a log with its key.
type site struct {
	t      testing.TB
	signer statement.Signer
	path   string
	log    *tlog.Log
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, signer: stock.Signer(t), path: filepath.Join(t.TempDir(), "log.db")}
	s.open()
	return s
}

func (s *site) open() {
	s.t.Helper()
	log, err := tlog.Open(s.t.Context(), tlog.Options{Path: s.path, Signer: s.signer, Issuer: testIssuer, LogID: testLog})
	if err != nil {
		s.t.Fatal(err)
	}
	s.log = log
	s.t.Cleanup(func() { log.Close() })
}

// fork returns another log under the same key.
func (s *site) fork() *site {
	f := &site{t: s.t, signer: s.signer, path: filepath.Join(s.t.TempDir(), "log.db")}
	f.open()
	return f
}

// add appends so many entries, that have the word in them.
func (s *site) add(n int, word string) {
	s.t.Helper()
	var entries []tlog.Entry
	for i := range n {
		entries = append(entries, tlog.Entry{Leaf: fmt.Appendf(nil, "%s %d", word, i)})
	}
	if _, err := s.log.Append(s.t.Context(), entries...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) options(threshold int, witnesses ...*server) Options {
	o := Options{Log: s.log, Origin: testOrigin, Path: s.path + ".checkpoint", Threshold: threshold}
	for _, w := range witnesses {
		o.Witnesses = append(o.Witnesses, w.endpoint)
	}
	return o
}

func (s *site) publisher(o Options) *Publisher {
	s.t.Helper()
	p, err := New(s.t.Context(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// server is a witness as C2SP tlog-witness describes it, over HTTP, that a test can have misbehave.
type server struct {
	endpoint Endpoint
	priv     ed25519.PrivateKey
	asked    chan struct{} // one for each request
	now      func() uint64

	mu     sync.Mutex
	size   uint64
	root   []byte
	answer func(w http.ResponseWriter) // instead of what is right
}

func newServer(t testing.TB, operator string) *server {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := receipt.WitnessNoteKey(operator+".example/w", pub)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{priv: priv, asked: make(chan struct{}, 1000), now: func() uint64 { return testTime }}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	s.endpoint = Endpoint{Witness: receipt.Witness{Operator: operator, Key: key}, URL: web.URL + "/"}
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked <- struct{}{}
	if s.answer != nil {
		s.answer(w)
		return
	}
	body, err := io.ReadAll(r.Body)
	head, checkpoint, ok := bytes.Cut(body, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	text, _, signed := strings.Cut(string(checkpoint), "\n\n")
	parts := strings.Split(text, "\n")
	if err != nil || r.URL.Path != "/add-checkpoint" || !ok || !signed || len(parts) != 3 || !strings.HasPrefix(lines[0], "old ") {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	old, _ := strconv.ParseUint(lines[0][4:], 10, 64)
	size, _ := strconv.ParseUint(parts[1], 10, 64)
	root, _ := base64.StdEncoding.DecodeString(parts[2])
	s.update(w, old, size, root, lines[1:], text+"\n")
}

func (s *server) update(w http.ResponseWriter, old, size uint64, root []byte, lines []string, text string) {
	if old > size {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if old != s.size {
		w.Header().Set("Content-Type", "text/x.tlog.size")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, "%d\n", s.size)
		return
	}
	var path [][]byte
	for _, l := range lines {
		h, _ := base64.StdEncoding.DecodeString(l)
		path = append(path, h)
	}
	if old == size && !bytes.Equal(root, s.root) {
		w.WriteHeader(http.StatusConflict)
		return
	}
	if old > 0 && proof.VerifyConsistency(rfc6962.DefaultHasher, old, size, path, s.root, root) != nil || old == 0 && len(path) > 0 {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	s.size, s.root = size, root
	w.Write(s.line(text))
}

func (s *server) line(text string) []byte {
	now := s.now()
	sig := ed25519.Sign(s.priv, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", now, text))
	id, _ := strconv.ParseUint(strings.Split(s.endpoint.Key.String(), "+")[1], 16, 32)
	raw := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, uint32(id)), now)
	return fmt.Appendf(nil, "— %s %s\n", s.endpoint.Key.Name(), base64.StdEncoding.EncodeToString(append(raw, sig...)))
}

// always has the witness answer the same whatever it is asked.
func (s *server) always(status int, media, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", media)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// at returns a clock that stands still.
func at(seconds int64) func() time.Time { return func() time.Time { return time.Unix(seconds, 0) } }
