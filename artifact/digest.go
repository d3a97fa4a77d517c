package artifact

import (
	"bytes"
	"encoding/hex"

	"github.com/governed-execution/writ/statement"
)

// The COSE hash algorithms (RFC 9054).
const (
	SHA256 int64 = -16
	SHA384 int64 = -43
	SHA512 int64 = -44
)

// Digest is a hash value with its algorithm.
type Digest struct {
	_         struct{} `cbor:",toarray"`
	Algorithm int64
	Value     []byte
}

// SHA256Digest returns d as a Digest.
func SHA256Digest(d statement.Digest) Digest {
	return Digest{Algorithm: SHA256, Value: bytes.Clone(d[:])}
}

// Valid reports whether the algorithm is known and the value has its length.
func (d Digest) Valid() bool {
	want := digestSize(d.Algorithm)
	return want != 0 && len(d.Value) == want
}

// Equal reports whether both are the same valid digest.
func (d Digest) Equal(o Digest) bool {
	return d.Valid() && d.Algorithm == o.Algorithm && bytes.Equal(d.Value, o.Value)
}

// String returns the algorithm and the value, such as sha256:2c26….
func (d Digest) String() string {
	name := map[int64]string{SHA256: "sha256", SHA384: "sha384", SHA512: "sha512"}[d.Algorithm]
	if name == "" {
		name = "unknown"
	}
	return name + ":" + hex.EncodeToString(d.Value)
}

func digestSize(algorithm int64) int {
	switch algorithm {
	case SHA256:
		return 32
	case SHA384:
		return 48
	case SHA512:
		return 64
	}
	return 0
}
