package statement

import (
	"errors"
	"math/big"
	"slices"
)

// The field prime and the constant of the curve edwards25519 (RFC 8032, section 5.1).
var (
	edPrime = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	edD     = edDivide(big.NewInt(-121665), big.NewInt(121666))
)

// checkEd25519 checks that the 32 bytes are the one encoding of a curve point (RFC 8032, section 5.1.3) whose order
// does not divide 8: for a key of small order anybody can make signatures. Package crypto/ed25519 checks neither.
func checkEd25519(encoded []byte) error {
	b := slices.Clone(encoded)
	slices.Reverse(b)
	b[0] &= 0x7f // the sign of x
	y := new(big.Int).SetBytes(b)
	if y.Cmp(edPrime) >= 0 {
		return errors.New("y is not reduced")
	}
	one := big.NewInt(1)
	for range 3 {
		// x² = (y² - 1) / (d·y² + 1) must be a square; the double of the point has y' = (y² + x²) / (2 - y² + x²).
		y2 := new(big.Int).Mul(y, y)
		x2 := edDivide(new(big.Int).Sub(y2, one), new(big.Int).Add(new(big.Int).Mul(edD, y2), one))
		if big.Jacobi(x2, edPrime) < 0 {
			return errors.New("not a point of the curve")
		}
		denominator := new(big.Int).Add(new(big.Int).Sub(big.NewInt(2), y2), x2)
		y = edDivide(new(big.Int).Add(y2, x2), denominator)
	}
	if y.Cmp(one) == 0 {
		return errors.New("a point of small order")
	}
	return nil
}

// edDivide returns a/b modulo the field prime; b is never zero for a point of the curve.
func edDivide(a, b *big.Int) *big.Int {
	inverse := new(big.Int).ModInverse(new(big.Int).Mod(b, edPrime), edPrime)
	return inverse.Mod(inverse.Mul(inverse, a), edPrime)
}
