package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/ceremony"
	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

func ceremonyCommand(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ceremony",
		Short: "Make keys before witnesses, by a written script",
		Long: `A ceremony goes by a script, step by step. Run does what the next step asks of the token and writes what came of it to a
file, SCRIPT.step. Every custodian and witness reads it (writ inspect statement) and signs it (writ sign). Run again adds it to
the transcript, once everybody has signed, and goes on. Whoever has the script and the keys of the participants verifies the
transcript offline.`,
	}
	cmd.AddCommand(ceremonyRun(path), ceremonyAbandon(), ceremonyVerify())
	return cmd
}

// ceremonyFiles are a script and what belongs to it.
type ceremonyFiles struct {
	script, transcript, step string
}

// filesOf names the files beside a script.
func filesOf(script string) ceremonyFiles {
	base := strings.TrimSuffix(script, ".toml")
	return ceremonyFiles{script, base + ".transcript", base + ".step"}
}

// open reads the script, and the transcript as far as there is one.
func (f ceremonyFiles) open() (*ceremony.Script, *ceremony.State, error) {
	data, err := command.ReadFile(f.script, command.Small)
	if err != nil {
		return nil, nil, fmt.Errorf("reading script: %w", err)
	}
	s, err := ceremony.Parse(data)
	if err != nil {
		return nil, nil, misread(f.script, err)
	}
	data, err = command.ReadFile(f.transcript, ceremony.MaxTranscript)
	var t ceremony.Transcript
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, nil, fmt.Errorf("reading transcript: %w", err)
	default:
		if t, err = ceremony.DecodeTranscript(data); err != nil {
			return nil, nil, err
		}
	}
	st, err := ceremony.Replay(s, t)
	return s, st, err
}

// misread is a refusal as it is, and misuse otherwise.
func misread(file string, err error) error {
	var d *denial.Denial
	if errors.As(err, &d) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", errMisuse, file, err)
}

// replace writes a file such that there is either the old one or the new one.
func replace(path string, data []byte) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func ceremonyRun(path *string) *cobra.Command {
	return &cobra.Command{
		Use:   "run SCRIPT.toml",
		Short: "Take up the step that everybody has confirmed, and prepare the next one",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := filesOf(args[0])
			s, st, err := f.open()
			if err != nil {
				return err
			}
			if err := f.take(st); err != nil {
				return err
			}
			if n, _ := st.Next(); n == 0 {
				_, err := st.Births()
				return errors.Join(output(cmd, st.Report(), st.Report().String()), err)
			}
			c, err := loadConfig(*path)
			if err != nil {
				return err
			}
			return f.prepare(cmd, c, s, st)
		},
	}
}

// take adds the step on file to the transcript if everybody has confirmed it, and says who has not.
func (f ceremonyFiles) take(st *ceremony.State) error {
	data, err := command.ReadFile(f.step, ceremony.MaxTranscript)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading step: %w", err)
	}
	if _, err := record.DecodeDraft(data); err == nil {
		return denial.New(denial.DualControlMissing, "nobody has confirmed %s: everybody reads and signs it", f.step).
			Try("Everybody reads it with \"writ inspect statement\" and signs it with \"writ sign\"; then go on with \"writd ceremony run\".")
	}
	b, err := record.DecodeBundle(data)
	if err != nil {
		return err
	}
	if done := st.Transcript(); len(done) > 0 {
		if last, err := done[len(done)-1].Encode(); err == nil && string(last) == string(data) { // stopped before it was removed
			return f.removeStep()
		}
	}
	if err := st.Append(b); err != nil {
		return f.explain(st, b, err)
	}
	enc, err := st.Transcript().Encode()
	if err != nil {
		return err
	}
	if err := replace(f.transcript, enc); err != nil {
		return err
	}
	return f.removeStep()
}

func (f ceremonyFiles) removeStep() error {
	if err := os.Remove(f.step); err != nil {
		return fmt.Errorf("removing step: %w", err)
	}
	return nil
}

// explain names those who have still to sign, if that is all there is to it.
func (f ceremonyFiles) explain(st *ceremony.State, b record.Bundle, err error) error {
	missing, e := st.Missing(b)
	if e != nil || len(missing) == 0 || !denial.Is(err, denial.DualControlMissing) {
		return err
	}
	var who []string
	for _, p := range missing {
		who = append(who, fmt.Sprintf("%s %s", p.Role, p.Person))
	}
	return denial.New(denial.DualControlMissing, "%s is not confirmed by %s", f.step, strings.Join(who, ", ")).
		Try("Have them sign it with \"writ sign\", then go on with \"writd ceremony run\".")
}

