package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// testKeyNames are what vendors wrote into the certificates of their test keys (CVE-2024-8105, "PKfail"). Who ships such a
// key rarely has its private half alone.
var testKeyNames = [...]string{"DO NOT TRUST", "DO NOT SHIP", "Do Not Trust", "Do Not Ship", "Do not trust", "Do not ship"}

// testKeyCertificates are SHA-256 digests of certificates whose private keys are public. They add to the names, which tell
// the two of AMI as well.
var testKeyCertificates = [...]string{
	"cca4e3f3170230030dc3e33d1e3fa7d1383de8b3367430892e93cbccde034ce0", // AMI Test PK, serial -15FE0D04…
	"01adaf2c334e76a6479516daf618381898323d8f5e7a57bed12bad7ab229209d", // AMI Test PK, serial 55FBEF87…
	"282e8130b7070f107aaecc25d3992ca4440270860b09088792a5075fab0d13f8", // SnakeOil of Debian's ovmf, published with its private key
}

// hasTestKey reports whether a variable that Secure Boot rests on holds a test key (L21): with it, whoever has the key can
// have the machine boot anything. dbx forbids keys and may name any.
func (v *efiVariable) hasTestKey() bool {
	if name := v.secureBootVariable(); name != "PK" && name != "KEK" && name != "db" {
		return false
	}
	for _, name := range testKeyNames {
		if bytes.Contains(v.data, []byte(name)) {
			return true
		}
	}
	return holdsCertificate(v.data, testKeyCertificates[:])
}

// holdsCertificate reports whether signature lists hold a certificate with one of the digests.
func holdsCertificate(lists []byte, digests []string) (found bool) {
	_ = eachSignature(lists, func(kind efiGUID, entry []byte) {
		if found || kind != signatureX509 {
			return
		}
		sum := sha256.Sum256(entry[16:]) // the owner's GUID is before the certificate
		found = slices.Contains(digests, hex.EncodeToString(sum[:]))
	})
	return found
}
