package vm

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/firmware-policy/predict"
	"github.com/governed-execution/writ/test/vm/talk"
)

// Observation is what came of one boot.
type Observation struct {
	Made      *Made
	Testimony *Testimony // nil if the machine did not boot
	All       map[int64]string
	Facts     *attest.Facts // nil if there are none
	Refusal   error         // why
}

// Observe boots a variant. A machine that ought to boot and does not, or the other way round, is an error; so is a TPM that
// cannot be enrolled.
func (l *Lab) Observe(ctx context.Context, v Variant) (o *Observation, err error) {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	dir, err := l.Scratch()
	if err != nil {
		return nil, err
	}
	made, err := v.make(ctx, l, dir)
	if err != nil {
		return nil, fmt.Errorf("preparing %s: %w", v.Name, err)
	}
	m, err := Start(ctx, made.Boot)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	o = &Observation{Made: made}
	if v.Refused != "" {
		if got, err := m.Await(ctx, v.Refused, talk.Ready); err != nil || got != v.Refused {
			return nil, fmt.Errorf("booting %s: firmware ought to refuse it with %q: %w", v.Name, v.Refused, err)
		}
		return o, nil
	}
	if err := m.Ready(ctx); err != nil {
		return nil, err
	}
	err = o.question(ctx, l, m, v.Bank)
	if v.Enrol != 0 && Reason(err) == v.Enrol {
		return o, m.Off(ctx)
	}
	if err != nil || v.Enrol != 0 {
		return nil, fmt.Errorf("questioning %s: %w", v.Name, err)
	}
	return o, m.Off(ctx)
}

// bootLimit is how long a boot may take, with everything that is asked of the machine. It takes 10 to 20 s where two
// processors have nothing else to do.
const bootLimit = 3 * time.Minute

func (o *Observation) question(ctx context.Context, l *Lab, m *Machine, bank string) error {
	if bank == "" {
		bank = "sha256"
	}
	ak, err := l.enrol(ctx, m)
	if err != nil {
		return err
	}
	if o.Testimony, err = m.Collect(ctx, ak, bank); err != nil {
		return err
	}
	o.Facts, o.Refusal = o.Testimony.Verify()
	all := make([]int, 24)
	for n := range all {
		all[n] = n
	}
	r, err := m.Ask(ctx, talk.Request{Op: talk.PCRs, Bank: bank, PCRs: all})
	if err != nil {
		return err
	}
	o.All = map[int64]string{}
	for n, v := range r.Values {
		o.All[n] = hex.EncodeToString(v)
	}
	return nil
}

// enrol has a machine prove that its TPM is of the lab's vendor.
func (l *Lab) enrol(ctx context.Context, m *Machine) ([]byte, error) {
	root, err := l.TPM.Root()
	if err != nil {
		return nil, err
	}
	between, err := l.TPM.Intermediate()
	if err != nil {
		return nil, err
	}
	return m.Enrol(ctx, root, between)
}

// Moved lists the quoted PCRs that two machines differ in.
func Moved(a, b map[int64]string) []int {
	var out []int
	for _, n := range quoted {
		if a[int64(n)] != b[int64(n)] {
			out = append(out, n)
		}
	}
	return out
}

// Predicted compares a prediction with PCRs of a machine and returns the PCRs that are not as predicted.
func Predicted(p *predict.Prediction, pcrs map[int64]string) []int64 {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(p.PCR)), func(n int64) bool { return p.PCR[n] == pcrs[n] })
}

// Baseline writes the appraisal policy for machines that boot as predicted. What cannot be predicted, such as the firmware
// in PCR 0, is taken from a reference machine.
func Baseline(p *predict.Prediction, reference attest.Claims) ([]byte, error) {
	others := maps.Clone(reference.PCR)
	maps.DeleteFunc(others, func(n int64, _ string) bool { return p.PCR[n] != "" })
	return firmwarepolicy.FromPrediction(policyID, policyEnd(), p, others)
}

// Policy writes the policy by which the machines of a base are decided on: from the prediction of its boot where there is
// one, else from its facts.
func (o *Observation) Policy() ([]byte, error) {
	if o.Made.Prediction != nil {
		return Baseline(o.Made.Prediction, o.Facts.Claims())
	}
	return firmwarepolicy.FromClaims(policyID, policyEnd(), o.Facts.Claims())
}

const policyID = "https://issuer.example/policy/machines"

func policyEnd() uint64 { return uint64(time.Now().AddDate(10, 0, 0).Unix()) }

// Decide returns why a policy denies the facts of a machine, nil if it allows it.
func Decide(policy []byte, f *attest.Facts) (*denial.Denial, error) {
	doc, err := firmwarepolicy.ParseTOML(policy)
	if err != nil {
		return nil, err
	}
	a, err := doc.Appraisal()
	if err != nil {
		return nil, err
	}
	_, err = a.Appraise(f.Claims(), firmwarepolicy.Host{})
	var d *denial.Denial
	if errors.As(err, &d) {
		return d, nil
	}
	return nil, err
}

// Reason returns the reason of a refusal, 0 if there is none.
func Reason(err error) denial.Reason {
	var d *denial.Denial
	if errors.As(err, &d) {
		return d.Reason
	}
	return 0
}

// list writes PCR numbers for people.
func list(pcrs []int) string {
	if len(pcrs) == 0 {
		return "none"
	}
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(pcrs), "[]"), " ", ", ")
}
