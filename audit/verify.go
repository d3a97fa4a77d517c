package audit

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// Options are what a verification needs beside the trust file.
type Options struct {
	Now   time.Time           // for the expiry of the trust file; zero is refused (905)
	Roots []*x509.Certificate // TPM vendor roots that the trust file names by file; those in PEM are read from it

	Brief bool // keep no finding for each statement, but count them and keep what is refuted: memory then grows little with the log

	Known [][]byte // statements with receipts and checkpoints that the issuer gave out before: this log must hold them
}

// Verify checks a bundle against the auditor's trust file. The error is a fault of this machine; every refusal stands
// in the report, and Report.Err is nil only if nothing is refuted and every artifact is proved.
//
// It checks, in this order, and goes no further than the first that fails:
//
//  1. The trust file: there is one (305), the time is known (905), it has not expired (206), its TPM roots parse (321).
//  2. The tar file, as open says.
//  3. The bundle's key history follows from the pinned genesis (see artifact.Trust.Follow), so that a trust file from before
//     the keys changed is enough. One that is newer than the bundle stands by itself.
//  4. The manifest: it is signed by the issuer's record key (301, 305) for this log (706), that signature is in the
//     log (324) and not dated before the head of the bundle (324), and it decodes (3xx). Its list of files is that of the
//     bundle: none missing, none more, each with its size and SHA-256 (324).
//  5. The checkpoint is signed by a log key of the issuer (305, 301), for the tree head of the manifest (325), and cosigned
//     as the trust file demands (326).
//  6. Genesis is entry 0 and has the digest that the trust file pins (305); its quorum has signed it (326); it is for the
//     issuer and the log of the trust file (706); where it names one person only, the trust file says so (409).
//
// Then each statement, in order of index, gets a verdict of its own:
//
//  7. It decodes (3xx) and has exactly one receipt by a log key of the issuer, which was active then (208, 802), for this
//     log and the index of its name (324). The receipt's head is one history with the bundle's head, by a consistency
//     receipt (325); logged times and tree sizes rise with the index (325). The receipt is there detached too, and a proof leads
//     from the entry to the checkpoint (324).
//  8. Its signature is by the right key, active at logged time (208, 802): the issuer's keys for artifacts and
//     records, the quorum of genesis for acts (403, 326), a gate key that an earlier enrolment record names for the rest.
//  9. What its kind says: see act, permit, denied and gate in this package. A decision is made again.
//
// Last, the bundle as a whole:
//
//  10. A range has every entry of it, and before it only what later entries are verified with (324).
//  11. The counts of the manifest are those of the statements (324). The key history holds the key changes of the bundle, and no
//     others up to the end of its range (324). Policies, capsules and heads of the bundle belong to
//     its statements, and the informational key set and checkpoint policy to the key history (305). Status lists are signed (301, 305).
//  12. What Options.Known holds stands in this log, which has not become another or shorter since (325, 508).
func Verify(ctx context.Context, r io.Reader, trust *artifact.Trust, o Options) (*Report, error) {
	return newVerifier(ctx, trust, o).run(r)
}

// memory is how many bytes of what was verified are remembered: a host shows the same log until it boots again.
const memory = 32 << 20

func newVerifier(ctx context.Context, trust *artifact.Trust, o Options) *verifier {
	v := &verifier{ctx: ctx, trust: trust, o: o, world: newWorld(), verified: attest.NewMemory(memory),
		permits: newRecent[uint64, *permit](), starts: newRecent[statement.Digest, *record.Record](),
		counts: map[class]uint64{}, report: &Report{Statements: []Finding{}, Counts: []Count{}, Lacks: []Lack{}, Absent: []Absent{}, Limits: []string{}}}
	v.report.Bundle = Finding{Kind: "bundle", Verdict: Proved}
	return v
}

func (v *verifier) run(r io.Reader) (*Report, error) {
	err := guard(func() error { return v.verify(r) })
	if v.s != nil {
		err = errors.Join(err, faulty(v.s.Close()))
	}
	if f := (fault{}); errors.As(err, &f) {
		return nil, f.error
	}
	if err != nil {
		v.report.Bundle.refute(denial.Of(err))
	}
	v.report.BreakGlass = v.cases()
	v.report.conclude()
	return v.report, nil
}

// guard turns a panic into a denial.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = denial.New(denial.Internal, "a check stopped unexpectedly")
		}
	}()
	return f()
}

