package audit

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"

	"github.com/governed-execution/writ/artifact"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// entry is a decoded entry of the log, unverified.
type entry struct {
	index  uint64
	leaf   []byte
	digest statement.Digest
	env    *statement.Envelope
	kind   statement.Kind
	record *record.Record   // of kind Record
	claims *artifact.Claims // of kind Artifact
	logged uint64           // logged time, where a receipt has been verified
}

// readEntry decodes an entry and, if it is a record or an artifact, its payload.
func readEntry(index uint64, leaf []byte) (*entry, error) {
	env, err := statement.Decode(leaf, statement.MaxStatement)
	if err != nil {
		return nil, err
	}
	e := &entry{index: index, leaf: leaf, digest: env.Digest(), env: env, kind: env.Kind()}
	switch e.kind {
	case statement.Record:
		e.record = &record.Record{}
		err = statement.Unmarshal(env.Payload(), e.record)
	case statement.Artifact:
		var c artifact.Claims
		c, err = artifact.DecodeClaims(env.Payload())
		e.claims = &c
	}
	return e, err
}

// isContext reports whether later statements are verified with this one.
func (e *entry) isContext() bool {
	switch e.kind {
	case statement.Genesis, statement.Policy, statement.Enrolment, statement.Revocation:
		return true
	case statement.Record:
		return e.record.Event == record.EventEnrol || e.record.Event == record.EventKey
	}
	return false
}

// selection is what a bundle will hold.
type selection struct {
	query     Query
	log       Log
	indices   []uint64
	policies  map[firmwarepolicy.Hash][]byte        // documents of the acts so far
	enrolment map[statement.Digest]*record.Enrolled // by digest of the enrolment record
	ctis      map[string]bool                       // of the execution's artifacts
}

// choose reads the log up to the end of the query and chooses the entries of the bundle.
func choose(ctx context.Context, log Log, q Query) (*selection, error) {
	s := &selection{query: q, log: log, policies: map[firmwarepolicy.Hash][]byte{}, enrolment: map[statement.Digest]*record.Enrolled{},
		ctis: map[string]bool{}}
	err := log.Leaves(ctx, 0, q.To, func(index uint64, leaf []byte) error {
		e, err := readEntry(index, leaf)
		if err != nil {
			return fmt.Errorf("reading entry %d: %w", index, err)
		}
		if err := s.remember(e); err != nil {
			return fmt.Errorf("reading entry %d: %w", index, err)
		}
		wanted := e.isContext() || q.Execution == nil && index >= q.From
		if !wanted && q.Execution != nil {
			if wanted, err = s.concerns(ctx, e); err != nil {
				return err
			}
		}
		if wanted {
			s.indices = append(s.indices, index)
		}
		return nil
	})
	return s, err
}

// remember keeps what capsules of later entries will hold.
func (s *selection) remember(e *entry) error {
	switch {
	case e.kind == statement.Policy:
		var p record.Policy
		if err := statement.Unmarshal(e.env.Payload(), &p); err != nil {
			return err
		}
		doc, err := firmwarepolicy.Decode(p.Document)
		if err != nil {
			return err
		}
		s.policies[doc.Hash()] = p.Document
	case e.record != nil && e.record.Enrolled != nil:
		s.enrolment[e.digest] = e.record.Enrolled
	}
	return nil
}

// concerns reports whether an entry is about the execution: its artifact, a start, an end, or a denial about one of
// those or about a request for one.
func (s *selection) concerns(ctx context.Context, e *entry) (bool, error) {
	id := s.query.Execution
	switch {
	case e.claims != nil && bytes.Equal(e.claims.Execution.ID, id):
		s.ctis[hex.EncodeToString(e.claims.ID)] = true
		return true, nil
	case e.record == nil:
		return false, nil
	case e.record.Execution != nil && bytes.Equal(e.record.Execution.ID, id), e.record.CTI != nil && s.ctis[hex.EncodeToString(e.record.CTI)]:
		return true, nil
	case len(e.record.Request) == 32:
		return s.requests(ctx, e.record)
	}
	return false, nil
}

// requests reports whether the request that a denial answers was for the execution.
func (s *selection) requests(ctx context.Context, r *record.Record) (bool, error) {
	raw, ok, err := s.log.Blob(ctx, statement.Digest(r.Request))
	if err != nil || !ok {
		return false, err
	}
	env, err := statement.Decode(raw, statement.MaxStatement)
	if err != nil {
		return false, nil
	}
	var c artifact.RequestClaims
	return statement.Unmarshal(env.Payload(), &c) == nil && bytes.Equal(c.Execution.ID, s.query.Execution), nil
}
