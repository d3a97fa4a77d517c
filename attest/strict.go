package attest

import (
	"bytes"
	"encoding/binary"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/denial"
)

// maxStructure bounds any TPM structure that is read. The largest that is legal here, the TPM2B_PUBLIC of an RSA-4096
// key, has about 600 bytes.
const maxStructure = 1024

// unmarshallable is what go-tpm wants of the pointer type of a structure.
type unmarshallable[T any] interface {
	*T
	tpm2.Unmarshallable
}

// parse decodes one TPM structure. It accepts exactly the bytes that the structure encodes to: nothing is missing,
// nothing follows, and there is no second encoding. go-tpm alone would let all three through. A panic in it is a
// malformed structure.
//
// Quick decodes the usual forms of the structure by hand, see wire.go; what it does not know is decoded by go-tpm.
func parse[T tpm2.Marshallable, P unmarshallable[T]](raw []byte, quick func([]byte) (*T, bool)) (v *T, err error) {
	defer func() {
		if recover() != nil {
			v, err = nil, denial.New(denial.QuoteMalformed, "a TPM structure cannot be read")
		}
	}()
	if len(raw) > maxStructure {
		return nil, denial.New(denial.StructureLimit, "a TPM structure has more than %d bytes", maxStructure)
	}
	if v, ok := quick(raw); ok {
		return v, nil
	}
	v, err = tpm2.Unmarshal[T, P](raw)
	if err != nil {
		return nil, denial.New(denial.QuoteMalformed, "a TPM structure is cut short or has an unknown form")
	}
	if !bytes.Equal(tpm2.Marshal(*v), raw) {
		return nil, denial.New(denial.QuoteMalformed, "a TPM structure is followed by bytes or encoded in another way")
	}
	return v, nil
}

// parsePublic decodes a TPM2B_PUBLIC and returns its TPMT_PUBLIC, decoded and as bytes.
func parsePublic(raw []byte) (*tpm2.TPMTPublic, []byte, error) {
	if len(raw) < 2 || int(binary.BigEndian.Uint16(raw)) != len(raw)-2 {
		return nil, nil, denial.New(denial.QuoteMalformed, "a TPM2B_PUBLIC does not have the length it claims")
	}
	pub, err := parse(raw[2:], readPublic)
	return pub, raw[2:], err
}

// parseAttest decodes a TPMS_ATTEST of one type. It checks, in this order: it is long enough for what follows (317), magic (314), type
// (315), size (313), one strict encoding (317). The type comes before the size so that no type is ever read as another.
func parseAttest(raw []byte, want tpm2.TPMST) (*tpm2.TPMSAttest, error) {
	if len(raw) < 6 {
		return nil, denial.New(denial.QuoteMalformed, "an attestation is cut short")
	}
	if tpm2.TPMGenerated(binary.BigEndian.Uint32(raw)) != tpm2.TPMGeneratedValue {
		return nil, denial.New(denial.QuoteMagic, "an attestation was not made by a TPM")
	}
	if tpm2.TPMST(binary.BigEndian.Uint16(raw[4:])) != want {
		return nil, denial.New(denial.QuoteType, "an attestation is not of the type that is wanted here")
	}
	return parse(raw, readAttest)
}

// guarded calls f. A panic in it is the denial Internal, and a value never comes with an error.
func guarded[T any](f func() (*T, error)) (v *T, err error) {
	defer func() {
		if recover() != nil {
			v, err = nil, denial.New(denial.Internal, "a check stopped unexpectedly")
		}
	}()
	if v, err = f(); err != nil {
		return nil, err
	}
	return v, nil
}
