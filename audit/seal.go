package audit

import (
	"bytes"
	"errors"
	"io"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// transparent verifies the receipt of a decoded statement that has exactly one and nothing else beside it, and returns what
// it proves, and the receipt.
func (v *verifier) transparent(raw []byte, env *statement.Envelope) (*receipt.Proof, []byte, error) {
	receipts, err := env.Receipts()
	if err != nil {
		return nil, nil, err
	}
	if len(receipts) != 1 {
		return nil, nil, denial.New(denial.NoReceipt, "a statement of a bundle has exactly one receipt")
	}
	if again, err := statement.Attach(env.Leaf(), receipts[0]); err != nil || !bytes.Equal(again, raw) {
		return nil, nil, denial.New(denial.ReceiptInvalid, "something stands beside the receipt")
	}
	proof, err := v.proofs.Verify(receipts[0], env.Leaf())
	if err != nil {
		return nil, nil, err
	}
	if proof.Issuer != v.trust.Issuer || proof.Log != v.trust.Log {
		return nil, nil, denial.New(denial.ReceiptInvalid, "the receipt is of another log")
	}
	return proof, receipts[0], v.trust.CheckThen(proof.Key, proof.Time)
}

// seal checks the manifest's signature and its place in the log, and reads it.
func (v *verifier) seal() error {
	_, raw, ok, err := v.s.find(nameManifest)
	if err != nil {
		return faulty(err)
	}
	sealed, err := v.read(nameSeal)
	if err != nil {
		return err
	}
	if !ok || sealed == nil {
		return denial.New(denial.ClaimAbsent, "the bundle has no signed manifest")
	}
	env, err := statement.Decode(sealed, maxTransparent)
	if err != nil {
		return err
	}
	proof, _, err := v.transparent(sealed, env)
	if err == nil {
		err = v.trust.CheckClaimed(proof.Key, proof.Time) // no later head vouches for it
	}
	if err != nil {
		return err
	}
	signed, err := env.Verify(v.keys, statement.Manifest)
	if err != nil {
		return err
	}
	if !bytes.Equal(signed.Payload(), raw.hash[:]) {
		return denial.New(denial.ReceiptInvalid, "the manifest is not the one that was signed")
	}
	m, err := readManifest(io.NewSectionReader(v.s.f, raw.offset, raw.size))
	if err != nil {
		return onlyDenied(err)
	}
	if err := m.values(&v.m.Version, &v.m.Issuer, &v.m.Log, &v.m.Query, &v.m.Head); err != nil {
		return onlyDenied(err)
	}
	v.sealed = proof.Time
	if err := v.sealFits(signed, proof); err != nil {
		return err
	}
	return onlyDenied(v.lists(m))
}

// onlyDenied marks an error that is no denial as a fault.
func onlyDenied(err error) error {
	if d := (*denial.Denial)(nil); err == nil || isFault(err) || errors.As(err, &d) {
		return err
	}
	return faulty(err)
}

// lists reads the lists of a manifest: the files, which must be those of the bundle, and what is told about it.
func (v *verifier) lists(m *manifestReader) error {
	if err := v.files(m); err != nil {
		return err
	}
	v.lacks = map[part]bool{}
	err := listOf(m, func(l Lack) error {
		v.report.Lacks, v.lacks[part{l.Index, l.Part}] = append(v.report.Lacks, l), true
		return nil
	})
	if err != nil {
		return err
	}
	err = listOf(m, func(c Count) error { v.report.Counts = append(v.report.Counts, c); return nil })
	if err != nil {
		return err
	}
	if err := m.values(&v.report.Absent); err != nil {
		return err
	}
	return m.End()
}

func (v *verifier) sealFits(signed *statement.Verified, proof *receipt.Proof) error {
	m, c := &v.m, signed.Claims()
	switch {
	case m.Version != Version:
		return denial.New(denial.UnsupportedVersion, "bundle version %d", m.Version)
	case c.Issuer != v.trust.Issuer || c.Subject != v.trust.Log || m.Issuer != v.trust.Issuer || m.Log != v.trust.Log:
		return denial.New(denial.IdentityConflict, "the bundle is of another issuer or log than those of the trust file")
	case proof.Index < m.Head.Size || proof.Time < m.Head.Time:
		return denial.New(denial.ReceiptInvalid, "the manifest is older than the tree head that it names")
	case m.Query.From >= m.Query.To || m.Query.To > m.Head.Size || m.Query.Execution != nil && len(m.Query.Execution) != 16,
		m.Query.chosen() && m.Query.From != 0, m.Query.Execution != nil && m.Query.Host != "", len(m.Query.Host) > maxHost,
		!areFields(m.Query.Disclose):
		return denial.New(denial.PayloadForm, "the manifest names a range that the log does not have")
	}
	return v.trust.CheckThen(signed.Key().Thumbprint(), c.IssuedAt, proof.Time)
}

// files compares the list of the manifest with what the bundle holds.
func (v *verifier) files(m *manifestReader) error {
	next := int64(0)
	there := func() (f member, ok bool, err error) {
		for ; next < v.s.index.n; next++ {
			if f, err = v.s.index.at(next); err != nil || f.path != nameManifest && f.path != nameSeal {
				return f, err == nil, faulty(err)
			}
		}
		return f, false, nil
	}
	err := listOf(m, func(f file) error {
		have, ok, err := there()
		switch {
		case err != nil:
			return err
		case !ok || have.path != f.Path:
			return denial.New(denial.ReceiptInvalid, "the manifest lists a file that the bundle does not have, or out of order")
		case uint64(have.size) != f.Size || have.hash != f.Hash:
			return denial.New(denial.ReceiptInvalid, "a file is not the one that the manifest lists").
				Try("The bundle is not what the issuer sealed: pull it again, and keep this one.")
		}
		next++
		return nil
	})
	if err != nil {
		return err
	}
	if _, ok, err := there(); ok || err != nil {
		return errors.Join(err, denial.New(denial.ReceiptInvalid, "the bundle has a file that the manifest does not list"))
	}
	return nil
}

// genesis checks entry 0 against the pin. Genesis stands first: its statements are those of the same payload that
// follow each other.
func (v *verifier) genesis() error {
	group, err := v.group(0)
	if err != nil {
		return err
	}
	if len(group) == 0 || group[0].kind != statement.Genesis {
		return denial.New(denial.ReceiptInvalid, "the bundle has no genesis")
	}
	g, act, err := record.VerifyGenesis(leavesOf(group), v.trust.Genesis)
	if err != nil {
		return err
	}
	if g.Issuer != v.trust.Issuer || g.Log != v.trust.Log {
		return denial.New(denial.IdentityConflict, "genesis is of another issuer or log than those of the trust file")
	}
	if g.OnePerson && !v.trust.OnePerson {
		return denial.New(denial.DualControlMissing, "one person is all the authorities of this issuer, and the trust file does not say one_person = true").
			Try("If you accept that one person decides alone, write one_person = true into your trust file.")
	}
	if g.OnePerson {
		v.report.Limits = append(v.report.Limits, "one person is all the authorities of this issuer: no act was approved by anybody but its author")
	}
	v.world.genesis, v.world.ring = g, record.NewKeyRing(g, act.Digest())
	return nil
}
