package console

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/governed-execution/writ/denial"
)

// SignIn says by whose word readers sign in with OpenID Connect. The console calls nobody: the browser goes to the provider
// and brings the ID token back, and its keys are in a file. Who can change the file, or sign as the provider, reads what
// the readers may.
type SignIn struct {
	Issuer    string // of the provider, exactly as it stands in iss
	Client    string // client id of the console: the only value of aud
	Authorize string // authorization endpoint, to which the browser is sent
	Address   string // https origin of the console, as browsers know it; the provider sends back to it, path /signin
	Bearer    bool   // also take an ID token that a proxy in front sends with each request; default no

	Keys func() ([]byte, error) // JSON Web Key Set of the provider; asked for each token
}

// Check refuses what is incomplete, would send tokens in the clear, or has keys by which nobody could sign in now.
func (o *SignIn) Check() error {
	if o.Issuer == "" || o.Client == "" || o.Keys == nil {
		return errors.New("opening console: signing in needs the provider's issuer and keys, and a client id")
	}
	for _, s := range []string{o.Issuer, o.Authorize, o.Address} {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" && !loopback(u) || u.Host == "" || u.User != nil || u.Fragment != "" {
			return errors.New("opening console: issuer, authorization endpoint and address are https URLs without user and fragment")
		}
	}
	if u, _ := url.Parse(o.Address); u.Scheme != "https" || u.Path != "" || u.RawQuery != "" {
		return errors.New("opening console: its address is an https origin, without a path")
	}
	_, err := o.keySet()
	return err
}

// loopback reports whether a URL leads to this machine, where a provider may be without TLS.
func loopback(u *url.URL) bool {
	return u.Scheme == "http" && (u.Hostname() == "127.0.0.1" || u.Hostname() == "::1")
}

// Limits of ID tokens and key sets.
const (
	maxToken  = 16 << 10
	maxKeySet = 64 << 10
	maxName   = 255 // of a subject (OpenID Connect Core, section 2)

	clockSkew = time.Minute
	tokenAge  = 5 * time.Minute // of a token that the browser brings: it was made for this sign-in
)

// algorithms are those that an ID token may be signed with: no symmetric one, and never none.
var algorithms = []string{"ES256", "ES384", "EdDSA", "PS256", "RS256"}

