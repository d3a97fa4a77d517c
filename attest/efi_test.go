package attest

import (
	"encoding/binary"
	"reflect"
	"slices"
	"testing"

	"github.com/governed-execution/writ/denial"
)

// signatures is an EFI_SIGNATURE_LIST with fields as given.
func signatures(kind efiGUID, size, header, entry uint32, body int) []byte {
	list := slices.Clone(kind[:])
	for _, v := range []uint32{size, header, entry} {
		list = binary.LittleEndian.AppendUint32(list, v)
	}
	return append(list, make([]byte, body)...)
}

func TestSignatureLists(t *testing.T) {
	one := signatures(signatureSHA256, 28+48, 0, 48, 48)
	for name, c := range map[string]struct {
		data []byte
		want []signatureCount
	}{
		"none":                 {nil, nil},
		"one":                  {one, []signatureCount{{signatureSHA256, 1}}},
		"three in one":         {signatures(signatureSHA256, 28+144, 0, 48, 144), []signatureCount{{signatureSHA256, 3}}},
		"two lists":            {append(slices.Clone(one), one...), []signatureCount{{signatureSHA256, 1}, {signatureSHA256, 1}}},
		"header of 5":          {signatures(signatureX509, 28+5+40, 5, 40, 45), []signatureCount{{signatureX509, 1}}},
		"an owner and no more": {signatures(signatureX509, 28+16, 0, 16, 16), []signatureCount{{signatureX509, 1}}},
	} {
		if got, err := parseSignatureLists(c.data); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, c.want)
		}
	}
	for name, data := range map[string][]byte{
		"cut in the fields":   one[:27],
		"cut in the entry":    one[:len(one)-1],
		"followed by a byte":  append(slices.Clone(one), 0),
		"shorter than itself": signatures(signatureSHA256, 27, 0, 48, 48),
		"header and no room":  signatures(signatureSHA256, 28+48, 49, 48, 48),
		"header that wraps":   signatures(signatureSHA256, 28+48, 48+16, 16, 48),
		"entry of 0":          signatures(signatureSHA256, 28+48, 0, 0, 48),
		"entry of 15":         signatures(signatureSHA256, 28+45, 0, 15, 45),
		"entry and a half":    signatures(signatureSHA256, 28+72, 0, 48, 72),
		"no entry":            signatures(signatureSHA256, 28, 0, 48, 0),
		"header and no entry": signatures(signatureSHA256, 28+8, 8, 48, 8),
	} {
		t.Run(name, func(t *testing.T) {
			counts, err := parseSignatureLists(data)
			expect(t, err, denial.LogMalformed)
			if counts != nil {
				t.Errorf("counts %v came with a refusal", counts)
			}
		})
	}
}

func TestUTF16Text(t *testing.T) {
	for name, c := range map[string]struct {
		raw  string
		want string
		ok   bool
	}{
		"empty":                {"", "", true},
		"text":                 {"d\x00b\x00", "db", true},
		"beyond 16 bits":       {"\x3d\xd8\x00\xde", "\U0001F600", true},
		"NUL":                  {"d\x00\x00\x00", "", false},
		"odd":                  {"d\x00b", "", false},
		"low surrogate":        {"\x00\xdeb\x00", "", false},
		"high surrogate alone": {"\x3d\xd8b\x00", "", false},
		"high surrogate last":  {"b\x00\x3d\xd8", "", false},
	} {
		if got, ok := utf16Text([]byte(c.raw)); got != c.want || ok != c.ok {
			t.Errorf("%s: got %q, %v, want %q, %v", name, got, ok, c.want, c.ok)
		}
	}
}
