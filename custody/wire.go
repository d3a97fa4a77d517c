package custody

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/statement"
)

// op says what a request asks for. There is none that signs a digest.
type op uint8

const (
	opOpen     op = iota + 1 // the settings; the first request, and once
	opBind                   // find, check and try a key
	opSign                   // a statement or a checkpoint
	opDistrust               // the last signature did not verify
	opHealth
	opCreate
	opRotate
	opKeys
	opInfo
	opProbe
	opTry // a key of no purpose, for as many milliseconds as the body says
)

// maxFrame is more than the greatest statement, a capsule.
const maxFrame = 10 << 20

// frame is one request, or the answer to it: which then has status in place of the op.
//
//	uint32 length of the rest · uint64 number · uint8 op or status · body
type frame struct {
	number uint64
	op     op
	body   []byte
}

const frameHead = 9

// The statuses of an answer.
const (
	statusGood   op = iota
	statusDenied    // uint16 reason · flags · uint32 length of the detail · detail · text for the operator
	statusFault     // flags · text
)

// flagPerson says that a person must act before a login is tried again.
const flagPerson = 1

func (f frame) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(frameHead+len(f.body)))
	b = binary.BigEndian.AppendUint64(b, f.number)
	b = append(b, byte(f.op))
	return append(b, f.body...)
}

func readFrame(r io.Reader) (frame, error) {
	var head [4 + frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < frameHead || n > maxFrame {
		return frame{}, errors.New("reading frame: impossible length")
	}
	f := frame{number: binary.BigEndian.Uint64(head[4:]), op: op(head[12]), body: make([]byte, n-frameHead)}
	_, err := io.ReadFull(r, f.body)
	return f, err
}

// signRequest is what the signer process composes a signature's structure from.
type signRequest struct {
	purpose hsm.Purpose
	kind    statement.Kind
	key     statement.Thumbprint
	within  time.Duration // afterwards nobody waits any more
	claims  statement.Claims
	payload []byte
}

func (s signRequest) encode() []byte {
	b := make([]byte, 0, 64+len(s.claims.Issuer)+len(s.claims.Subject)+len(s.payload))
	b = append(b, byte(s.purpose), byte(s.kind))
	b = append(b, s.key[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(min(s.within.Milliseconds(), math.MaxUint32)))
	b = binary.BigEndian.AppendUint64(b, s.claims.IssuedAt)
	b = appendText(appendText(b, s.claims.Issuer), s.claims.Subject)
	return append(b, s.payload...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// cutText takes a text from the beginning.
func cutText(b []byte) (text string, rest []byte, err error) {
	if len(b) < 4 || uint64(binary.BigEndian.Uint32(b)) > uint64(len(b)-4) {
		return "", nil, errFrame
	}
	end := 4 + int(binary.BigEndian.Uint32(b))
	return string(b[4:end]), b[end:], nil
}

var errFrame = errors.New("reading request: malformed")

func decodeSign(b []byte) (s signRequest, err error) {
	const fixed = 2 + 32 + 4 + 8
	if len(b) < fixed {
		return s, errFrame
	}
	s.purpose, s.kind = hsm.Purpose(b[0]), statement.Kind(b[1])
	s.key = statement.Thumbprint(b[2:34])
	s.within = time.Duration(binary.BigEndian.Uint32(b[34:])) * time.Millisecond
	s.claims.IssuedAt = binary.BigEndian.Uint64(b[38:])
	rest := b[fixed:]
	for _, into := range []*string{&s.claims.Issuer, &s.claims.Subject} {
		if *into, rest, err = cutText(rest); err != nil {
			return s, err
		}
	}
	s.payload = rest
	return s, nil
}

func keyRequest(p hsm.Purpose, t statement.Thumbprint) []byte {
	return append([]byte{byte(p)}, t[:]...)
}

func decodeKey(b []byte) (p hsm.Purpose, t statement.Thumbprint, err error) {
	if len(b) != 1+len(t) {
		return 0, t, errFrame
	}
	return hsm.Purpose(b[0]), statement.Thumbprint(b[1:]), nil
}

// settings are what the signer process must know. The PIN is not among them.
type settings struct {
	Module, Token, PINFile string
	RetryPIN, Network      bool
	Sessions               int
	Timeout, Wait          time.Duration
	Memory                 uint64
}

// wireKey is hsm.Attributes with its key as a COSE_Key.
type wireKey struct {
	COSE       []byte
	Attributes hsm.Attributes
}

func strictJSON(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("reading answer of the signer process: %w", err)
	}
	return nil
}

// answerOf encodes a result.
func answerOf(number uint64, body []byte, err error) frame {
	if err == nil {
		return frame{number, statusGood, body}
	}
	var flags byte
	if errors.Is(err, hsm.ErrPIN) {
		flags = flagPerson
	}
	var d *denial.Denial
	if !errors.As(err, &d) {
		return frame{number, statusFault, append([]byte{flags}, err.Error()...)}
	}
	b := append(binary.BigEndian.AppendUint16(nil, uint16(d.Reason.Code())), flags)
	return frame{number, statusDenied, append(appendText(b, d.Detail), err.Error()...)}
}

// refusal is a denial with what the signer process says of it to the operator.
type refusal struct {
	denial *denial.Denial
	text   string
}

func (r *refusal) Error() string { return r.text }

func (r *refusal) Unwrap() error { return r.denial }

// result decodes an answer.
func (f frame) result() ([]byte, error) {
	malformed := errors.New("asking the signer process: malformed answer")
	switch {
	case f.op == statusGood:
		return f.body, nil
	case f.op == statusFault && len(f.body) >= 1:
		return nil, person(f.body[0], fmt.Errorf("asking the signer process: %s", f.body[1:]))
	case f.op != statusDenied || len(f.body) < 3:
		return nil, malformed
	}
	detail, text, err := cutText(f.body[3:])
	if err != nil {
		return nil, malformed
	}
	d := denial.New(denial.Reason(binary.BigEndian.Uint16(f.body)), "%s", detail)
	return nil, person(f.body[2], &refusal{d, string(text)})
}

func person(flags byte, err error) error {
	if flags&flagPerson != 0 {
		return fmt.Errorf("%w: %w", err, hsm.ErrPIN)
	}
	return err
}
