package console

import (
	"net"
	"sync"
)

// maxConnections are open at once; more are closed unanswered. Who may not read can connect too, and must not use up what the issuer
// in the same process has.
const maxConnections = 256

// limited is a listener with so many connections at once as there are slots.
type limited struct {
	net.Listener
	slots chan struct{}
}

func limit(l net.Listener, n int) net.Listener { return &limited{l, make(chan struct{}, n)} }

// Accept returns the next connection for which there is a slot.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &slotted{Conn: c, leave: sync.OnceFunc(func() { <-l.slots })}, nil
		default:
			c.Close()
		}
	}
}

type slotted struct {
	net.Conn
	leave func()
}

// Close closes the connection, and gives the slot back once.
func (c *slotted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
