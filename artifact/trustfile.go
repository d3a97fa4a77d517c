package artifact

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/settings"
	"github.com/governed-execution/writ/statement"
)

// trustSchema is the version of the file's form.
const trustSchema = 1

const maxTrustFile = 1 << 20

// trustFile is the trust file as TOML.
type trustFile struct {
	Schema        int64       `toml:"schema" comment:"form of this file"`
	Version       int64       `toml:"version" comment:"rises with every change of this file"`
	Expires       any         `toml:"expires" comment:"from then on everything is refused"`
	Genesis       hexBytes    `toml:"genesis" comment:"SHA-256 of the payload of the genesis act"`
	Issuer        string      `toml:"issuer"`
	Log           string      `toml:"log"`
	OnePerson     bool        `toml:"one_person,omitempty" comment:"one person is all the authorities of this issuer: there is no dual control"`
	Audience      string      `toml:"audience,omitempty"`
	RevocationAge duration    `toml:"max_revocation_age,omitempty" comment:"greatest age of revocation data; default 60s, at most 15m"`
	RunningAge    duration    `toml:"max_running_revocation_age,omitempty" comment:"end what runs when no revocation data can be had for so long; default: let it run while its lease lasts"`
	Lifetime      duration    `toml:"max_lifetime,omitempty" comment:"greatest lifetime of an artifact; default 1h, at most 24h"`
	KeyChange     int64       `toml:"key_change,omitempty" comment:"number of the newest key change; no older state of the keys is accepted"`
	KeyDigest     hexBytes    `toml:"key_change_sha256,omitempty" comment:"SHA-256 of its payload"`
	Threshold     int64       `toml:"witness_threshold,omitempty" comment:"distinct operators of witnesses that must have cosigned a checkpoint"`
	Keys          []keyEntry  `toml:"key"`
	Policies      []pinEntry  `toml:"policy"`
	TPMRoots      []rootEntry `toml:"tpm_root,omitempty"`
	BreakGlass    *glassEntry `toml:"break_glass,omitempty"`

	Witnesses []witnessEntry `toml:"witness,omitempty"`
}

type glassEntry struct {
	Targets  []string `toml:"targets" comment:"exactly these may run by break-glass"`
	Lifetime duration `toml:"max_lifetime,omitempty" comment:"greatest lifetime of such an authorization; default and greatest 1h"`
	Waive    bool     `toml:"waive_attestation,omitempty" comment:"also where the quorum has waived attestation"`
}

type keyEntry struct {
	Purpose    Purpose  `toml:"purpose"`
	Thumbprint hexBytes `toml:"thumbprint"`
	PEM        string   `toml:"pem,omitempty,multiline"`
	COSE       string   `toml:"cose,omitempty"`
	NotBefore  any      `toml:"not_before,omitempty"`
	NotAfter   any      `toml:"not_after,omitempty"`
}

type pinEntry struct {
	ID         string   `toml:"id"`
	MinVersion int64    `toml:"min_version,omitempty"`
	Hash       hexBytes `toml:"sha256,omitempty"`
}

type rootEntry struct {
	File string `toml:"file,omitempty"`
	PEM  string `toml:"pem,omitempty,multiline"`
}

type witnessEntry struct {
	Operator string `toml:"operator"`
	Key      string `toml:"key"`
}

// hexBytes are 32 bytes in lower-case hexadecimal.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(text []byte) error {
	b, _ := hex.DecodeString(string(text))
	if len(b) != 32 || hex.EncodeToString(b) != string(text) {
		return errors.New("want 64 lower-case hexadecimal digits")
	}
	*h = b
	return nil
}

// duration is a time.Duration as its text.
type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *duration) UnmarshalText(text []byte) error {
	v, _ := time.ParseDuration(string(text)) // 0 if it is none
	if v < time.Second || v%time.Second != 0 {
		return errors.New("want whole seconds, such as 60s or 15m")
	}
	*d = duration(v)
	return nil
}

// ParseTrust reads a trust file. It is strict: an unknown key, a value out of bounds, a key whose thumbprint is not the
// one that is written beside it, two keys with one thumbprint, or two pins for one policy are errors, with the line
// where it is known. A file without keys or pins is an error too. Expiry is not judged here but at every use.
func ParseTrust(data []byte) (*Trust, error) {
	var f trustFile
	if len(data) > maxTrustFile {
		return nil, fmt.Errorf("reading trust file: more than %d bytes", maxTrustFile)
	}
	if err := settings.Decode(data, &f); err != nil {
		return nil, fmt.Errorf("reading trust file: %w", err)
	}
	t, err := f.trust()
	if err != nil {
		return nil, fmt.Errorf("reading trust file: %w", err)
	}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("reading trust file: %w", err)
	}
	return t, nil
}

