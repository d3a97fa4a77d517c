package audit

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/governed-execution/writ/artifact"
)

// blockSize is the unit of a tar file: a header has one block, a content as many as it needs, and two of zeros end the file.
const blockSize = 512

var endOfTar [2 * blockSize]byte

// Where the fields of a ustar header begin (POSIX.1-2024, pax, ustar interchange format).
const (
	atMode    = 100
	atOwner   = 108
	atGroup   = 116
	atSize    = 124
	atTime    = 136
	atSum     = 148
	atType    = 156
	atMagic   = 257
	atDevices = 329
	maxName   = 100
)

// header returns the only header that a member of this name and size has: a plain file with mode 0644, owner 0 and time 0.
func header(path string, size int64) (b [blockSize]byte) {
	copy(b[:maxName], path)
	copy(b[atMode:], "0000644\x00")
	copy(b[atOwner:], "0000000\x00")
	copy(b[atGroup:], "0000000\x00")
	copy(b[atSize:], fmt.Sprintf("%011o\x00", size))
	copy(b[atTime:], "00000000000\x00")
	copy(b[atSum:], "        ")
	b[atType] = '0'
	copy(b[atMagic:], "ustar\x0000")
	copy(b[atDevices:], "0000000\x000000000\x00")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[atSum:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// parseHeader returns the name and the size in a header. It is not ok if the header is not the only one that they have.
func parseHeader(b *[blockSize]byte) (path string, size int64, ok bool) {
	name, _, _ := bytes.Cut(b[:maxName], []byte{0})
	size, err := strconv.ParseInt(string(b[atSize:atSize+11]), 8, 64)
	if err != nil || size < 0 {
		return "", 0, false
	}
	path = string(name)
	return path, size, header(path, size) == *b
}

// padding is how many zeros follow a content.
func padding(size int64) int64 { return -size & (blockSize - 1) }

// shapes are the names that members may have, each with the greatest size in bytes.
var shapes = []shape{
	{"manifest.cbor", "", 0, 1 << 30},
	{"manifest.cose", "", 0, maxTransparent},
	{"keys/scitt-keys.cbor", "", 0, 1 << 20},
	{"keys/history.cbor", "", 0, artifact.MaxKeyHistory},
	{"checkpoint", "", 0, maxCheckpoint},
	{"tlog-policy", "", 0, maxCheckpoint},
	{"status/", ".cwt", 16, maxStatus},
	{"statements/", ".scitt", 16, maxTransparent},
	{"receipts/", ".receipt", 16, maxReceipt},
	{"receipts/consistency-", ".receipt", 16, maxReceipt},
	{"proofs/", ".tlog-proof", 16, maxCheckpoint + maxReceipt},
	{"capsules/", ".cmw", 64, maxCapsule},
	{"openings/", ".cbor", 64, 4 << 10},
	{"policy/", ".cbor", 64, 64 << 10},
}

// shape is a name, or the names that have 16 decimal or 64 hexadecimal digits between two texts.
type shape struct {
	before, after string
	digits        int
	size          int64
}

func (s *shape) matches(name string) bool {
	rest, ok := strings.CutPrefix(name, s.before)
	if !ok || len(rest) != s.digits+len(s.after) || rest[s.digits:] != s.after {
		return false
	}
	allowed := "0123456789"
	if s.digits == 64 {
		allowed += "abcdef"
	}
	return strings.Trim(rest[:s.digits], allowed) == ""
}

// limitOf returns how large the member of a name may be; negative if no member has this name.
func limitOf(name string) int64 {
	for i := range shapes {
		if shapes[i].matches(name) {
			return shapes[i].size
		}
	}
	return -1
}
