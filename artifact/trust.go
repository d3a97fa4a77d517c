package artifact

import (
	"slices"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// Bounds of a trust file.
const (
	DefaultRevocationAge = 60 * time.Second
	MaxRevocationAge     = 15 * time.Minute
	DefaultLifetime      = time.Hour
	MaxLifetime          = 24 * time.Hour
	MaxBreakGlass        = record.MaxBreakGlass * time.Second
)

// Purpose is what an issuer's key is for.
type Purpose = statement.Purpose

// The purposes.
const (
	PurposeArtifact = statement.PurposeArtifact
	PurposeRecord   = statement.PurposeRecord
	PurposeLog      = statement.PurposeLog
	PurposeStatus   = statement.PurposeStatus
)

// Trust is what a relying party or auditor holds to be true, out of band: the trust file. Whoever can change it decides
// what is believed. The zero Trust and the nil one believe nothing: every signature is KeyUnknown.
type Trust struct {
	Version       uint64           // of the file; rises with every change
	Expires       time.Time        // from then on it refuses everything (206)
	Genesis       statement.Digest // SHA-256 of the payload of the genesis act
	Issuer        string           // URI
	Log           string           // URI: sub of tree heads
	OnePerson     bool             // one person alone is all the authorities: whoever trusts this issuer knows that there is no dual control
	Audience      string           // of this gate; empty where one file serves many
	RevocationAge time.Duration    // greatest age of a status list, at most MaxRevocationAge
	RunningAge    time.Duration    // what runs is ended when no revocation data can be had for so long; 0: it runs while its lease lasts
	Lifetime      time.Duration    // greatest exp-iat of an artifact
	Keys          []TrustKey
	KeyPin        *KeyPin // no key history that ends before it is accepted; nil: any
	Policies      []Pin
	TPMRoots      []TPMRoot
	Witnesses     *receipt.Witnesses // whose cosignatures a checkpoint of the log needs; nil: none is counted
	BreakGlass    *Emergency         // nil: no break-glass authorization is accepted here

	ring    *record.KeyRing               // nil until Follow: then Keys alone are believed
	dropped map[statement.Thumbprint]bool // keys of the ring that whoever wrote the file has left out of it
	epochs  []Epoch                       // of the log, as far as followed
}

// Emergency is what a gate accepts of break-glass authorizations, on top of what signed policy declares. It stands in the
// trust file of a gate, and nothing else turns it on.
type Emergency struct {
	Targets  []string      // exactly these, ascending
	Lifetime time.Duration // greatest exp-iat, at most MaxBreakGlass
	Waive    bool          // also one whose quorum has waived attestation
}

// TrustKey is a pinned key of the issuer. It is valid in [NotBefore, NotAfter); a zero time is no bound.
type TrustKey struct {
	Purpose   Purpose
	Key       statement.Key
	NotBefore time.Time
	NotAfter  time.Time
}

// Pin accepts one policy. Both MinVersion and Hash hold where both are given.
type Pin struct {
	ID         string
	MinVersion uint64
	Hash       []byte // SHA-256; empty: any
}

// TPMRoot is a TPM vendor root that an auditor accepts: the name of a file, or one or more PEM certificates.
type TPMRoot struct {
	File string
	PEM  string
}

// PinKeys writes the keys of a ring into the trust file: those whose signatures count, each for the time in which they do, and the
// newest change. What is logged nowhere and was signed by a key that fell counts no more, so such keys of the log and for status
// lists are left out.
func (t *Trust) PinKeys(ring *record.KeyRing) {
	t.Keys, t.KeyPin = pinnable(ring), nil
	if n := ring.Sequence(); n > 0 {
		head := ring.Head()
		t.KeyPin = &KeyPin{Change: n, Digest: head[:]}
	}
}

// pinnable returns what PinKeys pins of a ring.
func pinnable(ring *record.KeyRing) (keys []TrustKey) {
	for _, k := range ring.Keys() {
		from, to := k.Counts()
		claimed := k.Purpose == record.PurposeLog || k.Purpose == record.PurposeStatus
		if from == 0 || k.State == record.KeySuspended || k.State == record.KeyCompromised && claimed {
			continue
		}
		pinned := TrustKey{Purpose: Purpose(k.Purpose), Key: k.Key}
		if from > 1 {
			pinned.NotBefore = time.Unix(int64(from), 0).UTC()
		}
		if to > 0 {
			pinned.NotAfter = time.Unix(int64(to), 0).UTC()
		}
		if to == 0 || from < to {
			keys = append(keys, pinned)
		}
	}
	return keys
}

// KeyRing returns the issuer's keys as far as they were followed; nil if they were not.
func (t *Trust) KeyRing() *record.KeyRing {
	if t == nil {
		return nil
	}
	return t.ring
}

// NoteKeys returns the log keys that were in use at a time, in seconds since 1970 UTC, as those that sign checkpoints; at 0,
// those that ever were.
func (t *Trust) NoteKeys(at uint64) (keys []receipt.NoteKey) {
	for _, k := range t.logKeys() {
		key, err := receipt.LogNoteKey(receipt.Origin(t.Log), k.Key)
		then := at
		if then == 0 {
			then = k.From
		}
		if err == nil && t.CheckClaimed(k.Key.Thumbprint(), then) == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// logKeys returns the log keys, each with a time at which it was in use.
func (t *Trust) logKeys() (all []record.IssuerKey) {
	if ring := t.KeyRing(); ring != nil {
		return slices.DeleteFunc(ring.Keys(), func(k record.IssuerKey) bool { return k.Purpose != record.PurposeLog })
	}
	for _, k := range t.Keys {
		if k.Purpose == PurposeLog {
			all = append(all, record.IssuerKey{Key: k.Key, From: uint64(max(k.NotBefore.Unix(), 0))})
		}
	}
	return all
}

// StatementKeys returns the keys that were followed, or else the pinned ones, each for the kinds of its purpose. Two keys with one thumbprint are
// KeyAmbiguous (C22).
func (t *Trust) StatementKeys() (statement.Keys, error) {
	var keys statement.Keys
	if t == nil {
		return keys, nil
	}
	if t.ring != nil {
		for _, k := range t.ring.Keys() {
			if t.dropped[k.Key.Thumbprint()] {
				continue
			}
			if err := keys.Add(k.Key, Purpose(k.Purpose).Kinds()...); err != nil {
				return statement.Keys{}, err
			}
		}
		return keys, nil
	}
	for _, k := range t.Keys {
		if err := keys.Add(k.Key, k.Purpose.Kinds()...); err != nil {
			return statement.Keys{}, err
		}
	}
	return keys, nil
}

// checkExpiry refuses a trust file that has expired, like a policy that has: 206.
func (t *Trust) checkExpiry(now time.Time) error {
	if !now.Before(t.Expires) {
		return denial.New(denial.PolicyExpired, "the trust file has expired")
	}
	return nil
}

// CheckKey refuses a key whose signatures do not count that were made and logged at the times, in seconds since 1970 UTC (C34,
// P19): 305, 208, 802; see record.IssuerKey.Check.
func (t *Trust) CheckKey(id statement.Thumbprint, times ...uint64) error {
	return t.checkKey(id, (*record.IssuerKey).Check, times)
}

// CheckClaimed is CheckKey for what is in no log, so that only the key itself says when it signed: tree heads and status
// lists; see record.IssuerKey.CheckClaimed.
func (t *Trust) CheckClaimed(id statement.Thumbprint, at uint64) error {
	return t.checkKey(id, (*record.IssuerKey).CheckClaimed, []uint64{at})
}

// CheckThen is CheckKey for an auditor, who looks back: see record.IssuerKey.CheckThen.
func (t *Trust) CheckThen(id statement.Thumbprint, times ...uint64) error {
	return t.checkKey(id, (*record.IssuerKey).CheckThen, times)
}

// checkKey asks what has become of a key, if that was followed, and in any case holds it against the file.
func (t *Trust) checkKey(id statement.Thumbprint, check func(*record.IssuerKey, uint64) error, times []uint64) error {
	if t == nil || t.ring == nil {
		return t.checkPinned(id, denial.KeyUnknown, times)
	}
	if t.dropped[id] {
		return denial.New(denial.KeyUnknown, "the trust file leaves this key of the issuer out")
	}
	for _, s := range times {
		if err := check(t.ring.Find(id), s); err != nil {
			return err
		}
	}
	return t.checkPinned(id, 0, times)
}

// checkPinned refuses a key that the file does not hold valid at each of the times. One that it does not name is refused
// with the reason for that, if there is one.
func (t *Trust) checkPinned(id statement.Thumbprint, absent denial.Reason, times []uint64) error {
	if t == nil {
		return denial.New(denial.KeyUnknown, "there is no trust file")
	}
	for _, k := range t.Keys {
		if k.Key.Thumbprint() != id {
			continue
		}
		for _, s := range times {
			at := time.Unix(int64(min(s, maxTime)), 0)
			if at.Before(k.NotBefore) || !k.NotAfter.IsZero() && !at.Before(k.NotAfter) {
				return denial.New(denial.KeyOutsideValidity, "the %s key was not valid then", k.Purpose)
			}
		}
		return nil
	}
	if absent != 0 {
		return denial.New(absent, "no such key in the trust file")
	}
	return nil
}

// checkPolicy refuses a policy that no pin accepts: an unknown id or another hash is 401, a version below the least 402.
func (t *Trust) checkPolicy(id string, version uint64, hash Digest) error {
	for _, p := range t.Policies {
		if p.ID != id {
			continue
		}
		if version < p.MinVersion {
			return denial.New(denial.PolicyRollback, "policy version %d, at least %d is accepted", version, p.MinVersion)
		}
		if len(p.Hash) > 0 && !hash.Equal(Digest{Algorithm: SHA256, Value: p.Hash}) {
			return denial.New(denial.PolicyHashMismatch, "the policy has another hash than the pinned one")
		}
		return nil
	}
	return denial.New(denial.PolicyHashMismatch, "the trust file does not accept the policy")
}

// revocationAge returns the greatest accepted age of a status list.
func (t *Trust) revocationAge() time.Duration { return min(t.RevocationAge, MaxRevocationAge) }