// verifier is one passage of Verify.
type verifier struct {
	ctx    context.Context
	trust  *artifact.Trust
	o      Options
	roots  []*x509.Certificate
	keys   statement.Keys
	proofs *receipt.Verifier
	s      *spool
	m      manifest

	pointRaw  []byte // of point
	lastRaw   []byte // of lastInput
	lastInput *decision.Input
	verified  *attest.Memory
	sealed    uint64 // logged time of the manifest
	lacks     map[part]bool
	heads     receipt.Head // the last that was shown to be of one history with that of the bundle
	last      receipt.Head // of the statement before
	used      marks        // members that a statement has called for
	counts    map[class]uint64
	world     *world
	told      *artifact.KeyHistory // of the bundle
	epochs    []artifact.Epoch     // that it tells of
	ring      *record.KeyRing      // that it gives
	permits   *recent[uint64, *permit]
	starts    *recent[statement.Digest, *record.Record]
	report    *Report
	point     *receipt.Checkpoint                      // verified
	opened    map[string]string                        // field to value: the personal data of the act that was checked last
	tell      func(e *entry, f *Finding, input []byte) // nil: nobody wants to hear
}

func (v *verifier) verify(r io.Reader) (err error) {
	if err := v.readTrust(); err != nil {
		return err
	}
	if v.s, err = open(v.ctx, r); err != nil {
		return err
	}
	for _, check := range []func() error{v.follow, v.seal, v.describe, v.checkpoint, v.genesis, v.statements, v.complete, v.leftovers, v.known} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) readTrust() error {
	t := v.trust
	switch {
	case t == nil || t.Genesis == (statement.Digest{}) || t.Issuer == "" || t.Log == "":
		return denial.New(denial.KeyUnknown, "there is no trust file")
	case v.o.Now.IsZero():
		return denial.New(denial.ClockUntrusted, "the present time is not known")
	case !v.o.Now.Before(t.Expires):
		return denial.New(denial.PolicyExpired, "the trust file has expired")
	}
	v.report.Issuer, v.report.Log, v.report.Trust = t.Issuer, t.Log, Anchors{Version: t.Version, Genesis: t.Genesis.String()}
	v.roots = append(v.roots, v.o.Roots...)
	for _, root := range t.TPMRoots {
		for block, rest := pem.Decode([]byte(root.PEM)); block != nil; block, rest = pem.Decode(rest) {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return denial.New(denial.EKUntrusted, "a TPM root of the trust file is not a certificate")
			}
			v.roots = append(v.roots, c)
		}
	}
	return nil
}

// describe writes into the report what the bundle is about and what it cannot show.
func (v *verifier) describe() error {
	r := v.report
	r.From, r.To, r.Execution, r.Host, r.Disclosed, r.Sealed = v.m.Query.From, v.m.Query.To, hex.EncodeToString(v.m.Query.Execution), v.m.Query.Host, v.m.Query.Disclose, v.sealed
	r.Head = &Head{Size: v.m.Head.Size, Root: hex.EncodeToString(v.m.Head.Root[:]), Time: v.m.Head.Time}
	r.Limits = append(r.Limits, "that a TPM opened the credential of its enrolment cannot be shown again: it is the issuer's signed word")
	if len(v.roots) == 0 {
		r.Limits = append(r.Limits, "the trust file has no TPM roots, so no EK certificate was checked against those that genesis names by digest")
	}
	if v.part() || v.m.Query.To < v.m.Head.Size {
		r.Limits = append(r.Limits, fmt.Sprintf("this is a part of %d entries: that no earlier act or record is left out is the issuer's signed word; a bundle of the whole log shows it", v.m.Head.Size))
	}
	return nil
}

// read returns a member that a statement calls for; nil if there is none.
func (v *verifier) read(path string) ([]byte, error) {
	n, m, ok, err := v.s.find(path)
	if err != nil || !ok {
		return nil, faulty(err)
	}
	v.used.add(n)
	data, err := v.s.content(m)
	return data, faulty(err)
}

// marks is a set of numbers of members.
type marks []uint64

func (m *marks) add(n int64) {
	for int64(len(*m)) <= n/64 {
		*m = append(*m, 0)
	}
	(*m)[n/64] |= 1 << (n % 64)
}

func (m marks) has(n int64) bool { return n/64 < int64(len(m)) && m[n/64]>>(n%64)&1 == 1 }
