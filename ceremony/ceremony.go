// Package ceremony has people make keys by a written script, and proves afterwards that they did.
//
// A script names custodians, witnesses and steps. Every step is confirmed by everybody who takes part, each with a key of
// their own, over the same bytes: the digest of the script, the number of the step, the digest of the transcript so far,
// and what the token answered. The transcript of these statements is a chain: a step that is left out, repeated, moved or
// changed breaks it. Replay verifies it from the script and the keys of the participants alone.
//
// A ceremony that stops halfway goes on where it stopped, or is abandoned by a statement that says so. Only a State that
// is complete has births.
package ceremony

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// Version is the version of Entry.
const Version = 1

// Entry is the payload of every statement of one step.
type Entry struct {
	Version  uint64            `cbor:"1,keyasint"`
	Script   []byte            `cbor:"2,keyasint"` // SHA-256 of the script
	Step     uint64            `cbor:"3,keyasint"` // from 1
	Previous []byte            `cbor:"4,keyasint"` // SHA-256 of the transcript before the step
	Do       Action            `cbor:"5,keyasint"`
	Time     uint64            `cbor:"6,keyasint"` // seconds since 1970 UTC
	Key      *record.Birth     `cbor:"7,keyasint,omitempty"`
	Persons  []string          `cbor:"8,keyasint,omitempty"`
	Quote    *record.HostQuote `cbor:"9,keyasint,omitempty"`
	Why      string            `cbor:"10,keyasint,omitempty"`
}

// Transcript is the statements of a ceremony, step by step.
type Transcript []record.Bundle

// Encode returns the content of a transcript file.
func (t Transcript) Encode() ([]byte, error) {
	raw := make([][][]byte, len(t))
	for i, b := range t {
		raw[i] = b
	}
	return statement.Marshal(raw)
}

// Digest returns SHA-256 of the transcript file.
func (t Transcript) Digest() (statement.Digest, error) {
	enc, err := t.Encode()
	return statement.DigestOf(enc), err
}

// MaxTranscript is the greatest size of a transcript in bytes: more than the steps of the longest script.
const MaxTranscript = maxSteps * maxPeople * (17 << 10)

// DecodeTranscript reads what Encode wrote.
func DecodeTranscript(data []byte) (Transcript, error) {
	if len(data) > MaxTranscript {
		return nil, denial.New(denial.StructureLimit, "a transcript has at most %d bytes", MaxTranscript)
	}
	var raw [][][]byte
	if err := statement.Unmarshal(data, &raw); err != nil {
		return nil, err
	}
	t := make(Transcript, len(raw))
	for i, b := range raw {
		t[i] = b
	}
	return t, nil
}

// State is how far a ceremony has come. Only Replay makes it.
type State struct {
	script     *Script
	keys       statement.Keys
	transcript Transcript
	entries    []*Entry
	digest     statement.Digest // of the transcript
	made       map[string]*record.Birth
	born       []record.Birth
	time       uint64
	why        string // abandoned
}

// Replay verifies a transcript step by step, as Append does. The keys are those of the script: a verifier who has not
// made sure of them calls Trust first.
func Replay(s *Script, t Transcript) (*State, error) {
	st := &State{script: s, made: map[string]*record.Birth{}}
	for _, p := range s.Participants {
		if err := st.keys.Add(p.Key, statement.Ceremony); err != nil {
			return nil, err
		}
	}
	var err error
	if st.digest, err = st.transcript.Digest(); err != nil {
		return nil, err
	}
	for _, b := range t {
		if err := st.Append(b); err != nil {
			return nil, err
		}
	}
	return st, nil
}

// Verify is all that there is to verify offline, in this order: the script, as Parse does; its participants against the keys
// that the verifier has from the persons themselves (305); the transcript, step by step, as Append does; that it is complete
// and not abandoned (409). What it cannot show is that the token and the people told the truth.
func Verify(script, transcript []byte, given map[string]statement.Key) (*State, error) {
	s, err := Parse(script)
	if err != nil {
		return nil, err
	}
	if err := s.Trust(given); err != nil {
		return nil, err
	}
	t, err := DecodeTranscript(transcript)
	if err != nil {
		return nil, err
	}
	st, err := Replay(s, t)
	if err != nil {
		return nil, err
	}
	_, err = st.Births()
	return st, err
}

// Append adds a confirmed step. It checks, in this order:
//   - the ceremony is neither complete nor abandoned (409);
//   - every statement verifies with the key of a participant (301 to 313), carries the claims of this ceremony and script
//     (409) and the same bytes as the others (311), and no key has signed twice (306);
//   - the step is complete and of this version (3xx, 911), of this script, has the next number, and follows exactly this
//     transcript (409), not before the step before it (905);
//   - it does what the script says there (409), or abandons the ceremony, with a reason (312);
//   - the key is the one that was made and confirmed, unchanged, on the same token, and fit (904): see checkKey;
//   - everybody has signed (409); to abandon, one is enough.
func (st *State) Append(b record.Bundle) error {
	e, signers, err := st.open(b)
	if err != nil {
		return err
	}
	if err := st.checkPlace(e); err != nil {
		return err
	}
	if e.Do != Abandon {
		if err := st.checkKey(e); err != nil {
			return err
		}
		if missing := st.missing(signers); len(missing) > 0 {
			return denial.New(denial.DualControlMissing, "step %d lacks %d of %d confirmations", e.Step, len(missing), len(st.script.Participants)).Try(hintConfirm)
		}
	}
	st.transcript = append(st.transcript[:len(st.transcript):len(st.transcript)], slices.Clone(b))
	if st.digest, err = st.transcript.Digest(); err != nil {
		return err
	}
	st.take(e)
	return nil
}

