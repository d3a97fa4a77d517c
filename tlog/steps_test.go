package tlog

import (
	"context"
	"errors"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
)

// failing is a log key whose signature is lost, before it is made or after.
type failing struct {
	statement.Signer
	after bool
	on    bool
}

func (f *failing) Sign(ctx context.Context, tbs statement.ToBeSigned) ([]byte, error) {
	if f.on && !f.after {
		return nil, errDead
	}
	sig, err := f.Signer.Sign(ctx, tbs)
	if f.on {
		return nil, errors.Join(err, errDead)
	}
	return sig, err
}

// R03: each step of an append fails once before it takes effect (lost) and once after (persisted, but told as an error). Nothing is acknowledged
// then; a step that leaves open what the store holds stops the log; opened again, the entry is there if it was committed, once, under a
// receipt, and can be appended if it was not.
func TestR03_EachStepIsLostOrPersistedButErrored(t *testing.T) {
	for name, c := range map[string]struct {
		step    string
		after   bool
		want    denial.Reason
		latched bool // until it is opened again
		kept    bool
	}{
		"commit lost":           {"commit", false, denial.AuditUnavailable, true, false},
		"commit persisted":      {"commit", true, denial.AuditUnavailable, true, true},
		"mark lost":             {"mark", false, denial.AuditUnavailable, true, true},
		"mark persisted":        {"mark", true, denial.AuditUnavailable, true, true},
		"head lost":             {"head", false, denial.HSMUnavailable, false, true},
		"head signed, and lost": {"head", true, denial.HSMUnavailable, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.close()
			key := &failing{Signer: s.token, after: c.after}
			o := s.options()
			o.Signer = key
			log, err := Open(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			s.log = log
			s.appendN(3)
			commit, remark := log.commit, log.remark
			either := func(step func() error) error {
				if c.after {
					return errors.Join(step(), errDisk)
				}
				return errDisk
			}
			switch c.step {
			case "commit":
				log.commit = func() error { return either(commit) }
			case "mark":
				log.remark = func(size uint64, root receipt.Hash) error { return either(func() error { return remark(size, root) }) }
			case "head":
				key.on = true
			}
			_, err = log.Append(t.Context(), onceEntry("lost"))
			wantReason(t, err, c.want)
			log.commit, log.remark, key.on = commit, remark, false
			if c.latched {
				s.refused(denial.AuditUnavailable, leaf("next"))
			} else {
				s.append(leaf("next"))
				s.refused(denial.RequestReplayed, onceEntry("lost"))
			}
			s.close()
			s.open()
			s.check()
			if c.kept {
				s.refused(denial.RequestReplayed, onceEntry("lost"))
			} else {
				s.append(onceEntry("lost"))
			}
			if _, err := s.log.Receipt(context.Background(), 3); err != nil {
				t.Errorf("the entry has no receipt: %v", err)
			}
			s.append(leaf("on"))
			s.check()
		})
	}
}
