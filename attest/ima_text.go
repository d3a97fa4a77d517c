package attest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strconv"
)

// maxIMALine bounds one line of a list in text form: a path of 4 KiB and a signature or a buffer of 64 KiB.
const maxIMALine = 256 << 10

// binaryIMA turns a list in the form of ascii_runtime_measurements into that of binary_runtime_measurements, and returns the
// size of its template hashes. Text is ambiguous where a path has spaces or line breaks: of two readings of a line the one
// counts that has the template hash of the line. It refuses lines that are no entries (605).
func binaryIMA(text []byte) (list []byte, size int, err error) {
	for n := 1; len(text) > 0; n++ {
		line, rest, ended := bytes.Cut(text, []byte{'\n'})
		text = rest
		e, ok := imaLine(line)
		if !ok || !ended || size != 0 && len(e.digest) != size {
			return nil, 0, malformed("line %d of the IMA list is no entry", n)
		}
		size = len(e.digest)
		list = e.append(list)
	}
	return list, size, nil
}

// append writes the entry in binary form.
func (e *imaEntry) append(list []byte) []byte {
	list = append(binary.LittleEndian.AppendUint32(list, e.pcr), e.digest...)
	list = append(binary.LittleEndian.AppendUint32(list, uint32(len(e.template))), e.template...)
	if e.template != "ima" {
		list = binary.LittleEndian.AppendUint32(list, uint32(len(e.data)))
	}
	return append(list, e.data...)
}

// imaLine reads "PCR HASH TEMPLATE FIELDS".
func imaLine(line []byte) (*imaEntry, bool) {
	part := bytes.SplitN(line, []byte{' '}, 4)
	if len(line) > maxIMALine || len(part) != 4 || !templateName(part[2]) {
		return nil, false
	}
	pcr, err := strconv.ParseUint(string(bytes.TrimLeft(part[0], " ")), 10, 8)
	digest, bad := hex.DecodeString(string(part[1]))
	if err != nil || bad != nil || pcr >= pcrCount || len(digest) != 20 && len(digest) != 32 && len(digest) != 48 && len(digest) != 64 {
		return nil, false
	}
	e := &imaEntry{pcr: uint32(pcr), digest: digest, template: templateString(part[2])}
	readings := imaReadings(e.template, part[3])
	for i, data := range readings {
		read := &imaEntry{pcr: e.pcr, digest: digest, template: e.template}
		if !read.take(data) {
			continue
		}
		if templateHash(len(digest)).of(read) || i == len(readings)-1 {
			return read, true
		}
		e = read
	}
	return e, e.known
}

// take makes data the data of the entry, if it has the fields of the template.
func (e *imaEntry) take(data []byte) bool {
	e.data = data
	if e.template != "ima" {
		return e.read() && e.known
	}
	r := &imaReader{r: logReader{rest: data}}
	return r.legacy(e) == nil && len(r.r.rest) == 0
}

// imaReadings returns the template data that the fields of a line may stand for, the likeliest first.
func imaReadings(template string, fields []byte) (readings [][]byte) {
	head, rest, ok := bytes.Cut(fields, []byte{' '})
	sum := head
	if i := bytes.LastIndexByte(head, ':'); i >= 0 {
		sum = head[i+1:]
	}
	digest, err := hex.DecodeString(string(sum))
	if !ok || err != nil {
		return nil
	}
	if template == "ima" {
		return [][]byte{append(binary.LittleEndian.AppendUint32(digest, uint32(len(rest))), rest...)}
	}
	d := append(append(bytes.Clone(head[:len(head)-len(sum)]), 0), digest...)
	build := func(name []byte, more ...[]byte) {
		var data []byte
		for _, f := range append([][]byte{d, append(bytes.Clone(name), 0)}, more...) {
			data = append(binary.LittleEndian.AppendUint32(data, uint32(len(f))), f...)
		}
		readings = append(readings, data)
	}
	switch template {
	case "ima-ng", "ima-ngv2":
		build(rest)
	case "ima-sig", "ima-sigv2", "ima-buf":
		if i := bytes.LastIndexByte(rest, ' '); i >= 0 {
			if last, err := hex.DecodeString(string(rest[i+1:])); err == nil {
				build(rest[:i], last)
			}
		}
		build(rest, nil)
	}
	return readings // ima-modsig is not read from text
}
