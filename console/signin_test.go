package console

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/test/stock"
)

const (
	testProvider = "https://login.example"
	testClient   = "writ-console"
	testSubject  = "00u-ada"
)

// provider signs ID tokens.
type provider struct {
	testing.TB
	key  *ecdsa.PrivateKey
	kid  string
	set  []byte
	gone error // of the file of its keys
}

func newProvider(tb testing.TB) *provider {
	p := &provider{TB: tb, key: stock.Key(tb), kid: "k1"}
	p.publish(jose.JSONWebKey{Key: p.key.Public(), KeyID: p.kid, Use: "sig", Algorithm: "ES256"})
	return p
}

func (p *provider) publish(keys ...jose.JSONWebKey) {
	p.set = issuertest.Must(json.Marshal(jose.JSONWebKeySet{Keys: keys}))(p)
}

func (p *provider) signIn() *SignIn {
	return &SignIn{Issuer: testProvider, Client: testClient, Authorize: testProvider + "/authorize?tenant=1", Address: "https://console.example",
		Keys: func() ([]byte, error) { return p.set, p.gone }}
}

// claims returns those of a good token, changed.
func claims(now time.Time, nonce string, change map[string]any) map[string]any {
	c := map[string]any{"iss": testProvider, "aud": testClient, "sub": testSubject, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "nonce": nonce}
	maps.Copy(c, change)
	for name, v := range c {
		if v == nil {
			delete(c, name)
		}
	}
	return c
}

// token signs claims.
func token(tb testing.TB, alg jose.SignatureAlgorithm, key any, kid string, claims map[string]any) string {
	tb.Helper()
	signer := issuertest.Must(jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil))(tb)
	jws := issuertest.Must(signer.Sign(issuertest.Must(json.Marshal(claims))(tb)))(tb)
	return issuertest.Must(jws.CompactSerialize())(tb)
}

func (p *provider) token(claims map[string]any) string {
	return token(p, jose.ES256, p.key, p.kid, claims)
}

