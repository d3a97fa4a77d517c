package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
)

// holds answers with the legal holds.
func (s *Server) holds(w http.ResponseWriter, r *http.Request) {
	all, err := s.issuer.Holds(r.Context())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.answerJSON(w, r, http.StatusOK, all)
}

// placeHold places the legal hold in the body.
func (s *Server) placeHold(w http.ResponseWriter, r *http.Request) {
	raw, err := body(w, r, "application/json", maxBody)
	if err != nil {
		s.refuseOwner(w, r, err)
		return
	}
	var h issuer.Hold
	if err := strictJSON(raw, &h); err != nil {
		s.refuseOwner(w, r, misform{denial.New(denial.RequestLimit, "the body is not a hold"), http.StatusBadRequest})
		return
	}
	if err := s.issuer.PlaceHold(r.Context(), h); err != nil {
		s.refuseOwner(w, r, err)
		return
	}
	s.answerJSON(w, r, http.StatusCreated, h)
}

// liftHold lifts the legal hold that the query names.
func (s *Server) liftHold(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name")
	if err := s.issuer.LiftHold(r.Context(), name); err != nil {
		s.refuseOwner(w, r, err)
		return
	}
	s.answerJSON(w, r, http.StatusOK, issuer.Hold{Name: name})
}

func (s *Server) answerJSON(w http.ResponseWriter, r *http.Request, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, status, "application/json", data)
}

// strictJSON decodes one value without unknown fields, with nothing behind it.
func strictJSON(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("reading JSON: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("reading JSON: more than one value")
	}
	return nil
}
