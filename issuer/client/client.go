// Package client speaks to an issuer over TLS 1.3. A Session is one connection: challenge and evidence travel on it,
// end to end, and the quote is bound to its TLS exporter.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer/wire"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// DefaultTimeout bounds one exchange.
const DefaultTimeout = 30 * time.Second

// Client is an issuer's address and the roots that its TLS certificate must chain to.
type Client struct {
	base    *url.URL
	tls     *tls.Config
	http    *http.Client
	timeout time.Duration
}

// New returns a client for the issuer at an https URL. TLS is 1.3 and nothing older; roots must not be empty.
func New(base string, roots *x509.CertPool) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("reading issuer address %q: want an https URL such as https://issuer.example:8443", base)
	}
	if roots == nil {
		return nil, errors.New("opening client: no certificate authority for the issuer's TLS certificate")
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}}
	c := &Client{base: u, tls: cfg, timeout: DefaultTimeout}
	c.http = &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableCompression: true}, CheckRedirect: noRedirect}
	return c, nil
}

// NewAdmin returns a client for the admin socket of an issuer on this machine.
func NewAdmin(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &Client{base: &url.URL{Scheme: "http", Host: "admin"}, timeout: DefaultTimeout,
		http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true}, CheckRedirect: noRedirect}}
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// RefusedError is an issuer's refusal as the caller sees it. It unwraps to a *denial.Denial.
type RefusedError struct {
	Problem *denial.Problem
}

// Error returns the denial's text.
func (e *RefusedError) Error() string { return e.Problem.Denial().Error() }

// Unwrap returns the denial.
func (e *RefusedError) Unwrap() error { return e.Problem.Denial() }

type call struct {
	method, path, media string
	body                []byte
	limit               int64
	header              *http.Header // not nil: receives that of the answer
}

func (c *Client) do(ctx context.Context, via *http.Client, k call) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	resp, err := c.send(ctx, via, k)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if k.header != nil {
		*k.header = resp.Header
	}
	return readAll(resp.Body, k.limit)
}

func readAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading answer: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, denial.New(denial.StructureLimit, "the answer has more than %d bytes", limit)
	}
	return data, nil
}

// send returns a successful response, whose body the caller closes, or the issuer's refusal.
func (c *Client) send(ctx context.Context, via *http.Client, k call) (*http.Response, error) {
	return c.sendWith(ctx, via, k, nil)
}

