package corpus

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"path"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
)

// quoteCase is a quote with all that the corpus has to hold against it.
type quoteCase struct {
	file
	name string
	attest.QuoteFiles
}

// quoteCases returns every quote of the corpus, one case for each boot log beside it.
func quoteCases(tb testing.TB) []quoteCase {
	tb.Helper()
	var all []quoteCase
	add := func(f file, part string, q attest.QuoteFiles) {
		all = append(all, quoteCase{f, strings.TrimSpace(f.path + " " + part), q})
	}
	for _, f := range manifest(tb, "bundle") {
		switch base := path.Base(f.path); {
		case companion(f.path) != "" || strings.HasPrefix(base, "eventlog-"):
		case base == "quote.attest":
			guardQuotes(tb, f, add)
		case strings.HasPrefix(f.path, "bundle/coco-az-snp-vtpm/"):
			add(f, "", azureQuote(tb, f.path))
		case strings.HasSuffix(base, ".pb"):
			gceQuotes(tb, f, add)
		case base == "windows_gcp_shielded_vm.json":
			add(f, "", windowsQuote(tb, f.path))
		case base == "pcp-aik-bla.bin":
			add(f, "", keyOfWindows(tb, f.path))
		case base == "basic.token":
			add(f, "", tokenQuote(tb, f.path))
		case base == "evidence.cbor":
			veraisonQuotes(tb, f, add)
		default:
			tb.Errorf("%s is not tried and not known as a companion", f.path)
		}
	}
	return all
}

// quoteTrials checks every quote of the corpus.
func quoteTrials(tb testing.TB) []trial {
	tb.Helper()
	var all []trial
	for _, c := range quoteCases(tb) {
		r, err := attest.CheckQuote(c.QuoteFiles)
		t := trial{file: c.file, name: c.name, quote: r, err: err}
		if r != nil {
			t.facts = r.Boot
		}
		all = append(all, t)
	}
	return all
}

// guardQuotes are a quote, its key, its PCR values, its nonce and each boot log of its bundle. Where nobody knows the key,
// another stands for it: all checks that come before the signature are made, and the signature cannot pass.
func guardQuotes(tb testing.TB, f file, add func(file, string, attest.QuoteFiles)) {
	tb.Helper()
	dir := path.Dir(f.path)
	d := readJSON[struct {
		AK    string
		PCRs  banks
		Quote struct {
			Nonce text `json:"extra_data"`
		}
		Logs []struct{ File string } `json:"event_logs"`
	}](tb, dir+"/bundle.json")
	q := attest.QuoteFiles{Attest: read(tb, f.path), Signature: read(tb, dir+"/quote.sig"), Nonce: d.Quote.Nonce, PCRs: d.PCRs.values()}
	if d.AK != "" {
		q.AK = read(tb, dir+"/ak-recovered.pem")
	} else {
		q.AK = strangersKey(tb)
	}
	for _, l := range d.Logs {
		q.Log = read(tb, dir+"/"+l.File)
		add(f, l.File, q)
	}
	if len(d.Logs) == 0 {
		q.Log = []byte{}
		add(f, "", q)
	}
}

func strangersKey(tb testing.TB) []byte {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return pemOf(tb, key.Public())
}

func pemOf(tb testing.TB, key crypto.PublicKey) []byte {
	tb.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// azureBytes is bytes that the JSON of different versions holds as numbers, in hexadecimal or in base64.
type azureBytes []byte

func (b *azureBytes) UnmarshalJSON(raw []byte) error {
	var digits text
	if json.Unmarshal(raw, &digits) == nil {
		*b = azureBytes(digits)
		return nil
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		decoded, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
		*b = decoded
		return err
	}
	var numbers []uint16
	err := json.Unmarshal(raw, &numbers)
	for _, n := range numbers {
		*b = append(*b, byte(n))
	}
	return err
}

type azureParts struct {
	Message, Signature azureBytes
	PCRs               []azureBytes
}

// azureQuote is a quote of a confidential VM in Azure. Its key stands in the report of the paravisor, and its signature is
// bare: TPMT_SIGNATURE has the algorithms before it.
func azureQuote(tb testing.TB, name string) attest.QuoteFiles {
	tb.Helper()
	report := azureBytes(read(tb, "bundle/coco-az-snp-vtpm/hcl-report.bin"))
	var p azureParts
	var nonce []byte
	switch path.Base(name) {
	case "tpm-quote.msg":
		p.Message, p.Signature = read(tb, name), read(tb, strings.TrimSuffix(name, "msg")+"sig")
	case "quote.bin": // signature, quote and values, each with its length; each value has 32 bytes
		raw := read(tb, name)
		for _, into := range []*azureBytes{&p.Signature, &p.Message} {
			n := binary.LittleEndian.Uint64(raw)
			*into, raw = raw[8:8+n], raw[8+n:]
		}
		for raw = raw[8:]; len(raw) >= 32; raw = raw[32:] {
			p.PCRs = append(p.PCRs, raw[:32])
		}
		nonce = []byte("challenge")
	case "tpm-quote-v1.json":
		p, nonce = readJSON[azureParts](tb, name), []byte("challenge")
	default:
		d := readJSON[struct {
			Quote    azureParts
			TPMQuote azureParts `json:"tpm_quote"`
			Report   azureBytes
			HCL      azureBytes `json:"hcl_report"`
		}](tb, name)
		p, report = d.Quote, d.Report
		if p.Message == nil {
			p, report = d.TPMQuote, d.HCL
		}
	}
	q := attest.QuoteFiles{Attest: p.Message, AK: azureKey(tb, report), Nonce: nonce,
		Signature: tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgRSASSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA,
			&tpm2.TPMSSignatureRSA{Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: p.Signature}})})}
	if len(p.PCRs) > 0 {
		q.PCRs = map[string]map[int64][]byte{"sha256": {}}
		for i, v := range p.PCRs {
			q.PCRs["sha256"][int64(i)] = v
		}
	}
	return q
}

