package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/governed-execution/writ/statement"
)

// The functions here write CBOR and COSE byte by byte, so that they can write what package statement refuses to.

// head is the head of a CBOR item in its shortest form.
func head(major byte, n int) []byte {
	switch {
	case n < 24:
		return []byte{major<<5 | byte(n)}
	case n < 1<<8:
		return []byte{major<<5 | 24, byte(n)}
	case n < 1<<16:
		return binary.BigEndian.AppendUint16([]byte{major<<5 | 25}, uint16(n))
	}
	return binary.BigEndian.AppendUint32([]byte{major<<5 | 26}, uint32(n))
}

func bstr(b []byte) []byte { return append(head(2, len(b)), b...) }

func tstr(s string) []byte { return append(head(3, len(s)), s...) }

// number is an integer.
func number(n int64) []byte {
	if n < 0 {
		return head(1, int(-1-n))
	}
	return head(0, int(n))
}

// array is an array of encoded items.
func array(items ...[]byte) []byte { return append(head(4, len(items)), bytes.Join(items, nil)...) }

// pair is an encoded key with its encoded value.
type pair struct{ key, value []byte }

// object is a map in the order of its encoded keys.
type object []pair

// with returns the map with another value of a key; nil leaves the key out.
func (o object) with(key, value []byte) object {
	out := slices.DeleteFunc(slices.Clone(o), func(p pair) bool { return bytes.Equal(p.key, key) })
	if value != nil {
		out = append(out, pair{key, value})
	}
	slices.SortFunc(out, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	return out
}

// set is with for an integer key.
func (o object) set(key int64, value []byte) object { return o.with(number(key), value) }

func (o object) bytes() []byte {
	out := head(5, len(o))
	for _, p := range o {
		out = append(append(out, p.key...), p.value...)
	}
	return out
}

// open takes an encoded map with integer keys apart.
func open(raw []byte) (o object) {
	var m map[int64]statement.RawItem
	if err := statement.Unmarshal(raw, &m); err != nil {
		panic(fault(err.Error()))
	}
	for key, value := range m {
		o = o.set(key, value)
	}
	return o
}

// signer is a software key.
type signer struct {
	priv *ecdsa.PrivateKey
	key  statement.Key
}

func newSigner() signer { return newSignerOn(elliptic.P256()) }

func newSignerOn(curve elliptic.Curve) signer {
	priv := must(ecdsa.GenerateKey(curve, rand.Reader))
	return signer{priv, must(statement.NewKey(&priv.PublicKey))}
}

// sign returns r||s over SHA-256.
func (s signer) sign(tbs []byte) []byte {
	digest := sha256.Sum256(tbs)
	r, ss, err := ecdsa.Sign(rand.Reader, s.priv, digest[:])
	if err != nil {
		panic(fault(err.Error()))
	}
	return append(r.FillBytes(make([]byte, 32)), ss.FillBytes(make([]byte, 32))...)
}

// cose is a COSE_Sign1 before it is signed. What is nil is made of the rest.
type cose struct {
	prefix      []byte // tag and head of the array
	labels      object
	protected   []byte // content of the protected byte string
	unprotected []byte
	payload     []byte
	item        []byte // of the payload
	signature   func(tbs []byte) []byte
	by          signer
}

// newCOSE is a valid statement of a kind.
func newCOSE(by signer, kind statement.Kind, iss, sub string, payload []byte) *cose {
	id := by.key.Thumbprint()
	labels := object{}.set(1, number(-7)).set(4, bstr(id[:])).set(16, tstr(kind.MediaType())).
		set(15, object{}.set(1, tstr(iss)).set(2, tstr(sub)).bytes())
	return &cose{prefix: []byte{0xd2, 0x84}, labels: labels, unprotected: []byte{0xa0}, payload: payload, by: by}
}

// build signs and assembles.
func (c *cose) build() []byte {
	protected, item := c.protected, c.item
	if protected == nil {
		protected = c.labels.bytes()
	}
	if item == nil {
		item = bstr(c.payload)
	}
	sign := c.signature
	if sign == nil {
		sign = c.by.sign
	}
	tbs := array(tstr("Signature1"), bstr(protected), bstr(nil), bstr(c.payload))
	return slices.Concat(c.prefix, bstr(protected), c.unprotected, item, bstr(sign(tbs)))
}

// unwrap returns the content of a byte string.
func unwrap(item []byte) []byte {
	var b []byte
	if err := statement.Unmarshal(item, &b); err != nil {
		panic(fault(err.Error()))
	}
	return b
}

// items returns the elements of an array.
func items(item []byte) []statement.RawItem {
	var list []statement.RawItem
	if err := statement.Unmarshal(item, &list); err != nil {
		panic(fault(err.Error()))
	}
	return list
}

// members returns the members of an evidence collection.
func members(raw []byte) map[string]statement.RawItem {
	var m map[string]statement.RawItem
	if err := statement.Unmarshal(raw, &m); err != nil {
		panic(fault(err.Error()))
	}
	return m
}

func openQuote(raw []byte) object { return open(unwrap(items(members(raw)["quote"])[1])) }

func bootLogOf(raw []byte) []byte { return unwrap(items(members(raw)["boot-log"])[1]) }
