package server

import (
	"net/http"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/issuer/wire"
)

// writeProblem writes problem details (RFC 9457): all of a refusal for a known caller, the condition for a stranger.
func writeProblem(w http.ResponseWriter, ref *issuer.Refusal) {
	p := denial.Stranger(ref.Denial)
	if ref.Known {
		p = denial.Known(ref.Denial)
		p.Logged, p.LogIndex, p.Statement, p.RequestID = ref.Logged, ref.Index, ref.Statement, ref.RequestID
	}
	data, status := p.Encode()
	if ref.Denial.Reason == denial.Overloaded {
		w.Header().Set("Retry-After", "1")
	}
	answer(w, status, wire.MediaProblem, data)
}
