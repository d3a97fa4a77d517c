package statement

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"github.com/governed-execution/writ/denial"
)

var encMode, decMode = modes()

func modes() (cbor.UserBufferEncMode, cbor.DecMode) {
	enc, err := cbor.CoreDetEncOptions().UserBufferEncMode()
	if err != nil {
		panic(err) // constant options: cannot fail
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		MaxNestedLevels:   2 * MaxDepth,
		MaxMapPairs:       MaxMap,
		MaxArrayElements:  MaxArray,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		IntDec:            cbor.IntDecConvertNone,
		TagsMd:            cbor.TagsForbidden,
		UTF8:              cbor.UTF8RejectInvalid,
		NaN:               cbor.NaNDecodeForbidden,
		Inf:               cbor.InfDecodeForbidden,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	}.DecMode()
	if err != nil {
		panic(err) // constant options: cannot fail
	}
	return enc, dec
}

// RawItem is one CBOR item, kept as it stands.
type RawItem = cbor.RawMessage

// Marshal encodes v in core deterministic CBOR (RFC 8949, section 4.2.1). Struct fields carry `cbor:"1,keyasint"` tags.
// What Scan would refuse is an error: nothing is emitted that Writ cannot read.
func Marshal(v any) ([]byte, error) {
	b, err := encMode.Marshal(v)
	if err == nil {
		err = Scan(b)
	}
	if err != nil {
		return nil, fmt.Errorf("encoding CBOR: %w", err)
	}
	return b, nil
}

// Unmarshal decodes data into v, a pointer to a zero value. It checks, in this order: Scan; no key that v does not
// know (911); every value of its type (312, or the code of a type's own decoder); and that encoding v again gives the
// same bytes. The last check finds what the decoder lets pass: a byte string of another length than its array, null or
// an array of numbers in place of a byte string, a zero where an optional value is left out (312). A key of the
// top-level map that is not optional (omitempty) and is absent, or null where it cannot be, is ClaimAbsent (104).
//
// Null is read as a nil pointer, slice or map, and as nothing else; only those are written as null. Where a slice or
// map must not be empty, the caller checks it.
func Unmarshal(data []byte, v any) error {
	if err := Scan(data); err != nil {
		return err
	}
	if err := decMode.Unmarshal(data, v); err != nil {
		var d *denial.Denial
		var unknown *cbor.UnknownFieldError
		switch {
		case errors.As(err, &d):
			return d
		case errors.As(err, &unknown):
			return denial.New(denial.UnsupportedVersion, "a map holds a key that this version does not know")
		}
		return denial.New(denial.PayloadForm, "a value has the wrong type or length")
	}
	again := buffers.Get().(*bytes.Buffer)
	again.Reset()
	defer buffers.Put(again)
	err := encMode.MarshalToBuffer(v, again)
	if err == nil && bytes.Equal(again.Bytes(), data) {
		return nil
	}
	return differs(data, again.Bytes())
}

// buffers holds what Unmarshal encodes into.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// differs names the reason why data, decoded and encoded again, gives other bytes.
func differs(data, again []byte) error {
	before, _, _ := parseHeader(data)
	after, _, _ := parseHeader(again)
	for _, f := range after {
		if v := before.find(f.label); v == nil || v[0] == 0xf6 && f.value[0] != 0xf6 {
			return denial.New(denial.ClaimAbsent, "key %d is missing", f.label)
		}
	}
	return denial.New(denial.PayloadForm, "a value has the wrong form or length")
}

// Peek returns the encoded value of an integer key of the top-level map in data, without checking the rest of it.
// It serves to choose a reason code before the strict decoding; nothing may be decided on its result.
func Peek(data []byte, key int64) (value []byte, ok bool) {
	m := map[int64]cbor.RawMessage{}
	if err := cbor.Unmarshal(data, &m); err != nil {
		return nil, false
	}
	value, ok = m[key]
	return value, ok
}

// Diagnose renders data in CBOR diagnostic notation (RFC 8949, section 8) for people.
func Diagnose(data []byte) (string, error) {
	s, err := cbor.Diagnose(data)
	if err != nil {
		return "", denial.New(denial.NotCanonical, "the bytes are not CBOR")
	}
	return s, nil
}
