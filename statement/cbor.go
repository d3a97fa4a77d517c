package statement

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/governed-execution/writ/denial"
)

var encMode, decMode = modes()

func modes() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
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
	}.DecMode()
	if err != nil {
		panic(err) // constant options: cannot fail
	}
	return enc, dec
}

// RawItem is one CBOR item, kept as it stands.
type RawItem = cbor.RawMessage

// Marshal encodes v in core deterministic CBOR (RFC 8949, section 4.2.1). Struct fields carry `cbor:"1,keyasint"` tags.
func Marshal(v any) ([]byte, error) {
	b, err := encMode.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding CBOR: %w", err)
	}
	return b, nil
}

// Unmarshal decodes data into v after Scan. A key that v does not know is UnsupportedVersion, a value of the wrong
// type PayloadForm. A type in v with an UnmarshalCBOR of its own may refuse with its own reason.
func Unmarshal(data []byte, v any) error {
	if err := Scan(data); err != nil {
		return err
	}
	if err := decMode.Unmarshal(data, v); err != nil {
		var own *denial.Denial
		if errors.As(err, &own) {
			return own
		}
		var unknown *cbor.UnknownFieldError
		if errors.As(err, &unknown) {
			return denial.New(denial.UnsupportedVersion, "a map holds a key that this version does not know")
		}
		return denial.New(denial.PayloadForm, "a value has the wrong type or length")
	}
	return nil
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