func (f *trustFile) trust() (*Trust, error) {
	if f.Schema != trustSchema {
		return nil, fmt.Errorf("schema %d, this version reads schema %d", f.Schema, trustSchema)
	}
	if f.Version < 1 || len(f.Genesis) != 32 {
		return nil, errors.New("version and genesis are needed")
	}
	expires, err := instant("expires", f.Expires)
	if err != nil {
		return nil, err
	}
	t := &Trust{Version: uint64(f.Version), Expires: expires, Genesis: statement.Digest(f.Genesis), Issuer: f.Issuer,
		Log: f.Log, OnePerson: f.OnePerson, Audience: f.Audience, RevocationAge: time.Duration(f.RevocationAge), RunningAge: time.Duration(f.RunningAge), Lifetime: time.Duration(f.Lifetime)}
	if t.RevocationAge == 0 {
		t.RevocationAge = DefaultRevocationAge
	}
	if t.Lifetime == 0 {
		t.Lifetime = DefaultLifetime
	}
	if f.KeyChange != 0 || len(f.KeyDigest) != 0 {
		t.KeyPin = &KeyPin{Change: uint64(max(f.KeyChange, 0)), Digest: f.KeyDigest}
	}
	for i, e := range f.Keys {
		k, err := e.trust()
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		t.Keys = append(t.Keys, k)
	}
	for _, e := range f.Policies {
		t.Policies = append(t.Policies, Pin{ID: e.ID, MinVersion: uint64(max(e.MinVersion, 0)), Hash: e.Hash})
	}
	for _, e := range f.TPMRoots {
		t.TPMRoots = append(t.TPMRoots, TPMRoot(e))
	}
	if e := f.BreakGlass; e != nil {
		t.BreakGlass = &Emergency{Targets: e.Targets, Lifetime: time.Duration(e.Lifetime), Waive: e.Waive}
		if e.Lifetime == 0 {
			t.BreakGlass.Lifetime = MaxBreakGlass
		}
		slices.Sort(t.BreakGlass.Targets)
	}
	t.Witnesses, err = f.witnesses()
	return t, err
}

// witnesses returns nil if the file says nothing of witnesses.
func (f *trustFile) witnesses() (*receipt.Witnesses, error) {
	if f.Threshold == 0 && len(f.Witnesses) == 0 {
		return nil, nil
	}
	w := &receipt.Witnesses{Threshold: int(min(f.Threshold, 1<<16))}
	for i, e := range f.Witnesses {
		key, err := receipt.ParseNoteKey(e.Key)
		if err != nil {
			return nil, fmt.Errorf("witness %d: %w", i+1, err)
		}
		w.List = append(w.List, receipt.Witness{Operator: e.Operator, Key: key})
	}
	return w, nil
}

// instant reads a TOML date and time with an offset. One without means another moment on every machine.
func instant(key string, v any) (time.Time, error) {
	switch t := v.(type) {
	case nil:
		return time.Time{}, nil
	case time.Time:
		return t, nil
	}
	return time.Time{}, fmt.Errorf("%s: want a date and time with an offset, such as 2027-01-01T00:00:00Z", key)
}

// whenever returns nil, which is not written, for the zero time.
func whenever(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC()
}

func (e keyEntry) trust() (TrustKey, error) {
	key, err := e.key()
	if err != nil {
		return TrustKey{}, err
	}
	from, err := instant("not_before", e.NotBefore)
	if err != nil {
		return TrustKey{}, err
	}
	to, err := instant("not_after", e.NotAfter)
	return TrustKey{Purpose: e.Purpose, Key: key, NotBefore: from, NotAfter: to}, err
}

func (e keyEntry) key() (k statement.Key, err error) {
	switch {
	case (e.PEM == "") == (e.COSE == ""):
		return k, errors.New("either pem or cose is needed")
	case e.PEM != "":
		k, err = statement.ParsePEM([]byte(e.PEM))
	default:
		var raw []byte
		if raw, err = base64.RawURLEncoding.Strict().DecodeString(e.COSE); err == nil {
			k, err = statement.ParseKey(raw)
		}
	}
	if err != nil {
		return statement.Key{}, err
	}
	if id := k.Thumbprint(); !bytes.Equal(id[:], e.Thumbprint) {
		return statement.Key{}, fmt.Errorf("the key has thumbprint %s", id)
	}
	return k, nil
}

