package audit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// each calls fn with the index of every statement of the bundle, ascending.
func (v *verifier) each(fn func(index uint64) error) error {
	first, last, err := v.s.index.span("statements/")
	if err != nil {
		return faulty(err)
	}
	for n := first; n < last; n++ {
		m, err := v.s.index.at(n)
		if err != nil {
			return faulty(err)
		}
		digits := strings.TrimSuffix(strings.TrimPrefix(m.path, "statements/"), ".scitt")
		index, err := strconv.ParseUint(digits, 10, 64)
		if err != nil {
			return denial.New(denial.NotCanonical, "a statement's name is not its index").Try(HintBundle)
		}
		if err := fn(index); err != nil {
			return err
		}
	}
	return nil
}

// group returns the statement at an index and, if it is an act's, those of the same act that follow it.
func (v *verifier) group(index uint64) ([]*entry, error) {
	var group []*entry
	for {
		e, err := v.entry(index + uint64(len(group)))
		if err != nil {
			if len(group) > 0 && !isFault(err) {
				return group, nil // it has its own verdict when its turn comes
			}
			return group, err
		}
		if e == nil || len(group) > 0 && !sameAct(group[0], e) {
			return group, nil
		}
		group = append(group, e)
		if !record.IsAct(e.kind) {
			return group, nil
		}
	}
}

// entry decodes a statement of the bundle; nil if it does not have it.
func (v *verifier) entry(index uint64) (*entry, error) {
	raw, err := v.read(nameStatement(index))
	if err != nil || raw == nil {
		return nil, err
	}
	env, err := statement.Decode(raw, maxTransparent)
	if err != nil {
		return nil, err
	}
	e, err := readEntry(index, env.Leaf())
	if err == nil {
		e.raw, e.outer = raw, env
	}
	return e, err
}

func isFault(err error) bool {
	f := fault{}
	return errors.As(err, &f)
}

// sameAct reports whether two statements are of one act: it is the payload that makes an act.
func sameAct(a, b *entry) bool {
	return a.kind == b.kind && a.env.Claims() == b.env.Claims() && bytes.Equal(a.env.Payload(), b.env.Payload())
}

func leavesOf(group []*entry) record.Bundle {
	var b record.Bundle
	for _, e := range group {
		b = append(b, e.leaf)
	}
	return b
}

// statements gives each statement its verdict.
func (v *verifier) statements() error {
	next := uint64(0) // those before it have theirs
	return v.each(func(index uint64) error {
		if index < next {
			return nil
		}
		if err := v.ctx.Err(); err != nil {
			return faulty(fmt.Errorf("verifying bundle: %w", err))
		}
		group, err := v.group(index)
		if isFault(err) {
			return err
		}
		if err != nil {
			f := Finding{Index: index, Kind: statement.Kind(0).String()}
			f.refute(denial.Of(err))
			v.report.take(v.o.Brief, f)
			return nil
		}
		next = index + uint64(len(group))
		return v.judge(group)
	})
}

// judge gives the statements of one group their verdicts: each its receipt, then all together what their kind says.
func (v *verifier) judge(group []*entry) error {
	findings := make([]Finding, len(group))
	sound := true
	for i, e := range group {
		f := &findings[i]
		*f = Finding{Index: e.index, Kind: e.kind.String(), Verdict: Proved}
		if e.record != nil {
			f.Event = e.record.Event.String()
			if len(e.record.Reasons) > 0 {
				f.Denied = e.record.Reasons[0]
			}
		}
		v.counts[classOf(e.kind, e.record)]++
		if err := v.settle(f, func() error { return v.logged(e, f) }); err != nil {
			return err
		}
		sound = sound && f.Verdict == Proved
	}
	if sound {
		whole := findings[0]
		if err := v.settle(&whole, func() error { return v.content(group, &whole) }); err != nil {
			return err
		}
		for i := range findings {
			findings[i].Verdict, findings[i].Code, findings[i].Reason = whole.Verdict, whole.Code, whole.Reason
			findings[i].Why, findings[i].denied = whole.Why, whole.denied
		}
	}
	v.report.take(v.o.Brief, findings...)
	for i := 0; v.tell != nil && i < len(group); i++ {
		input, err := v.inputOf(group[i])
		if err != nil {
			return err
		}
		v.tell(group[i], &findings[i], input)
	}
	return nil
}

// settle runs a check and writes a refusal into the finding. It returns faults only.
func (v *verifier) settle(f *Finding, check func() error) error {
	err := guard(check)
	if isFault(err) {
		return err
	}
	if err != nil {
		f.refute(denial.Of(err))
	}
	return nil
}

// logged checks the receipt of a statement, and that the heads of all receipts are one history.
func (v *verifier) logged(e *entry, f *Finding) error {
	proof, beside, err := v.transparent(e.raw, e.outer)
	if err != nil {
		return err
	}
	if proof.Index != e.index {
		return denial.New(denial.ReceiptInvalid, "the statement stands at another index than its name says")
	}
	f.Logged, e.logged = proof.Time, proof.Time
	head := receipt.Head{Size: proof.Size, Root: proof.Root, Time: proof.Time}
	if head.Size < v.last.Size || head.Time < v.last.Time {
		return denial.New(denial.LogInconsistent, "a later entry has an earlier tree head")
	}
	v.last = head
	if err := v.history(head); err != nil {
		return err
	}
	return v.proved(e, beside)
}

