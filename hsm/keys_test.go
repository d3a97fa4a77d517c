package hsm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"reflect"
	"slices"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/softhsm"
)

func TestCreatedKeyIsForSigningOnlyAndStays(t *testing.T) {
	soft := softhsm.New(t)
	tk := openWith(t, config(soft))
	thumbprint := create(t, tk, Artifact)
	got, err := tk.Attributes(t.Context(), thumbprint)
	if err != nil {
		t.Fatal(err)
	}
	info, err := tk.Info()
	if err != nil {
		t.Fatal(err)
	}
	want := Attributes{
		Key: got.Key, ID: got.ID, Purpose: Artifact, Token: info, OnToken: true, Private: true, Sensitive: true,
		AlwaysSensitive: true, NeverExtractable: true, Local: true, Usage: []string{"sign"}, Mechanism: "CKM_EC_KEY_PAIR_GEN",
	}
	if !reflect.DeepEqual(got, want) || got.Key.Thumbprint() != thumbprint || len(got.ID) != 16 {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := got.Check(); err != nil {
		t.Error(err)
	}
	if info.Module != soft.Module || info.Label != soft.Label || info.Serial == "" || info.Manufacturer != "SoftHSM project" {
		t.Errorf("got %+v, want the module and token in use", info)
	}
	_, err = tk.Attributes(t.Context(), statement.Thumbprint{1})
	refused(t, err, denial.HSMKeyPolicy)
}

func TestKeysSurviveReopening(t *testing.T) {
	soft := softhsm.New(t)
	tk := openWith(t, config(soft))
	var made []statement.Thumbprint
	for _, p := range Purposes() {
		made = append(made, create(t, tk, p))
	}
	info, _ := tk.Info()
	if err := tk.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := config(soft)
	cfg.Token = info.Serial // a serial number serves as well as a label
	tk = openWith(t, cfg)
	keys, err := tk.Keys(t.Context())
	if err != nil || len(keys) != len(made) {
		t.Fatalf("got %d keys and %v, want %d", len(keys), err, len(made))
	}
	for i, p := range Purposes() {
		if keys[i].Purpose != p || keys[i].Key.Thumbprint() != made[i] {
			t.Errorf("got key %d for %s, want %s", i, keys[i].Purpose, p)
		}
		s, err := tk.Signer(t.Context(), p, made[i])
		if err != nil {
			t.Fatal(err)
		}
		signs(t, s, kindOf[p])
	}
}

func TestOneKeyPerPurposeUnlessRotated(t *testing.T) {
	tk := open(t)
	old := newSigner(t, tk, Log)
	_, err := tk.Create(t.Context(), Log)
	refused(t, err, denial.HSMKeyPolicy)
	_, err = tk.Rotate(t.Context(), Log, statement.Thumbprint{1})
	refused(t, err, denial.HSMKeyPolicy)
	_, err = tk.Rotate(t.Context(), Status, old.Key().Thumbprint())
	refused(t, err, denial.HSMKeyPolicy)
	next, err := tk.Rotate(t.Context(), Log, old.Key().Thumbprint())
	if err != nil {
		t.Fatal(err)
	}
	s, err := tk.Signer(t.Context(), Log, next.Thumbprint())
	if err != nil {
		t.Fatal(err)
	}
	signs(t, s, statement.Receipt)
	signs(t, old, statement.Receipt)
}

func TestH02_AmbiguousKeyIsRefused(t *testing.T) {
	for name, other := range map[string]Purpose{"same label and identifier": Artifact, "same identifier": Record} {
		t.Run(name, func(t *testing.T) {
			tk := open(t)
			thumbprint := create(t, tk, Artifact)
			a, err := tk.Attributes(t.Context(), thumbprint)
			if err != nil {
				t.Fatal(err)
			}
			generateWith(t, tk, other, string(a.ID), pkcs11.CKA_SIGN, true)
			_, err = tk.Signer(t.Context(), Artifact, thumbprint)
			refused(t, err, denial.HSMKeyPolicy)
		})
	}
	t.Run("same public key twice", func(t *testing.T) {
		tk := open(t)
		generateWith(t, tk, Artifact, "another", pkcs11.CKA_SIGN, true)
		destroy(t, tk, pkcs11.CKO_PUBLIC_KEY, Artifact)
		s := newSigner(t, tk, Artifact)
		readWrite(t, tk, func(session pkcs11.SessionHandle) {
			importPublic(t, tk, session, s.Key().Public().(*ecdsa.PublicKey), Artifact, "another")
		})
		_, err := tk.Signer(t.Context(), Artifact, s.Key().Thumbprint())
		refused(t, err, denial.HSMKeyPolicy)
	})
}

func TestPrivateHalfOfAnotherPurposeIsRefused(t *testing.T) {
	tk := open(t)
	key := generateWith(t, tk, Record, "mixed", pkcs11.CKA_SIGN, true)
	destroy(t, tk, pkcs11.CKO_PUBLIC_KEY, Record)
	readWrite(t, tk, func(session pkcs11.SessionHandle) {
		importPublic(t, tk, session, key.Public().(*ecdsa.PublicKey), Artifact, "mixed")
	})
	_, err := tk.Signer(t.Context(), Artifact, key.Thumbprint())
	refused(t, err, denial.HSMKeyPolicy)
}

func TestH03_AbsentKeyIsRefused(t *testing.T) {
	tk := open(t)
	record := create(t, tk, Record)
	for name, pin := range map[string]statement.Thumbprint{"no such key": {1}, "key for another purpose": record} {
		_, err := tk.Signer(t.Context(), Artifact, pin)
		if !denial.Is(err, denial.HSMKeyPolicy) {
			t.Errorf("%s: got %v, want 904", name, err)
		}
	}
	destroy(t, tk, pkcs11.CKO_PRIVATE_KEY, Record)
	_, err := tk.Signer(t.Context(), Record, record)
	refused(t, err, denial.HSMKeyPolicy)
}

func TestH04_H05_UnfitKeyIsRefused(t *testing.T) {
	for name, row := range map[string]struct {
		attribute uint
		value     bool
	}{
		"H04 decrypt":       {pkcs11.CKA_DECRYPT, true},
		"H04 unwrap":        {pkcs11.CKA_UNWRAP, true},
		"H04 derive":        {pkcs11.CKA_DERIVE, true},
		"H04 sign-recover":  {pkcs11.CKA_SIGN_RECOVER, true},
		"H04 no sign":       {pkcs11.CKA_SIGN, false},
		"H04 modifiable":    {pkcs11.CKA_MODIFIABLE, true},
		"H05 copyable":      {pkcs11.CKA_COPYABLE, true},
		"H05 extractable":   {pkcs11.CKA_EXTRACTABLE, true},
		"H05 not sensitive": {pkcs11.CKA_SENSITIVE, false},
		"H05 not private":   {pkcs11.CKA_PRIVATE, false},
	} {
		t.Run(name, func(t *testing.T) {
			tk := open(t)
			fit := generateWith(t, tk, Artifact, "fit", pkcs11.CKA_SIGN, true)
			if _, err := tk.Signer(t.Context(), Artifact, fit.Thumbprint()); err != nil {
				t.Fatal(err)
			}
			unfit := generateWith(t, tk, Record, "unfit", row.attribute, row.value)
			_, err := tk.Signer(t.Context(), Record, unfit.Thumbprint())
			refused(t, err, denial.HSMKeyPolicy)
			a, err := tk.Attributes(t.Context(), unfit.Thumbprint())
			if err != nil {
				t.Fatal(err)
			}
			refused(t, a.Check(), denial.HSMKeyPolicy)
		})
	}
}

func TestH05_ImportedKeyIsRefused(t *testing.T) {
	tk := open(t)
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	readWrite(t, tk, func(session pkcs11.SessionHandle) {
		importPublic(t, tk, session, &priv.PublicKey, Artifact, "imported")
		importPrivate(t, tk, session, priv, Artifact, "imported")
	})
	key, err := statement.NewKey(&priv.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tk.Signer(t.Context(), Artifact, key.Thumbprint())
	refused(t, err, denial.HSMKeyPolicy)
	a, err := tk.Attributes(t.Context(), key.Thumbprint())
	if err != nil || a.Local || a.NeverExtractable || a.AlwaysSensitive {
		t.Errorf("got %+v and %v, want a key that was outside", a, err)
	}
}

func TestH06_WrappingKeyOnTheTokenIsRefused(t *testing.T) {
	for name, use := range map[string]uint{"wrap": pkcs11.CKA_WRAP, "unwrap": pkcs11.CKA_UNWRAP} {
		t.Run(name, func(t *testing.T) {
			tk := open(t)
			s := newSigner(t, tk, Artifact)
			readWrite(t, tk, func(session pkcs11.SessionHandle) {
				mech := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}
				template := []*pkcs11.Attribute{
					pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
					pkcs11.NewAttribute(pkcs11.CKA_WRAP, false), pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
				}
				if _, err := tk.mod.GenerateKey(session, mech, template); err != nil {
					t.Fatal(err)
				}
				if _, err := tk.Signer(t.Context(), Artifact, s.Key().Thumbprint()); err != nil {
					t.Fatal(err) // a key that wraps nothing does no harm
				}
				if _, err := tk.mod.GenerateKey(session, mech, set(template, use, true)); err != nil {
					t.Fatal(err)
				}
			})
			_, err := tk.Signer(t.Context(), Artifact, s.Key().Thumbprint())
			refused(t, err, denial.HSMKeyPolicy)
		})
	}
}

func TestH07_SwappedKeyIsRefused(t *testing.T) {
	t.Run("both halves", func(t *testing.T) {
		tk := open(t)
		s := newSigner(t, tk, Artifact)
		a, err := tk.Attributes(t.Context(), s.Key().Thumbprint())
		if err != nil {
			t.Fatal(err)
		}
		destroy(t, tk, pkcs11.CKO_PRIVATE_KEY, Artifact)
		destroy(t, tk, pkcs11.CKO_PUBLIC_KEY, Artifact)
		generateWith(t, tk, Artifact, string(a.ID), pkcs11.CKA_SIGN, true)
		_, err = sign(t.Context(), s, statement.Artifact)
		refused(t, err, denial.HSMKeyPolicy)
		refused(t, tk.Healthy(), denial.HSMKeyPolicy)
	})
	t.Run("private half", func(t *testing.T) {
		tk := open(t)
		s := newSigner(t, tk, Artifact)
		a, err := tk.Attributes(t.Context(), s.Key().Thumbprint())
		if err != nil {
			t.Fatal(err)
		}
		destroy(t, tk, pkcs11.CKO_PRIVATE_KEY, Artifact)
		destroy(t, tk, pkcs11.CKO_PUBLIC_KEY, Artifact)
		generateWith(t, tk, Artifact, string(a.ID), pkcs11.CKA_SIGN, true)
		destroy(t, tk, pkcs11.CKO_PUBLIC_KEY, Artifact)
		readWrite(t, tk, func(session pkcs11.SessionHandle) {
			importPublic(t, tk, session, s.Key().Public().(*ecdsa.PublicKey), Artifact, string(a.ID))
		})
		_, err = sign(t.Context(), s, statement.Artifact)
		refused(t, err, denial.HSMKeyPolicy)
	})
}

func TestPurposesShareNoKind(t *testing.T) {
	for _, k := range statement.Kinds() {
		n := 0
		for _, p := range Purposes() {
			if p.Signs(k) {
				n++
			}
		}
		most := 1
		if k == statement.Succession { // each names the key that follows it
			most = len(Purposes())
		}
		if n > most {
			t.Errorf("%d purposes sign a %s, want at most %d", n, k, most)
		}
	}
	for _, p := range Purposes() {
		if got, err := ParsePurpose(p.String()); err != nil || got != p {
			t.Errorf("got %v and %v, want %v", got, err, p)
		}
	}
	if _, err := ParsePurpose("unknown purpose"); err == nil {
		t.Error("got no error, want one")
	}
	if Purpose(0).Signs(statement.Artifact) || Purpose(0).String() != "unknown purpose" {
		t.Error("the zero purpose must sign nothing")
	}
}

func TestCheckNamesEveryFault(t *testing.T) {
	err := Attributes{Purpose: Artifact, Extractable: true, Usage: []string{"sign", "decrypt"}}.Check()
	refused(t, err, denial.HSMKeyPolicy)
	want := "the artifact key is unfit: not a token object, not private, not sensitive, has not always been sensitive, " +
		"has been extractable, extractable, not made on the token, usage is not sign only, not made by CKM_EC_KEY_PAIR_GEN"
	if got := denial.Of(err).Detail; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPublicPoint(t *testing.T) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := priv.PublicKey.Bytes()
	der, _ := asn1.Marshal(raw)
	for name, point := range map[string][]byte{"in an octet string": der, "bare": raw} {
		key, err := parsePoint(p256, point)
		if err != nil || !priv.PublicKey.Equal(key.Public()) {
			t.Errorf("%s: got %v, want the key", name, err)
		}
	}
	offCurve := slices.Clone(raw)
	offCurve[64] ^= 1
	for name, point := range map[string][]byte{"off the curve": offCurve, "trailing": append(der, 0), "empty": nil} {
		if _, err := parsePoint(p256, point); err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
	if _, err := parsePoint(nil, der); err == nil {
		t.Error("other curve: got no error, want one")
	}
}

func importPublic(t testing.TB, tk *Token, session pkcs11.SessionHandle, pub *ecdsa.PublicKey, p Purpose, id string) {
	t.Helper()
	raw, err := pub.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	point, err := asn1.Marshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	public, _, _ := templates([]byte(id), p.label())
	public = set(set(public, pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC)
	if _, err := tk.mod.CreateObject(session, set(public, pkcs11.CKA_EC_POINT, point)); err != nil {
		t.Fatal(err)
	}
}

func importPrivate(t testing.TB, tk *Token, session pkcs11.SessionHandle, priv *ecdsa.PrivateKey, p Purpose, id string) {
	t.Helper()
	value, err := priv.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	_, private, _ := templates([]byte(id), p.label())
	private = set(set(private, pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC)
	private = set(set(private, pkcs11.CKA_EC_PARAMS, p256), pkcs11.CKA_VALUE, value)
	if _, err := tk.mod.CreateObject(session, private); err != nil {
		t.Fatal(err)
	}
}
