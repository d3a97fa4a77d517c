package main

import (
	"context"
	"slices"
	"strings"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/custody"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// ceremonyToken is the active token, behind its signer process.
type ceremonyToken struct{ *custody.Process }

// Make implements ceremony.Token.
func (t ceremonyToken) Make(ctx context.Context, purpose string, replaces statement.Thumbprint) (none record.Birth, err error) {
	p, err := hsm.ParsePurpose(purpose)
	if err != nil {
		return none, err
	}
	var key statement.Key
	if replaces == (statement.Thumbprint{}) {
		key, err = t.Create(ctx, p)
	} else {
		key, err = t.Rotate(ctx, p, replaces)
	}
	if err != nil {
		return none, err
	}
	return t.Read(ctx, key.Thumbprint())
}

// Read implements ceremony.Token.
func (t ceremonyToken) Read(ctx context.Context, key statement.Thumbprint) (record.Birth, error) {
	a, err := t.Attributes(ctx, key)
	return a.Birth(), err
}

// hintOtherCeremony is what to try about a ceremony that is not the one that is wanted.
const hintOtherCeremony = "Give the script of the ceremony that made these keys for this issuer, or hold one."

// ceremonyBirths returns the births of a ceremony that made a key for each of the purposes and no other. It refuses one that is
// not complete, or is for another issuer (409), and a key of which the token states anything else now (904).
func ceremonyBirths(ctx context.Context, token *custody.Process, script, issuer string, purposes ...string) ([]record.Birth, error) {
	s, st, err := filesOf(script).open()
	if err != nil {
		return nil, err
	}
	born, err := st.Births()
	if err != nil {
		return nil, err
	}
	if s.Issuer != issuer || len(born) != len(purposes) {
		return nil, denial.New(denial.DualControlMissing, "the ceremony is for another issuer, or made not exactly one key for %s", strings.Join(purposes, ", ")).
			Try(hintOtherCeremony)
	}
	for _, b := range born {
		if !slices.Contains(purposes, b.Purpose) {
			return nil, denial.New(denial.DualControlMissing, "the ceremony made a %s key", b.Purpose).Try(hintOtherCeremony)
		}
		now, err := ceremonyToken{token}.Read(ctx, b.Key.Thumbprint())
		if err != nil {
			return nil, err
		}
		if !b.SameKey(&now) {
			return nil, denial.New(denial.HSMKeyPolicy, "the token states something else of the %s key than at its birth", b.Purpose)
		}
	}
	return born, nil
}

// birthIn returns the birth of the key that a ceremony made for a purpose. It refuses a ceremony that is not complete, is for another
// issuer, or made no such key (409).
func birthIn(script, issuer, purpose string) (*record.Birth, error) {
	s, st, err := filesOf(script).open()
	if err != nil {
		return nil, err
	}
	born, err := st.Births()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(born, func(b record.Birth) bool { return b.Purpose == purpose })
	if s.Issuer != issuer || i < 0 {
		return nil, denial.New(denial.DualControlMissing, "the ceremony is for another issuer, or made no %s key", purpose).Try(hintOtherCeremony)
	}
	return &born[i], nil
}

// hostTPM is the path of the TPM of the host.
type hostTPM string

// Quote implements ceremony.Quoter: PCRs of the firmware and of the system, without 10, which moves with every file.
func (path hostTPM) Quote(ctx context.Context, qualifying [32]byte) (*record.HostQuote, error) {
	tpm, err := attester.Open(ctx, string(path))
	if err != nil {
		return nil, err
	}
	defer tpm.Close()
	want := attest.Selection{Bank: "sha256", PCRs: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15}}
	q, err := tpm.Quote(ctx, want, qualifying)
	if err != nil {
		return nil, err
	}
	return &record.HostQuote{Attest: q.Attest, Signature: q.Signature, AK: q.AK, Bank: want.Bank, PCRs: q.PCRs}, nil
}