// What to try about a ceremony: the hints of the reasons are about acts.
const (
	hintConfirm = "Everybody who takes part signs the step with \"writ sign\"; then go on with \"writd ceremony run\"."
	hintOver    = "Write another script, and hold another ceremony."
	hintPlace   = "Give script and transcript of one ceremony as they were left, and have the step that \"writd ceremony run\" writes confirmed."
	hintScript  = "Correct the script before anybody signs: see docs/ceremony.md."
)

// open verifies the statements of a step and returns what all of them say, and who has signed.
func (st *State) open(b record.Bundle) (*Entry, map[statement.Thumbprint]bool, error) {
	if st.why != "" || st.Complete() {
		return nil, nil, denial.New(denial.DualControlMissing, "the ceremony is over: nothing follows its last step").Try(hintOver)
	}
	var e Entry
	signed := map[statement.Thumbprint]bool{}
	var payload []byte
	for i, raw := range b {
		env, err := statement.Decode(raw, statement.MaxStatement)
		if err != nil {
			return nil, nil, err
		}
		v, err := env.Verify(st.keys, statement.Ceremony)
		if err != nil {
			return nil, nil, err
		}
		if i == 0 {
			payload = v.Payload()
		}
		if v.Claims() != st.script.claims() {
			return nil, nil, denial.New(denial.DualControlMissing, "a statement is of another ceremony: it names another issuer or script").Try(hintPlace)
		}
		if string(v.Payload()) != string(payload) {
			return nil, nil, denial.New(denial.WrongType, "a statement says something else than the others of its step")
		}
		if signed[v.Key().Thumbprint()] {
			return nil, nil, denial.New(denial.KeyAmbiguous, "a key has confirmed the step twice")
		}
		signed[v.Key().Thumbprint()] = true
	}
	if len(b) == 0 {
		return nil, nil, denial.New(denial.DualControlMissing, "a step that nobody has confirmed").Try(hintConfirm)
	}
	return &e, signed, statement.Unmarshal(payload, &e)
}

// checkPlace checks that the entry is the next one.
func (st *State) checkPlace(e *Entry) error {
	next := st.script.Steps[len(st.transcript)]
	switch {
	case e.Version != Version:
		return denial.New(denial.UnsupportedVersion, "ceremony version %d", e.Version)
	case string(e.Script) != string(st.script.Digest[:]):
		return denial.New(denial.DualControlMissing, "the step was confirmed under another script").Try(hintPlace)
	case e.Step != uint64(len(st.transcript)+1):
		return denial.New(denial.DualControlMissing, "step %d stands where step %d belongs: a step is missing, repeated or out of order", e.Step, len(st.transcript)+1).
			Try(hintPlace)
	case string(e.Previous) != string(st.digest[:]):
		return denial.New(denial.DualControlMissing, "step %d was confirmed after another transcript than this", e.Step).Try(hintPlace)
	case e.Time == 0 || e.Time < st.time:
		return denial.New(denial.ClockUntrusted, "step %d is dated before the step before it", e.Step)
	case e.Do == Abandon && (e.Why == "" || len(e.Why) > 512 || e.Key != nil || e.Persons != nil || e.Quote != nil):
		return denial.New(denial.PayloadForm, "abandoning a ceremony needs a reason, of at most 512 bytes, and nothing else")
	case e.Do == Abandon:
		return nil
	case e.Do != next.Do || e.Why != "":
		return denial.New(denial.DualControlMissing, "step %d does something else than the script says", e.Step).Try(hintPlace)
	}
	return nil
}

// take notes what an entry has changed.
func (st *State) take(e *Entry) {
	st.entries = append(st.entries, e)
	st.time, st.why = e.Time, e.Why
	if e.Key == nil {
		return
	}
	st.made[e.Key.Purpose] = e.Key
	if e.Do == Birth {
		b := *e.Key
		b.Ceremony = &record.Ceremony{Script: e.Script, Persons: e.Persons, Quote: e.Quote}
		st.born = append(st.born, b)
	}
}

// missing returns who has not signed.
func (st *State) missing(signed map[statement.Thumbprint]bool) []Participant {
	var all []Participant
	for _, p := range st.script.Participants {
		if !signed[p.Key.Thumbprint()] {
			all = append(all, p)
		}
	}
	return all
}

// Missing verifies the signatures that a step has so far and returns who has still to confirm it.
func (st *State) Missing(b record.Bundle) ([]Participant, error) {
	_, signed, err := st.open(b)
	if err != nil {
		return nil, err
	}
	return st.missing(signed), nil
}

