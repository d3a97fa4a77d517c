package attest_test

import (
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softtpm"
)

// world is a host that can be verified: every test breaks one thing in it.
type world struct {
	vendor *softtpm.Vendor
	tpm    *softtpm.TPM
	want   attest.Want
	pcrs   map[int64][]byte
	log    []byte
}

func newWorld(tb testing.TB, o softtpm.Options) *world {
	tb.Helper()
	w := &world{vendor: softtpm.NewVendor(tb)}
	w.tpm = w.vendor.New(tb, o)
	boot := bootlog.New(bootlog.Options{})
	w.log, w.pcrs = boot.Log, boot.PCRs("sha256")
	w.want = attest.Want{
		AK: w.tpm.AK, Challenge: attest.NewNonce(), Request: statement.DigestOf([]byte("request")), Exporter: [32]byte{7},
		Selection: attest.Selection{Bank: "sha256", PCRs: []int{0, 1, 2, 3, 4, 5, 6, 7}}, Bind: []int{4, 7},
	}
	return w
}

func (w *world) evidence(tb testing.TB) softtpm.Evidence {
	tb.Helper()
	return w.tpm.Evidence(tb, w.want, w.pcrs, w.log)
}

// sign replaces the quote and signs it.
func (w *world) sign(tb testing.TB, e *softtpm.Evidence, quote []byte) {
	tb.Helper()
	e.Quote, e.Signature = quote, w.tpm.Sign(tb, quote)
}

func encode(tb testing.TB, e softtpm.Evidence) []byte {
	tb.Helper()
	raw, err := e.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// verify decodes and verifies.
func verify(raw []byte, want attest.Want) (*attest.Facts, error) {
	ev, err := attest.DecodeEvidence(raw)
	if err != nil {
		return nil, err
	}
	return attest.Verify(ev, want)
}

// refused fails the test unless err is a denial with this reason, and Facts are nil.
func refused(tb testing.TB, facts *attest.Facts, err error, want denial.Reason) {
	tb.Helper()
	var d *denial.Denial
	if !errors.As(err, &d) {
		tb.Fatalf("got %v, want a denial %d", err, want)
	}
	if d.Reason != want {
		tb.Fatalf("got %v, want %d %s", d, want, want)
	}
	if facts != nil {
		tb.Fatal("facts came with a denial")
	}
}

// refusedAt is refused, and the denial names the stage.
func refusedAt(tb testing.TB, facts *attest.Facts, err error, want denial.Reason, stage denial.Stage) {
	tb.Helper()
	refused(tb, facts, err, want)
	if got := denial.Of(err).Stage; got != stage {
		tb.Fatalf("got stage %q, want %q", got, stage)
	}
}

// rewire decodes the quote record of evidence as a plain map, lets edit change it and encodes it again.
func rewire(tb testing.TB, raw []byte, edit func(m map[int64]any)) []byte {
	tb.Helper()
	var c map[string]any
	if err := statement.Unmarshal(raw, &c); err != nil {
		tb.Fatal(err)
	}
	record := c["quote"].([]any)
	var m map[int64]any
	if err := statement.Unmarshal(record[1].([]byte), &m); err != nil {
		tb.Fatal(err)
	}
	edit(m)
	record[1] = marshal(tb, m)
	return marshal(tb, c)
}

func marshal(tb testing.TB, v any) []byte {
	tb.Helper()
	raw, err := statement.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// quoteInfo lets edit change what a quote quotes.
func quoteInfo(edit func(*tpm2.TPMSQuoteInfo)) func(*tpm2.TPMSAttest) {
	return func(a *tpm2.TPMSAttest) {
		info, err := a.Attested.Quote()
		if err != nil {
			panic(err)
		}
		edit(info)
	}
}

// selection lets edit change the one selection of a quote.
func selection(edit func(*tpm2.TPMSPCRSelection)) func(*tpm2.TPMSAttest) {
	return quoteInfo(func(i *tpm2.TPMSQuoteInfo) { edit(&i.PCRSelect.PCRSelections[0]) })
}

// rewireBytes is rewire on the encoded quote record.
func rewireBytes(tb testing.TB, raw []byte, edit func([]byte) []byte) []byte {
	tb.Helper()
	var c map[string]any
	if err := statement.Unmarshal(raw, &c); err != nil {
		tb.Fatal(err)
	}
	record := c["quote"].([]any)
	record[1] = edit(record[1].([]byte))
	return marshal(tb, c)
}