// compact is the one form of a token: three parts in base64url. JWS has others, with more signatures.
var compact = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`)

// person is who a token is about.
type person struct{ issuer, subject string }

// verifyToken checks an ID token (OpenID Connect Core, section 3.2.2.11). In this order: its form; an allowed algorithm; a
// key of the set with its kid, which is for signatures and this algorithm; the signature; iss is the provider; aud is the
// client alone, and azp, if there, too; exp has not passed, nbf and iat have come; sub is there. With a nonce: the token
// has it, and was made within tokenAge. Every refusal is UNAUTHENTICATED, and says nothing that the token says.
func (o *SignIn) verifyToken(ctx context.Context, raw, nonce string, now time.Time) (person, error) {
	set, err := o.keySet()
	if err != nil {
		return person{}, err
	}
	if len(raw) > maxToken || !compact.MatchString(raw) {
		return person{}, denial.New(denial.Unauthenticated, "not an ID token")
	}
	config := &oidc.Config{ClientID: o.Client, SupportedSigningAlgs: algorithms, Now: func() time.Time { return now }}
	t, err := oidc.NewVerifier(o.Issuer, set, config).Verify(ctx, raw)
	var expired *oidc.TokenExpiredError
	switch {
	case errors.As(err, &expired):
		return person{}, denial.New(denial.Unauthenticated, "the ID token has expired")
	case err != nil:
		return person{}, denial.New(denial.Unauthenticated, "the ID token is not by the configured provider and its keys, for this client")
	}
	return o.judge(t, nonce, now)
}

// judge makes the checks that the library leaves to the caller.
func (o *SignIn) judge(t *oidc.IDToken, nonce string, now time.Time) (person, error) {
	var more struct {
		Party     string       `json:"azp"`
		NotBefore *json.Number `json:"nbf"`
	}
	if err := t.Claims(&more); err != nil {
		return person{}, denial.New(denial.Unauthenticated, "the ID token has claims of another type")
	}
	early := false
	if more.NotBefore != nil {
		seconds, err := more.NotBefore.Float64()
		early = err != nil || seconds > float64(now.Add(clockSkew).Unix())
	}
	switch {
	case t.Issuer != o.Issuer: // the library takes two spellings of one provider
		return person{}, denial.New(denial.Unauthenticated, "the ID token is by another provider")
	case !slices.Equal(t.Audience, []string{o.Client}) || more.Party != "" && more.Party != o.Client:
		return person{}, denial.New(denial.Unauthenticated, "the ID token is for others too")
	case early || t.IssuedAt.IsZero() || t.IssuedAt.After(now.Add(clockSkew)):
		return person{}, denial.New(denial.Unauthenticated, "the ID token is dated ahead, or not at all")
	case t.Subject == "" || len(t.Subject) > maxName:
		return person{}, denial.New(denial.Unauthenticated, "the ID token has no subject, or one that is too long")
	case nonce != "" && subtle.ConstantTimeCompare([]byte(t.Nonce), []byte(nonce)) != 1:
		return person{}, denial.New(denial.Unauthenticated, "the ID token was made for another sign-in")
	case nonce != "" && now.Sub(t.IssuedAt) > tokenAge:
		return person{}, denial.New(denial.Unauthenticated, "the ID token was made too long ago")
	}
	return person{t.Issuer, t.Subject}, nil
}

// keySet is a set of public keys for signatures.
type keySet []jose.JSONWebKey

// keySet reads the provider's keys. Keys of other kinds and uses than signatures are passed over, as sets hold such.
func (o *SignIn) keySet() (keySet, error) {
	data, err := o.Keys()
	if err != nil {
		return nil, fmt.Errorf("reading keys of the provider: %w", err)
	}
	var set jose.JSONWebKeySet
	if len(data) > maxKeySet || json.Unmarshal(data, &set) != nil {
		return nil, errors.New("reading keys of the provider: not a JSON Web Key Set, or too long")
	}
	var keys keySet
	for _, k := range set.Keys {
		if (k.Use == "" || k.Use == "sig") && signs(k) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("reading keys of the provider: the set has no public key that an allowed algorithm signs with")
	}
	return keys, nil
}

// signs reports whether a key is public, valid, and strong enough.
func signs(k jose.JSONWebKey) bool {
	switch pub := k.Key.(type) {
	case *rsa.PublicKey:
		return k.Valid() && pub.N.BitLen() >= 2048
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return k.Valid()
	}
	return false
}

// VerifySignature returns the payload of a token that the key with its kid has signed; a token without kid is taken only if
// there is one key. It is what go-oidc asks.
func (s keySet) VerifySignature(_ context.Context, raw string) ([]byte, error) {
	allowed := make([]jose.SignatureAlgorithm, len(algorithms))
	for i, a := range algorithms {
		allowed[i] = jose.SignatureAlgorithm(a)
	}
	token, err := jose.ParseSigned(raw, allowed)
	if err != nil || len(token.Signatures) != 1 {
		return nil, errors.New("reading token: not signed once with an allowed algorithm")
	}
	header := token.Signatures[0].Protected
	var key *jose.JSONWebKey
	for i := range s {
		switch {
		case s[i].KeyID != header.KeyID && !(header.KeyID == "" && len(s) == 1):
		case key != nil:
			return nil, errors.New("reading token: two keys have its kid")
		default:
			key = &s[i]
		}
	}
	if key == nil || key.Algorithm != "" && key.Algorithm != header.Algorithm {
		return nil, errors.New("reading token: no key has its kid and algorithm")
	}
	return token.Verify(key.Key)
}
