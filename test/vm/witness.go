package vm

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/governed-execution/writ/attest"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/vm/talk"
)

// Quoted are the PCRs that the tests have quoted: all that a static boot measures into, without the one of IMA, which
// moves with every program.
var quoted = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14}

// bound are those of them that keep their values from boot to boot of one image, as policies name them.
var bound = firmwarepolicy.StablePCRs()

// Testimony is evidence of a machine with what a verifier wanted, so that it can be verified again.
type Testimony struct {
	Want     attest.Want
	Evidence []byte
}

// Verify verifies it.
func (t Testimony) Verify() (*attest.Facts, error) {
	ev, err := attest.DecodeEvidence(t.Evidence)
	if err != nil {
		return nil, err
	}
	return attest.Verify(ev, t.Want)
}

// Enrol has the machine prove that its TPM is one of the given vendor's, and holds the AK that it returns.
func (m *Machine) Enrol(ctx context.Context, root, intermediate *x509.Certificate) (ak []byte, err error) {
	r, err := m.Ask(ctx, talk.Request{Op: talk.Enrol})
	if err != nil {
		return nil, err
	}
	req, err := attest.DecodeEnrolRequest(r.Data)
	if err != nil {
		return nil, err
	}
	if len(req.Chain) > 0 {
		req.Chain = append(req.Chain, intermediate.Raw)
	}
	digest, err := req.EKDigest()
	if err != nil {
		return nil, err
	}
	c, err := attest.CheckEnrolment(req, attest.EnrolOptions{EKDigest: digest, Roots: []*x509.Certificate{root}, Now: time.Now()})
	if err != nil {
		return nil, err
	}
	var secret [32]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return nil, fmt.Errorf("making secret: %w", err)
	}
	cred, err := c.MakeCredential(secret)
	if err != nil {
		return nil, err
	}
	if r, err = m.Ask(ctx, talk.Request{Op: talk.Activate, Kind: r.Kind, Credential: cred}); err != nil {
		return nil, err
	}
	if !bytes.Equal(r.Data, secret[:]) {
		return nil, errors.New("activating: the TPM returned another secret")
	}
	return c.AKPublic(), nil
}

// Collect has the machine make evidence for a fresh challenge.
func (m *Machine) Collect(ctx context.Context, ak []byte, bank string) (*Testimony, error) {
	t := &Testimony{Want: attest.Want{AK: ak, Challenge: attest.NewNonce(), Selection: attest.Selection{Bank: bank, PCRs: quoted}, Bind: bound}}
	var request [32]byte
	for _, b := range [][]byte{request[:], t.Want.Exporter[:]} {
		if _, err := rand.Read(b); err != nil {
			return nil, fmt.Errorf("making challenge: %w", err)
		}
	}
	t.Want.Request = statement.Digest(request)
	r, err := m.Ask(ctx, talk.Request{Op: talk.Collect, Challenge: t.Want.Challenge, Request: request, Exporter: t.Want.Exporter,
		Bank: bank, PCRs: quoted, Bind: bound})
	if err != nil {
		return nil, err
	}
	t.Evidence = r.Data
	return t, nil
}
