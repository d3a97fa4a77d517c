package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
)

// logView is what "writ inspect eventlog --json" writes.
type logView struct {
	Verified        bool                         `json:"verified"` // never
	Format          string                       `json:"format"`   // "crypto-agile", "sha1-legacy" or "unknown"
	Events          []attest.Event               `json:"events"`
	StartupLocality *byte                        `json:"startup_locality"`
	OS              []attest.Event               `json:"os"`        // events of the log of systemd
	Replayed        map[string]map[string]string `json:"replayed"`  // bank to PCR to value
	Facts           map[string]json.RawMessage   `json:"facts"`     // with the names that policies use; null unless consistent
	Proofs          []attest.Proof               `json:"proofs"`    // the events that prove the facts
	Compared        []string                     `json:"compared"`  // banks that were held against --pcrs
	Uncovered       []int64                      `json:"uncovered"` // PCRs of --pcrs that the log says nothing of
	Verdict         string                       `json:"verdict"`   // "consistent", "inconsistent" or "unreadable"
	Code            int                          `json:"code"`      // 0 if consistent
	Reason          string                       `json:"reason"`
	claims          attest.Claims                // where there are facts
}

func (a *app) inspectEventLog() *cobra.Command {
	var pcrs, osLog, policy string
	var diff bool
	cmd := &cobra.Command{
		Use:   "eventlog FILE [--pcrs FILE] [--os-log FILE] | --diff BEFORE AFTER [--policy FILE]",
		Short: "Explain a boot log, replay it, and compare it with PCR values or with another boot",
		Long: `Eventlog shows every event, the PCR values that the log gives, and the facts that follow from it. With --pcrs it compares those
values as the issuer does with quoted ones; without, it checks only that the log does not contradict itself.

No digest covers the type of an event, and what is marked as untrusted is covered by no digest at all: anybody may have
written it. The file of --pcrs is JSON: an object from bank ("sha256", "sha384") to PCR to hexadecimal value, by itself or
under one of the names machine_pcrs, pcrs and replayed. The file of --os-log is what systemd keeps in
/run/log/systemd/tpm2-measure.log.

With --diff it shows what changed between two boots: PCRs, events and facts, and with --policy which requirements of an
appraisal policy look at what changed, and whether they hold.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if diff {
				return cobra.ExactArgs(2)(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if diff {
				return a.diffEventLogs(cmd, args, policy, pcrs+osLog != "")
			}
			if policy != "" {
				return misuse("--policy goes with --diff")
			}
			data, err := readInput(args[0])
			if err != nil {
				return err
			}
			var want map[string]map[int64][]byte
			if pcrs != "" {
				if want, err = readPCRs(pcrs); err != nil {
					return err
				}
			}
			var system []byte
			if osLog != "" {
				if system, err = readInput(osLog); err != nil {
					return err
				}
			}
			view, err := viewLog(data, system, want)
			return a.showDenied(cmd, view, unverified+"\n"+view.text(), err)
		},
	}
	cmd.Flags().StringVar(&pcrs, "pcrs", "", "JSON file with PCR values to compare with")
	cmd.Flags().StringVar(&osLog, "os-log", "", "what systemd measured after the boot")
	cmd.Flags().BoolVar(&diff, "diff", false, "compare two boot logs")
	cmd.Flags().StringVar(&policy, "policy", "", "appraisal policy to hold the differences against")
	return cmd
}

// diffEventLogs compares two boots.
func (a *app) diffEventLogs(cmd *cobra.Command, files []string, policyFile string, mixed bool) error {
	if mixed {
		return misuse("--diff compares two boot logs with each other, and goes with no other flag than --policy")
	}
	var policy *firmwarepolicy.Appraisal
	if policyFile != "" {
		doc, err := readPolicy(policyFile)
		if err != nil {
			return err
		}
		if policy, err = doc.Appraisal(); err != nil {
			return err
		}
	}
	before, err := readInput(files[0])
	if err != nil {
		return err
	}
	after, err := readInput(files[1])
	if err != nil {
		return err
	}
	view, err := diffLogs(before, after, policy)
	if err != nil {
		return err
	}
	return a.print(cmd, view, unverified+"\n"+view.text(policy != nil))
}

// readPCRs reads values of the banks that a quote may cover or, where there are none, of others, which are refused later.
func readPCRs(path string) (map[string]map[int64][]byte, error) {
	data, err := readInput(path)
	if err != nil {
		return nil, err
	}
	top, err := banksIn(data)
	if err != nil {
		return nil, misuse("%s: %w", path, err)
	}
	out := map[string]map[int64][]byte{}
	for _, bank := range []string{"sha256", "sha384", "sha512", "sha1"} {
		var values map[int64]string
		if top[bank] == nil || len(out) > 0 && (bank == "sha1" || bank == "sha512") {
			continue
		}
		if err := json.Unmarshal(top[bank], &values); err != nil {
			return nil, misuse("%s: bank %s: %w", path, bank, err)
		}
		out[bank] = map[int64][]byte{}
		for pcr, v := range values {
			if out[bank][pcr], err = hex.DecodeString(v); err != nil {
				return nil, misuse("%s: bank %s: PCR %d: %w", path, bank, pcr, err)
			}
		}
	}
	if len(out) == 0 {
		return nil, misuse("%s holds no PCR values", path)
	}
	return out, nil
}

// banksIn finds the object from bank to values.
func banksIn(data []byte) (map[string]json.RawMessage, error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(data, &top); err != nil {
		return nil, err
	}
	for _, name := range []string{"machine_pcrs", "pcrs", "replayed"} {
		if banks, ok := top[name]; ok {
			top = nil
			err := json.Unmarshal(banks, &top)
			return top, err
		}
	}
	return top, nil
}

// viewLog explains a log. The error is why the log is unreadable or inconsistent; the view is there either way.
func viewLog(data, system []byte, want map[string]map[int64][]byte) (*logView, error) {
	v := &logView{Format: formatOf(data), Events: []attest.Event{}, Replayed: map[string]map[string]string{}, Compared: []string{},
		Uncovered: []int64{}, OS: []attest.Event{}, Proofs: []attest.Proof{}}
	log, err := attest.ParseLog(data)
	if err != nil {
		return v, v.refuse("unreadable", err)
	}
	if err := log.AddOS(system); err != nil {
		return v, v.refuse("unreadable", err)
	}
	v.Events, v.OS = log.Events, log.OS
	if locality, ok := log.StartupLocality(); ok {
		v.StartupLocality = &locality
	}
	own := map[string]map[int64][]byte{}
	for _, bank := range log.Banks {
		values, err := log.Replay(bank)
		if err != nil {
			continue // SHA-1, or an algorithm that nothing may be verified with
		}
		v.Replayed[bank], own[bank] = map[string]string{}, map[int64][]byte{}
		for pcr, value := range values {
			v.Replayed[bank][strconv.FormatInt(pcr, 10)] = value
			own[bank][pcr], _ = hex.DecodeString(value)
		}
	}
	if want == nil {
		want = own
	} else {
		v.Compared = slices.Sorted(maps.Keys(want))
		v.passOver(log, want)
	}
	return v, v.compare(log, want)
}

// passOver takes PCR 10 out of the values where the log has no event in it: IMA extends it after the boot, and keeps a log of
// its own. The issuer makes no such exception.
func (v *logView) passOver(log *attest.EventLog, want map[string]map[int64][]byte) {
	const ima = 10
	for bank, values := range want {
		if values[ima] != nil && !log.Covers(ima) {
			want[bank] = maps.Clone(values)
			delete(want[bank], ima)
			v.Uncovered = []int64{ima}
		}
	}
}

// compare holds the log against the values, bank by bank. The facts are those of the first bank.
func (v *logView) compare(log *attest.EventLog, want map[string]map[int64][]byte) error {
	var facts map[string]json.RawMessage
	for _, bank := range slices.Sorted(maps.Keys(want)) {
		claims, proofs, err := log.Compare(bank, want[bank])
		if err != nil {
			return v.refuse("inconsistent", err)
		}
		if facts == nil {
			v.Proofs, v.claims = proofs, claims
			if facts, err = logFacts(claims); err != nil {
				return err
			}
		}
	}
	if facts == nil {
		return v.refuse("inconsistent", denial.New(denial.BankNotAllowed, "the log has no bank of SHA-256 or SHA-384"))
	}
	v.Facts, v.Verdict = facts, "consistent"
	return nil
}

func (v *logView) refuse(verdict string, err error) error {
	d := denial.Of(err)
	v.Verdict, v.Code, v.Reason = verdict, d.Reason.Code(), d.Error()
	return d
}

// formatOf names the form that the bytes seem to have.
func formatOf(data []byte) string {
	head := data[:min(len(data), 48)]
	if bytes.Contains(head, []byte("Spec ID Event03\x00")) {
		return "crypto-agile"
	}
	if _, err := attest.ParseLog(data); denial.Is(err, denial.BankNotAllowed) {
		return "sha1-legacy"
	}
	return "unknown"
}

// logFacts returns the facts that a log alone gives, with the names that policies use.
func logFacts(c attest.Claims) (map[string]json.RawMessage, error) {
	data, err := firmwarepolicy.EncodeFacts(c)
	if err != nil {
		return nil, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("reading facts: %w", err)
	}
	maps.DeleteFunc(all, func(name string, _ json.RawMessage) bool {
		return slices.Contains([]string{"ak", "pcr", "pcr_digest", "clock", "firmware", "cnf", "ima"}, name)
	})
	return all, nil
}

// text renders the view for people.
func (v *logView) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s boot log, %d events\n", v.Format, len(v.Events))
	for _, e := range v.Events {
		b.WriteString(eventLine(e))
	}
	if len(v.OS) > 0 {
		fmt.Fprintf(&b, "log of systemd, %d events\n", len(v.OS))
	}
	for _, e := range v.OS {
		b.WriteString(eventLine(e))
	}
	if v.StartupLocality != nil {
		fmt.Fprintf(&b, "TPM2_Startup came from locality %d\n", *v.StartupLocality)
	}
	for _, bank := range slices.Sorted(maps.Keys(v.Replayed)) {
		fmt.Fprintf(&b, "replayed PCRs of bank %s\n", bank)
		for pcr := range 24 {
			if value, ok := v.Replayed[bank][strconv.Itoa(pcr)]; ok {
				fmt.Fprintf(&b, "  %2d  %s\n", pcr, value)
			}
		}
	}
	if v.Facts != nil {
		b.WriteString("what booted, if the PCRs have these values\n")
		b.WriteString(bootText(v.claims, v.Proofs))
	}
	b.WriteString(v.verdictText())
	return b.String()
}

func (v *logView) verdictText() string {
	switch {
	case v.Verdict != "consistent":
		return "verdict: " + v.Verdict + ": " + v.Reason + "\n"
	case len(v.Uncovered) > 0:
		return "verdict: consistent with the given PCRs of " + strings.Join(v.Compared, " and ") + ", but it says nothing of PCR 10, where an\n" +
			"operating system measures with IMA\n"
	case len(v.Compared) > 0:
		return "verdict: consistent with the given PCRs of " + strings.Join(v.Compared, " and ") + "\n"
	}
	return "verdict: consistent with itself; give --pcrs to compare it with a machine\n"
}

// eventLine renders one event: PCR, type, the strongest digest, and what the data says.
func eventLine(e attest.Event) string {
	pcr := strconv.Itoa(e.PCR)
	if e.PCR < 0 {
		pcr = "-"
	}
	digest := "no digest"
	for _, bank := range []string{"sha1", "sha512", "sha384", "sha256"} {
		if d, ok := e.Digests[bank]; ok {
			digest = bank + ":" + d
		}
	}
	note := ""
	if !e.Covered {
		note = "untrusted: "
	}
	return fmt.Sprintf("%3d PCR %2s %-36s %s\n              %s%s\n", e.Number, pcr, e.Type, digest, note, clean(e.Description))
}

// compact renders JSON on one line that no terminal acts on.
func compact(data []byte) string {
	var b bytes.Buffer
	if err := json.Compact(&b, data); err != nil {
		return "?"
	}
	return clean(b.String())
}

// showDenied prints a view that comes with a denial, which the report then adds on standard error: what a machine reads
// on standard output stays one JSON value.
func (a *app) showDenied(cmd *cobra.Command, view any, text string, err error) error {
	var d *denial.Denial
	if err != nil && !errors.As(err, &d) {
		return err
	}
	if printErr := a.print(cmd, view, text); printErr != nil {
		return printErr
	}
	return err
}
