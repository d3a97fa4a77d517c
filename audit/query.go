package audit

import (
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
)

// Query says what a bundle is about: the entries [From, To) of the log, where To 0 is its end, or one execution with its
// lineage, or one host.
type Query struct {
	From      uint64
	To        uint64
	Execution []byte // execution id, 16 bytes; nil unless asked for
	Host      string // URI; empty unless asked for

	Disclose []string // fields of personal data whose commitments are opened; none unless asked for
}

// chosen reports whether the query picks entries out of its range.
func (q *Query) chosen() bool { return q.Execution != nil || q.Host != "" }

// maxHost is how many bytes the URI of a host has at most.
const maxHost = 512

// ParseQuery reads from, to (decimal), execution (lower-case hexadecimal), host (URI) and disclose (fields in order, with commas).
// An unknown or repeated key, another spelling of a value, a range that is empty, and two of execution, host and range are 908.
func ParseQuery(v url.Values) (Query, error) {
	var q Query
	for key, values := range v {
		if len(values) != 1 || !q.set(key, values[0]) {
			return Query{}, denial.New(denial.RequestLimit, "a query has from and to (numbers), or execution (32 lower-case hexadecimal digits), or host (a URI), and disclose (fields), each once")
		}
	}
	if q.chosen() && (v.Has("from") || v.Has("to") || q.Execution != nil && q.Host != "") {
		return Query{}, denial.New(denial.RequestLimit, "an execution, a host and a range exclude each other")
	}
	if v.Has("to") && q.From >= q.To {
		return Query{}, denial.New(denial.RequestLimit, "the range is empty")
	}
	return q, nil
}

func (q *Query) set(key, value string) bool {
	switch key {
	case "from":
		return decimal(value, &q.From)
	case "to":
		return decimal(value, &q.To)
	case "execution":
		id, err := hex.DecodeString(value)
		q.Execution = id
		return err == nil && len(id) == 16 && hex.EncodeToString(id) == value
	case "host":
		q.Host = value
		return value != "" && len(value) <= maxHost
	case "disclose":
		q.Disclose = strings.Split(value, ",")
		return areFields(q.Disclose)
	}
	return false
}

// areFields reports whether a list names fields, ascending, each once.
func areFields(list []string) bool {
	for i, field := range list {
		if !record.IsField(field) || i > 0 && field <= list[i-1] {
			return false
		}
	}
	return len(list) <= record.MaxPersonal
}

func decimal(s string, into *uint64) bool {
	n, err := strconv.ParseUint(s, 10, 64)
	*into = n
	return err == nil && strconv.FormatUint(n, 10) == s
}
