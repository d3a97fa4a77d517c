package server

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer/wire"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// The log is served as C2SP tlog-tiles under /log, and as SCRAPI (draft-ietf-scitt-scrapi) at the places that it names.
// Hashes and receipts are for everybody: they say nothing of an entry to who does not have it. Entries name hosts and
// initiators, so on the public listener they are served only where Options.PublicEntries says so.

// Values of Cache-Control. A tile never changes; the checkpoint does, all the time.
const (
	immutable = "public, max-age=31536000, immutable"
	fleeting  = "public, max-age=1"
)

// logRoutes adds the routes that read the log to a table.
func (s *Server) logRoutes(table map[string]http.HandlerFunc, entries bool) map[string]http.HandlerFunc {
	table["GET /log/checkpoint"] = s.checkpoint
	table["GET /log/tile/*"] = func(w http.ResponseWriter, r *http.Request) { s.tile(w, r, entries) }
	table["GET /entries/:id"] = s.resolve
	table["GET /.well-known/scitt-keys"] = s.scittKeys
	table["GET /.well-known/scitt-keys/:kid"] = s.scittKey
	return table
}

// checkpoint answers with the newest published checkpoint.
func (s *Server) checkpoint(w http.ResponseWriter, _ *http.Request) {
	var raw []byte
	if s.publisher != nil {
		raw = s.publisher.Checkpoint()
	}
	if raw == nil {
		http.Error(w, "no checkpoint is published yet", http.StatusNotFound)
		return
	}
	answerCached(w, fleeting, "text/plain; charset=utf-8", raw)
}

// tile answers with a tile of hashes or a bundle of entries.
func (s *Server) tile(w http.ResponseWriter, r *http.Request, entries bool) {
	t, ok := receipt.ParseTile("tile/" + r.PathValue("*"))
	if !ok || t.Entries && !entries {
		http.Error(w, "there is no such tile", http.StatusNotFound)
		return
	}
	data, err := s.issuer.Log().Tile(r.Context(), t)
	switch {
	case errors.Is(err, tlog.ErrNotFound):
		http.Error(w, "there is no such tile yet", http.StatusNotFound)
	case err != nil:
		s.refuse(w, r, err)
	default:
		answerCached(w, immutable, "application/octet-stream", data)
	}
}

func answerCached(w http.ResponseWriter, cache, media string, data []byte) {
	h := w.Header()
	h.Set("Content-Type", media)
	h.Set("Cache-Control", cache)
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(data) // the caller went away: nothing is left to tell
}

// problem is a Concise Problem Details object (RFC 9290), as SCRAPI demands.
type problem struct {
	Title  string `cbor:"-1,keyasint"`
	Detail string `cbor:"-2,keyasint,omitempty"`
}

func conciseProblem(w http.ResponseWriter, status int, title, detail string) {
	data, err := statement.Marshal(problem{title, detail})
	if err != nil {
		data = nil // two texts always encode
	}
	answer(w, status, wire.MediaConcise, data)
}

// register takes the record of a gate, as POST /v1/records does, and answers with its receipt. Other statements reach the
// log by their own routes, where more than the statement is needed to decide.
func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	raw, err := body(w, r, wire.MediaCOSE, statement.MaxStatement)
	if err != nil {
		s.issuer.CountStranger(denial.Of(err))
		conciseProblem(w, cmp.Or(statusOf(err), http.StatusBadRequest), "Malformed request", "The request could not be parsed")
		return
	}
	data, err := s.issuer.Take(r.Context(), raw)
	if err != nil {
		s.log.Info("registration refused", "code", denial.Of(err).Reason.Code())
		conciseProblem(w, http.StatusBadRequest, "Rejected", "Signed Statement not accepted by the current Registration Policy")
		return
	}
	env, err := statement.Decode(data, len(data))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	receipts, err := env.Receipts()
	if err != nil || len(receipts) == 0 {
		s.refuse(w, r, denial.New(denial.Internal, "the record has no receipt"))
		return
	}
	w.Header().Set("Location", "/entries/"+env.Digest().String())
	answer(w, http.StatusCreated, wire.MediaCOSE, receipts[0])
}

// resolve answers with the receipt of the entry whose digest is named, in hexadecimal.
func (s *Server) resolve(w http.ResponseWriter, r *http.Request) {
	id, err := hex.DecodeString(r.PathValue("id"))
	var digest statement.Digest
	if err != nil || len(id) != len(digest) || hex.EncodeToString(id) != r.PathValue("id") {
		conciseProblem(w, http.StatusBadRequest, "Invalid locator", "Operation locator is not in a valid form")
		return
	}
	copy(digest[:], id)
	raw, err := s.receiptOf(r, digest)
	switch {
	case errors.Is(err, tlog.ErrNotFound):
		conciseProblem(w, http.StatusNotFound, "Not Found", "No entry has this digest, or it has no receipt yet")
	case err != nil:
		conciseProblem(w, http.StatusServiceUnavailable, "Unavailable", denial.Of(err).Reason.String())
	default:
		w.Header().Set("Location", r.URL.Path)
		answer(w, http.StatusOK, wire.MediaCOSE, raw)
	}
}

func (s *Server) receiptOf(r *http.Request, digest statement.Digest) ([]byte, error) {
	index, found, err := s.issuer.Log().Find(r.Context(), digest)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, tlog.ErrNotFound
	}
	return s.issuer.Log().Receipt(r.Context(), index)
}

// scittKeys answers with the COSE Key Set of those who sign receipts, or have signed them: the log key in use first.
func (s *Server) scittKeys(w http.ResponseWriter, r *http.Request) {
	set := []statement.RawItem{}
	for _, k := range s.issuer.Log().Keys() {
		key, err := withKeyID(k)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		set = append(set, key)
	}
	s.answerCBOR(w, r, wire.MediaCBOR, set)
}

// scittKey answers with one key, by its thumbprint in base64url.
func (s *Server) scittKey(w http.ResponseWriter, r *http.Request) {
	for _, k := range s.issuer.Log().Keys() {
		thumb := k.Thumbprint()
		if r.PathValue("kid") != base64.RawURLEncoding.EncodeToString(thumb[:]) {
			continue
		}
		key, err := withKeyID(k)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		answer(w, http.StatusOK, wire.MediaCBOR, key)
		return
	}
	conciseProblem(w, http.StatusNotFound, "No such key", "No key could be found for this kid value")
}

// withKeyID returns a COSE_Key with its kid (label 2).
func withKeyID(k statement.Key) (statement.RawItem, error) {
	var parameters map[int64]statement.RawItem
	if err := statement.Unmarshal(k.COSE(), &parameters); err != nil {
		return nil, err
	}
	thumb := k.Thumbprint()
	kid, err := statement.Marshal(thumb[:])
	if err != nil {
		return nil, err
	}
	parameters[2] = kid
	return statement.Marshal(parameters)
}
