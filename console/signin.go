package console

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/governed-execution/writ/denial"
)

// How long a sign-in may take, and a session lasts; then the reader signs in again.
const (
	signInTime  = 10 * time.Minute
	sessionTime = 30 * time.Minute
	maxSessions = 1024 // of all readers together; the oldest gives way
)

// The cookies. A browser takes one named __Host- only from this host over TLS, and for it alone.
const (
	signInCookie  = "__Host-writ-signin"
	sessionCookie = "__Host-writ-session"
)

// sessions are who has signed in. They live in memory: after a restart everybody signs in again.
type sessions struct {
	seal [32]byte // authenticates the cookies of sign-ins that have begun
	mu   sync.Mutex
	open map[[sha256.Size]byte]session // by the SHA-256 of the cookie
	used map[string]time.Time          // nonces of tokens that have opened one, until the sign-in ends
}

type session struct {
	person
	until time.Time
}

func newSessions() *sessions {
	s := &sessions{open: map[[sha256.Size]byte]session{}, used: map[string]time.Time{}}
	_, _ = rand.Read(s.seal[:]) // never fails
	return s
}

// begun is a sign-in that has begun. The cookie holds it; the provider sees only hashes of its secret.
type begun struct {
	secret [32]byte
	until  time.Time
	to     string // page to go on with
}

// state and nonce come back from the provider, beside the token and in it.
func (b *begun) state() string { return b.hash("writ-signin-state") }
func (b *begun) nonce() string { return b.hash("writ-signin-nonce") }

func (b *begun) hash(label string) string {
	sum := sha256.Sum256(append([]byte(label), b.secret[:]...))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// encode returns the value of the cookie: secret, end, page and their authentication.
func (s *sessions) encode(b *begun) string {
	data := append(b.secret[:], binary.BigEndian.AppendUint64(nil, uint64(b.until.Unix()))...)
	data = append(data, b.to...)
	return base64.RawURLEncoding.EncodeToString(append(s.mac(data), data...))
}

func (s *sessions) mac(data []byte) []byte {
	h := hmac.New(sha256.New, s.seal[:])
	h.Write(data)
	return h.Sum(nil)
}

func (s *sessions) decode(cookie string, now time.Time) (*begun, bool) {
	data, err := base64.RawURLEncoding.Strict().DecodeString(cookie)
	if err != nil || len(data) < 32+32+8 || !hmac.Equal(data[:32], s.mac(data[32:])) {
		return nil, false
	}
	data = data[32:]
	b := &begun{secret: [32]byte(data), until: time.Unix(int64(binary.BigEndian.Uint64(data[32:])), 0), to: string(data[40:])}
	return b, now.Before(b.until)
}

// enter opens a session, once for a sign-in, and returns its cookie.
func (s *sessions) enter(b *begun, p person, now time.Time) (cookie string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for nonce, until := range s.used {
		if !now.Before(until) {
			delete(s.used, nonce)
		}
	}
	if _, again := s.used[b.nonce()]; again {
		return "", false
	}
	s.used[b.nonce()] = b.until
	s.sweep(now)
	var id [32]byte
	_, _ = rand.Read(id[:]) // never fails
	cookie = base64.RawURLEncoding.EncodeToString(id[:])
	s.open[sha256.Sum256([]byte(cookie))] = session{p, now.Add(sessionTime)}
	return cookie, true
}

// sweep drops sessions that have ended, and the oldest if there are too many.
func (s *sessions) sweep(now time.Time) {
	var oldest [sha256.Size]byte
	for id, one := range s.open {
		if !now.Before(one.until) {
			delete(s.open, id)
		} else if s.open[oldest].until.IsZero() || one.until.Before(s.open[oldest].until) {
			oldest = id
		}
	}
	if len(s.open) >= maxSessions {
		delete(s.open, oldest)
	}
}

func (s *sessions) find(cookie string, now time.Time) (person, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.open[sha256.Sum256([]byte(cookie))]
	return one.person, ok && now.Before(one.until)
}

func (s *sessions) leave(cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, sha256.Sum256([]byte(cookie)))
}

// who returns the person of a request: of its session, or of the token that a proxy sends.
func (c *Console) who(r *http.Request) (person, error) {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && c.o.SignIn.Bearer {
		return c.o.SignIn.verifyToken(r.Context(), token, "", c.o.Now())
	}
	if cookie, ok := only(r, sessionCookie); ok {
		if p, ok := c.sessions.find(cookie, c.o.Now()); ok {
			return p, nil
		}
	}
	return person{}, denial.New(denial.Unauthenticated, "nobody has signed in")
}

// only returns the value of a cookie that is there once.
func only(r *http.Request, name string) (string, bool) {
	found := r.CookiesNamed(name)
	if len(found) != 1 {
		return "", false
	}
	return found[0].Value, true
}

