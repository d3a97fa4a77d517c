package statement

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/need"
)

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestC40_Wycheproof holds that the signature check agrees with every vector.
func TestC40_Wycheproof(t *testing.T) {
	dir := filepath.Join(need.Corpus(t), "wycheproof", "wycheproof")
	for file, least := range map[string]int{
		"ecdsa_secp256r1_sha256_p1363_test.json": 262,
		"ecdsa_secp384r1_sha384_p1363_test.json": 280,
		"ed25519_test.json":                      151,
	} {
		var vectors struct {
			TestGroups []struct {
				PublicKeyDER string
				Tests        []struct {
					TcID                      int
					Comment, Msg, Sig, Result string
				}
			}
		}
		readJSON(t, filepath.Join(dir, file), &vectors)
		ran := 0
		for _, g := range vectors.TestGroups {
			pub, err := x509.ParsePKIXPublicKey(unhex(t, g.PublicKeyDER))
			if err != nil {
				t.Fatal(err)
			}
			key, err := NewKey(pub)
			if err != nil {
				t.Errorf("%s: key %s: %v", file, g.PublicKeyDER, err)
				continue
			}
			for _, v := range g.Tests {
				ran++
				got, want := key.verify(unhex(t, v.Msg), unhex(t, v.Sig)), v.Result == "valid"
				if got != want {
					t.Errorf("%s: test %d (%s): got %v, want %s", file, v.TcID, v.Comment, got, v.Result)
				}
			}
		}
		if ran < least {
			t.Errorf("%s: %d vectors, want at least %d", file, ran, least)
		}
	}
}

// checkLayer verifies a statement of no kind of ours: everything that Verify does up to the signature.
func checkLayer(raw []byte, key Key) (*Envelope, error) {
	e, err := Decode(raw, 64<<10)
	if err != nil {
		return nil, err
	}
	alg, err := e.Algorithm()
	if err != nil {
		return nil, err
	}
	switch {
	case e.detached:
		return nil, denial.New(denial.PayloadForm, "detached")
	case !key.fits(alg):
		return nil, denial.New(denial.AlgKeyMismatch, "alg and key")
	case !key.verify(toBeSigned(e.protected, e.payload), e.signature):
		return nil, denial.New(denial.SignatureInvalid, "signature")
	}
	return e, nil
}

// jwk is a key as the vectors write it.
type jwk struct {
	Kty, Crv, X, Y string
	XHex           string `json:"x_hex"`
	YHex           string `json:"y_hex"`
}

func (j jwk) key(t *testing.T) (Key, error) {
	t.Helper()
	field := func(b64, hexed string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(b64)
		if err != nil {
			t.Fatal(err)
		}
		return append(b, unhex(t, hexed)...)
	}
	ck := coseKey{X: field(j.X, j.XHex), Y: field(j.Y, j.YHex)}
	switch j.Crv {
	case "P-256":
		ck.Kty, ck.Crv = 2, 1
	case "P-384":
		ck.Kty, ck.Crv = 2, 2
	case "Ed25519":
		ck.Kty, ck.Crv, ck.Y = 1, 6, nil
	}
	return makeKey(ck)
}

// accepted marks a vector whose signature we verify too.
const accepted denial.Reason = 0

// coseVectors says what becomes of the vectors of the COSE working group and of go-cose. Where we refuse a positive
// one, our profile is stricter than RFC 9052: the reason says how.
var coseVectors = map[string]denial.Reason{
	"cose-wg-examples/CWT__A_3.json":                     accepted,
	"cose-wg-examples/RFC8152__Appendix_C_2_1.json":      accepted,
	"cose-wg-examples/countersign__signed1-01.json":      denial.NotCanonical, // unsorted unprotected header
	"cose-wg-examples/countersign__signed1-02.json":      denial.NotCanonical, // unsorted unprotected header
	"cose-wg-examples/ecdsa-examples__ecdsa-sig-01.json": accepted,
	"cose-wg-examples/ecdsa-examples__ecdsa-sig-02.json": accepted,
	"cose-wg-examples/ecdsa-examples__ecdsa-sig-03.json": denial.AlgNotAllowed, // ES512
	"cose-wg-examples/ecdsa-examples__ecdsa-sig-04.json": denial.AlgNotAllowed, // ES512 with P-256
	"cose-wg-examples/eddsa-examples__eddsa-sig-01.json": accepted,
	"cose-wg-examples/eddsa-examples__eddsa-sig-02.json": denial.AlgKeyMismatch, // Ed448
	"cose-wg-examples/sign1-tests__sign-fail-01.json":    denial.WrongType,
	"cose-wg-examples/sign1-tests__sign-fail-02.json":    denial.SignatureInvalid,
	"cose-wg-examples/sign1-tests__sign-fail-03.json":    denial.AlgNotAllowed,
	"cose-wg-examples/sign1-tests__sign-fail-04.json":    denial.AlgNotAllowed,
	"cose-wg-examples/sign1-tests__sign-fail-06.json":    denial.SignatureInvalid,
	"cose-wg-examples/sign1-tests__sign-fail-07.json":    denial.SignatureInvalid,
	"cose-wg-examples/sign1-tests__sign-pass-01.json":    denial.AlgNotProtected,
	"cose-wg-examples/sign1-tests__sign-pass-02.json":    denial.SignatureInvalid, // external data, which we never have
	"cose-wg-examples/sign1-tests__sign-pass-03.json":    denial.WrongType,        // untagged
	"go-cose/sign1-verify-0000.json":                     denial.SignatureInvalid, // external data
	"go-cose/sign1-verify-0001.json":                     accepted,
	"go-cose/sign1-verify-0002.json":                     accepted,
	"go-cose/sign1-verify-0003.json":                     denial.AlgNotAllowed, // ES512
	"go-cose/sign1-verify-0004.json":                     denial.AlgNotAllowed, // PS256
	"go-cose/sign1-verify-0005.json":                     denial.AlgNotAllowed, // PS384
	"go-cose/sign1-verify-0006.json":                     denial.AlgNotAllowed, // PS512
	"go-cose/sign1-verify-negative-0000.json":            denial.WrongType,
	"go-cose/sign1-verify-negative-0001.json":            denial.WrongType,
	"go-cose/sign1-verify-negative-0002.json":            denial.LabelDuplicate,
	"go-cose/sign1-verify-negative-0003.json":            denial.LabelDuplicate,
}

