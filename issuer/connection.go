package issuer

import (
	"crypto/subtle"
	"sync"
	"time"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Limits of one connection.
const (
	MaxChallenges = 4                // live at once (F06)
	ChallengeLife = 60 * time.Second // and of a pending activation
	rememberSpent = 64               // spent challenges that are still told from unknown ones
)

// Connection is all that the issuer remembers of one TLS connection: its live challenges and a pending enrolment.
// It is gone with the connection, so nothing of it can be replayed elsewhere, or after a restart.
type Connection struct {
	mu         sync.Mutex
	challenges []challenge
	pending    *activation
	minting    sync.Mutex // one mint at a time on a connection
}

type challenge struct {
	nonce attest.Nonce
	until time.Time
	spent bool
}

// NewConnection returns the state of a fresh connection.
func NewConnection() *Connection { return &Connection{} }

// challengeAt makes a challenge that lives until ChallengeLife after now; OVERLOADED if MaxChallenges live already.
func (c *Connection) challengeAt(now time.Time) (attest.Nonce, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	live := 0
	for _, ch := range c.challenges {
		if !ch.spent && now.Before(ch.until) {
			live++
		}
	}
	if live >= MaxChallenges {
		return attest.Nonce{}, denial.New(denial.Overloaded, "%d challenges live on this connection", live)
	}
	if len(c.challenges) >= rememberSpent {
		c.challenges = c.challenges[1:]
	}
	n := attest.NewNonce()
	c.challenges = append(c.challenges, challenge{nonce: n, until: now.Add(ChallengeLife)})
	return n, nil
}

// find returns when the challenge was given out. It checks that the challenge is this connection's (501), unspent (502)
// and in time (503).
func (c *Connection) find(n attest.Nonce, now time.Time) (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := c.lookup(n)
	switch {
	case ch == nil:
		return time.Time{}, denial.New(denial.ChallengeUnknown, "the challenge was not made on this connection")
	case ch.spent:
		return time.Time{}, denial.New(denial.ChallengeReused, "the challenge has been answered")
	case !now.Before(ch.until):
		return time.Time{}, denial.New(denial.ChallengeExpired, "the challenge is older than %s", ChallengeLife)
	}
	return ch.until.Add(-ChallengeLife), nil
}

func (c *Connection) lookup(n attest.Nonce) *challenge {
	for i := range c.challenges {
		if subtle.ConstantTimeCompare(c.challenges[i].nonce[:], n[:]) == 1 {
			return &c.challenges[i]
		}
	}
	return nil
}

// spend marks the challenge as answered: the AK's signature over it has verified.
func (c *Connection) spend(n attest.Nonce) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch := c.lookup(n); ch != nil {
		ch.spent = true
	}
}

// activation is an enrolment whose activation secret is out.
type activation struct {
	secret    [32]byte
	until     time.Time
	candidate *attest.Candidate
	request   []byte
	act       statement.Digest // of the payload of the authorities' enrolment that it was checked against
	vendors   vendors          // that its EK certificate was checked against
	spent     bool
}

func (c *Connection) setPending(a *activation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = a
}

// activate compares the answer to the pending activation, once (K03): none is 501, a second answer 502, a late one
// 503, a wrong one 323. Whatever the outcome, the secret is spent.
func (c *Connection) activate(answer []byte, now time.Time) (*activation, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.pending
	switch {
	case a == nil:
		return nil, denial.New(denial.ChallengeUnknown, "no activation is pending on this connection")
	case a.spent:
		return nil, denial.New(denial.ChallengeReused, "the activation has been answered")
	}
	a.spent = true
	right := subtle.ConstantTimeCompare(answer, a.secret[:]) == 1
	late := !now.Before(a.until)
	clear(a.secret[:])
	switch {
	case late:
		return nil, denial.New(denial.ChallengeExpired, "the activation is older than %s", ChallengeLife)
	case !right:
		return nil, denial.New(denial.ActivationFailed, "the TPM did not open the credential")
	}
	return a, nil
}
