package issuer

import (
	"context"
	"crypto/sha256"
	"slices"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// The subjects of trails, by which entries are found, so that nobody has to read the log for what they are about.
const (
	trailContext   = "context"    // no name: what later entries are verified with
	trailExecution = "execution " // execution id
	trailArtifact  = "artifact "  // cti: the artifact, the records about it, and its children
	trailHost      = "host "      // URI
)

// trailOf returns the name that the entries about a subject have.
func trailOf(subject string, name []byte) tlog.Name {
	sum := sha256.Sum256(append([]byte(subject), name...))
	return tlog.Name(sum[:16])
}

// append appends entries with their names in the index.
func (i *Issuer) append(ctx context.Context, entries ...tlog.Entry) ([]tlog.Appended, error) {
	entries, err := indexed(entries)
	if err != nil {
		return nil, err
	}
	return i.log.Append(ctx, entries...)
}

// indexed returns the entries with their names in the index.
func indexed(entries []tlog.Entry) ([]tlog.Entry, error) {
	entries = slices.Clone(entries)
	for n := range entries {
		var err error
		if entries[n].Names, err = trails(&entries[n]); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// trails returns the names of an entry in the index.
func trails(e *tlog.Entry) (subjects []tlog.Name, err error) {
	env, err := statement.Decode(e.Leaf, statement.MaxStatement)
	if err != nil {
		return nil, err
	}
	switch kind := env.Kind(); kind {
	default:
		if record.IsAct(kind) {
			subjects = append(subjects, trailOf(trailContext, nil))
		}
	case statement.BreakGlass:
		var g record.BreakGlass
		if err := statement.Unmarshal(env.Payload(), &g); err != nil {
			return nil, err
		}
		subjects = append(subjects, trailOf(trailContext, nil), trailOf(trailExecution, g.ID), trailOf(trailArtifact, g.ID), trailOf(trailHost, []byte(g.Host)))
	case statement.Artifact:
		c, err := artifact.DecodeClaims(env.Payload())
		if err != nil {
			return nil, err
		}
		subjects = artifactTrails(&c)
	case statement.Record:
		var r record.Record
		if err := statement.Unmarshal(env.Payload(), &r); err != nil {
			return nil, err
		}
		subjects = recordTrails(&r, e.Blobs)
	}
	return subjects, nil
}

// artifactTrails returns the subjects of an artifact.
func artifactTrails(c *artifact.Claims) []tlog.Name {
	subjects := []tlog.Name{trailOf(trailExecution, c.Execution.ID), trailOf(trailArtifact, c.ID), trailOf(trailHost, []byte(c.Subject))}
	for _, p := range c.Lineage.Parents {
		subjects = append(subjects, trailOf(trailArtifact, p.ID))
	}
	return subjects
}

// recordTrails returns the subjects of a record. The request that it refuses stands among the blobs of its entry.
func recordTrails(r *record.Record, blobs [][]byte) (subjects []tlog.Name) {
	if r.Event == record.EventEnrol || r.Event == record.EventKey || r.Hold {
		subjects = append(subjects, trailOf(trailContext, nil))
	}
	if r.CTI != nil {
		subjects = append(subjects, trailOf(trailArtifact, r.CTI))
	}
	if r.Workload != "" {
		subjects = append(subjects, trailOf(trailHost, []byte(r.Workload)))
	}
	for _, raw := range blobs {
		if digest := statement.DigestOf(raw); string(digest[:]) != string(r.Request) {
			continue
		}
		var c artifact.RequestClaims
		if env, err := statement.Decode(raw, statement.MaxStatement); err == nil && statement.Unmarshal(env.Payload(), &c) == nil {
			subjects = append(subjects, trailOf(trailExecution, c.Execution.ID))
		}
	}
	return subjects
}

// Context returns the indices of genesis, acts, enrolment records, holds and key births: what later entries are verified with.
// A log always has them: one without rows was written before entries were indexed (906).
func (i *Issuer) Context(ctx context.Context) ([]uint64, error) {
	all, err := i.trail(ctx, trailContext, nil)
	if err == nil && (len(all) == 0 || all[0] != 0) {
		err = denial.New(denial.StoreFault, "the entries of this log are not indexed")
	}
	return all, err
}

// OfExecution returns the indices of the artifacts with an execution id, and of the refusals of requests for one.
func (i *Issuer) OfExecution(ctx context.Context, id []byte) ([]uint64, error) {
	return i.trail(ctx, trailExecution, id)
}

// OfArtifact returns the indices of an artifact, the records about it, and the artifacts that descend from it directly.
func (i *Issuer) OfArtifact(ctx context.Context, cti []byte) ([]uint64, error) {
	return i.trail(ctx, trailArtifact, cti)
}

// OfHost returns the indices of the artifacts for a host and the records about it.
func (i *Issuer) OfHost(ctx context.Context, uri string) ([]uint64, error) {
	return i.trail(ctx, trailHost, []byte(uri))
}

// trail returns the indices of the entries about a subject, ascending.
func (i *Issuer) trail(ctx context.Context, subject string, name []byte) ([]uint64, error) {
	return i.log.Named(ctx, trailOf(subject, name))
}
