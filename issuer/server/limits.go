package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
)

// Limits bound what strangers can cost. They hold before any cryptography.
type Limits struct {
	Connections     int     // at once, in all; default 1024
	PeerConnections int     // at once from one address; default 64
	Rate            float64 // connections and requests a second, in all; default 2000
	PeerRate        float64 // connections and requests a second from one address; default 200
	Bodies          int64   // bytes of large bodies in memory at once, a quarter of them from one address; default 128 MiB
}

func (l *Limits) fill() {
	if l.Connections == 0 {
		l.Connections = 1024
	}
	if l.PeerConnections == 0 {
		l.PeerConnections = 64
	}
	if l.Rate == 0 {
		l.Rate = 2000
	}
	if l.PeerRate == 0 {
		l.PeerRate = 200
	}
	if l.Bodies == 0 {
		l.Bodies = 128 << 20
	}
}

// The greatest bodies in bytes (A07).
const (
	maxHeader = 16 << 10
	maxBody   = 64 << 10
	maxMint   = attest.MaxEvidence + maxBody + artifact.MaxParents*artifact.MaxDelegation // evidence, request and delegations
	maxAct    = 1 << 20                                                                   // 16 statements of at most 65,535 bytes
)

// limitedListener closes connections over the limits before TLS begins (F06): too many at once, or too many a second.
type limitedListener struct {
	net.Listener
	limits  Limits
	limiter *limiter
	mu      sync.Mutex
	total   int
	peers   map[string]int
}

// Accept returns the next connection within the limits.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer := peerOf(c.RemoteAddr().String())
		if l.limiter.allow(peer, time.Now()) && l.enter(peer) {
			return &countedConn{Conn: c, leave: sync.OnceFunc(func() { l.exit(peer) })}, nil
		}
		c.Close()
	}
}

func (l *limitedListener) enter(peer string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= l.limits.Connections || l.peers[peer] >= l.limits.PeerConnections {
		return false
	}
	l.total++
	l.peers[peer]++
	return true
}

func (l *limitedListener) exit(peer string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.peers[peer]--; l.peers[peer] <= 0 {
		delete(l.peers, peer)
	}
}

type countedConn struct {
	net.Conn
	leave func()
}

// Close closes the connection and gives its place back.
func (c *countedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// peerOf returns the address without the port; IPv6 addresses are counted by /64, which one owner has whole.
func peerOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return ip.Mask(net.CIDRMask(64, 128)).String()
	}
	return host
}

// limiter admits connections and requests by the second, in all and by peer address.
type limiter struct {
	mu    sync.Mutex
	all   *rate.Limiter
	each  rate.Limit
	peers map[string]*rate.Limiter
}

func newLimiter(l Limits) *limiter {
	return &limiter{all: rate.NewLimiter(rate.Limit(l.Rate), max(int(l.Rate), 1)), each: rate.Limit(l.PeerRate), peers: map[string]*rate.Limiter{}}
}

const maxPeers = 1 << 14 // remembered addresses

func (l *limiter) allow(peer string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, ok := l.peers[peer]
	if !ok {
		if len(l.peers) >= maxPeers {
			clear(l.peers)
		}
		p = rate.NewLimiter(l.each, max(int(l.each), 1))
		l.peers[peer] = p
	}
	return p.AllowN(now, 1) && l.all.AllowN(now, 1)
}

// body reads at most limit bytes of a request with exactly the media type. It refuses, with 908: another media type
// (A11), any content encoding (A09), a longer body, declared or not (A07, A08); with 907 a body for which there is no room
// beside those of others. What is left of a body that is refused is not waited for: the connection ends.
func body(w http.ResponseWriter, r *http.Request, media string, limit int64) ([]byte, error) {
	data, err := readBody(w, r, media, limit)
	if err != nil {
		w.Header().Set("Connection", "close")
	}
	return data, err
}

func readBody(w http.ResponseWriter, r *http.Request, media string, limit int64) ([]byte, error) {
	switch got := r.Header.Values("Content-Type"); {
	case media == "" && len(got) > 0:
		return nil, misform{denial.New(denial.RequestLimit, "this request takes no body"), http.StatusUnsupportedMediaType}
	case media != "" && (len(got) != 1 || got[0] != media):
		return nil, misform{denial.New(denial.RequestLimit, "the body must be of type %s", media), http.StatusUnsupportedMediaType}
	case len(r.Header.Values("Content-Encoding")) > 0:
		return nil, misform{denial.New(denial.RequestLimit, "encoded bodies are not taken"), http.StatusUnsupportedMediaType}
	case r.ContentLength > limit:
		return nil, misform{denial.New(denial.RequestLimit, "the body has more than %d bytes", limit), http.StatusRequestEntityTooLarge}
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLong *http.MaxBytesError
	switch {
	case errors.Is(err, errBodies):
		return nil, misform{denial.New(denial.Overloaded, "too many large bodies arrive at once"), http.StatusServiceUnavailable}
	case errors.As(err, &tooLong):
		return nil, misform{denial.New(denial.RequestLimit, "the body has more than %d bytes", limit), http.StatusRequestEntityTooLarge}
	case err != nil:
		return nil, misform{denial.New(denial.RequestLimit, "the body did not arrive whole and in time"), http.StatusRequestTimeout}
	}
	return data, nil
}
