package receipt

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/governed-execution/writ/statement"
)

// Limits of a note. C2SP signed-note demands that 16 signatures are accepted.
const (
	maxNote       = 64 << 10
	maxSignatures = 64
)

// The types of signatures of notes that Writ knows (C2SP signed-note, section "Signature types").
const (
	noteECDSA       = 0x02 // of logs: ECDSA over P-256, in ASN.1
	noteCosignature = 0x04 // of witnesses: Ed25519 with a time (C2SP tlog-cosignature)
)

var lineEncoding = base64.StdEncoding.Strict()

// signature is one line under a note.
type signature struct {
	name string
	id   uint32
	sig  []byte
}

// parseNote takes a note apart: the text, its last newline included, and the signatures, all of them unverified. It
// refuses what is longer than maxNote, is not UTF-8, has control characters other than newline, has no empty line before
// the signatures, no signature or more than maxSignatures, or a line that is not exactly a signature.
func parseNote(raw []byte) (text string, sigs []signature, err error) {
	control := func(r rune) bool { return r < ' ' && r != '\n' }
	if len(raw) > maxNote || !utf8.Valid(raw) || strings.ContainsFunc(string(raw), control) {
		return "", nil, errors.New("reading note: too long, not UTF-8, or with control characters")
	}
	at := strings.LastIndex(string(raw), "\n\n")
	if at < 0 || raw[len(raw)-1] != '\n' {
		return "", nil, errors.New("reading note: no signatures")
	}
	sigs, err = parseSignatures(string(raw[at+2:]))
	return string(raw[:at+1]), sigs, err
}

// parseSignatures reads lines that each end in a newline.
func parseSignatures(lines string) (sigs []signature, err error) {
	for line := range strings.Lines(lines) {
		s, ok := parseSignature(line)
		if !ok || len(sigs) == maxSignatures {
			return nil, errors.New("reading note: a line that is no signature, or too many of them")
		}
		sigs = append(sigs, s)
	}
	if len(sigs) == 0 {
		return nil, errors.New("reading note: no signatures")
	}
	return sigs, nil
}

func parseSignature(line string) (s signature, ok bool) {
	line, whole := strings.CutSuffix(line, "\n")
	line, dash := strings.CutPrefix(line, "— ")
	name, encoded, space := strings.Cut(line, " ")
	data, err := lineEncoding.DecodeString(encoded)
	if !whole || !dash || !space || !validName(name) || err != nil || len(data) < 5 {
		return s, false
	}
	return signature{name: name, id: binary.BigEndian.Uint32(data), sig: data[4:]}, true
}

func (s signature) line() string {
	return "— " + s.name + " " + lineEncoding.EncodeToString(append(binary.BigEndian.AppendUint32(nil, s.id), s.sig...)) + "\n"
}

func validName(name string) bool {
	return name != "" && utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || r < ' ' || r == '+' })
}

// NoteKey is a public key that signs notes: of a log (P-256) or of a witness (Ed25519). The zero NoteKey verifies nothing.
type NoteKey struct {
	name string
	kind byte
	id   uint32
	key  statement.Key
}

// LogNoteKey returns the key under which a log of the origin signs its checkpoints. It must be on P-256.
func LogNoteKey(origin string, key statement.Key) (NoteKey, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return NoteKey{}, fmt.Errorf("naming log key: %w", err)
	}
	return newNoteKey(origin, noteECDSA, der)
}

// WitnessNoteKey returns the key under which a witness cosigns.
func WitnessNoteKey(name string, key ed25519.PublicKey) (NoteKey, error) {
	return newNoteKey(name, noteCosignature, key)
}

// ParseNoteKey reads a verifier key, NAME+ID+KEY (C2SP signed-note, section "Verifier keys"), of a log with a P-256 key or
// of a witness that cosigns with Ed25519.
func ParseNoteKey(vkey string) (NoteKey, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	id, encoded, _ := strings.Cut(rest, "+")
	data, err := lineEncoding.DecodeString(encoded)
	if err != nil || len(data) < 2 {
		return NoteKey{}, errors.New("reading verifier key: not of the form NAME+ID+KEY")
	}
	k, err := newNoteKey(name, data[0], data[1:])
	if err == nil && id != hex.EncodeToString(binary.BigEndian.AppendUint32(nil, k.id)) {
		return NoteKey{}, errors.New("reading verifier key: the id is not that of name and key")
	}
	return k, err
}

func newNoteKey(name string, kind byte, encoded []byte) (k NoteKey, err error) {
	var pub any
	var hashed []byte
	switch kind {
	case noteECDSA: // the id is that of the key alone
		hashed = encoded
		pub, err = x509.ParsePKIXPublicKey(encoded)
	case noteCosignature:
		hashed = slices.Concat([]byte(name), []byte{'\n', kind}, encoded)
		pub = ed25519.PublicKey(encoded)
	default:
		return k, fmt.Errorf("reading verifier key: signature type %d", kind)
	}
	if err != nil {
		return k, fmt.Errorf("reading verifier key: %w", err)
	}
	if !validName(name) {
		return k, errors.New("reading verifier key: the name is empty, or has a space or '+'")
	}
	key, err := statement.NewKey(pub)
	if err != nil {
		return k, fmt.Errorf("reading verifier key: %w", err)
	}
	if _, p256 := p256Of(key); kind == noteECDSA && !p256 {
		return k, errors.New("reading verifier key: a log key on another curve than P-256")
	}
	sum := sha256.Sum256(hashed)
	return NoteKey{name: name, kind: kind, id: binary.BigEndian.Uint32(sum[:]), key: key}, nil
}

// Name returns the name of the key: the origin of a log, or the name of a witness.
func (k NoteKey) Name() string { return k.name }

// String returns the verifier key, as other programs are configured with it.
func (k NoteKey) String() string {
	encoded, _ := k.key.Public().(ed25519.PublicKey)
	if k.kind == noteECDSA {
		encoded, _ = x509.MarshalPKIXPublicKey(k.key.Public()) // it was read from such
	}
	return fmt.Sprintf("%s+%08x+%s", k.name, k.id, lineEncoding.EncodeToString(append([]byte{k.kind}, encoded...)))
}

// signed reports whether the line is one of this key.
func (k NoteKey) signed(s signature) bool { return k.key.Valid() && s.name == k.name && s.id == k.id }
