package ceremony

import (
	"context"
	"testing"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/swtpm"
)

// hostTPM quotes with the TPM of a host.
type hostTPM struct{ *attester.TPM }

func (h hostTPM) Quote(ctx context.Context, qualifying [32]byte) (*record.HostQuote, error) {
	q, err := h.TPM.Quote(ctx, attest.Selection{Bank: "sha256", PCRs: []int{0, 4, 7}}, qualifying)
	if err != nil {
		return nil, err
	}
	return &record.HostQuote{Attest: q.Attest, Signature: q.Signature, AK: q.AK, Bank: "sha256", PCRs: q.PCRs}, nil
}

// TestABirthTellsTheStateOfTheHost holds a ceremony that asks for quotes, with a TPM, and changes one thing at a time.
func TestABirthTellsTheStateOfTheHost(t *testing.T) {
	emulator := swtpm.New(t, swtpm.Options{})
	tpm, err := attester.Open(context.Background(), emulator.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	people := cast(t)
	script := parse(t, "host_quote = true\n"+source(t, people, steps))
	good := hold(t, script, people, newToken(t), hostTPM{tpm}, 8)
	births, err := good.Births()
	if err != nil || births[0].Ceremony.Quote == nil || !good.Report().Births[0].Quoted {
		t.Fatalf("births %+v: %v", births, err)
	}
	other := newSigner(t, true).Key().Thumbprint()
	for _, c := range []struct {
		name   string
		change func(e *Entry)
		reason denial.Reason
		saying string
	}{
		{"no quote", func(e *Entry) { e.Quote = nil }, denial.SelfTestFailed, "asks for a quote"},
		{"another PCR value", func(e *Entry) { e.Quote.PCRs[7][0] ^= 1 }, denial.PCRDigestMismatch, ""},
		{"another signature", func(e *Entry) { e.Quote.Signature[len(e.Quote.Signature)-1] ^= 1 }, denial.QuoteSignature, ""},
		{"the quote of another key", func(e *Entry) {
			q, err := hostTPM{tpm}.Quote(context.Background(), [32]byte(other))
			if err != nil {
				t.Fatal(err)
			}
			e.Quote = q
		}, denial.ChallengeMismatch, ""},
	} {
		h := &held{script, good.Transcript(), people}
		h.replace(t, 6, c.change)
		_, err := Replay(script, h.transcript)
		t.Run(c.name, func(t *testing.T) { wantDenial(t, err, c.reason, c.saying) })
	}
	h := &held{script, good.Transcript(), people}
	first := h.entry(t, 6).Quote
	h.transcript = h.transcript[:7]
	h.replace(t, 7, func(e *Entry) { e.Quote = first })
	_, err = Replay(script, h.transcript)
	wantDenial(t, err, denial.ChallengeMismatch, "")

	st := hold(t, script, people, newToken(t), nil, 5)
	_, err = st.Prepare(context.Background(), &softToken{t, map[statement.Thumbprint]record.Birth{}}, nil, 2000)
	wantDenial(t, err, denial.HSMKeyPolicy, "no such key")
	token := newToken(t)
	st = hold(t, script, people, token, nil, 5)
	_, err = st.Prepare(context.Background(), token, nil, 2000)
	wantDenial(t, err, denial.SelfTestFailed, "asks for a quote")
}
