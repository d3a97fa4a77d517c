package main

import (
	"context"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer/client"
	"github.com/governed-execution/writ/issuer/wire"
)

// meeting is the TPM of this host, and a connection to the issuer with the challenge that it gave on it.
type meeting struct {
	tpm       *attester.TPM
	session   *client.Session
	challenge *wire.Challenge
}

// meet opens the TPM and has the issuer give a challenge. The caller closes the meeting.
func (a *app) meet(ctx context.Context) (*meeting, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	m := &meeting{}
	if m.tpm, err = attester.Open(ctx, a.tpm); err != nil {
		return nil, err
	}
	if m.session, err = c.Dial(ctx); err == nil {
		m.challenge, err = m.session.Challenge(ctx)
	}
	if err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *meeting) close() {
	if m.session != nil {
		_ = m.session.Close()
	}
	_ = m.tpm.Close()
}

// mint makes the evidence for the request on this connection and sends both. It returns the artifact and its key.
func (m *meeting) mint(ctx context.Context, request []byte, cnf *attester.Key, f *requestFlags) ([]byte, *attester.Key, error) {
	c, err := m.collect(ctx, request, cnf, f)
	if err != nil {
		return nil, nil, err
	}
	delegations, _, err := readDelegations(f.delegations)
	if err != nil {
		return nil, nil, err
	}
	raw, err := m.session.Mint(ctx, request, c.Evidence, delegations...)
	return raw, c.CNF, err
}

// collect makes the evidence for the request on this connection.
func (m *meeting) collect(ctx context.Context, request []byte, cnf *attester.Key, f *requestFlags) (*attester.Collection, error) {
	unverified, err := artifact.DecodeRequest(request)
	if err != nil {
		return nil, err
	}
	ch := m.challenge
	challenge, err := attest.ParseNonce(ch.Challenge)
	if err != nil {
		return nil, err
	}
	c, err := m.tpm.Collect(ctx, attester.CollectOptions{Challenge: challenge, RequestDigest: unverified.Digest(),
		Exporter: m.session.Exporter(), Selection: attest.Selection{Bank: ch.Bank, PCRs: ints(ch.Quote)}, Bind: ints(ch.Bind), Audit: ch.Audit, CNF: cnf, EventLogPath: f.eventLog, IMALogPath: f.imaList})
	if f.reuse != "" && (denial.Is(err, denial.KeyBinding) || denial.Is(err, denial.HostMismatch)) {
		return nil, denial.Of(err).Try("Ask without --reuse-cnf: the request then gets a new key.")
	}
	return c, err
}
