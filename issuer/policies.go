package issuer

import (
	"context"
	"fmt"
	"sync"

	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// policies holds the compiled policies in force. They are replaced whole, after the transaction that changed them; the
// transaction of each decision compares the version that it was made on.
type policies struct {
	mu    sync.RWMutex
	force inForce
}

// inForce is one consistent pair of policies and the counter that it was read under.
type inForce struct {
	version       uint64
	appraisal     *firmwarepolicy.Document
	authorization *firmwarepolicy.Document
	evidence      *firmwarepolicy.Appraisal // of appraisal: what a quote must cover
	states        map[record.PolicyKind]policyState
}

// current returns the policies in force; NO_ACTIVE_POLICY until both are published.
func (p *policies) current() (inForce, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.force.appraisal == nil || p.force.authorization == nil {
		return inForce{}, denial.New(denial.NoActivePolicy, "an appraisal and an authorization policy must be published")
	}
	return p.force, nil
}

// reload reads the policies anew after an act of the kind policy.
func (i *Issuer) reload(ctx context.Context, kind statement.Kind) error {
	if kind != statement.Policy {
		return nil
	}
	i.policies.mu.Lock()
	defer i.policies.mu.Unlock()
	version, err := i.log.Counter(ctx, counterPolicy)
	if err != nil {
		return err
	}
	next := inForce{version: version, states: map[record.PolicyKind]policyState{}}
	for _, kind := range []record.PolicyKind{record.Appraisal, record.Authorization} {
		var s policyState
		found, err := load(ctx, i.log, bucketPolicy, []byte(kind), &s)
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		if err := next.compile(kind, s); err != nil {
			return fmt.Errorf("compiling %s policy in force: %w", kind, err)
		}
	}
	i.policies.force = next
	return nil
}

func (f *inForce) compile(kind record.PolicyKind, s policyState) error {
	doc, err := firmwarepolicy.Decode(s.Document)
	if err != nil {
		return err
	}
	f.states[kind] = s
	if kind == record.Authorization {
		f.authorization = doc
		return nil
	}
	f.appraisal = doc
	f.evidence, err = doc.Appraisal()
	return err
}

// PolicyVersion returns the id and the version of the policy of a kind that a log holds as in force; NO_ACTIVE_POLICY if
// there is none.
func PolicyVersion(ctx context.Context, log reader, kind record.PolicyKind) (id string, version uint64, err error) {
	var s policyState
	found, err := load(ctx, log, bucketPolicy, []byte(kind), &s)
	if err == nil && !found {
		err = denial.New(denial.NoActivePolicy, "no %s policy has been published", kind)
	}
	return s.ID, s.Revision, err
}
