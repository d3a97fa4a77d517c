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
	Replayed        map[string]map[string]string `json:"replayed"`  // bank to PCR to value
	Facts           map[string]json.RawMessage   `json:"facts"`     // with the names that policies use; null unless consistent
	Compared        []string                     `json:"compared"`  // banks that were held against --pcrs
	Uncovered       []int64                      `json:"uncovered"` // PCRs of --pcrs that the log says nothing of
	Verdict         string                       `json:"verdict"`   // "consistent", "inconsistent" or "unreadable"
	Code            int                          `json:"code"`      // 0 if consistent
	Reason          string                       `json:"reason"`
}

func (a *app) inspectEventLog() *cobra.Command {
	var pcrs string
	cmd := &cobra.Command{
		Use:   "eventlog FILE",
		Short: "Explain a boot log, replay it, and compare it with PCR values",
		Long: `Eventlog shows every event, the PCR values that the log gives, and the facts that follow from it. With --pcrs it compares those
values as the issuer does with quoted ones; without, it checks only that the log does not contradict itself.

No digest covers the type of an event, and what is marked as untrusted is covered by no digest at all: anybody may have
written it. The file of --pcrs is JSON: an object from bank ("sha256", "sha384") to PCR to hexadecimal value, by itself or
under one of the names machine_pcrs, pcrs and replayed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
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
			view, err := viewLog(data, want)
			return a.showDenied(cmd, view, unverified+"\n"+view.text(), err)
		},
	}
	cmd.Flags().StringVar(&pcrs, "pcrs", "", "JSON file with PCR values to compare with")
	return cmd
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
func viewLog(data []byte, want map[string]map[int64][]byte) (*logView, error) {
	v := &logView{Format: formatOf(data), Events: []attest.Event{}, Replayed: map[string]map[string]string{}, Compared: []string{},
		Uncovered: []int64{}}
	log, err := attest.ParseLog(data)
	if err != nil {
		return v, v.refuse("unreadable", err)
	}
	v.Events = log.Events
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
		claims, _, err := log.Compare(bank, want[bank])
		if err != nil {
			return v.refuse("inconsistent", err)
		}
		if facts == nil {
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
		return !slices.Contains([]string{"bank", "secure_boot", "boot_apps", "command_line", "log"}, name)
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
		b.WriteString("facts that follow from it, if the PCRs have these values\n")
		for _, name := range slices.Sorted(maps.Keys(v.Facts)) {
			fmt.Fprintf(&b, "  %-13s %s\n", name, compact(v.Facts[name]))
		}
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
	if err != nil {
		a.json = false
	}
	return err
}