// check refuses a trust file that is incomplete or out of bounds.
func (t *Trust) check() error {
	switch {
	case t.Version == 0 || t.Expires.IsZero() || t.Genesis == statement.Digest{}:
		return errors.New("version, expires and genesis are needed")
	case !isURI(t.Issuer) || !isURI(t.Log) || strings.Contains(t.Log, "#") || t.Audience != "" && !isURI(t.Audience):
		return errors.New("issuer and log must be URIs, log without a fragment, and audience one if it is given")
	case t.RevocationAge < time.Second || t.RevocationAge > MaxRevocationAge:
		return fmt.Errorf("max_revocation_age must be within 1s and %s", MaxRevocationAge)
	case t.RunningAge != 0 && t.RunningAge < t.RevocationAge:
		return errors.New("max_running_revocation_age must not be less than max_revocation_age")
	case t.Lifetime < time.Second || t.Lifetime > MaxLifetime:
		return fmt.Errorf("max_lifetime must be within 1s and %s", MaxLifetime)
	case len(t.Keys) == 0 || len(t.Policies) == 0:
		return errors.New("at least one key and one policy are needed")
	}
	for i, k := range t.Keys {
		if k.Purpose.Kinds() == nil || !k.NotAfter.IsZero() && !k.NotBefore.Before(k.NotAfter) {
			return fmt.Errorf("key %d: unknown purpose, or not_after is not later than not_before", i+1)
		}
	}
	if _, err := t.StatementKeys(); err != nil {
		return err
	}
	if err := t.KeyPin.check(); err != nil {
		return errors.New("key_change and key_change_sha256 go together, and the first change is number 1")
	}
	if t.Witnesses != nil {
		if err := t.Witnesses.Check(); err != nil {
			return err
		}
	}
	return t.checkPins()
}

func (t *Trust) checkPins() error {
	seen := map[string]bool{}
	for i, p := range t.Policies {
		switch {
		case !isURI(p.ID) || seen[p.ID]:
			return fmt.Errorf("policy %d: id is not a URI, or stands twice", i+1)
		case p.MinVersion == 0 && len(p.Hash) == 0, len(p.Hash) != 0 && len(p.Hash) != 32:
			return fmt.Errorf("policy %d: min_version or sha256 is needed", i+1)
		}
		seen[p.ID] = true
	}
	for i, r := range t.TPMRoots {
		if (r.File == "") == (r.PEM == "") {
			return fmt.Errorf("tpm_root %d: either file or pem is needed", i+1)
		}
	}
	return t.BreakGlass.check()
}

func (e *Emergency) check() error {
	switch {
	case e == nil:
		return nil
	case len(e.Targets) == 0 || len(e.Targets) > MaxPermissions || !ascending(e.Targets, strings.Compare):
		return fmt.Errorf("break_glass: targets names 1 to %d files, each once", MaxPermissions)
	case slices.ContainsFunc(e.Targets, func(s string) bool { return !isURI(s) || !cleanFile(s) || strings.Contains(s, "*") }):
		return errors.New("break_glass: each target is the URI of one file, such as file:/usr/bin/restore")
	case e.Lifetime < time.Second || e.Lifetime > MaxBreakGlass:
		return fmt.Errorf("break_glass: max_lifetime must be within 1s and %s", MaxBreakGlass)
	}
	return nil
}

// Marshal returns the trust file as TOML that ParseTrust accepts.
func (t *Trust) Marshal() ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("writing trust file: %w", err)
	}
	f := trustFile{Schema: trustSchema, Version: int64(t.Version), Expires: t.Expires.UTC(), Genesis: t.Genesis[:],
		Issuer: t.Issuer, Log: t.Log, OnePerson: t.OnePerson, Audience: t.Audience, RevocationAge: duration(t.RevocationAge), RunningAge: duration(t.RunningAge), Lifetime: duration(t.Lifetime)}
	if t.KeyPin != nil {
		f.KeyChange, f.KeyDigest = int64(t.KeyPin.Change), t.KeyPin.Digest
	}
	for _, k := range t.Keys {
		block, err := k.Key.PEM()
		if err != nil {
			return nil, fmt.Errorf("writing trust file: %w", err)
		}
		id := k.Key.Thumbprint()
		f.Keys = append(f.Keys, keyEntry{Purpose: k.Purpose, Thumbprint: id[:], PEM: string(block), NotBefore: whenever(k.NotBefore), NotAfter: whenever(k.NotAfter)})
	}
	for _, p := range t.Policies {
		f.Policies = append(f.Policies, pinEntry{ID: p.ID, MinVersion: int64(p.MinVersion), Hash: p.Hash})
	}
	for _, r := range t.TPMRoots {
		f.TPMRoots = append(f.TPMRoots, rootEntry(r))
	}
	if e := t.BreakGlass; e != nil {
		f.BreakGlass = &glassEntry{Targets: e.Targets, Lifetime: duration(e.Lifetime), Waive: e.Waive}
	}
	if t.Witnesses != nil {
		f.Threshold = int64(t.Witnesses.Threshold)
		for _, w := range t.Witnesses.List {
			f.Witnesses = append(f.Witnesses, witnessEntry{w.Operator, w.Key.String()})
		}
	}
	out, err := toml.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("writing trust file: %w", err)
	}
	return out, nil
}
