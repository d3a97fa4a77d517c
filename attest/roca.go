package attest

import (
	"crypto"
	"crypto/rsa"
	"math/big"
)

// rocaPrimes are the odd primes below 168. Those of the first 39 primes that say something are among them.
const rocaPrimes = "\x03\x05\x07\x0b\x0d\x11\x13\x17\x1d\x1f\x25\x29\x2b\x2f\x35\x3b\x3d\x43\x47\x49\x4f\x53\x59\x61\x65\x67\x6b\x6d\x71\x7f\x83\x89\x8b\x95\x97\x9d\xa3\xa7"

// weakModulus reports whether a key is an RSA key of the form that rocaWeak finds.
func weakModulus(key crypto.PublicKey) bool {
	k, ok := key.(*rsa.PublicKey)
	return ok && rocaWeak(k.N)
}

// rocaWeak reports whether an RSA modulus has the structure that the key generation of CVE-2017-15361 leaves behind:
// modulo the product of small primes it is a power of 65537, since both of its factors are. Anybody can factor such a
// modulus. Chance gives it to fewer than one modulus in 2^150.
//
// It finds for each prime the exponent, if there is one, and then whether all of them are one exponent: they must agree
// modulo the greatest common divisor of each two orders (Chinese remainder theorem).
func rocaWeak(n *big.Int) bool {
	type residue struct{ exponent, order int }
	var found []residue
	product := big.NewInt(1)
	for _, p := range []byte(rocaPrimes) {
		product.Mul(product, big.NewInt(int64(p)))
	}
	small, r := new(big.Int).Mod(n, product), new(big.Int)
	for _, p := range []byte(rocaPrimes) {
		e, order := logarithm(int(r.Mod(small, big.NewInt(int64(p))).Int64()), int(p))
		if e < 0 {
			return false
		}
		for _, other := range found {
			if (e-other.exponent)%gcd(order, other.order) != 0 {
				return false
			}
		}
		found = append(found, residue{e, order})
	}
	return true
}

// logarithm returns the least e with 65537^e = n modulo the prime p, -1 if there is none, and the order of 65537.
func logarithm(n, p int) (e, order int) {
	e = -1
	for power := 1; ; order++ {
		if power == n && e < 0 {
			e = order
		}
		if power = power * (65537 % p) % p; power == 1 {
			return e, order + 1
		}
	}
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
