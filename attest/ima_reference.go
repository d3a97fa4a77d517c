package attest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1" // of key identifiers, as the kernel makes them
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/governed-execution/writ/statement"
)

// What a policy may say of files that IMA measures.
const (
	maxIMAKeys    = 16
	maxIMAWatched = 64
	maxIMAChecks  = 1 << 15 // signatures that are verified of one list; files beyond them count as not signed
)

// IMAReference is what a policy knows of the files that a host may have measured. The zero value knows none.
type IMAReference struct {
	Known []string `cbor:"1,keyasint"` // digests as IMAFile has them
	Keys  [][]byte `cbor:"2,keyasint"` // SubjectPublicKeyInfo (DER) of keys that sign files, RSA or ECDSA
	Watch []string `cbor:"3,keyasint"` // absolute paths; one that ends in "/*" means everything below it
}

// Check says what is wrong with a reference, nil if it can be used.
func (r IMAReference) Check() error {
	_, err := r.compile()
	return err
}

// Digest identifies the reference: SHA-256 of its canonical form, in hexadecimal.
func (r IMAReference) Digest() (string, error) {
	for _, list := range []*[]string{&r.Known, &r.Watch} {
		if *list == nil {
			*list = []string{}
		}
	}
	if r.Keys == nil {
		r.Keys = [][]byte{}
	}
	raw, err := statement.Marshal(r)
	if err != nil {
		return "", err
	}
	d := statement.DigestOf(raw)
	return hex.EncodeToString(d[:]), nil
}

// imaReference is an IMAReference that is ready for use with one list.
type imaReference struct {
	digest string
	known  map[imaKey]bool
	keys   map[[4]byte]crypto.PublicKey // by the identifier in a signature
	exact  map[string]bool
	below  []string
	checks int // signatures verified so far
}

func (r IMAReference) compile() (*imaReference, error) {
	digest, err := r.Digest()
	if err != nil {
		return nil, err
	}
	out := &imaReference{digest: digest, known: make(map[imaKey]bool, len(r.Known)), keys: map[[4]byte]crypto.PublicKey{}, exact: map[string]bool{}}
	for _, d := range r.Known {
		key, ok := imaDigest(d)
		if !ok {
			return nil, fmt.Errorf("%q is not a digest of a file: write sha256: and 64 hexadecimal digits", d)
		}
		out.known[key] = true
	}
	if len(r.Keys) > maxIMAKeys || len(r.Watch) > maxIMAWatched {
		return nil, fmt.Errorf("there are more than %d keys or %d watched paths", maxIMAKeys, maxIMAWatched)
	}
	for _, der := range r.Keys {
		if err := out.addKey(der); err != nil {
			return nil, err
		}
	}
	for _, path := range r.Watch {
		if !strings.HasPrefix(path, "/") || strings.ContainsRune(path, 0) || strings.Contains(strings.TrimSuffix(path, "/*"), "*") {
			return nil, fmt.Errorf("%q is not an absolute path, or one that ends in /*", path)
		}
		if dir, ok := strings.CutSuffix(path, "*"); ok {
			out.below = append(out.below, dir)
		} else {
			out.exact[path] = true
		}
	}
	return out, nil
}

// imaKey is a digest of a file: whether it is that of fs-verity, its size, which tells the algorithm, and the digest. There
// is one for each text that imaDigest reads.
type imaKey [2 + 64]byte

func keyOf(verity bool, sum []byte) (key imaKey) {
	if verity {
		key[0] = 1
	}
	key[1] = byte(len(sum))
	copy(key[2:], sum)
	return key
}

// imaDigest reads a text in the form of IMAFile.Digest, by a hash that is not refused.
func imaDigest(text string) (key imaKey, ok bool) {
	rest, verity := strings.CutPrefix(text, "verity:")
	alg, sum, _ := strings.Cut(rest, ":")
	h := strongIMAHash(alg)
	b, err := hex.DecodeString(sum)
	if h == 0 || err != nil || len(b) != h.Size() || strings.ToLower(sum) != sum {
		return key, false
	}
	return keyOf(verity, b), true
}

// addKey adds a key under the identifier that signatures name it by: the last four bytes of SHA-1 of the key (RFC 5280,
// section 4.2.1.2, method 1).
func (r *imaReference) addKey(der []byte) error {
	pub, err := x509.ParsePKIXPublicKey(der)
	var spki struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if err == nil {
		_, err = asn1.Unmarshal(der, &spki)
	}
	if err != nil || !strongKey(pub) {
		return fmt.Errorf("a key is not a SubjectPublicKeyInfo in DER, of RSA with 2048 to 4096 bits or of P-256 or P-384")
	}
	sum := sha1.Sum(spki.Key.Bytes)
	id := [4]byte(sum[16:])
	if r.keys[id] != nil {
		return fmt.Errorf("two keys have the same identifier")
	}
	r.keys[id] = pub
	return nil
}

// watches reports whether a path is one that the policy wants to see. A path is compared as the kernel gave it.
func (r *imaReference) watches(path []byte) bool {
	if r.exact[string(path)] {
		return true
	}
	for _, dir := range r.below {
		if bytes.HasPrefix(path, []byte(dir)) {
			return true
		}
	}
	return false
}

// Types and hashes in signatures (Linux, security/integrity/integrity.h and include/uapi/linux/hash_info.h).
const (
	imaSignature    = 0x03
	veritySignature = 0x06
	signatureHeader = 9
)

// signed reports whether the signature in an entry is by a key of the policy over the digest in it: struct
// signature_v2_hdr, in version 2 over the digest itself, in version 3 over the digest of struct ima_file_id. Signatures of
// a file's metadata (EVM) and appended ones (modsig) count as none.
func (r *imaReference) signed(e *imaEntry) bool {
	s := e.sig
	h := strongIMAHash(e.alg)
	if len(s) < signatureHeader || h == 0 || e.template == "ima" {
		return false
	}
	key := r.keys[[4]byte(s[3:7])]
	size := int(s[7])<<8 | int(s[8])
	number := map[crypto.Hash]byte{crypto.SHA256: 4, crypto.SHA384: 5, crypto.SHA512: 6}[h]
	if key == nil || s[2] != number || size != len(s)-signatureHeader {
		return false
	}
	digest := e.sum
	switch kind, version := s[0], s[1]; {
	case kind == imaSignature && version == 2 && !e.verity:
	case kind == imaSignature && version == 3 && !e.verity, kind == veritySignature && version == 3 && e.verity:
		d := h.New()
		d.Write([]byte{kind, number})
		d.Write(e.sum)
		digest = d.Sum(nil)
	default:
		return false
	}
	if r.checks++; r.checks > maxIMAChecks {
		return false
	}
	if k, ok := key.(*rsa.PublicKey); ok {
		return rsa.VerifyPKCS1v15(k, h, digest, s[signatureHeader:]) == nil
	}
	k, ok := key.(*ecdsa.PublicKey)
	return ok && ecdsa.VerifyASN1(k, digest, s[signatureHeader:])
}