// TestA03_OnlyAnIDTokenForThisSignInIsTaken breaks one thing of a good token at a time.
func TestA03_OnlyAnIDTokenForThisSignInIsTaken(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	p := newProvider(t)
	rsaKey := issuertest.Must(rsa.GenerateKey(rand.Reader, 2048))(t)
	other, p384 := stock.Key(t), issuertest.Must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(t)
	use := func(keys ...jose.JSONWebKey) func() { return func() { p.publish(keys...) } }
	own := jose.JSONWebKey{Key: p.key.Public(), KeyID: "k1"}
	with := func(name string, v any) string { return p.token(claims(now, "n", map[string]any{name: v})) }
	good := p.token(claims(now, "n", nil))
	part := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + part[1] + "."
	whole := fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q}`, part[1], part[0], part[2])
	set := string(p.set)
	for name, c := range map[string]struct {
		token string
		keys  func()
		want  bool
	}{
		"good":                        {good, nil, true},
		"good, aud in a list":         {with("aud", []string{testClient}), nil, true},
		"good, azp":                   {with("azp", testClient), nil, true},
		"good, without kid, one key":  {token(t, jose.ES256, p.key, "", claims(now, "n", nil)), nil, true},
		"good, among other keys":      {good, use(jose.JSONWebKey{Key: other.Public(), KeyID: "k0"}, own, jose.JSONWebKey{Key: rsaKey.Public(), KeyID: "e", Use: "enc"}), true},
		"good, RSA":                   {token(t, jose.PS256, rsaKey, "r", claims(now, "n", nil)), use(jose.JSONWebKey{Key: rsaKey.Public(), KeyID: "r"}), true},
		"another provider":            {with("iss", "https://other.example"), nil, false},
		"its name with a slash":       {with("iss", testProvider+"/"), nil, false},
		"no issuer":                   {with("iss", nil), nil, false},
		"for another client":          {with("aud", "other"), nil, false},
		"for another client too":      {with("aud", []string{testClient, "other"}), nil, false},
		"azp is another client":       {with("azp", "other"), nil, false},
		"for nobody":                  {with("aud", nil), nil, false},
		"expired":                     {with("exp", now.Unix()-1), nil, false},
		"without end":                 {with("exp", nil), nil, false},
		"made ahead":                  {with("iat", now.Unix()+61), nil, false},
		"made long ago":               {with("iat", now.Unix()-301), nil, false},
		"undated":                     {with("iat", nil), nil, false},
		"not yet":                     {with("nbf", now.Unix()+61), nil, false},
		"nonce of another":            {with("nonce", "m"), nil, false},
		"no nonce":                    {with("nonce", nil), nil, false},
		"no subject":                  {with("sub", ""), nil, false},
		"a long subject":              {with("sub", strings.Repeat("s", 256)), nil, false},
		"by a key of nobody":          {token(t, jose.ES256, other, "k1", claims(now, "n", nil)), nil, false},
		"kid of no key":               {token(t, jose.ES256, p.key, "k2", claims(now, "n", nil)), nil, false},
		"without kid, two keys":       {token(t, jose.ES256, p.key, "", claims(now, "n", nil)), use(own, jose.JSONWebKey{Key: other.Public(), KeyID: "k0"}), false},
		"two keys with its kid":       {good, use(own, jose.JSONWebKey{Key: other.Public(), KeyID: "k1"}), false},
		"unsigned":                    {none, nil, false},
		"HMAC with the public key":    {token(t, jose.HS256, []byte(set), "k1", claims(now, "n", nil)), nil, false},
		"another algorithm of a key":  {token(t, jose.RS256, rsaKey, "r", claims(now, "n", nil)), use(jose.JSONWebKey{Key: rsaKey.Public(), KeyID: "r", Algorithm: "PS256"}), false},
		"another curve than the key":  {token(t, jose.ES384, p384, "k1", claims(now, "n", nil)), nil, false},
		"an algorithm not allowed":    {token(t, jose.RS512, rsaKey, "r", claims(now, "n", nil)), use(jose.JSONWebKey{Key: rsaKey.Public(), KeyID: "r"}), false},
		"by a key for encryption":     {good, use(jose.JSONWebKey{Key: p.key.Public(), KeyID: "k1", Use: "enc"}, jose.JSONWebKey{Key: other.Public(), KeyID: "k2"}), false},
		"another claim exchanged":     {part[0] + "." + strings.Split(with("sub", "00u-bob"), ".")[1] + "." + part[2], nil, false},
		"JSON form":                   {whole, nil, false},
		"trailing part":               {good + ".x", nil, false},
		"a symmetric key in the file": {good, func() { p.set = []byte(`{"keys":[{"kty":"oct","k":"AAAA","kid":"k1"}]}`) }, false},
		"an empty file":               {good, func() { p.set = nil }, false},
		"no file":                     {good, func() { p.gone = errors.New("gone") }, false},
		"too long":                    {with("x", strings.Repeat("x", maxToken)), nil, false},
	} {
		p.set, p.gone = []byte(set), nil
		if c.keys != nil {
			c.keys()
		}
		who, err := p.signIn().verifyToken(t.Context(), c.token, "n", now)
		if (err == nil) != c.want || c.want && who != (person{testProvider, testSubject}) {
			t.Errorf("%s: got %+v, %v", name, who, err)
		}
		if err != nil && (strings.Contains(err.Error(), "bob") || strings.Contains(err.Error(), "other.example")) {
			t.Errorf("%s: the error repeats what the token says: %v", name, err)
		}
	}
	weak := issuertest.Must(base64.StdEncoding.DecodeString(weakKey))(t)
	p.set, p.gone = weak, nil
	if _, err := p.signIn().keySet(); err == nil {
		t.Error("an RSA key of 1024 bits is taken")
	}
}

// weakKey is a key set with one RSA key of 1024 bits, which Go does not make any more.
var weakKey = base64.StdEncoding.EncodeToString(fmt.Appendf(nil, `{"keys":[{"kty":"RSA","e":"AQAB","kid":"k1","n":"%s"}]}`,
	base64.RawURLEncoding.EncodeToString(append([]byte{0x80}, make([]byte, 127)...))))

func TestSignInIsChecked(t *testing.T) {
	p := newProvider(t)
	for name, spoil := range map[string]func(*SignIn){
		"no issuer":                func(o *SignIn) { o.Issuer = "" },
		"no client":                func(o *SignIn) { o.Client = "" },
		"no keys":                  func(o *SignIn) { o.Keys = nil },
		"keys that cannot be read": func(o *SignIn) { o.Keys = func() ([]byte, error) { return nil, errors.New("gone") } },
		"a provider in the clear":  func(o *SignIn) { o.Authorize = "http://login.example/authorize" },
		"a console in the clear":   func(o *SignIn) { o.Address = "http://127.0.0.1" },
		"an address with a path":   func(o *SignIn) { o.Address = "https://console.example/x" },
		"a user in a URL":          func(o *SignIn) { o.Authorize = "https://ada@login.example" },
	} {
		o := p.signIn()
		if spoil(o); o.Check() == nil {
			t.Errorf("%s passes", name)
		}
	}
	s := open(t)
	o := s.options()
	o.SignIn = p.signIn()
	if _, err := New(o); err == nil {
		t.Error("one listener takes certificates and lets sign in")
	}
}

// gate is a console that readers sign in to, on a listener of its own.
type gate struct {
	*site
	*provider
	address string
	signIn  *SignIn
	leaf    *x509.Certificate // of the listener
}

func (s *site) openSignIn(change func(address string, o *SignIn)) *gate {
	s.Helper()
	g := &gate{site: s, provider: newProvider(s)}
	l := issuertest.Must(net.Listen("tcp", "127.0.0.1:0"))(s)
	g.address = l.Addr().String()
	o := s.options()
	o.ClientCAs, o.SignIn = nil, g.provider.signIn()
	o.SignIn.Address = "https://" + g.address
	if change != nil {
		change(o.SignIn.Address, o.SignIn)
	}
	g.signIn = o.SignIn
	o.Certificate = *s.servers.issue(s, "console", stock.Key(s), nil)
	g.leaf = o.Certificate.Leaf
	pages := issuertest.Must(New(o))(s)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- pages.Serve(ctx, l) }()
	s.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			s.Error(err)
		}
	})
	return g
}

// browser keeps cookies and follows nothing.
func (g *gate) browser() *http.Client {
	via := g.client(nil)
	via.Jar = issuertest.Must(cookiejar.New(nil))(g.site)
	via.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return via
}

func (g *gate) get(via *http.Client, path string, header http.Header) (*http.Response, string) {
	g.site.Helper()
	req := issuertest.Must(http.NewRequest("GET", "https://"+g.address+path, nil))(g.site)
	maps.Copy(req.Header, header)
	return g.do(via, req)
}

func (g *gate) do(via *http.Client, req *http.Request) (*http.Response, string) {
	g.site.Helper()
	resp, err := via.Do(req)
	if err != nil {
		g.site.Fatal(err)
	}
	defer resp.Body.Close()
	return resp, string(issuertest.Must(io.ReadAll(resp.Body))(g.site))
}

// begin begins a sign-in and returns what the provider gets.
func (g *gate) begin(via *http.Client, to string) url.Values {
	g.site.Helper()
	resp, _ := g.get(via, "/signin?to="+url.QueryEscape(to), nil)
	at := issuertest.Must(url.Parse(resp.Header.Get("Location")))(g.site)
	if resp.StatusCode != http.StatusSeeOther || at.Host != "login.example" || at.Query().Get("tenant") != "1" {
		g.site.Fatalf("sent to %s with %d", at, resp.StatusCode)
	}
	return at.Query()
}

// answer brings a form back from the provider.
func (g *gate) answer(via *http.Client, form url.Values) (*http.Response, string) {
	g.site.Helper()
	req := issuertest.Must(http.NewRequest("POST", "https://"+g.address+"/signin", strings.NewReader(form.Encode())))(g.site)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return g.do(via, req)
}

func (g *gate) good(asked url.Values) url.Values {
	return url.Values{"state": {asked.Get("state")}, "id_token": {g.provider.token(claims(g.Now(), asked.Get("nonce"), nil))}}
}

func TestA01_ReadersSignIn(t *testing.T) {
	s := open(t)
	g := s.openSignIn(nil)
	s.readers = []Reader{{Name: "Ada", Issuer: testProvider, Subject: testSubject, Roles: []Role{Auditor}}}
	via := g.browser()
	for _, path := range []string{"/", "/decisions", "/entries/1", "/log", "/nowhere", "/signout"} {
		resp, body := g.get(via, path, nil)
		if strings.Contains(body, issuertest.Robot) || path != "/signout" && (resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "/signin?to=")) {
			t.Errorf("%s: a stranger gets %d", path, resp.StatusCode)
		}
	}
	asked := g.begin(via, "/decisions?show=denied")
	want := url.Values{"response_type": {"id_token"}, "response_mode": {"form_post"}, "scope": {"openid"}, "client_id": {testClient},
		"redirect_uri": {"https://" + g.address + "/signin"}, "tenant": {"1"}, "state": asked["state"], "nonce": asked["nonce"]}
	if asked.Encode() != want.Encode() || asked.Get("state") == asked.Get("nonce") {
		t.Errorf("asked %v", asked)
	}
	resp, _ := g.answer(via, g.good(asked))
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/decisions?show=denied" {
		t.Fatalf("got %d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	for _, c := range resp.Cookies() {
		if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite < http.SameSiteLaxMode {
			t.Errorf("cookie %v", c)
		}
	}
	if resp, body := g.get(via, "/decisions", nil); resp.StatusCode != http.StatusOK || !strings.Contains(body, "Ada · auditor") || !strings.Contains(body, "/signout") {
		t.Errorf("after signing in: %d", resp.StatusCode)
	}
	for _, c := range [][]Reader{nil, {{Name: "Ada", Issuer: testProvider, Subject: testSubject, Roles: []Role{Operator}}}} {
		s.readers = c // taken from the list, or other roles: at once
		if resp, body := g.get(via, "/decisions", nil); resp.StatusCode == http.StatusOK || strings.Contains(body, issuertest.Robot) {
			t.Errorf("readers %v: status %d", c, resp.StatusCode)
		}
	}
	s.readers[0].Roles = []Role{Auditor}
	s.Advance(sessionTime - time.Second)
	if resp, _ := g.get(via, "/decisions", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("a second before its end the session gives %d", resp.StatusCode)
	}
	s.Advance(time.Second)
	if resp, _ := g.get(via, "/decisions", nil); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a session that has ended gives %d", resp.StatusCode)
	}
	asked = g.begin(via, "/log")
	g.answer(via, g.good(asked))
	kept := via.Jar.Cookies(&url.URL{Scheme: "https", Host: g.address, Path: "/"})
	g.get(via, "/signout", nil)
	via.Jar.SetCookies(&url.URL{Scheme: "https", Host: g.address, Path: "/"}, kept)
	if resp, _ := g.get(via, "/log", nil); resp.StatusCode != http.StatusForbidden {
		t.Errorf("after signing out the cookie still gives %d", resp.StatusCode)
	}
}

// TestA01_OtherAnswersOpenNoSession breaks one thing of a good answer at a time.
func TestA01_OtherAnswersOpenNoSession(t *testing.T) {
	s := open(t)
	g := s.openSignIn(nil)
	s.readers = []Reader{{Name: "Ada", Issuer: testProvider, Subject: testSubject, Roles: []Role{Auditor}}}
	first := g.browser()
	used := g.good(g.begin(first, "/"))
	if resp, _ := g.answer(first, used); resp.StatusCode != http.StatusSeeOther {
		t.Fatal(resp.StatusCode)
	}
	for name, spoil := range map[string]func(via *http.Client, form url.Values) url.Values{
		"another state":            func(_ *http.Client, f url.Values) url.Values { f.Set("state", "x"); return f },
		"no state":                 func(_ *http.Client, f url.Values) url.Values { f.Del("state"); return f },
		"two states":               func(_ *http.Client, f url.Values) url.Values { f.Add("state", "x"); return f },
		"no token":                 func(_ *http.Client, f url.Values) url.Values { f.Del("id_token"); return f },
		"two tokens":               func(_ *http.Client, f url.Values) url.Values { f.Add("id_token", "x"); return f },
		"an error":                 func(_ *http.Client, f url.Values) url.Values { f.Set("error", "access_denied"); return f },
		"the answer to another":    func(*http.Client, url.Values) url.Values { return used },
		"its token, another state": func(_ *http.Client, f url.Values) url.Values { f.Set("id_token", used.Get("id_token")); return f },
		"begun in another browser": func(via *http.Client, f url.Values) url.Values { via.Jar, _ = cookiejar.New(nil); return f },
		"too late":                 func(_ *http.Client, f url.Values) url.Values { s.Advance(signInTime); return f },
		"no reader": func(*http.Client, url.Values) url.Values {
			s.readers = []Reader{{Name: "Bob", Issuer: testProvider, Subject: "00u-bob", Roles: []Role{Auditor}}}
			return nil
		},
		"too long a form": func(_ *http.Client, f url.Values) url.Values { f.Set("x", strings.Repeat("x", 2*maxToken)); return f },
	} {
		s.readers = []Reader{{Name: "Ada", Issuer: testProvider, Subject: testSubject, Roles: []Role{Auditor}}}
		via := g.browser()
		form := g.good(g.begin(via, "/"))
		if changed := spoil(via, form); changed != nil {
			form = changed
		}
		resp, body := g.answer(via, form)
		if resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "You are not signed in") {
			t.Errorf("%s: status %d", name, resp.StatusCode)
		}
		for _, c := range resp.Cookies() {
			if c.Name == sessionCookie {
				t.Errorf("%s: a session was opened", name)
			}
		}
	}
	// The cookie of a sign-in, kept with its answer, opens no second session.
	s.readers = []Reader{{Name: "Ada", Issuer: testProvider, Subject: testSubject, Roles: []Role{Auditor}}}
	via := g.browser()
	form, at := g.good(g.begin(via, "/")), &url.URL{Scheme: "https", Host: g.address, Path: "/"}
	kept := via.Jar.Cookies(at)
	g.answer(via, form)
	via = g.browser()
	via.Jar.SetCookies(at, kept)
	if resp, _ := g.answer(via, form); resp.StatusCode != http.StatusForbidden {
		t.Errorf("an answer was taken twice: %d", resp.StatusCode)
	}
	for _, to := range []string{"https://evil.example/", "//evil.example", "/\\evil.example", "/signin", "/signout", "javascript:alert(1)", "/x\r\nSet-Cookie: a=b", "/" + strings.Repeat("a", 300)} {
		via := g.browser()
		if resp, _ := g.answer(via, g.good(g.begin(via, to))); resp.Header.Get("Location") != "/" {
			t.Errorf("%q leads to %q", to, resp.Header.Get("Location"))
		}
	}
}

// TestA01_TokensOfAProxyAreTakenWhereTheyAreWanted: with each request, and only where the configuration says so.
func TestA01_TokensOfAProxyAreTakenWhereTheyAreWanted(t *testing.T) {
	s := open(t)
	s.readers = []Reader{{Name: "Ada", Issuer: testProvider, Subject: testSubject, Roles: []Role{Auditor}}}
	for _, wanted := range []bool{true, false} {
		g := s.openSignIn(func(_ string, o *SignIn) { o.Bearer = wanted })
		for name, c := range map[string]struct {
			change map[string]any
			good   bool
		}{
			"good": {nil, true}, "expired": {map[string]any{"exp": s.Now().Unix() - 1}, false}, "of nobody": {map[string]any{"sub": "x"}, false},
		} {
			bearer := http.Header{"Authorization": {"Bearer " + g.provider.token(claims(s.Now(), "", c.change))}}
			if resp, _ := g.get(g.browser(), "/decisions", bearer); (resp.StatusCode == http.StatusOK) != (c.good && wanted) {
				t.Errorf("wanted %t, %s: status %d", wanted, name, resp.StatusCode)
			}
		}
	}
}

// A02: the listener for sign-ins has one configuration too, and TLS 1.3 only; what a client's certificate says does not count.
func TestA02_ASignInListenerTakesNoCertificate(t *testing.T) {
	s := open(t)
	g := s.openSignIn(nil)
	cert := s.enrol("Ada", Auditor)
	if resp, body := g.get(s.client(cert), "/decisions", nil); resp.StatusCode != http.StatusForbidden || strings.Contains(body, issuertest.Robot) {
		t.Errorf("a certificate opens the listener of those who sign in: %d", resp.StatusCode)
	}
	if _, err := sayOverTLS(g.address, &tls.Config{RootCAs: s.server, MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("TLS 1.2 gets an answer")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	s, now := newSessions(), time.Unix(1_800_000_000, 0)
	var cookies []string
	for i := range maxSessions + 3 {
		b := &begun{secret: [32]byte{byte(i), byte(i >> 8)}, until: now.Add(signInTime)}
		cookie, ok := s.enter(b, person{"i", fmt.Sprint(i)}, now.Add(time.Duration(i)*time.Millisecond))
		if !ok {
			t.Fatal("refused")
		}
		cookies = append(cookies, cookie)
	}
	_, first := s.find(cookies[0], now)
	last, ok := s.find(cookies[len(cookies)-1], now)
	if len(s.open) != maxSessions || first || !ok || last.subject != fmt.Sprint(maxSessions+2) {
		t.Errorf("%d sessions; the first %t, the last %t", len(s.open), first, ok)
	}
	if b, ok := newSessions().decode(s.encode(&begun{until: now.Add(time.Hour)}), now); ok {
		t.Errorf("a cookie of another process is taken: %v", b)
	}
	if _, err := (&Console{o: Options{SignIn: &SignIn{}}, sessions: s}).who(&http.Request{Header: http.Header{"Cookie": {sessionCookie + "=" + cookies[9] + "; " + sessionCookie + "=x"}}}); !denial.Is(err, denial.Unauthenticated) {
		t.Errorf("two cookies of one name: got %v", err)
	}
}