// prepare does what the next step asks of the token, and writes what everybody has to confirm.
func (f ceremonyFiles) prepare(cmd *cobra.Command, c *config, s *ceremony.Script, st *ceremony.State) error {
	n, step := st.Next()
	var token ceremony.Token
	if step.Do != ceremony.Confirm {
		group, err := c.openToken(cmd.Context())
		if err != nil {
			return err
		}
		defer group.Close()
		token = ceremonyToken{group.Active()}
	}
	var host ceremony.Quoter
	if c.TPM != "" {
		host = hostTPM(c.TPM)
	}
	d, err := st.Prepare(cmd.Context(), token, host, uint64(time.Now().Unix()))
	if err != nil {
		return err
	}
	return f.lay(cmd, d, fmt.Sprintf("%d of %d  %s %s", n, len(s.Steps), step.Do, step.Purpose), step.Say)
}

// lay writes a draft, and says what to do with it.
func (f ceremonyFiles) lay(cmd *cobra.Command, d record.Draft, what, say string) error {
	enc, err := d.Encode()
	if err != nil {
		return err
	}
	if err := replace(f.step, enc); err != nil {
		return err
	}
	text := fmt.Sprintf("step        %s\n", what)
	if say != "" {
		text += fmt.Sprintf("say         %s\n", say)
	}
	var e ceremony.Entry
	if err := statement.Unmarshal(d.Payload, &e); err != nil {
		return err
	}
	if e.Key != nil {
		text += fmt.Sprintf("key         %s on token %q\n", e.Key.Key.Thumbprint(), e.Key.Token["serial"])
	}
	text += fmt.Sprintf("transcript  %x before this step\n", e.Previous)
	text += fmt.Sprintf("now         everybody reads and signs %s:\n", f.step)
	text += fmt.Sprintf("            writ inspect statement %s\n            writ sign %s --key KEY\n", f.step, f.step)
	text += fmt.Sprintf("then        writd ceremony run %s\n", f.script)
	return output(cmd, map[string]any{"step": e.Step, "do": e.Do, "file": f.step}, text)
}

func ceremonyAbandon() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use:   "abandon SCRIPT.toml",
		Short: "Draft the statement that the ceremony ends without result; one signature is enough",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := filesOf(args[0])
			_, st, err := f.open()
			if err != nil {
				return err
			}
			d, err := st.PrepareAbandon(why, uint64(time.Now().Unix()))
			if err != nil {
				return err
			}
			return f.lay(cmd, d, "abandon", why)
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "the reason, which stands in the transcript")
	_ = cmd.MarkFlagRequired("why")
	return cmd
}

func ceremonyVerify() *cobra.Command {
	var script string
	var given []string
	cmd := &cobra.Command{
		Use:   "verify TRANSCRIPT --script SCRIPT.toml --participant PERSON=KEY.pub …",
		Short: "Verify a transcript offline, with the script and the keys of all who took part",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := participantKeys(given)
			if err != nil {
				return err
			}
			src, err := command.ReadFile(script, command.Small)
			if err != nil {
				return fmt.Errorf("reading script: %w", err)
			}
			transcript, err := command.ReadFile(args[0], ceremony.MaxTranscript)
			if err != nil {
				return fmt.Errorf("reading transcript: %w", err)
			}
			st, err := ceremony.Verify(src, transcript, keys)
			if err != nil {
				return misread(script, err)
			}
			return output(cmd, st.Report(), st.Report().String())
		},
	}
	cmd.Flags().StringVar(&script, "script", "", "the script")
	cmd.Flags().StringArrayVar(&given, "participant", nil, "PERSON=FILE: the URI of a participant, and the public key (PEM) that you have from that person; repeat")
	_ = cmd.MarkFlagRequired("script")
	_ = cmd.MarkFlagRequired("participant")
	return cmd
}

// participantKeys reads the keys of persons.
func participantKeys(given []string) (map[string]statement.Key, error) {
	keys := map[string]statement.Key{}
	for _, g := range given {
		person, file, ok := strings.Cut(g, "=")
		if !ok || keys[person].Valid() {
			return nil, fmt.Errorf("%w: --participant wants PERSON=FILE, once for each person", errMisuse)
		}
		data, err := command.ReadFile(file, command.Small)
		if err != nil {
			return nil, fmt.Errorf("reading public key: %w", err)
		}
		if keys[person], err = statement.ParsePEM(data); err != nil {
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
	}
	return keys, nil
}
