package server

import (
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer/wire"
	"github.com/governed-execution/writ/test/issuertest"
)

// TestA12_LargeBodiesShareTheRoom has one address fill its part of the room with a body that does not end: its next
// large body is refused, another address is heard, and the room comes back with the connection.
func TestA12_LargeBodiesShareTheRoom(t *testing.T) {
	s := open(t, Limits{Bodies: 1 << 20}, nil)
	junk := post("/v1/artifacts", wire.MediaMint, strings.Repeat("x", freeBody+200<<10))
	from := func(address string) *tls.Conn { return tls.Client(s.from(address), s.config()) }
	say := func(address string) heard {
		conn := from(address)
		go io.WriteString(conn, junk) // the server may answer before it has read all
		return s.hear(conn)
	}
	wantProblem(t, say("127.0.0.2"), denial.NotCanonical)
	wantProblem(t, say("127.0.0.2"), denial.NotCanonical) // the first gave its room back
	slow := from("127.0.0.2")
	issuertest.Must(io.WriteString(slow, junk[:len(junk)-1]))(t)
	within(t, "the room of one address is not limited", func() bool { return s.server.bodies.held("127.0.0.2") >= 190<<10 })
	wantProblem(t, say("127.0.0.2"), denial.Overloaded)
	wantProblem(t, say("127.0.0.3"), denial.NotCanonical)
	s.alive()
	slow.NetConn().Close()
	within(t, "the room of a closed connection is not given back", func() bool { return s.server.bodies.held("127.0.0.2") == 0 })
	wantProblem(t, say("127.0.0.2"), denial.NotCanonical)
}

func TestBodiesOfAllAddresses(t *testing.T) {
	b := newBodies(400)
	for _, peer := range []string{"a", "b", "c", "d"} {
		if !b.take(peer, 100) {
			t.Errorf("no room for %s", peer)
		}
	}
	if b.take("e", 1) {
		t.Error("room beyond what there is")
	}
	b.give("a", 100)
	if b.take("b", 1) || !b.take("e", 100) {
		t.Error("the room that came back is not for those with room of their own")
	}
}

func (b *bodies) held(peer string) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.peers[peer]
}

func within(t *testing.T, failure string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal(failure)
		}
	}
}
