package firmwarepolicy

import (
	"slices"
	"sort"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types/ref"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
)

// Host is what the authorities' enrolment says of the host that is appraised. Policies name its fields through the cel
// tags.
type Host struct {
	ID     string            `cbor:"1,keyasint" cel:"id"`     // URI of the host, as enrolled
	Labels map[string]string `cbor:"2,keyasint" cel:"labels"` // labels of the enrolment
}

// Result is a positive appraisal. An auditor finds in it which policy was applied and which requirements held.
type Result struct {
	Policy Hash
	Held   []string // names of the requirements, in the order of the policy
}

// Appraise compares facts with the policy. The caller vouches that claims are those of verified facts. It checks, in
// this order: there is a policy (108) with requirements (407); the facts are of the policy's bank (611); they show every
// PCR to be quoted (107) and no other (707); the cnf key is bound to the PCRs to be bound (702); there was an audit session, if
// the policy wants one (620); facts of IMA were drawn with what this policy says of files (401); every requirement holds.
//
// All requirements are evaluated. The refusal has the code of the first one, in the order of the policy, that does not
// hold, or 407 if that one cannot be evaluated, and names all that do not hold.
func (a *Appraisal) Appraise(claims attest.Claims, host Host) (*Result, error) {
	if err := a.fits(claims); err != nil {
		return nil, denial.Of(err).At(denial.StageAppraisal)
	}
	vars := &appraisalVars{
		facts: a.adapter.NativeToValue(&claims),
		host:  a.adapter.NativeToValue(&host),
		refs:  a.refs,
	}
	result := &Result{Policy: a.hash}
	var refusal *denial.Denial
	var failed []string
	for i, r := range a.body.Require {
		holds, err := a.programs[i].holds(vars)
		if holds && err == nil {
			result.Held = append(result.Held, r.Name)
			continue
		}
		failed = append(failed, r.Name)
		if refusal == nil {
			refusal = r.refusal(err)
		}
	}
	if refusal != nil {
		sort.Strings(failed)
		refusal.Requirements = failed
		return nil, refusal.At(denial.StageAppraisal)
	}
	return result, nil
}

func (a *Appraisal) fits(claims attest.Claims) error {
	if a == nil {
		return denial.New(denial.NoActivePolicy, "there is no appraisal policy")
	}
	if a.body == nil || len(a.body.Require) == 0 || len(a.programs) != len(a.body.Require) {
		return refuse("the appraisal policy has no requirements")
	}
	if claims.Bank != a.body.Bank {
		return denial.New(denial.BankNotAllowed, "the facts are not of bank %s", a.body.Bank)
	}
	for _, n := range a.body.Quote {
		if claims.PCR[n] == "" {
			return denial.New(denial.RequiredPCRAbsent, "the facts do not show PCR %d", n)
		}
	}
	if len(claims.PCR) != len(a.body.Quote) {
		return denial.New(denial.PCRSelectionMismatch, "the facts show PCRs that the policy does not select")
	}
	if !slices.Equal(claims.CNF.PCRs, a.body.Bind) {
		return denial.New(denial.KeyBinding, "the cnf key is not bound to the PCRs that the policy names")
	}
	if a.body.Audit && len(claims.Banks) == 0 {
		return denial.New(denial.TPMFirmware, "the policy wants an audit session of the TPM, and the facts are of none")
	}
	return a.fitsIMA(claims.IMA)
}

func (r *requirement) refusal(err error) *denial.Denial {
	if err != nil {
		return denial.New(denial.PolicyError, "requirement %s cannot be evaluated on these facts", r.Name)
	}
	return denial.New(r.Code, "requirement %s does not hold", r.Name)
}

// appraisalVars resolves the variables of a requirement.
type appraisalVars struct {
	facts, host ref.Val
	refs        map[string]ref.Val
}

// ResolveName implements cel.Activation.
func (v *appraisalVars) ResolveName(name string) (any, bool) {
	switch name {
	case "facts":
		return v.facts, true
	case "host":
		return v.host, true
	}
	set, ok := v.refs[name]
	return set, ok
}

// Parent implements cel.Activation.
func (*appraisalVars) Parent() cel.Activation { return nil }
