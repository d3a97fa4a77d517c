package issuer

import (
	"context"
	"fmt"
	"sync"

	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/tlog"
)

// policies holds the compiled policies in force. They are replaced whole.
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

// current returns the policies in force, as the log has them now; NO_ACTIVE_POLICY until both are published.
func (p *policies) current(ctx context.Context, log *tlog.Log) (inForce, error) {
	if err := p.refresh(ctx, log); err != nil {
		return inForce{}, err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.force.appraisal == nil || p.force.authorization == nil {
		return inForce{}, denial.New(denial.NoActivePolicy, "an appraisal and an authorization policy must be published")
	}
	return p.force, nil
}

// refresh compiles the policies anew if the log's counter of policy acts has risen. The counter is read first: what is
// read after it is at least as new, and the transaction of each decision compares it.
func (p *policies) refresh(ctx context.Context, log *tlog.Log) error {
	version, err := log.Counter(ctx, counterPolicy)
	if err != nil {
		return err
	}
	p.mu.RLock()
	fresh := p.force.states != nil && p.force.version >= version
	p.mu.RUnlock()
	if fresh {
		return nil
	}
	next := inForce{version: version, states: map[record.PolicyKind]policyState{}}
	for _, kind := range []record.PolicyKind{record.Appraisal, record.Authorization} {
		var s policyState
		found, err := load(ctx, log, bucketPolicy, []byte(kind), &s)
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
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.force.states == nil || p.force.version <= version {
		p.force = next
	}
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
