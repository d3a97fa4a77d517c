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

// bucketTrail finds entries by what they are about, so that nobody has to read the log for it. The key is trailOf the
// subject, and the digest of the entry.
const bucketTrail = "trail"

// The subjects of trails.
const (
	trailContext   = "context"    // no name: what later entries are verified with
	trailExecution = "execution " // execution id
	trailArtifact  = "artifact "  // cti: the artifact, the records about it, and its children
	trailHost      = "host "      // URI
)

// trailOf returns the beginning of the keys of a subject.
func trailOf(subject string, name []byte) []byte {
	sum := sha256.Sum256(append([]byte(subject), name...))
	return sum[:16]
}

// append appends entries with their rows in the index.
func (i *Issuer) append(ctx context.Context, entries ...tlog.Entry) ([]tlog.Appended, error) {
	entries, err := indexed(entries)
	if err != nil {
		return nil, err
	}
	return i.log.Append(ctx, entries...)
}

// indexed returns the entries with their rows in the index.
func indexed(entries []tlog.Entry) ([]tlog.Entry, error) {
	entries = slices.Clone(entries)
	for n := range entries {
		rows, err := trails(&entries[n])
		if err != nil {
			return nil, err
		}
		entries[n].Puts = append(slices.Clip(entries[n].Puts), rows...)
	}
	return entries, nil
}

// trails returns the rows of an entry in the index.
func trails(e *tlog.Entry) ([]tlog.Put, error) {
	env, err := statement.Decode(e.Leaf, statement.MaxStatement)
	if err != nil {
		return nil, err
	}
	subjects := [][]byte{}
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
	return trailRows(subjects, statement.DigestOf(e.Leaf)), nil
}

// trailRows returns the rows of an entry about its subjects.
func trailRows(subjects [][]byte, digest statement.Digest) []tlog.Put {
	rows := []tlog.Put{}
	for _, s := range subjects {
		rows = append(rows, tlog.Put{Bucket: bucketTrail, Key: append(s, digest[:]...), Value: []byte{}})
	}
	return rows
}

// artifactTrails returns the subjects of an artifact.
func artifactTrails(c *artifact.Claims) [][]byte {
	subjects := [][]byte{trailOf(trailExecution, c.Execution.ID), trailOf(trailArtifact, c.ID), trailOf(trailHost, []byte(c.Subject))}
	for _, p := range c.Lineage.Parents {
		subjects = append(subjects, trailOf(trailArtifact, p.ID))
	}
	return subjects
}

// recordTrails returns the subjects of a record. The request that it refuses stands among the blobs of its entry.
func recordTrails(r *record.Record, blobs [][]byte) (subjects [][]byte) {
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
func (i *Issuer) trail(ctx context.Context, subject string, name []byte) (all []uint64, err error) {
	prefix := trailOf(subject, name)
	err = i.log.Each(ctx, bucketTrail, prefix, func(key, _ []byte) error {
		if len(key) != len(prefix)+32 {
			return nil
		}
		index, ok, err := i.log.Find(ctx, statement.Digest(key[len(prefix):]))
		if ok {
			all = append(all, index)
		}
		return err
	})
	slices.Sort(all)
	return slices.Compact(all), err
}
