package server

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// freeBody is what each body may have in bytes without being counted: connections are limited, too.
const freeBody = 64 << 10

// errBodies says that the bodies of others take all the room that there is.
var errBodies = errors.New("too many large bodies at once")

// bodies counts the bytes of large bodies that are in memory at once, so that 1,024 connections cannot send their
// greatest body each (A12). One address may have a quarter of all.
type bodies struct {
	mu    sync.Mutex
	left  int64
	each  int64
	peers map[string]int64 // bytes by address
}

func newBodies(total int64) *bodies {
	return &bodies{left: total, each: total / 4, peers: map[string]int64{}}
}

func (b *bodies) take(peer string, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.left || b.peers[peer]+n > b.each {
		return false
	}
	b.left -= n
	b.peers[peer] += n
	return true
}

func (b *bodies) give(peer string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
	if b.peers[peer] -= n; b.peers[peer] <= 0 {
		delete(b.peers, peer)
	}
}

// meter returns a body that is counted while it is read, and the function that gives its room back.
func (b *bodies) meter(r *http.Request) (io.ReadCloser, func()) {
	m := &metered{ReadCloser: r.Body, of: b, peer: peerOf(r.RemoteAddr)}
	return m, func() { b.give(m.peer, m.counted) }
}

// metered is a body that counts what is read of it, beyond what is free.
type metered struct {
	io.ReadCloser
	of            *bodies
	peer          string
	read, counted int64
}

// Read reads, and ends with errBodies where there is no room for what it has read.
func (m *metered) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	m.read += int64(n)
	if more := m.read - freeBody - m.counted; more > 0 {
		if !m.of.take(m.peer, more) {
			return 0, errBodies
		}
		m.counted += more
	}
	return n, err
}
