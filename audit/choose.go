package audit

import (
	"context"
	"fmt"
	"maps"
	"slices"

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

	raw   []byte              // of a bundle: the statement with its receipt,
	outer *statement.Envelope // and decoded
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
	return record.IsAct(e.kind) || e.kind == statement.Record && (e.record.Event == record.EventEnrol || e.record.Event == record.EventKey || e.record.Hold)
}

// selection is what a bundle will hold.
type selection struct {
	query     Query
	log       Log
	index     Index
	picked    map[uint64]bool
	indices   []uint64                              // ascending
	policies  map[firmwarepolicy.Hash][]byte        // documents of the acts
	enrolment map[statement.Digest]*record.Enrolled // by digest of the enrolment record
	walked    map[walk]bool
}

// walk is a step along the lineage of an artifact: up to what it descends from, or down to what descends from it.
type walk struct {
	cti  string
	down bool
}

// choose picks the entries of the bundle: context, and the range or what the index has about an execution or a host.
func choose(ctx context.Context, log Log, index Index, q Query) (*selection, error) {
	s := &selection{query: q, log: log, index: index, picked: map[uint64]bool{}, policies: map[firmwarepolicy.Hash][]byte{},
		enrolment: map[statement.Digest]*record.Enrolled{}, walked: map[walk]bool{}}
	if err := s.take(ctx, index.Context); err != nil {
		return nil, err
	}
	known := slices.Sorted(maps.Keys(s.picked))
	switch {
	case q.Execution != nil:
		if err := s.execution(ctx); err != nil {
			return nil, err
		}
	case q.Host != "":
		if err := s.take(ctx, func(ctx context.Context) ([]uint64, error) { return index.OfHost(ctx, q.Host) }); err != nil {
			return nil, err
		}
	default:
		maps.DeleteFunc(s.picked, func(i uint64, _ bool) bool { return i >= q.From })
	}
	s.indices = slices.Sorted(maps.Keys(s.picked))
	for i := q.From; !q.chosen() && i < q.To; i++ {
		s.indices = append(s.indices, i)
	}
	return s, s.context(ctx, known)
}

// take picks what an index returns, as far as the head of the bundle covers it.
func (s *selection) take(ctx context.Context, list func(context.Context) ([]uint64, error)) error {
	found, err := list(ctx)
	if err != nil {
		return fmt.Errorf("asking the index: %w", err)
	}
	for _, i := range found {
		if i < s.query.To {
			s.picked[i] = true
		}
	}
	return nil
}

// context reads the policies and enrolments that capsules will hold.
func (s *selection) context(ctx context.Context, known []uint64) error {
	for _, i := range known {
		err := s.log.Leaves(ctx, i, i+1, func(index uint64, leaf []byte) error {
			e, err := readEntry(index, leaf)
			if err == nil {
				err = s.remember(e)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("reading entry %d: %w", i, err)
		}
	}
	return nil
}

// execution picks all about one execution: its artifacts with their lineage, and refusals of requests for it.
func (s *selection) execution(ctx context.Context) error {
	found, err := s.index.OfExecution(ctx, s.query.Execution)
	if err != nil {
		return fmt.Errorf("asking the index: %w", err)
	}
	for _, i := range found {
		if i >= s.query.To {
			continue
		}
		s.picked[i] = true
		c, err := s.claimsAt(ctx, i)
		if err != nil {
			return err
		}
		if c == nil { // perhaps a break-glass authorization, which has the id of its execution
			if err := s.follow(ctx, walk{string(s.query.Execution), false}); err != nil {
				return err
			}
			continue
		}
		for _, down := range []bool{false, true} {
			if err := s.follow(ctx, walk{string(c.ID), down}); err != nil {
				return err
			}
		}
	}
	return nil
}

// follow picks an artifact and its records, and then what it descends from, or what descends from it.
func (s *selection) follow(ctx context.Context, first walk) error {
	for queue := []walk{first}; len(queue) > 0; {
		w := queue[0]
		queue = queue[1:]
		if s.walked[w] {
			continue
		}
		s.walked[w] = true
		found, err := s.index.OfArtifact(ctx, []byte(w.cti))
		if err != nil {
			return fmt.Errorf("asking the index: %w", err)
		}
		for _, i := range found {
			c, err := s.claimsAt(ctx, i)
			if err != nil {
				return err
			}
			child := c != nil && string(c.ID) != w.cti
			if i >= s.query.To || child && !w.down {
				continue
			}
			s.picked[i] = true
			if child {
				queue = append(queue, walk{string(c.ID), true})
			}
			for k := 0; c != nil && !child && !w.down && k < len(c.Lineage.Parents); k++ {
				queue = append(queue, walk{string(c.Lineage.Parents[k].ID), false})
			}
		}
	}
	return nil
}

// claimsAt returns the claims of the artifact at an index; nil if the entry is none.
func (s *selection) claimsAt(ctx context.Context, index uint64) (c *artifact.Claims, err error) {
	err = s.log.Leaves(ctx, index, index+1, func(index uint64, leaf []byte) error {
		e, err := readEntry(index, leaf)
		if err == nil {
			c = e.claims
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading entry %d: %w", index, err)
	}
	return c, nil
}

// remember keeps what capsules of later entries will hold.
func (s *selection) remember(e *entry) error {
	switch {
	case e.kind == statement.Policy:
		p, doc, err := policyOf(e.env.Payload())
		if err != nil {
			return err
		}
		s.policies[doc.Hash()] = p.Document
	case e.record != nil && e.record.Enrolled != nil:
		s.enrolment[e.digest] = e.record.Enrolled
	}
	return nil
}
