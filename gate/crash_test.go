package gate

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// deaf is a gate key whose TPM fails once.
type deaf struct {
	statement.Signer
	before func() error
}

func (d *deaf) Sign(ctx context.Context, tbs statement.ToBeSigned) ([]byte, error) {
	if f := d.before; f != nil {
		d.before = nil
		if err := f(); err != nil {
			return nil, err
		}
	}
	return d.Signer.Sign(ctx, tbs)
}

func TestGateKeyThatFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	path, ran := r.mark()
	for _, failure := range []error{errors.New("talking to TPM: broken pipe"), denial.New(denial.HostMismatch, "the gate key was not made by this TPM")} {
		cmd := r.command("mark", path)
		r.reopen()
		r.gate.signer = &deaf{r.gate.signer, func() error { return failure }}
		if out := r.refuses(cmd, denial.AuditUnavailable); ran() || !out.Logged || out.Spooled {
			t.Errorf("ran: %v, got %+v", ran(), out)
		}
	}
	r.tells("902", "902") // the start was never signed, so it is never sent
	r.gate.signer = &deaf{r.gate.signer, func() error { return errors.New("talking to TPM: broken pipe") }}
	if out := r.refuses(Command{Path: r.child}, denial.NoArtifact); out.Logged || !out.Spooled {
		t.Errorf("got %+v, want a denial that waits", out)
	}
	r.runs(r.command("exit", "0"), 0)
	r.tells("902", "902", "101", "start 1", "end 0")
}

// The gate is killed at each moment at which it has told the disk or the issuer something. After each, with what was on
// the disk then, the artifact has no second use beyond those it allows, and the chain goes on.
func TestCrashAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		crash func(r *rig, cmd Command) (disk func(...string)) // puts the disk back as the crash left it
		want  []string                                         // before the new artifact runs
	}{
		{"use written, start not signed", func(r *rig, cmd Command) (disk func(...string)) {
			r.gate.signer = &deaf{r.gate.signer, func() error { disk = r.keep(); return errors.New("killed") }}
			r.line.onRecord(down)
			r.refuses(cmd, denial.AuditUnavailable)
			return disk
		}, []string{"504"}},
		{"start signed and written, not sent", func(r *rig, cmd Command) (disk func(...string)) {
			r.line.onRecord(func(context.Context, []byte, func() ([]byte, error)) ([]byte, error) {
				disk = r.keep()
				r.line.onRecord(down)
				return nil, errDown
			})
			r.refuses(cmd, denial.AuditUnavailable)
			return disk
		}, []string{"start 1", "504"}},
		{"start logged, answer not heard", func(r *rig, cmd Command) (disk func(...string)) {
			r.line.onRecord(func(ctx context.Context, leaf []byte, pass func() ([]byte, error)) ([]byte, error) {
				disk = r.keep()
				r.line.onRecord(down)
				return lost(ctx, leaf, pass)
			})
			r.refuses(cmd, denial.AuditUnavailable)
			return disk
		}, []string{"start 1", "504"}},
		{"program has run, end not signed", func(r *rig, cmd Command) (disk func(...string)) {
			r.line.onRecord(func(_ context.Context, _ []byte, pass func() ([]byte, error)) ([]byte, error) {
				r.gate.signer = &deaf{r.gate.signer, func() error { disk = r.keep(); return errors.New("killed") }}
				r.line.onRecord(nil)
				return pass()
			})
			r.runs(cmd, 0)
			return disk
		}, []string{"start 1", "504"}},
		{"end signed and written, not sent", func(r *rig, cmd Command) (disk func(...string)) {
			calls := 0
			r.line.onRecord(func(_ context.Context, _ []byte, pass func() ([]byte, error)) ([]byte, error) {
				if calls++; calls == 1 {
					return pass()
				}
				disk = r.keep()
				return nil, errDown
			})
			r.runs(cmd, 0)
			return disk
		}, []string{"start 1", "end 0", "504"}},
		{"end logged, answer not heard", func(r *rig, cmd Command) (disk func(...string)) {
			calls := 0
			r.line.onRecord(func(ctx context.Context, leaf []byte, pass func() ([]byte, error)) ([]byte, error) {
				if calls++; calls == 1 {
					return pass()
				}
				disk = r.keep()
				return lost(ctx, leaf, pass)
			})
			r.runs(cmd, 0)
			return disk
		}, []string{"start 1", "end 0", "504"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t, newWorld(t), "a")
			cmd := r.command("exit", "0")
			disk := row.crash(r, cmd)
			if disk == nil {
				t.Fatal("the crash did not happen")
			}
			disk()
			r.line.onRecord(nil)
			r.reopen()
			r.refuses(cmd, denial.ArtifactReplayed)
			r.runs(r.command("exit", "0"), 0)
			r.tells(append(row.want, "start 1", "end 0")...)
			if n := r.gate.state.pending(); n != 0 {
				t.Errorf("%d records wait", n)
			}
		})
	}
}

// Where the state cannot be written, nothing runs: neither before the start record is sent nor after.
func TestStateThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]bool{"before the start record": false, "after the start record": true} {
		r := newRig(t, newWorld(t), "a")
		path, ran := r.mark()
		cmd := r.command("mark", path)
		r.line.onRecord(func(_ context.Context, _ []byte, pass func() ([]byte, error)) ([]byte, error) {
			answer, err := pass()
			if err := os.RemoveAll(r.state); err != nil {
				t.Error(err)
			}
			return answer, err
		})
		if !after {
			r.gate.signer = &deaf{r.gate.signer, func() error { return os.RemoveAll(r.state) }}
		}
		out, text := r.exec(cmd)
		if out.Started || out.Denied == nil || out.Denied.Stage != denial.StageStartRecord || ran() || text != "" {
			t.Errorf("%s: ran: %v, got %+v", name, ran(), out)
		}
		if story := r.story(gateURI + "a"); len(story) > 0 && !after {
			t.Errorf("%s: the log tells %q", name, story)
		}
	}
}
