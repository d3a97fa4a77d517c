package client

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
)

// liar serves what a false issuer might, and returns a client of it.
func liar(t *testing.T, h http.HandlerFunc) (*Client, *httptest.Server) {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	c, err := New(srv.URL, pool)
	if err != nil {
		t.Fatal(err)
	}
	return c, srv
}

func TestNewRefuses(t *testing.T) {
	for _, base := range []string{"", "issuer.example", "http://issuer.example", "https://", "unix:///x", "https://issuer.example/%zz"} {
		if _, err := New(base, x509.NewCertPool()); err == nil {
			t.Errorf("%q is taken", base)
		}
	}
	if _, err := New("https://issuer.example", nil); err == nil {
		t.Error("a client without roots")
	}
}

func TestServerOfAnotherCAIsNotTrusted(t *testing.T) {
	_, srv := liar(t, func(http.ResponseWriter, *http.Request) { t.Error("a request reached it") })
	c, err := New(srv.URL, x509.NewCertPool())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Genesis(context.Background()); err == nil {
		t.Error("its genesis is read")
	}
	if _, err := c.Dial(context.Background()); err == nil {
		t.Error("a session with it")
	}
}

func TestAnswersOfALiar(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v1/genesis" {
				t.Error("the redirect was followed")
			}
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		},
		"too much":           func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 3<<20)) },
		"nothing":            func(http.ResponseWriter, *http.Request) {},
		"noise":              func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("noise")) },
		"a refusal in noise": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "noise", http.StatusForbidden) },
		"a refusal of nothing": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte("{}"))
		},
		"cut short": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte{0x81})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := liar(t, h)
			b, err := c.Genesis(context.Background())
			var refused *RefusedError
			if err == nil || b != nil || errors.As(err, &refused) {
				t.Errorf("got %v and %v", b, err)
			}
		})
	}
}

func TestRefusalsAreRead(t *testing.T) {
	c, _ := liar(t, func(w http.ResponseWriter, _ *http.Request) {
		data, status := denial.Known(denial.New(denial.Expired, "too late")).Encode()
		w.WriteHeader(status)
		_, _ = w.Write(data)
	})
	_, err := c.Record(context.Background(), []byte{1})
	var refused *RefusedError
	if !errors.As(err, &refused) || !denial.Is(err, denial.Expired) || !strings.Contains(err.Error(), "too late") {
		t.Errorf("got %v", err)
	}
}

func TestStatusStaysWithTheIssuer(t *testing.T) {
	c, srv := liar(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	for _, uri := range []string{"", "https://elsewhere.example/v1/status/0", srv.URL + ".example/v1/status/0", srv.URL + "/v1/genesis", srv.URL + "/v1/statusx"} {
		if _, err := c.Status(context.Background(), uri); !denial.Is(err, denial.RevocationUnknown) {
			t.Errorf("%q: got %v", uri, err)
		}
	}
}

func TestHalfABundleIsNone(t *testing.T) {
	c, _ := liar(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 1<<20))
		panic(http.ErrAbortHandler)
	})
	d, err := c.Export(context.Background(), url.Values{}, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Body.Close()
	if _, err := io.ReadAll(d.Body); err == nil {
		t.Error("a bundle that broke off is taken for a whole one")
	}
}

func TestSessionUsesItsOneConnection(t *testing.T) {
	var peers []string
	c, srv := liar(t, func(w http.ResponseWriter, r *http.Request) {
		peers = append(peers, r.RemoteAddr)
		_, _ = w.Write([]byte("noise"))
	})
	s, err := c.Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Exporter() == ([32]byte{}) {
		t.Error("no exporter")
	}
	for range 3 {
		if _, err := s.Challenge(context.Background()); err == nil {
			t.Error("noise is a challenge")
		}
	}
	if len(peers) != 3 || peers[0] != peers[1] || peers[1] != peers[2] {
		t.Errorf("got connections %v, want one", peers)
	}
	srv.CloseClientConnections()
	if _, err := s.Challenge(context.Background()); err == nil || len(peers) != 3 {
		t.Errorf("a session went on over %v: %v", peers, err)
	}
}

// A server that goes on with another bundle, or elsewhere, is not believed.
func TestDownloadGoesOnWhereItBrokeOff(t *testing.T) {
	for name, c := range map[string]struct {
		tag, span string
		good      bool
	}{
		"the rest":            {`"a"`, "bytes 3-9/10", true},
		"of another bundle":   {`"b"`, "bytes 3-9/10", false},
		"from elsewhere":      {`"a"`, "bytes 4-9/10", false},
		"not to the end":      {`"a"`, "bytes 3-8/10", false},
		"of no range at all":  {`"a"`, "", false},
		"of an unclear range": {`"a"`, "bytes */10", false},
	} {
		t.Run(name, func(t *testing.T) {
			c0, _ := liar(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") != "bytes=3-" || r.Header.Get("If-Range") != `"a"` {
					t.Errorf("asked with %v", r.Header)
				}
				w.Header().Set("ETag", c.tag)
				w.Header().Set("Content-Range", c.span)
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write([]byte("rest"))
			})
			d, err := c0.Export(context.Background(), url.Values{}, `"a"`, 3)
			if (err == nil) != c.good {
				t.Fatalf("got %v", err)
			}
			if err == nil {
				defer d.Body.Close()
				if d.From != 3 || d.Total != 10 {
					t.Errorf("got %+v", d)
				}
			}
		})
	}
}
