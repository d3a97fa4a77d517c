package gate

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softtpm"
	"github.com/governed-execution/writ/test/stock"
	"github.com/governed-execution/writ/tlog"
)

const (
	issuerURI = "https://issuer.example"
	logURI    = "https://issuer.example/log"
	base      = "https://issuer.example:8443"
	hostURI   = "spiffe://example/host/"
	gateURI   = "https://gate.example/"
	robotURI  = "spiffe://example/robot"
	alice     = "mailto:alice@example.org"
	bob       = "mailto:bob@example.org"
	carol     = "mailto:carol@example.org"
	whatURI   = "https://issuer.example/policy/appraisal"
	whoURI    = "https://issuer.example/policy/authorization"
)

func must[T any](v T, err error) func(testing.TB) T { return stock.Must(v, err) }

func newKey(tb testing.TB) (*ecdsa.PrivateKey, statement.Signer) {
	tb.Helper()
	priv := stock.Key(tb)
	return priv, must(statement.NewSigner(priv))(tb)
}

func nonce(tb testing.TB) []byte {
	tb.Helper()
	b := make([]byte, 16)
	must(rand.Read(b))(tb)
	return b
}

// clock is a clock that tests set.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// world is an issuer with a log of its own, one authority for all but break-glass, one initiator, both policies, and a machine's boot.
type world struct {
	tb     testing.TB
	clock  clock
	people map[string]statement.Signer // alice and the robot
	next   statement.Signer            // the key that follows one of keys
	keys   map[string]statement.Signer // of the issuer, by purpose
	log    *tlog.Log
	issuer *issuer.Issuer
	vendor *softtpm.Vendor
	boot   *bootlog.Boot
	root   statement.Digest // of the payload of genesis

	genesis record.Bundle

	codes, directories []string // that the authorization policy allows
	version            uint64   // of that policy
}

func newWorld(tb testing.TB, roots ...*x509.Certificate) *world {
	tb.Helper()
	w := &world{tb: tb, people: map[string]statement.Signer{}, keys: map[string]statement.Signer{}, vendor: softtpm.NewVendor(tb),
		boot: bootlog.New(bootlog.Options{})}
	for _, name := range []string{alice, bob, carol, robotURI} {
		_, w.people[name] = newKey(tb)
	}
	roots = append(roots, w.vendor.Root)
	g := &record.Genesis{Version: record.Version, Issuer: issuerURI, Log: logURI, Time: w.seconds(), Epoch: nonce(tb),
		Quorums: map[record.Role]record.Quorum{}, Keys: map[string]statement.Key{}}
	for _, name := range []string{alice, bob, carol} {
		g.Authorities = append(g.Authorities, record.Authority{Person: name, Key: w.people[name].Key()})
	}
	for _, r := range roots {
		sum := sha256.Sum256(r.Raw)
		g.Roots = append(g.Roots, sum[:])
	}
	for _, r := range record.Roles() {
		g.Quorums[r] = record.Quorum{Threshold: 2, Persons: []string{alice, bob}}
	}
	g.Quorums[record.RoleBreakGlass] = record.Quorum{Threshold: 2, Persons: []string{alice, bob, carol}}
	for _, p := range record.Purposes() {
		_, w.keys[p] = newKey(tb)
		g.Keys[p] = w.keys[p].Key()
	}
	act := w.act(statement.Genesis, g)
	w.genesis = act
	w.root = statement.DigestOf(must(statement.Marshal(g))(tb))
	ctx := context.Background() // not tb.Context, which has ended when the log is closed
	w.log = must(tlog.Open(ctx, tlog.Options{Path: filepath.Join(tb.TempDir(), "log"), Signer: w.keys[record.PurposeLog],
		Issuer: issuerURI, LogID: logURI, Now: w.clock.now}))(tb)
	tb.Cleanup(func() {
		if err := w.log.Close(); err != nil {
			tb.Error(err)
		}
	})
	must(issuer.Bootstrap(ctx, w.log, act, w.keys[record.PurposeRecord], nil, w.clock.now()))(tb)
	w.issuer = must(issuer.Open(ctx, issuer.Options{Log: w.log, Roots: roots, Base: base, Now: w.clock.now,
		Token: w}))(tb)
	w.apply(statement.Enrolment, &record.Enrolment{Version: record.Version, ID: robotURI, Time: w.seconds(), Nonce: nonce(tb),
		Initiator: &record.Initiator{Kind: record.Service, Key: w.people[robotURI].Key()}})
	w.publish(record.Appraisal, whatURI, fmt.Sprintf(appraisalPolicy, w.boot.PCRs("sha256")[4]))
	return w
}

// Signer returns the use of a key of the issuer.
func (w *world) Signer(_ context.Context, purpose string, id statement.Thumbprint) (statement.Signer, error) {
	for _, s := range []statement.Signer{w.keys[purpose], w.next} {
		if s != nil && s.Key().Thumbprint() == id {
			return s, nil
		}
	}
	return nil, denial.New(denial.HSMKeyPolicy, "there is no such key")
}

// Release keeps the key: a test may go on with it.
func (w *world) Release(statement.Thumbprint) {}

// appraisalPolicy accepts the machine's boot; %s is the value of PCR 4.
const appraisalPolicy = `
schema = 1
kind = "appraisal"
id = "` + whatURI + `"
version = 1
expires = 2040-01-01T00:00:00Z
[pcrs]
bank = "sha256"
quote = [0, 4, 7, 11, 14]
bind = [7, 11, 14]
[limits]
evidence_age = "60s"
[[require]]
name = "secure-boot-on"
code = "SECURE_BOOT_OFF"
expr = "facts.secure_boot.enabled"
[[require]]
name = "boot-programs"
expr = "facts.pcr[4] == '%x'"
`