func (c *Client) sendWith(ctx context.Context, via *http.Client, k call, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, k.method, strings.TrimSuffix(c.base.String(), "/")+k.path, bytes.NewReader(k.body))
	if err != nil {
		return nil, fmt.Errorf("making request: %w", err)
	}
	maps.Copy(req.Header, header)
	if k.media != "" {
		req.Header.Set("Content-Type", k.media)
	}
	resp, err := via.Do(req)
	if err != nil {
		return nil, fmt.Errorf("reaching issuer %s: %w", c.base.Host, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	body, err := readAll(resp.Body, 1<<20)
	if err != nil {
		return nil, err
	}
	p, err := denial.ParseProblem(body)
	if err != nil {
		return nil, fmt.Errorf("reading the issuer's refusal (HTTP %d): %w", resp.StatusCode, err)
	}
	return nil, &RefusedError{p}
}

// Apply sends an act and returns its transparent statements.
func (c *Client) Apply(ctx context.Context, kind statement.Kind, b record.Bundle) ([][]byte, error) {
	body, err := b.Encode()
	if err != nil {
		return nil, err
	}
	answer, err := c.do(ctx, c.http, call{"POST", "/v1/acts/" + wire.ActName(kind), wire.MediaAct, body, 2 << 20, nil})
	if err != nil {
		return nil, err
	}
	out, err := record.DecodeBundle(answer)
	return out, err
}

// NextAct asks which number the next act of a kind about a subject gets.
func (c *Client) NextAct(ctx context.Context, kind statement.Kind, subject string) (n uint64, err error) {
	answer, err := c.do(ctx, c.http, call{"GET", "/v1/acts/" + wire.ActName(kind) + "?subject=" + url.QueryEscape(subject), "", nil, 16, nil})
	if err != nil {
		return 0, err
	}
	return n, statement.Unmarshal(answer, &n)
}

// Record sends a gate's record and returns it with its receipt.
func (c *Client) Record(ctx context.Context, leaf []byte) ([]byte, error) {
	return c.do(ctx, c.http, call{"POST", "/v1/records", wire.MediaStatement, leaf, 1 << 17, nil})
}

// Status fetches the status list token at a URI, which must lie under the issuer's address.
func (c *Client) Status(ctx context.Context, uri string) ([]byte, error) {
	path, ok := strings.CutPrefix(uri, strings.TrimSuffix(c.base.String(), "/"))
	if !ok || !strings.HasPrefix(path, "/v1/status/") {
		return nil, denial.New(denial.RevocationUnknown, "the status list is not at the issuer's address")
	}
	return c.do(ctx, c.http, call{"GET", path, "", nil, 1 << 20, nil})
}

// Keys fetches the issuer's key history. It proves itself to whoever pins genesis: see artifact.Trust.Follow.
func (c *Client) Keys(ctx context.Context) ([]byte, error) {
	return c.do(ctx, c.http, call{"GET", "/v1/keys", "", nil, artifact.MaxKeyHistory, nil})
}

// PrepareKey asks the admin socket for a key for a purpose, or to take the one that the token has under a thumbprint in
// hexadecimal, and returns what issuer.Prepare does, encoded. If born is not nil the key is the one that was born so in a ceremony.
func (c *Client) PrepareKey(ctx context.Context, purpose, key string, born *record.Birth) ([]byte, error) {
	k := call{"POST", "/v1/keys/" + url.PathEscape(purpose) + "?key=" + url.QueryEscape(key), "", nil, 1 << 20, nil}
	if born != nil {
		data, err := statement.Marshal(born)
		if err != nil {
			return nil, err
		}
		k.media, k.body = wire.MediaBirth, data
	}
	return c.do(ctx, c.http, k)
}

// Genesis fetches the genesis act. It is worth nothing until it is compared with a pinned digest.
func (c *Client) Genesis(ctx context.Context) (record.Bundle, error) {
	answer, err := c.do(ctx, c.http, call{"GET", "/v1/genesis", "", nil, 2 << 20, nil})
	if err != nil {
		return nil, err
	}
	return record.DecodeBundle(answer)
}

// Download is a bundle on its way. The caller closes Body.
type Download struct {
	Body  io.ReadCloser
	Tag   string // names this bundle to Export; empty if the issuer cannot go on with it
	From  int64  // offset of the first byte of Body
	Total int64  // size of the whole bundle, -1 if the issuer does not say
}

// Export downloads a bundle from the admin socket. The query has the keys from and to, or execution, or host. With the tag
// of an earlier download of the same query and the number of bytes that came, it goes on behind them if the issuer still
// has that bundle, and else begins a new one: Download.From tells.
func (c *Client) Export(ctx context.Context, query url.Values, tag string, have int64) (*Download, error) {
	k := call{method: "GET", path: "/v1/exports?" + query.Encode()}
	var header http.Header
	if tag != "" && have > 0 {
		header = http.Header{"If-Range": {tag}, "Range": {fmt.Sprintf("bytes=%d-", have)}}
	}
	resp, err := c.sendWith(ctx, c.http, k, header)
	if err != nil {
		return nil, err
	}
	d := &Download{Body: resp.Body, Tag: resp.Header.Get("ETag"), Total: resp.ContentLength}
	if resp.StatusCode != http.StatusPartialContent {
		return d, nil
	}
	var last int64
	n, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &d.From, &last, &d.Total)
	if n != 3 || err != nil || d.From != have || d.Tag != tag || last != d.Total-1 {
		return nil, errors.Join(errors.New("reading bundle: the issuer answers with another part than was asked for"), resp.Body.Close())
	}
	return d, nil
}

// Hosts fetches what the issuer knows of a host from the admin socket, as JSON.
func (c *Client) Hosts(ctx context.Context, id string) ([]byte, error) {
	return c.do(ctx, c.http, call{"GET", "/v1/hosts?id=" + url.QueryEscape(id), "", nil, 1 << 20, nil})
}

// Session is one TLS connection to the issuer. It is not safe for concurrent use. When the connection is lost, the
// session is over and its challenges with it.
type Session struct {
	client   *Client
	conn     *tls.Conn
	http     *http.Client
	exporter [32]byte
	ahead    bool
	next     *wire.Challenge // that the last artifact came with
	until    time.Time       // when to ask for another instead
}

// Dial opens a session.
func (c *Client) Dial(ctx context.Context) (*Session, error) {
	if c.tls == nil {
		return nil, errors.New("opening session: the admin socket takes no evidence")
	}
	host := c.base.Host
	if c.base.Port() == "" {
		host = net.JoinHostPort(c.base.Hostname(), "443")
	}
	raw, err := (&tls.Dialer{Config: c.tls}).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, fmt.Errorf("reaching issuer %s: %w", host, err)
	}
	conn := raw.(*tls.Conn)
	s := &Session{client: c, conn: conn}
	state := conn.ConnectionState()
	key, err := state.ExportKeyingMaterial(wire.ExporterLabel, nil, len(s.exporter))
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("deriving TLS exporter: %w", err)
	}
	copy(s.exporter[:], key)
	s.http = &http.Client{CheckRedirect: noRedirect, Transport: &http.Transport{
		DialTLSContext: once(conn), MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1, DisableCompression: true}}
	return s, nil
}

