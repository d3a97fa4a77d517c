package audit

import (
	"encoding/hex"
	"net/url"
	"strconv"

	"github.com/governed-execution/writ/denial"
)

// Query says what a bundle is about: the entries [From, To) of the log, where To 0 is its end, or one execution.
type Query struct {
	From      uint64
	To        uint64
	Execution []byte // execution id, 16 bytes; nil for a range
}

// ParseQuery reads from, to (decimal) and execution (lower-case hexadecimal). An unknown or repeated key, another
// spelling of a value, a range that is empty, and an execution beside a range are 908.
func ParseQuery(v url.Values) (Query, error) {
	var q Query
	for key, values := range v {
		if len(values) != 1 || !q.set(key, values[0]) {
			return Query{}, denial.New(denial.RequestLimit, "a query has from and to, or execution, each once")
		}
	}
	if q.Execution != nil && len(v) != 1 {
		return Query{}, denial.New(denial.RequestLimit, "an execution and a range exclude each other")
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
	}
	return false
}

func decimal(s string, into *uint64) bool {
	n, err := strconv.ParseUint(s, 10, 64)
	*into = n
	return err == nil && strconv.FormatUint(n, 10) == s
}