// authorizationPolicy is the head of a policy, and authorizationRule one that lets the robot run some code anywhere, in
// one directory, for an hour, two where a session is asked for, a hundred times.
const (
	authorizationPolicy = `
schema = 1
kind = "authorization"
id = "` + whoURI + `"
version = %d
expires = 2040-01-01T00:00:00Z
`
	authorizationRule = `
[[rule]]
name = "rule-%[3]d"
initiators = ["` + robotURI + `"]
audiences = ["` + gateURI + `a", "` + gateURI + `b"]
lifetime = "1h"
session = "2h"
uses = 100
[[rule.scope]]
target = "file:/*"
operations = ["execute"]
env = ["LANG", "MODE"]
directory = "%[1]s"
code = ["%[2]s"]
`
)

// allow has a policy published that allows the code and the directories of the scope too.
func (w *world) allow(scope artifact.Scope) {
	w.tb.Helper()
	before := len(w.codes) + len(w.directories)
	add := func(list *[]string, v string) {
		if !slices.Contains(*list, v) {
			*list = append(*list, v)
		}
	}
	add(&w.directories, "/")
	for _, p := range scope {
		for _, d := range p.Terms.Code {
			add(&w.codes, hex.EncodeToString(d.Value))
		}
		if c := p.Terms.Constraints; c != nil && c.Directory != "" {
			add(&w.directories, c.Directory)
		}
	}
	if len(w.codes)+len(w.directories) == before {
		return
	}
	w.version++
	text := fmt.Sprintf(authorizationPolicy, w.version)
	for i, d := range w.directories {
		text += fmt.Sprintf(authorizationRule, d, strings.Join(w.codes, `", "`), i)
	}
	w.publish(record.Authorization, whoURI, text)
}

func (w *world) seconds() uint64 { return uint64(w.clock.now().Unix()) }

func (w *world) act(kind statement.Kind, payload any) record.Bundle {
	w.tb.Helper()
	enc := must(statement.Marshal(payload))(w.tb)
	c := statement.Claims{Issuer: issuerURI, Subject: must(record.SubjectOf(kind, issuerURI, enc))(w.tb)}
	if kind.Acts() {
		c.IssuedAt, c.Expires = w.seconds(), w.seconds()+3600
		c.Sequence = must(w.issuer.NextAct(context.Background(), kind, c.Subject))(w.tb)
	}
	var b record.Bundle
	for _, person := range []string{alice, bob} {
		b = must(record.SignAct(context.Background(), b, w.people[person], kind, c, enc))(w.tb)
	}
	return b
}

func (w *world) apply(kind statement.Kind, payload any) {
	w.tb.Helper()
	must(w.issuer.Apply(context.Background(), kind, w.act(kind, payload)))(w.tb)
}

func (w *world) publish(kind record.PolicyKind, id, text string) {
	w.tb.Helper()
	doc := must(firmwarepolicy.ParseTOML([]byte(text)))(w.tb)
	w.apply(statement.Policy, &record.Policy{Version: record.Version, Kind: kind, ID: id, Revision: doc.Version(), Document: doc.Canonical(), Time: w.seconds()})
}

func (w *world) revoke(cause record.Cause, target string) {
	w.tb.Helper()
	w.apply(statement.Revocation, &record.Revocation{Version: record.Version, Cause: cause, Target: target, Time: w.seconds(), Why: "test", Nonce: nonce(w.tb)})
}

// trust returns the trust file that pins this world.
func (w *world) trust() *artifact.Trust {
	t := &artifact.Trust{Version: 1, Expires: w.clock.now().AddDate(1, 0, 0), Genesis: w.root, Issuer: issuerURI, Log: logURI,
		RevocationAge: time.Minute, Lifetime: time.Hour, Policies: []artifact.Pin{{ID: whatURI, MinVersion: 1}, {ID: whoURI, MinVersion: 1}}}
	for purpose, s := range w.keys {
		t.Keys = append(t.Keys, artifact.TrustKey{Purpose: artifact.Purpose(purpose), Key: s.Key()})
	}
	return t
}

// records returns the records of gates and of the issuer in the log, in order.
func (w *world) records() []*record.Record {
	w.tb.Helper()
	var out []*record.Record
	err := w.log.Leaves(context.Background(), 0, w.log.Head().Size, func(_ uint64, leaf []byte) error {
		env, err := statement.Decode(leaf, statement.MaxStatement)
		if err != nil || env.Kind() != statement.Record {
			return err
		}
		var r record.Record
		if err := statement.Unmarshal(env.Payload(), &r); err != nil {
			return err
		}
		out = append(out, &r)
		return nil
	})
	if err != nil {
		w.tb.Fatal(err)
	}
	return out
}

// story returns what a gate has had logged, in words, and checks that it is one unbroken chain.
func (w *world) story(gate string) (words []string) {
	w.tb.Helper()
	next := uint64(0)
	for _, r := range w.records() {
		if r.Emitter.URI != gate {
			continue
		}
		if r.Emitter.Seq != next || (r.Previous == nil) != (next == 0) {
			w.tb.Errorf("record %d of the gate stands at place %d", r.Emitter.Seq, next)
		}
		next++
		word := r.Event.String()
		switch {
		case r.Event == record.EventDenial:
			word = strconv.FormatUint(r.Reasons[0], 10)
		case r.Event == record.EventStart:
			word = fmt.Sprintf("start %d", r.Execution.Use)
		case r.Event == record.EventEnd:
			word = fmt.Sprintf("end %d", r.Execution.Status)
			if r.Execution.Ended != 0 {
				word += fmt.Sprintf(" by the gate: %d", r.Execution.Ended)
			}
		}
		words = append(words, word)
	}
	return words
}