func azureKey(tb testing.TB, report []byte) []byte {
	tb.Helper()
	var set struct {
		Keys []struct{ Kid, N string }
	}
	at := bytes.Index(report, []byte(`{"keys"`))
	if at < 0 {
		tb.Fatal("the report of the paravisor holds no keys")
	}
	if err := json.NewDecoder(bytes.NewReader(report[at:])).Decode(&set); err != nil {
		tb.Fatal(err)
	}
	for _, k := range set.Keys {
		if k.Kid == "HCLAkPub" {
			n, err := base64.RawURLEncoding.DecodeString(k.N)
			if err != nil {
				tb.Fatal(err)
			}
			return pemOf(tb, &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537})
		}
	}
	tb.Fatal("the report of the paravisor holds no AK")
	return nil
}

// fields reads one protobuf message: the values of each field that has bytes, and its numbers.
func fields(tb testing.TB, raw []byte) (values map[uint64][][]byte, numbers map[uint64]uint64) {
	tb.Helper()
	values, numbers = map[uint64][][]byte{}, map[uint64]uint64{}
	for len(raw) > 0 {
		key, n := binary.Uvarint(raw)
		v, m := binary.Uvarint(raw[max(n, 0):])
		if n <= 0 || m <= 0 || key&7 != 0 && key&7 != 2 {
			tb.Fatal("a protobuf message cannot be read")
		}
		raw = raw[n+m:]
		if key&7 == 0 {
			numbers[key>>3] = v
		} else {
			values[key>>3] = append(values[key>>3], raw[:v])
			raw = raw[v:]
		}
	}
	return values, numbers
}

// gceQuotes are the quotes of an Attestation of go-tpm-tools, one for each bank. The verifier demands the nonce 0x9009 of
// both.
func gceQuotes(tb testing.TB, f file, add func(file, string, attest.QuoteFiles)) {
	tb.Helper()
	names := map[uint64]string{4: "sha1", 11: "sha256", 12: "sha384"}
	message, _ := fields(tb, read(tb, f.path))
	for _, raw := range message[2] {
		quote, _ := fields(tb, raw)
		sent, alg := fields(tb, quote[3][0])
		pcrs := map[int64][]byte{}
		for _, entry := range sent[2] {
			value, index := fields(tb, entry)
			pcrs[int64(index[1])] = value[2][0]
		}
		add(f, names[alg[1]], attest.QuoteFiles{AK: message[1][0], Attest: quote[1][0], Signature: quote[2][0], Nonce: []byte{0x90, 0x09},
			PCRs: map[string]map[int64][]byte{names[alg[1]]: pcrs}, Log: message[3][0]})
	}
}

func windowsQuote(tb testing.TB, name string) attest.QuoteFiles {
	tb.Helper()
	d := readJSON[struct {
		AK    struct{ Public []byte }
		Quote struct{ Quote, Signature []byte }
		Log   struct {
			PCRs []struct {
				Index  int64
				Digest []byte
			}
		}
	}](tb, name)
	pcrs := map[int64][]byte{}
	for _, p := range d.Log.PCRs {
		pcrs[p.Index] = p.Digest
	}
	return attest.QuoteFiles{AK: d.AK.Public, Attest: d.Quote.Quote, Signature: d.Quote.Signature, PCRs: map[string]map[int64][]byte{"sha1": pcrs}}
}

// keyOfWindows is the public area in a key file of Windows, with the quote beside it, which another key signed.
func keyOfWindows(tb testing.TB, name string) attest.QuoteFiles {
	tb.Helper()
	raw, dir := read(tb, name), path.Dir(name)
	at := binary.LittleEndian.Uint32(raw[4:])
	size := uint32(binary.BigEndian.Uint16(raw[at:]))
	return attest.QuoteFiles{AK: raw[at : at+2+size], Attest: read(tb, dir+"/quote.attest"), Signature: read(tb, dir+"/quote.sig")}
}

// tokenQuote is a quote between the UUID of a node and its signature.
func tokenQuote(tb testing.TB, name string) attest.QuoteFiles {
	tb.Helper()
	raw := read(tb, name)
	end := 18 + int(binary.BigEndian.Uint16(raw[16:]))
	return attest.QuoteFiles{AK: read(tb, path.Dir(name)+"/basic.pem.pub"), Attest: raw[18:end], Signature: raw[end:]}
}

// veraisonQuotes are a quote by a key that a second key certified, and that certification.
func veraisonQuotes(tb testing.TB, f file, add func(file, string, attest.QuoteFiles)) {
	tb.Helper()
	var d map[string]map[string]any
	if err := cbor.Unmarshal(read(tb, f.path), &d); err != nil {
		tb.Fatal(err)
	}
	part := func(record, name string) []byte {
		b, ok := d[record][name].([]byte)
		if !ok {
			tb.Fatal(fmt.Errorf("%s has no %s", record, name))
		}
		return b
	}
	key := part("kat", "pubArea")
	add(f, "quote", attest.QuoteFiles{AK: key, Attest: part("pat", "attestInfo"), Signature: part("pat", "sig")})
	add(f, "certification", attest.QuoteFiles{AK: key, Attest: part("kat", "certInfo"), Signature: part("kat", "sig")})
}