// history checks that a head is one history with the head of the bundle.
func (v *verifier) history(head receipt.Head) error {
	if v.heads.Size == head.Size {
		if v.heads != head {
			return denial.New(denial.LogInconsistent, "two tree heads of one size differ")
		}
		return nil
	}
	want := receipt.Head{Size: v.m.Head.Size, Root: v.m.Head.Root, Time: v.m.Head.Time}
	if head != want {
		raw, err := v.read(nameHead(head.Size))
		if err != nil {
			return err
		}
		newer, err := v.proofs.VerifyConsistency(raw, head)
		if err != nil {
			return err
		}
		if newer.Head != want || newer.Issuer != v.trust.Issuer || newer.Log != v.trust.Log {
			return denial.New(denial.LogInconsistent, "a tree head leads to another one than that of the bundle")
		}
		if err := v.trust.CheckClaimed(newer.Key, newer.Time); err != nil {
			return err
		}
	}
	v.heads = head
	return nil
}

// content checks what the kind of a group of statements says.
func (v *verifier) content(group []*entry, f *Finding) error {
	e := group[0]
	switch {
	case e.kind == statement.Genesis:
		if e.index != 0 {
			return denial.New(denial.WrongType, "a log has one genesis")
		}
		return nil // checked before all else
	case record.IsAct(e.kind):
		return v.act(group)
	case e.kind == statement.Artifact:
		return v.permit(e, f)
	case e.kind == statement.Record:
		return v.recorded(e, f)
	case e.kind == statement.Manifest:
		signed, err := v.issued(e)
		if err == nil && len(signed.Payload()) != 32 {
			err = denial.New(denial.PayloadForm, "a manifest's statement holds a SHA-256")
		}
		return err
	}
	return denial.New(denial.WrongType, "a %s does not stand in a log", e.kind)
}

// issued verifies a statement by the issuer: signed by a key of the issuer for its kind, active at logged time.
func (v *verifier) issued(e *entry) (*statement.Verified, error) {
	signed, err := e.env.Verify(v.keys, e.kind)
	if err != nil {
		return nil, err
	}
	if signed.Claims().Issuer != v.trust.Issuer {
		return nil, denial.New(denial.IdentityConflict, "the statement names another issuer")
	}
	return signed, v.trust.CheckThen(signed.Key().Thumbprint(), e.logged)
}

// complete checks that a range has every entry of it, and nothing before it but context.
func (v *verifier) complete() error {
	q := v.m.Query
	next := q.From
	err := v.each(func(n uint64) error {
		switch {
		case n >= q.To:
			return denial.New(denial.ReceiptInvalid, "the bundle has an entry behind its range")
		case q.chosen():
		case n >= q.From && n != next:
			return denial.New(denial.ReceiptInvalid, "the bundle lacks entry %d of its range", next)
		case n >= q.From:
			next++
		default:
			if e, err := v.entry(n); err != nil || !e.isContext() {
				return errors.Join(onlyFault(err), denial.New(denial.ReceiptInvalid, "the bundle has an entry outside its range"))
			}
		}
		return nil
	})
	if err == nil && !q.chosen() && next != q.To {
		err = denial.New(denial.ReceiptInvalid, "the bundle lacks entry %d of its range", next)
	}
	return err
}

func onlyFault(err error) error {
	if isFault(err) {
		return err
	}
	return nil
}

// leftovers checks what stands beside the statements.
func (v *verifier) leftovers() error {
	v.report.Keys = KeysNow(v.world.ring, v.world.changed)
	if !slices.Equal(v.report.Counts, countsOf(v.counts)) {
		return denial.New(denial.ReceiptInvalid, "the counts of the manifest are not those of the bundle")
	}
	for hash, p := range v.world.policies {
		raw, err := v.read(namePolicy(hash))
		if err != nil {
			return err
		}
		if !bytes.Equal(raw, p.doc.Canonical()) {
			return denial.New(denial.PolicyHashMismatch, "a policy of the bundle is not the one that authorities signed")
		}
	}
	if err := errors.Join(v.informational(), v.statusLists()); err != nil {
		return err
	}
	if !v.report.allSound() {
		return nil // what a statement calls for that was refuted may not have been read
	}
	if err := errors.Join(v.followed(), v.epochsSeen()); err != nil {
		return err
	}
	for n := range v.s.index.n {
		if v.used.has(n) {
			continue
		}
		m, err := v.s.index.at(n)
		if err != nil {
			return faulty(err)
		}
		if m.path != nameManifest {
			return denial.New(denial.ReceiptInvalid, "the bundle has a file that no statement calls for")
		}
	}
	return nil
}
