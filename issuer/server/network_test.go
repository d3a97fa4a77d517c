package server

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer/wire"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// post sends a request over a session's own connection by hand, cut off after so many bytes; -1: whole.
func (s *site) half(conn *tls.Conn, text string, cut int, end func(*net.TCPConn)) {
	s.Helper()
	if cut < 0 {
		cut = len(text)
	}
	if _, err := io.WriteString(conn, text[:cut]); err != nil {
		s.Fatal(err)
	}
	end(conn.NetConn().(*net.TCPConn))
}

// R09: whatever a network does to a request, and however often it comes, it is answered with one artifact at most: half-open connections and
// resets at any place, answers that are lost, and the same request again on other connections with fresh evidence.
func TestR09_AtMostOneArtifactWhateverTheNetworkDoes(t *testing.T) {
	s := open(t, Limits{}, nil)
	reset := func(c *net.TCPConn) { c.SetLinger(0); c.Close() }
	ends := map[string]func(*net.TCPConn){
		"reset":     reset,
		"half-open": func(c *net.TCPConn) { c.CloseWrite() },
		"gone":      func(*net.TCPConn) {}, // says nothing more, and is never closed by its side
	}
	for name, end := range ends {
		for _, cut := range []int{0, 1, 40, 400, -1} {
			t.Run(fmt.Sprintf("%s after %d bytes", name, cut), func(t *testing.T) {
				w := *s
				w.World = s.For(t)
				minted, _ := w.Issuer.Counts()
				conn := w.raw()
				state := conn.ConnectionState()
				exporter := [32]byte(issuertest.Must(state.ExportKeyingMaterial(wire.ExporterLabel, nil, 32))(t))
				if _, err := io.WriteString(conn, post("/v1/challenges", "", "")); err != nil {
					t.Fatal(err)
				}
				var ch wire.Challenge
				if err := statement.Unmarshal(w.hear(conn).body, &ch); err != nil {
					t.Fatal(err)
				}
				a := w.Prepare(issuertest.Spoil{Challenge: &ch, Exporter: exporter})
				body := string(issuertest.Must(statement.Marshal(wire.Mint{Request: a.Request, Evidence: a.Evidence}))(t))
				w.half(conn, post("/v1/artifacts", wire.MediaMint, body), cut, end)

				// The initiator does not know what has become of it, and sends the same request again, and again.
				given := 0
				for range 3 {
					session := w.dial()
					again := w.prepare(session, issuertest.Must(session.Challenge(w.Ctx))(t), issuertest.Spoil{Request: func([]byte) []byte { return a.Request }})
					_, err := session.Mint(w.Ctx, again.Request, again.Evidence)
					if err == nil {
						given++
					} else if !denial.Is(err, denial.RequestReplayed) {
						t.Errorf("got %v, want an artifact or %d", err, denial.RequestReplayed.Code())
					}
				}
				// One artifact: the one whose answer was lost, or one that was given later.
				limit := time.After(20 * time.Second)
				for tick := time.NewTicker(time.Millisecond); ; {
					if now, _ := w.Issuer.Counts(); now == minted+1 {
						tick.Stop()
						break
					}
					select {
					case <-tick.C:
					case <-limit:
						now, _ := w.Issuer.Counts()
						t.Fatalf("%d artifacts, want one", now-minted)
					}
				}
				if given > 1 {
					t.Errorf("%d artifacts for one request", given)
				}
			})
		}
	}
	s.alive()
}
