package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softtpm"
)

// quoteParts are quotes by an RSA and by a P-256 key, checked with all that there is to check without an enrolment: key,
// structure, signer, selection, PCR values, signature, nonce.
func quoteParts(context.Context, *site, *bare) ([]part, error) {
	var all []part
	for _, k := range []struct {
		name string
		alg  softtpm.Algorithm
	}{{"P-256", softtpm.P256}, {"RSA-2048", softtpm.RSA2048}} {
		files, err := quoteFiles(k.alg)
		if err != nil {
			return nil, err
		}
		bare, err := bareSignature(files)
		if err != nil {
			return nil, err
		}
		all = append(all, part{name: "quote checked, " + k.name, against: "its signature verified", callers: 1, aim: 1.2, bare: bare,
			subject: func() error { _, err := attest.CheckQuote(files); return err }})
	}
	return all, nil
}

// quoteFiles is a quote by a fresh TPM with a key of the algorithm.
func quoteFiles(alg softtpm.Algorithm) (attest.QuoteFiles, error) {
	tpm, boot := softtpm.NewVendor(setup{}).New(setup{}, softtpm.Options{AK: alg}), bootlog.New(bootlog.Options{})
	want := attest.Want{AK: tpm.AK, Challenge: attest.NewNonce(), Request: statement.DigestOf([]byte("request")),
		Exporter: [32]byte(random(32)), Selection: selection, Bind: bind}
	e, pcrs := tpm.Evidence(setup{}, want, boot.PCRs("sha256"), boot.Log), boot.PCRs("sha256")
	nonce := attest.QualifyingData(want.Challenge, want.Request, want.Exporter)
	f := attest.QuoteFiles{Attest: e.Quote, Signature: e.Signature, AK: e.AK, Nonce: nonce[:], PCRs: map[string]map[int64][]byte{"sha256": pcrs}}
	if _, err := attest.CheckQuote(f); err != nil {
		return f, fmt.Errorf("checking quote: %w", err)
	}
	return f, nil
}

// bareSignature returns the verification of a quote's signature, with key, digest and signature at hand.
func bareSignature(f attest.QuoteFiles) (func() error, error) {
	public, err := tpm2.Unmarshal[tpm2.TPM2BPublic](f.AK)
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	area, err := public.Contents()
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	key, err := tpm2.Pub(*area)
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	sig, err := tpm2.Unmarshal[tpm2.TPMTSignature](f.Signature)
	if err != nil {
		return nil, fmt.Errorf("reading signature: %w", err)
	}
	digest := sha256.Sum256(f.Attest)
	if pub, ok := key.(*rsa.PublicKey); ok {
		s, err := sig.Signature.RSASSA()
		return func() error { return rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], s.Sig.Buffer) }, err
	}
	s, err := sig.Signature.ECDSA()
	if err != nil {
		return nil, fmt.Errorf("reading signature: %w", err)
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(s.SignatureR.Buffer), new(big.Int).SetBytes(s.SignatureS.Buffer)})
	pub, ok := key.(*ecdsa.PublicKey)
	if err != nil || !ok {
		return nil, errors.New("reading key: it is neither RSA nor ECDSA")
	}
	return func() error {
		if !ecdsa.VerifyASN1(pub, digest[:], der) {
			return errors.New("verifying: the signature does not verify")
		}
		return nil
	}, nil
}
