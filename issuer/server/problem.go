package server

import (
	"errors"
	"net/http"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/issuer/wire"
)

// misform is a refusal of how a request is made, before anything of the caller is looked at. HTTP has a status for it, which tells
// nobody more than was sent.
type misform struct {
	*denial.Denial
	status int
}

// Unwrap returns the denial.
func (m misform) Unwrap() error { return m.Denial }

// statusOf returns the HTTP status of a misform, and 0 for any other error.
func statusOf(err error) int {
	var m misform
	if errors.As(err, &m) {
		return m.status
	}
	return 0
}

// writeProblem writes problem details (RFC 9457): all of a refusal for a known caller, the condition for a stranger. A status of 0 is
// that of the denial.
func writeProblem(w http.ResponseWriter, ref *issuer.Refusal, status int) {
	p := denial.Stranger(ref.Denial)
	if ref.Known {
		p = denial.Known(ref.Denial)
		p.Logged, p.LogIndex, p.Statement, p.RequestID = ref.Logged, ref.Index, ref.Statement, ref.RequestID
	}
	if status != 0 {
		p.Status = status
	}
	data, status := p.Encode()
	if ref.Denial.Reason == denial.Overloaded {
		w.Header().Set("Retry-After", "1")
	}
	answer(w, status, wire.MediaProblem, data)
}
