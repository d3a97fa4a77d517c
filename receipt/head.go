package receipt

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"

	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// maxReceipt is the greatest size of a receipt in bytes.
const maxReceipt = 8 << 10

// Hash is a node of the tree.
type Hash = [32]byte

// LeafHash returns the RFC 6962 leaf hash of a log entry: the statement with an empty unprotected map.
func LeafHash(entry []byte) Hash { return Hash(rfc6962.DefaultHasher.HashLeaf(entry)) }

// NodeHash returns the RFC 6962 hash of a node over its two children.
func NodeHash(left, right Hash) Hash {
	var b [1 + 2*len(left)]byte
	b[0] = rfc6962.RFC6962NodeHashPrefix
	copy(b[1:], left[:])
	copy(b[1+len(left):], right[:])
	return sha256.Sum256(b[:])
}

// Head is the state of a log: so many entries, under this root, at this time in seconds since 1970 UTC.
type Head struct {
	Size uint64
	Root Hash
	Time uint64
}

// Signed is a head whose signature has been verified, with those who stand for it.
type Signed struct {
	Head
	Issuer string
	Log    string               // URI of the log
	Key    statement.Thumbprint // that signed
}

// SignHead signs a head of the log for the issuer. The result is complete for Make, and no receipt yet.
func SignHead(ctx context.Context, s statement.Signer, issuer, log string, h Head) ([]byte, error) {
	if h.Size == 0 || h.Time == 0 || log == "" || strings.Contains(log, "#") {
		return nil, fmt.Errorf("signing tree head: a log URI without fragment, a size and a time are needed")
	}
	c := statement.Claims{Issuer: issuer, Subject: subject(log, h.Size), IssuedAt: h.Time}
	return statement.Sign(ctx, s, statement.Receipt, c, h.Root[:])
}

// VerifyHead checks a signed head against a root that the caller computed. It refuses as Verify does.
func VerifyHead(signedHead []byte, root Hash, keys statement.Keys) (*Signed, error) {
	env, err := statement.Decode(signedHead, maxReceipt)
	if err != nil {
		return nil, denial.New(denial.ReceiptInvalid, "the signed head is malformed")
	}
	return verifyHead(env, root, keys)
}

// subject is the sub claim of a head.
func subject(log string, size uint64) string { return log + "#" + strconv.FormatUint(size, 10) }

// parseSubject reads what subject writes, in that one spelling.
func parseSubject(sub string) (log string, size uint64, ok bool) {
	log, digits, _ := strings.Cut(sub, "#")
	size, err := strconv.ParseUint(digits, 10, 64)
	return log, size, err == nil && size > 0 && log != "" && sub == subject(log, size)
}
