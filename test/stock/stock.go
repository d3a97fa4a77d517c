// Package stock holds what the tests of most packages begin with: values that must be there, keys, random bytes.
package stock

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"github.com/governed-execution/writ/statement"
)

// Must returns a function that fails the test if there was an error, and else returns the value.
func Must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// Key returns a fresh P-256 key.
func Key(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	return Must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(tb)
}

// Signer returns a signer with a fresh P-256 key.
func Signer(tb testing.TB) statement.Signer {
	tb.Helper()
	return Must(statement.NewSigner(Key(tb)))(tb)
}

// Random returns n random bytes.
func Random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