func TestC40_COSEVectors(t *testing.T) {
	dir := filepath.Join(need.Corpus(t), "cose")
	for name, want := range coseVectors {
		var v struct {
			Input  struct{ Sign0 struct{ Key jwk } } // COSE working group
			Output struct{ CBOR string }
			Key    jwk // go-cose
			Verify struct {
				Message struct{ CBORHex string } `json:"taggedCOSESign1"`
			} `json:"sign1::verify"`
		}
		readJSON(t, filepath.Join(dir, name), &v)
		if v.Key == (jwk{}) {
			v.Key = v.Input.Sign0.Key
		}
		raw := unhex(t, v.Output.CBOR+v.Verify.Message.CBORHex)
		if len(raw) == 0 {
			t.Fatalf("%s: no message", name)
		}
		key, err := v.Key.key(t)
		if err != nil && !denial.Is(err, denial.AlgNotAllowed) {
			t.Errorf("%s: key: %v", name, err)
		}
		e, err := checkLayer(raw, key)
		if want != accepted {
			if !denial.Is(err, want) {
				t.Errorf("%s: got %v, want %s", name, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		goCOSEAccepts(t, name, raw, key)
		if got := e.Kind(); got != 0 {
			t.Errorf("%s passes for a %s", name, got)
		}
	}
}

// TestC40_RealTokens verifies health certificates of many issuers. None may pass that its issuer's test refuses; the
// ones refused here although their test accepts them have a named reason.
func TestC40_RealTokens(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(need.Corpus(t), "cose", "dgc-cwt", "*.json"))
	if err != nil || len(files) < 80 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	passed := 0
	for _, file := range files {
		var v struct {
			COSE            string
			TestCtx         struct{ Certificate []byte }
			ExpectedResults struct{ ExpectedVerify *bool }
		}
		readJSON(t, file, &v)
		name, expected := filepath.Base(file), v.ExpectedResults.ExpectedVerify
		cert, err := x509.ParseCertificate(v.TestCtx.Certificate)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		raw := unhex(t, v.COSE)
		key, err := NewKey(cert.PublicKey)
		if err == nil {
			_, err = checkLayer(raw, key)
		}
		switch want, listed := refusedTokens[name]; {
		case err == nil && expected != nil && !*expected:
			t.Errorf("%s: accepted, and must not be", name)
		case err == nil:
			passed++
			goCOSEAccepts(t, name, raw, key)
		case listed && denial.Is(err, want):
		case listed || expected != nil && *expected:
			t.Errorf("%s: %v", name, err)
		}
	}
	if passed < 55 {
		t.Errorf("only %d tokens verified", passed)
	}
}

// refusedTokens are good tokens that our profile refuses.
var refusedTokens = map[string]denial.Reason{
	"FR-recovery_ok.json": denial.NotCanonical, // unsorted headers
	"FR-test_pcr_ok.json": denial.NotCanonical,
	"FR-vaccin_ok.json":   denial.NotCanonical,
	"common-CO3.json":     denial.NotCanonical,
	"common-CO18.json":    denial.NotCanonical,
	"common-CO20.json":    denial.NotCanonical,
	"common-CO21.json":    denial.NotCanonical,
	"common-CO1.json":     denial.AlgNotAllowed, // RSA
	"common-CO2.json":     denial.AlgNotAllowed,
	"common-CO28.json":    denial.WrongType, // tag 61 around it
}

// TestRealStatementsOfOthersAreNoneOfOurs: real signed statements and tokens must be refused for a reason that names
// the difference, whatever key is trusted.
func TestRealStatementsOfOthersAreNoneOfOurs(t *testing.T) {
	for name, want := range map[string]denial.Reason{
		"scitt-ccf-ledger/cosesign1tool-scitt-a3be7e5.cose":     denial.NotCanonical, // unsorted protected header
		"scitt-ccf-ledger/css-attested-cosesign1-20250617.cose": denial.NotCanonical, // a tag on iat
		"scitt-ccf-ledger/css-attested-cosesign1-20250812.cose": denial.NotCanonical, // a tag on iat
		"veraison-eat/cca-evidence.cbor":                        denial.WrongType,    // a tagged collection of tokens
		"veraison-eat/cca-good.cbor":                            denial.WrongType,
		"veraison-eat/psa-evidence.cbor":                        denial.KeyUnknown, // no kid
	} {
		raw, err := os.ReadFile(filepath.Join(need.Corpus(t), "cose", name))
		if err != nil {
			t.Fatal(err)
		}
		e, err := Decode(raw, 1<<20)
		if err == nil {
			_, err = e.Verify(Keys{}, Artifact)
		}
		if !denial.Is(err, want) {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
}

// TestThumbprintOfRFC9679 is the example of RFC 9679, section 6.
func TestThumbprintOfRFC9679(t *testing.T) {
	const x = "65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d"
	const y = "1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c"
	key, err := ParseKey(encode(t, coseKey{Kty: 2, Crv: 1, X: unhex(t, x), Y: unhex(t, y)}))
	if err != nil {
		t.Fatal(err)
	}
	const want = "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec"
	if got := key.Thumbprint().String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
