package custody

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/statement"
)

// vault is the signer process, seen from inside.
type vault struct {
	out  outlet
	idle chan frame // to a goroutine that has answered and waits for more

	mu    sync.RWMutex
	token *hsm.Token
	keys  map[statement.Thumbprint]boundKey
}

// boundKey is a key with the one purpose that it was found for.
type boundKey struct {
	purpose hsm.Purpose
	key     statement.Key
}

// Serve is the body of the signer process, which Open starts. It answers requests on the inherited socket until that is
// closed. Called in any other way, it returns an error.
func Serve() error {
	file := os.NewFile(socketFD, "issuer")
	conn, err := net.FileConn(file)
	if err != nil {
		return errors.New("starting signer process: writd serve starts it, with a socket to speak over")
	}
	file.Close()
	// The signals of a terminal or a service manager go to every process; this one ends when the socket does.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	debug.SetGCPercent(400) // what lives is little: it would be collected for each few signatures
	v := &vault{out: outlet{conn: conn}, idle: make(chan frame), keys: map[statement.Thumbprint]boundKey{}}
	err = v.read(bufio.NewReaderSize(conn, 64<<10))
	if v.token != nil {
		_ = v.token.Close() // a call that hangs ends with the process
	}
	return err
}

// read takes requests until the socket ends. The first must open the token, and only the first.
func (v *vault) read(r *bufio.Reader) error {
	for first := true; ; first = false {
		f, err := readFrame(r)
		if err != nil {
			return nil // the issuer has ended, or wants this process to
		}
		if (f.op == opOpen) != first {
			return errFrame
		}
		if first {
			v.out.send(answerOf(f.number, nil, v.open(f.body)))
			continue
		}
		select {
		case v.idle <- f:
		default:
			go v.answer(f)
		}
	}
}

// answer answers a request, then others: the stack of a goroutine that has answered one is large enough. A panic is a fault of this
// process, which then ends: what follows it is clean.
func (v *vault) answer(f frame) {
	for ; ; f = <-v.idle {
		body, err := v.do(f)
		v.out.send(answerOf(f.number, body, err))
	}
}

// open confines the process, then loads the module and logs in.
func (v *vault) open(body []byte) error {
	var s settings
	if err := strictJSON(body, &s); err != nil {
		return err
	}
	if err := confine(s.Network, s.Memory); err != nil {
		return err
	}
	token, err := hsm.Open(context.Background(), hsm.Config{Module: s.Module, Token: s.Token, PIN: pinSource(s.PINFile),
		RetryPIN: s.RetryPIN, MaxSessions: s.Sessions, Timeout: s.Timeout, Wait: s.Wait})
	v.token = token
	return err
}

func (v *vault) do(f frame) ([]byte, error) {
	ctx := context.Background()
	if v.token == nil {
		return nil, unavailable("the token is not open")
	}
	switch f.op {
	case opSign:
		return v.sign(ctx, f.body)
	case opBind:
		return v.bind(ctx, f.body)
	case opHealth:
		return nil, v.token.Healthy()
	case opDistrust:
		return nil, v.token.Distrust(ctx)
	case opCreate, opRotate:
		return v.makeKey(ctx, f.op, f.body)
	case opKeys:
		return v.list(ctx)
	case opInfo:
		info, err := v.token.Info()
		return encoded(info, err)
	case opProbe:
		probe, err := v.token.Probe(ctx)
		return encoded(probe, err)
	case opTry:
		if len(f.body) != 4 {
			return nil, errFrame
		}
		trial, err := v.token.Try(ctx, time.Duration(binary.BigEndian.Uint32(f.body))*time.Millisecond)
		return encoded(trial, err)
	}
	return nil, errFrame
}

// sign checks what it is asked to sign (see composeFor), composes it for the key that was bound, and has the token sign it.
func (v *vault) sign(ctx context.Context, body []byte) ([]byte, error) {
	s, err := decodeSign(body)
	if err != nil {
		return nil, err
	}
	v.mu.RLock()
	b, ok := v.keys[s.key]
	v.mu.RUnlock()
	if !ok || b.purpose != s.purpose {
		return nil, denial.New(denial.HSMKeyPolicy, "no key was bound for this use")
	}
	tbs, err := composeFor(b.key, s)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	return v.token.SignUnverified(ctx, b.purpose, s.key, tbs)
}

func (v *vault) bind(ctx context.Context, body []byte) ([]byte, error) {
	purpose, pinned, err := decodeKey(body)
	if err != nil {
		return nil, err
	}
	s, err := v.token.Signer(ctx, purpose, pinned)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if b, ok := v.keys[pinned]; ok && b.purpose != purpose {
		return nil, denial.New(denial.HSMKeyPolicy, "the key has another purpose")
	}
	v.keys[pinned] = boundKey{purpose, s.Key()}
	return s.Key().COSE(), nil
}

func (v *vault) makeKey(ctx context.Context, op op, body []byte) ([]byte, error) {
	purpose, present, err := decodeKey(body)
	if err != nil {
		return nil, err
	}
	var key statement.Key
	if op == opCreate {
		key, err = v.token.Create(ctx, purpose)
	} else {
		key, err = v.token.Rotate(ctx, purpose, present)
	}
	if err != nil {
		return nil, err
	}
	return key.COSE(), nil
}

// encoded returns the value for the answer, unless there was an error.
func encoded(value any, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encoding answer: %w", err)
	}
	return raw, nil
}

func (v *vault) list(ctx context.Context) ([]byte, error) {
	keys, err := v.token.Keys(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]wireKey, len(keys))
	for i, a := range keys {
		out[i] = wireKey{COSE: a.Key.COSE(), Attributes: a}
		out[i].Attributes.Key = statement.Key{}
	}
	return encoded(out, nil)
}