// once hands out the connection a single time, so that no request can travel on another.
func once(conn net.Conn) func(context.Context, string, string) (net.Conn, error) {
	var mu sync.Mutex
	used := false
	return func(context.Context, string, string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if used {
			return nil, errors.New("the issuer closed the connection; start over with a fresh challenge")
		}
		used = true
		return conn, nil
	}
}

// Close ends the session.
func (s *Session) Close() error {
	s.http.CloseIdleConnections()
	return s.conn.Close()
}

// Exporter returns the 32 bytes that bind evidence to this connection (RFC 8446, section 7.5).
func (s *Session) Exporter() [32]byte { return s.exporter }

// Ahead has each artifact come with the challenge for the next one, which Challenge then returns without asking. It is for
// a host that asks again and again.
func (s *Session) Ahead() { s.ahead = true }

// Challenge asks for a challenge, unless one is there already (see Ahead) and has half of its life before it.
func (s *Session) Challenge(ctx context.Context) (*wire.Challenge, error) {
	if next := s.next; next != nil {
		s.next = nil
		if time.Now().Before(s.until) {
			return next, nil
		}
	}
	answer, err := s.client.do(ctx, s.http, call{"POST", "/v1/challenges", "", nil, 64 << 10, nil})
	if err != nil {
		return nil, err
	}
	return readChallenge(answer)
}

func readChallenge(data []byte) (*wire.Challenge, error) {
	var ch wire.Challenge
	if err := statement.Unmarshal(data, &ch); err != nil {
		return nil, err
	}
	return &ch, nil
}

// Mint sends a signed request with its evidence, and with a delegation of each parent that it names, and returns the artifact with its
// receipt.
func (s *Session) Mint(ctx context.Context, request, evidence []byte, delegations ...[]byte) ([]byte, error) {
	body, err := statement.Marshal(wire.Mint{Request: request, Evidence: evidence, Next: s.ahead, Delegations: delegations})
	if err != nil {
		return nil, err
	}
	asked, header := time.Now(), http.Header{}
	answer, err := s.client.do(ctx, s.http, call{"POST", "/v1/artifacts", wire.MediaMint, body, 64 << 10, &header})
	if s.ahead && err == nil {
		s.keep(header.Get(wire.HeaderChallenge), asked)
	}
	return answer, err
}

// keep keeps the challenge that came with an artifact, for half of its life since the artifact was asked for. One that cannot be
// read is as good as none.
func (s *Session) keep(header string, asked time.Time) {
	data, err := base64.RawURLEncoding.DecodeString(header)
	if err != nil {
		return
	}
	if ch, err := readChallenge(data); err == nil {
		s.next, s.until = ch, asked.Add(time.Duration(min(ch.TTL, 60))*time.Second/2)
	}
}

// Attest sends a signed request that names a break-glass authorization, with its evidence, and returns the record of what
// the host has proved, with its receipt.
func (s *Session) Attest(ctx context.Context, request, evidence []byte) ([]byte, error) {
	body, err := statement.Marshal(wire.Mint{Request: request, Evidence: evidence})
	if err != nil {
		return nil, err
	}
	return s.client.do(ctx, s.http, call{"POST", "/v1/attestations", wire.MediaMint, body, 64 << 10, nil})
}

// BeginEnrolment sends an enrolment request and returns the credential to activate.
func (s *Session) BeginEnrolment(ctx context.Context, request []byte) (*wire.Credential, error) {
	answer, err := s.client.do(ctx, s.http, call{"POST", "/v1/enrol", wire.MediaEnrol, request, 64 << 10, nil})
	if err != nil {
		return nil, err
	}
	var cred wire.Credential
	if err := statement.Unmarshal(answer, &cred); err != nil {
		return nil, err
	}
	return &cred, nil
}

// FinishEnrolment sends the opened secret and returns the enrolment record with its receipt.
func (s *Session) FinishEnrolment(ctx context.Context, secret []byte) ([]byte, error) {
	body, err := statement.Marshal(wire.Activation{Secret: secret})
	if err != nil {
		return nil, err
	}
	return s.client.do(ctx, s.http, call{"POST", "/v1/enrol/activate", wire.MediaActivation, body, 1 << 17, nil})
}
