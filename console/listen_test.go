package console

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/governed-execution/writ/test/issuertest"
)

// R17: beyond the limit a connection is closed at once; one that is given back serves another.
func TestR17_ConnectionsAreLimited(t *testing.T) {
	inner := issuertest.Must(net.Listen("tcp", "127.0.0.1:0"))(t)
	l := limit(inner, 2)
	accepted := make(chan net.Conn)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn { return issuertest.Must(net.Dial("tcp", inner.Addr().String()))(t) }
	a, b := dial(), dial()
	defer a.Close()
	defer b.Close()
	first, second := <-accepted, <-accepted
	third := dial()
	defer third.Close()
	if n, err := third.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("the third connection of two: %d, %v", n, err)
	}
	first.Close()
	first.Close() // gives its slot back once
	fourth := dial()
	defer fourth.Close()
	again := <-accepted
	fifth := dial()
	defer fifth.Close()
	if _, err := fifth.Read(make([]byte, 1)); err == nil || errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a connection that was closed twice gave two slots back: %v", err)
	}
	second.Close()
	again.Close()
	inner.Close()
	if _, more := <-accepted; more {
		t.Error("accepted after the end")
	}
}
