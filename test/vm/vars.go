package vm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unicode/utf16"

	"github.com/governed-execution/writ/firmware-policy/predict"
)

// SecureBoot is the content of the Secure Boot variables, each a series of EFI signature lists. The zero SecureBoot means:
// no keys, Secure Boot off.
type SecureBoot struct {
	PK, KEK, DB, DBX []byte
	Off              bool // keys are there, but Secure Boot is switched off
}

// secureBootEnable is the vendor GUID of the variable by which EDK II switches Secure Boot on (gEfiSecureBootEnableDisableGuid).
var secureBootEnable = predict.MustGUID("f0a30bc7-af08-4556-99c4-001009c93a44")

// Attributes of variables (UEFI 2.10, section 8.2.1).
const (
	nonVolatile       = 1
	bootService       = 2
	runtimeAccess     = 4
	timeAuthenticated = 0x20
)

// WriteVariables writes a copy of an empty OVMF variable store with the Secure Boot variables in it.
func WriteVariables(empty, path string, sb SecureBoot) error {
	store, err := os.ReadFile(empty)
	if err != nil {
		return fmt.Errorf("reading variable store: %w", err)
	}
	authenticated := uint32(nonVolatile | bootService | runtimeAccess | timeAuthenticated)
	records := [][]byte{}
	for _, v := range []struct {
		name string
		guid predict.GUID
		data []byte
	}{{"PK", predict.GlobalVariable, sb.PK}, {"KEK", predict.GlobalVariable, sb.KEK},
		{"db", predict.ImageSecurity, sb.DB}, {"dbx", predict.ImageSecurity, sb.DBX}} {
		if len(v.data) > 0 {
			records = append(records, variable(v.name, v.guid, authenticated, v.data))
		}
	}
	on := byte(1)
	if sb.Off || len(sb.PK) == 0 {
		on = 0
	}
	records = append(records, variable("SecureBootEnable", secureBootEnable, nonVolatile|bootService, []byte{on}))
	at, err := freeSpace(store)
	if err != nil {
		return err
	}
	for _, r := range records {
		if at+len(r) > len(store) || !erased(store[at:at+len(r)]) {
			return errors.New("writing variables: the store is full")
		}
		at += copy(store[at:], r)
	}
	return os.WriteFile(path, store, 0o600)
}

// The layout of a store (EDK II, MdeModulePkg/Include/Guid/VariableFormat.h): a firmware volume header, whose length is
// at offset 48, then the store's header of 28 bytes, then records that begin with 0x55AA and are aligned to 4.
const (
	volumeLength = 48
	storeHeader  = 28
	recordHeader = 60
	recordStart  = 0x55AA
	recordAdded  = 0x3F
)

func variable(name string, guid predict.GUID, attributes uint32, data []byte) []byte {
	text := utf16.Encode([]rune(name + "\x00"))
	var b bytes.Buffer
	le := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) } // a bytes.Buffer takes everything
	le(uint16(recordStart))
	le([]byte{recordAdded, 0})
	le(attributes)
	le(uint64(0))        // monotonic count
	le(make([]byte, 16)) // time stamp
	le(uint32(0))        // public key index
	le(uint32(2 * len(text)))
	le(uint32(len(data)))
	le(guid[:])
	le(text)
	le(data)
	for b.Len()%4 != 0 {
		b.WriteByte(0xFF)
	}
	return b.Bytes()
}

// freeSpace returns the offset behind the last record.
func freeSpace(store []byte) (int, error) {
	if len(store) < 4096 || string(store[40:44]) != "_FVH" {
		return 0, errors.New("reading variable store: it is no firmware volume")
	}
	at := int(binary.LittleEndian.Uint16(store[volumeLength:])) + storeHeader
	for at+recordHeader < len(store) && binary.LittleEndian.Uint16(store[at:]) == recordStart {
		name, data := binary.LittleEndian.Uint32(store[at+36:]), binary.LittleEndian.Uint32(store[at+40:])
		at += recordHeader + int(name) + int(data)
		at = (at + 3) &^ 3
	}
	if at+recordHeader > len(store) {
		return 0, errors.New("reading variable store: it is full")
	}
	return at, nil
}

func erased(b []byte) bool {
	for _, x := range b {
		if x != 0xFF {
			return false
		}
	}
	return true
}

// WriteFiles writes the variables as files PK.esl, KEK.esl, db.esl and dbx.esl.
func (sb SecureBoot) WriteFiles(dir string) error {
	var err error
	for name, data := range map[string][]byte{"PK": sb.PK, "KEK": sb.KEK, "db": sb.DB, "dbx": sb.DBX} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name+".esl"), data, 0o600))
	}
	return err
}