// local is what a page of the console may look like, to go on with after a sign-in.
var local = regexp.MustCompile(`^/[a-z]*(/[0-9a-f]+)?(\?[a-z0-9=&]*)?$`)

// localOr returns the page, or the overview in place of what is none.
func localOr(to string) string {
	if len(to) < 200 && local.MatchString(to) && !strings.HasPrefix(to, "/sign") {
		return to
	}
	return "/"
}

// signInData is for the page of who has not signed in.
type signInData struct {
	Failed   bool // the provider's answer was not taken
	To       string
	Provider string
}

// pageOf returns the page that was asked for.
func pageOf(r *http.Request) string { return localOr(r.URL.RequestURI()) }

// signIn sends the browser to the provider, or takes what it brings back from there.
func (c *Console) signIn(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		c.signedIn(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD, POST")
		c.refuse(w, r, nil, misform{denial.New(denial.NotPermitted, "a sign-in is begun, or answered"), http.StatusMethodNotAllowed})
		return
	}
	b := &begun{until: c.o.Now().Add(signInTime), to: localOr(r.URL.Query().Get("to"))}
	_, _ = rand.Read(b.secret[:]) // never fails
	// The provider's page posts to us from its own site, so that only SameSite=None lets the cookie come back.
	c.cookie(w, signInCookie, c.sessions.encode(b), signInTime, http.SameSiteNoneMode)
	o := c.o.SignIn
	u, _ := url.Parse(o.Authorize) // checked by New
	q := u.Query()
	for name, value := range map[string]string{"response_type": "id_token", "response_mode": "form_post", "scope": "openid", "client_id": o.Client,
		"redirect_uri": o.Address + "/signin", "state": b.state(), "nonce": b.nonce()} {
		q.Set(name, value)
	}
	u.RawQuery = q.Encode()
	c.redirect(w, u.String())
}

// signedIn opens a session. In this order: the form is one, and small; the sign-in began in this browser, not too long ago
// (cookie), and this is its answer (state); the ID token verifies, with its nonce; its person is a reader; it has opened no
// session before.
func (c *Console) signedIn(w http.ResponseWriter, r *http.Request) {
	c.cookie(w, signInCookie, "", -time.Second, http.SameSiteNoneMode)
	b, p, err := c.answered(w, r)
	var reader *Reader
	if err == nil {
		reader, err = c.readerOf(func(reader *Reader) bool { return reader.Issuer == p.issuer && reader.Subject == p.subject })
	}
	if err != nil {
		c.refuse(w, r, nil, err)
		return
	}
	cookie, ok := c.sessions.enter(b, p, c.o.Now())
	if !ok {
		c.refuse(w, r, nil, denial.New(denial.Unauthenticated, "the ID token has been used"))
		return
	}
	c.o.Logger.Info("signed in", "reader", reader.Name)
	c.cookie(w, sessionCookie, cookie, sessionTime, http.SameSiteLaxMode)
	c.redirect(w, b.to)
}

func (c *Console) answered(w http.ResponseWriter, r *http.Request) (*begun, person, error) {
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	r.Body = http.MaxBytesReader(w, r.Body, 2*maxToken)
	if media != "application/x-www-form-urlencoded" || r.ParseForm() != nil {
		return nil, person{}, denial.New(denial.Unauthenticated, "not the answer of a provider")
	}
	cookie, _ := only(r, signInCookie)
	b, ok := c.sessions.decode(cookie, c.o.Now())
	state, token := r.PostForm["state"], r.PostForm["id_token"]
	if !ok || len(state) != 1 || subtle.ConstantTimeCompare([]byte(state[0]), []byte(b.state())) != 1 {
		return nil, person{}, denial.New(denial.Unauthenticated, "this browser has not begun this sign-in, or too long ago")
	}
	if len(token) != 1 || len(r.PostForm["error"]) > 0 {
		return nil, person{}, denial.New(denial.Unauthenticated, "the provider has not signed anybody in")
	}
	p, err := c.o.SignIn.verifyToken(r.Context(), token[0], b.nonce(), c.o.Now())
	return b, p, err
}

// signOut ends the session here. That at the provider goes on.
func (c *Console) signOut(w http.ResponseWriter, r *http.Request) {
	if cookie, ok := only(r, sessionCookie); ok {
		c.sessions.leave(cookie)
	}
	c.cookie(w, sessionCookie, "", -time.Second, http.SameSiteLaxMode)
	c.redirect(w, "/")
}

func (c *Console) cookie(w http.ResponseWriter, name, value string, age time.Duration, site http.SameSite) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: int(age / time.Second), Secure: true, HttpOnly: true, SameSite: site})
}

func (c *Console) redirect(w http.ResponseWriter, to string) {
	c.headers(w, "text/plain; charset=utf-8")
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}
