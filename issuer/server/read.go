package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/issuer/wire"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseUint(r.PathValue("list"), 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != r.PathValue("list") {
		s.unknown(w, r)
		return
	}
	token, err := s.issuer.Status(r.Context(), n)
	var ref *issuer.Refusal
	if errors.As(err, &ref) && denial.Is(err, denial.NotPermitted) { // counted already
		s.refuseWith(w, r, ref, http.StatusNotFound)
		return
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, wire.MediaStatus, token)
}

func (s *Server) genesis(w http.ResponseWriter, r *http.Request) {
	_, b, err := issuer.ReadGenesis(r.Context(), s.issuer.Log())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	data, err := b.Encode()
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, wire.MediaAct, data)
}

// keys answers with the issuer's key history, from which relying parties learn what its keys are now.
func (s *Server) keys(w http.ResponseWriter, r *http.Request) {
	data, err := s.issuer.KeyHistory(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, wire.MediaKeys, data)
}

// prepareKey makes a key on the token, or takes the one that the query names or whose birth in a ceremony is the body, and has the
// key in use name it.
func (s *Server) prepareKey(w http.ResponseWriter, r *http.Request) {
	if s.maker == nil {
		s.refuseOwner(w, r, denial.New(denial.NotPermitted, "no keys are made here").Try("Run the command where the issuer with its token is."))
		return
	}
	key, err := issuer.ParseThumbprint(r.URL.Query().Get("key"))
	if err != nil {
		s.refuseOwner(w, r, err)
		return
	}
	born, err := birthOf(w, r)
	if err != nil {
		s.refuseOwner(w, r, err)
		return
	}
	p, err := s.issuer.Prepare(r.Context(), s.maker, r.PathValue("purpose"), key, born)
	if err != nil {
		s.refuseOwner(w, r, err)
		return
	}
	s.log.Info("key prepared", "purpose", p.Birth.Purpose, "key", p.Birth.Key.Thumbprint().String())
	s.answerCBOR(w, r, wire.MediaKeys, p)
}

// maxBirth bounds the birth of a key with the quote of its host, in bytes.
const maxBirth = 16 << 10

// birthOf reads the birth of a key that was made in a ceremony; nil if the request has no body.
func birthOf(w http.ResponseWriter, r *http.Request) (*record.Birth, error) {
	if r.ContentLength == 0 {
		_, err := body(w, r, "", 0)
		return nil, err
	}
	data, err := body(w, r, wire.MediaBirth, maxBirth)
	if err != nil {
		return nil, err
	}
	born := &record.Birth{}
	return born, statement.Unmarshal(data, born)
}

func (s *Server) hosts(w http.ResponseWriter, r *http.Request) {
	host, err := s.issuer.Host(r.Context(), r.URL.Query().Get("id"))
	if err != nil {
		s.refuseOwner(w, r, err)
		return
	}
	data, err := json.Marshal(host)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, "application/json", data)
}

// health answers 200 only if the token signs and the log takes entries.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	err := s.issuer.Log().Healthy()
	if err == nil && s.ready != nil {
		err = s.ready()
	}
	if err != nil {
		answer(w, http.StatusServiceUnavailable, "text/plain; charset=utf-8", []byte("unhealthy: "+denial.Of(err).Error()+"\n"))
		return
	}
	text := "ok\n"
	if b, err := s.issuer.BreakGlass(r.Context()); err == nil && b.Overdue > 0 {
		text += fmt.Sprintf("warning: %d break-glass authorization(s) should have been reviewed by now\n", b.Overdue)
	}
	answer(w, http.StatusOK, "text/plain; charset=utf-8", []byte(text))
}
