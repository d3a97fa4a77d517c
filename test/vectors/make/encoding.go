package main

import (
	"bytes"
	"slices"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/vectors"
)

// encodings break the encoding of the evidence collection.
func encodings(l *list, h *host) {
	l.layer = "encoding"
	base := h.parts()
	good := must(base.Encode())
	whole := func(what string, code denial.Reason, raw []byte) {
		l.add(what, code, func(v *vectors.Vector) {
			e := evidence(base, h.want)
			v.Evidence = &vectors.Evidence{Collection: raw, Want: e.Want}
		})
	}
	var outer map[string]statement.RawItem
	if err := statement.Unmarshal(good, &outer); err != nil {
		panic(fault(err.Error()))
	}
	var o object
	for name, value := range outer {
		o = o.with(tstr(name), value)
	}
	var record []statement.RawItem
	if err := statement.Unmarshal(outer["quote"], &record); err != nil {
		panic(fault(err.Error()))
	}
	var inner []byte
	if err := statement.Unmarshal(record[1], &inner); err != nil {
		panic(fault(err.Error()))
	}
	q := open(inner)
	media := []byte(record[0])
	member := func(name string, value []byte) []byte { return o.with(tstr(name), value).bytes() }
	quote := func(what string, code denial.Reason, m []byte) {
		whole(what, code, member("quote", array(media, bstr(m), number(4))))
	}
	whole("valid evidence in one piece", accepted, good)
	whole("C12: a byte behind the evidence", denial.TrailingData, append(slices.Clone(good), 0))
	whole("Q21: evidence cut short", denial.StructureLimit, good[:100])
	whole("Q21: evidence of one byte", denial.NotCanonical, good[:1])
	whole("C10: the evidence as a map of indefinite length", denial.NotCanonical, slices.Concat([]byte{0xbf}, good[1:], []byte{0xff}))
	whole("K22: a member that says it is a test", denial.UnsupportedVersion, member("test", []byte{0xf5}))
	whole("C32: another profile", denial.UnsupportedVersion, member("__cmwc_t", tstr("https://github.com/governed-execution/writ/profile/evidence/2")))
	whole("the profile is missing", denial.UnsupportedVersion, member("__cmwc_t", nil))
	whole("the quote is missing", denial.NoEvidence, member("quote", nil))
	whole("the boot log is missing", denial.NoEvidence, member("boot-log", nil))
	whole("the boot log is empty", denial.NoEvidence, member("boot-log", array(tstr("application/vnd.writ.tcg-crypto-agile-log"), bstr(nil), number(4))))
	whole("the quote is called a boot log", denial.WrongType, member("quote", array(tstr("application/vnd.writ.tcg-crypto-agile-log"), bstr(inner), number(4))))
	whole("the quote is called reference values", denial.WrongType, member("quote", array(media, bstr(inner), number(1))))
	quote("C32: a key of the quote that this version does not know", denial.UnsupportedVersion, q.set(9, number(1)).bytes())
	quote("C07: a key of the quote twice", denial.LabelDuplicate, twice(q))
	quote("the AK is missing", denial.ClaimAbsent, q.set(3, nil).bytes())
	quote("the AK is empty", denial.QuoteMalformed, q.set(3, bstr(nil)).bytes())
	quote("the signature is empty", denial.QuoteMalformed, q.set(1, bstr(nil)).bytes())
	quote("the cnf key is longer than 4096 bytes", denial.StructureLimit, q.set(5, bstr(make([]byte, 4097))).bytes())
	quote("Q13: a challenge of 31 bytes", denial.QuoteMalformed, q.set(7, bstr(make([]byte, 31))).bytes())
	quote("a request digest of 31 bytes", denial.QuoteMalformed, q.set(8, bstr(make([]byte, 31))).bytes())
	bank := q.value(2)[1:]
	quote("Q11: values of two banks", denial.QuoteMalformed, q.set(2, array(bank, bank)).bytes())
	quote("values of no bank", denial.QuoteMalformed, q.set(2, array()).bytes())
	quote("Q13: values of a bank that nobody knows", denial.QuoteMalformed, q.set(2, bytes.Replace(q.value(2), []byte{0x82, 0x2f}, []byte{0x82, 0x38, 0x63}, 1)).bytes())
	quote("L10: a value of PCR -1", denial.QuoteMalformed, q.set(2, array(array(number(-16), object{}.set(-1, bstr(make([]byte, 32))).bytes()))).bytes())
}

// value returns the encoded value of an integer key.
func (o object) value(key int64) []byte {
	for _, p := range o {
		if bytes.Equal(p.key, number(key)) {
			return p.value
		}
	}
	return nil
}

// twice returns the map with its first pair twice.
func twice(o object) []byte {
	return append(object(nil), append(object{o[0]}, o...)...).bytes()
}