// Complete reports whether every step of the script is confirmed.
func (st *State) Complete() bool { return st.why == "" && len(st.transcript) == len(st.script.Steps) }

// Transcript returns the verified transcript.
func (st *State) Transcript() Transcript { return slices.Clone(st.transcript) }

// Next returns the number of the next step, and the step; zero if there is none.
func (st *State) Next() (int, Step) {
	if st.why != "" || st.Complete() {
		return 0, Step{}
	}
	return len(st.transcript) + 1, st.script.Steps[len(st.transcript)]
}

// Births returns the records of the keys that were born, for the log of the issuer. It refuses a ceremony that is not
// complete (409).
func (st *State) Births() ([]record.Birth, error) {
	switch {
	case st.why != "":
		return nil, denial.New(denial.DualControlMissing, "the ceremony was abandoned after %d of %d steps", len(st.transcript)-1, len(st.script.Steps)).Try(hintOver)
	case !st.Complete():
		return nil, denial.New(denial.DualControlMissing, "the ceremony is not complete: %d of %d steps are confirmed", len(st.transcript), len(st.script.Steps)).
			Try("Go on with \"writd ceremony run\" until everybody has confirmed the last step.")
	}
	all := make([]record.Birth, len(st.born))
	for i, b := range st.born {
		c := *b.Ceremony
		c.Transcript = st.digest[:]
		b.Ceremony = &c
		all[i] = b
	}
	return all, nil
}

// Token makes keys and says what they are. An answer is the key with purpose, attributes and token.
type Token interface {
	// Make makes a key for a purpose, beside the one that it replaces, or where there is none if that is zero.
	Make(ctx context.Context, purpose string, replaces statement.Thumbprint) (record.Birth, error)
	// Read returns what the token states of a key now, and refuses one that it does not have.
	Read(ctx context.Context, key statement.Thumbprint) (record.Birth, error)
}

// Quoter has the TPM of the host sign its state with qualifying data.
type Quoter interface {
	Quote(ctx context.Context, qualifying [32]byte) (*record.HostQuote, error)
}

// Prepare does what the next step asks of the token and of the TPM, and returns what everybody has to confirm. The host
// has no TPM if host is nil. What Append would refuse is refused before anybody signs it.
func (st *State) Prepare(ctx context.Context, token Token, host Quoter, now uint64) (record.Draft, error) {
	n, step := st.Next()
	if n == 0 {
		return record.Draft{}, denial.New(denial.DualControlMissing, "the ceremony is over: it has no further step").Try(hintOver)
	}
	e := st.entry(step.Do, now)
	var err error
	switch step.Do {
	case MakeKey:
		e.Key, err = makeKey(ctx, token, step)
	case ReadBack:
		e.Key, err = read(ctx, token, st.made[step.Purpose].Key.Thumbprint())
	case Birth:
		e.Persons = st.script.persons()
		if e.Key, err = read(ctx, token, st.made[step.Purpose].Key.Thumbprint()); err == nil && host != nil {
			e.Quote, err = host.Quote(ctx, qualifying(e))
		}
	}
	if err != nil {
		return record.Draft{}, fmt.Errorf("preparing step %d: %w", n, err)
	}
	if err := st.checkPlace(e); err != nil {
		return record.Draft{}, err
	}
	if err := st.checkKey(e); err != nil {
		return record.Draft{}, err
	}
	return st.draft(e)
}

func makeKey(ctx context.Context, token Token, step Step) (*record.Birth, error) {
	b, err := token.Make(ctx, step.Purpose, step.Replaces)
	b.Attributes = map[string]string{} // they are read back in a step of their own
	return &b, err
}

func read(ctx context.Context, token Token, key statement.Thumbprint) (*record.Birth, error) {
	b, err := token.Read(ctx, key)
	return &b, err
}

// PrepareAbandon returns what somebody has to sign to abandon the ceremony.
func (st *State) PrepareAbandon(why string, now uint64) (record.Draft, error) {
	if n, _ := st.Next(); n == 0 {
		return record.Draft{}, denial.New(denial.DualControlMissing, "the ceremony is over: it cannot be abandoned any more").Try(hintOver)
	}
	e := st.entry(Abandon, now)
	e.Why = why
	if err := st.checkPlace(e); err != nil {
		return record.Draft{}, err
	}
	return st.draft(e)
}

func (st *State) entry(do Action, now uint64) *Entry {
	return &Entry{Version: Version, Script: st.script.Digest[:], Step: uint64(len(st.transcript) + 1), Previous: st.digest[:], Do: do, Time: now}
}

func (st *State) draft(e *Entry) (record.Draft, error) {
	payload, err := statement.Marshal(e)
	c := st.script.claims()
	return record.Draft{Kind: statement.Ceremony.String(), Issuer: c.Issuer, Subject: c.Subject, Payload: payload}, err
}

// qualifying is what the quote of a birth answers: it belongs to this key, in this ceremony, after this transcript.
func qualifying(e *Entry) [32]byte {
	key := e.Key.Key.Thumbprint()
	return sha256.Sum256(slices.Concat([]byte("writ-ceremony-quote-v1"), e.Script, e.Previous, key[:]))
}
