package firmwarepolicy

import (
	"reflect"
	"slices"
	"sort"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
)

// appraisalBody is the content of an appraisal policy.
type appraisalBody struct {
	Bank        string              `cbor:"1,keyasint"`
	Quote       []int64             `cbor:"2,keyasint"` // ascending
	Bind        []int64             `cbor:"3,keyasint"` // ascending, subset of Quote
	EvidenceAge uint64              `cbor:"4,keyasint"` // seconds
	Reference   map[string][]string `cbor:"5,keyasint"`
	Require     []requirement       `cbor:"6,keyasint"`
	IMA         *imaBody            `cbor:"7,keyasint,omitempty"`
	Audit       bool                `cbor:"8,keyasint,omitempty"` // evidence has an audit session
}

type requirement struct {
	Name string        `cbor:"1,keyasint"`
	Code denial.Reason `cbor:"2,keyasint"`
	Expr string        `cbor:"3,keyasint"`
}

const (
	maxRequirements = 256
	maxSets         = 64
	maxPCR          = 23
	maxEvidenceAge  = 60 // seconds: a challenge lives no longer
)

// check refuses, in this order, a bank, a PCR, a limit, a reference set, a section of IMA or a requirement that no policy
// may have.
func (b *appraisalBody) check() error {
	if b == nil {
		return refuse("the appraisal policy is empty")
	}
	if b.Bank != "sha256" && b.Bank != "sha384" {
		return refuse("pcrs.bank must be sha256 or sha384; SHA-1 is broken")
	}
	if err := checkPCRs("pcrs.quote", b.Quote); err != nil {
		return err
	}
	if err := checkPCRs("pcrs.bind", b.Bind); err != nil {
		return err
	}
	for _, n := range b.Bind {
		if !slices.Contains(b.Quote, n) {
			return refuse("pcrs.bind has PCR %d, which pcrs.quote has not", n)
		}
	}
	if b.EvidenceAge == 0 || b.EvidenceAge > maxEvidenceAge {
		return refuse("limits.evidence_age must be from 1s to %ds", maxEvidenceAge)
	}
	if err := b.checkReference(); err != nil {
		return err
	}
	if err := b.checkIMA(); err != nil {
		return err
	}
	return b.checkRequire()
}

// checkPCRs refuses an empty or unordered list, PCRs that no TPM has, and the resettable ones: 16 and 23 can be set back
// by any program, 17 to 22 by a dynamic launch that Writ does not appraise (TCG PC Client PTP, section 4.6).
func checkPCRs(what string, pcrs []int64) error {
	if len(pcrs) == 0 {
		return refuse("%s is empty", what)
	}
	for i, n := range pcrs {
		switch {
		case n < 0 || n > maxPCR:
			return refuse("%s: there is no PCR %d", what, n)
		case n == 16 || n == 23:
			return refuse("%s: PCR %d proves nothing, any program can reset it", what, n)
		case n >= 17 && n <= 22:
			return refuse("%s: PCR %d belongs to a dynamic launch, which is not appraised", what, n)
		case i > 0 && n <= pcrs[i-1]:
			return refuse("%s names a PCR twice or out of order", what)
		}
	}
	return nil
}

func (b *appraisalBody) checkReference() error {
	if len(b.Reference) > maxSets {
		return refuse("there are more than %d reference sets", maxSets)
	}
	for _, name := range sortedKeys(b.Reference) {
		if err := checkSetName(name); err != nil {
			return err
		}
		what, set := "reference set "+name, b.Reference[name]
		if len(set) == 0 {
			return refuse("%s is empty", what)
		}
		if err := checkList(what, set); err != nil {
			return err
		}
		for _, v := range set {
			if shouted(v) {
				return refuse("%s: write digests in lower case, no fact equals %q", what, v)
			}
		}
	}
	return nil
}

func (b *appraisalBody) checkRequire() error {
	if len(b.Require) == 0 || len(b.Require) > maxRequirements {
		return refuse("a policy has 1 to %d requirements", maxRequirements)
	}
	names, exprs := map[string]bool{}, map[string]bool{}
	for _, r := range b.Require {
		if err := checkName("requirement", r.Name); err != nil {
			return err
		}
		if names[r.Name] || exprs[r.Expr] {
			return refuse("requirement %q stands twice", r.Name)
		}
		names[r.Name], exprs[r.Expr] = true, true
		if !requirable(r.Code) {
			return refuse("requirement %q: code must be a denial of the 4xx, 6xx or 7xx family", r.Name)
		}
	}
	return nil
}

func requirable(r denial.Reason) bool {
	c := r.Condition() // of a number that is no denial: internal
	return c == denial.ConditionPolicyMismatch || c == denial.ConditionRuntimeIntegrity ||
		c == denial.ConditionEnvironmentMismatch
}

// Appraisal is a compiled appraisal policy. Its zero value refuses every host. It may be used by several goroutines.
type Appraisal struct {
	body     *appraisalBody
	hash     Hash
	adapter  types.Adapter
	refs     map[string]ref.Val // by "ref.<name>"
	programs []*program         // one for each requirement
	uses     *uses              // of all of them
	ima      attest.IMAReference
	imaID    string // digest of ima
}

func compileAppraisal(b *appraisalBody, h Hash) (*Appraisal, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	options := []cel.EnvOption{
		ext.NativeTypes(reflect.TypeFor[attest.Claims](), reflect.TypeFor[Host](), ext.ParseStructTags(true)),
		cel.Variable("facts", cel.ObjectType("attest.Claims")),
		cel.Variable("host", cel.ObjectType("firmware-policy.Host")),
	}
	for _, name := range sortedKeys(b.Reference) {
		options = append(options, cel.Variable("ref."+name, cel.ListType(cel.StringType)))
	}
	e, err := newEnv(options...)
	if err != nil {
		return nil, refuse("preparing the expression language: %v", err)
	}
	a := &Appraisal{body: b, hash: h, adapter: e.CELTypeAdapter(), refs: map[string]ref.Val{}, uses: newUses()}
	if a.ima, err = b.imaReference(); err != nil {
		return nil, err
	}
	if a.imaID, err = a.ima.Digest(); err != nil {
		return nil, err
	}
	for name, set := range b.Reference {
		a.refs["ref."+name] = a.adapter.NativeToValue(set)
	}
	for _, r := range b.Require {
		what := "requirement " + r.Name
		p, err := compile(e, what, r.Expr)
		if err != nil {
			return nil, err
		}
		if err := b.covers(what, &p.uses); err != nil {
			return nil, err
		}
		a.programs = append(a.programs, p)
		a.uses.add(p.uses)
	}
	if !a.looksAtCode() {
		return nil, refuse("the policy looks at no measurement but PCR 7, which says which keys may sign and not what booted: " +
			"require exact values of facts.pcr[4] or facts.pcr[11], or facts.boot_apps")
	}
	return a, nil
}

// covers refuses an expression over facts that the quote of this policy cannot prove: they would be empty.
func (b *appraisalBody) covers(what string, u *uses) error {
	for n := range maxPCR + 1 {
		if u.pcrs[int64(n)] && !slices.Contains(b.Quote, int64(n)) {
			return refuse("%s looks at PCR %d, which pcrs.quote has not", what, n)
		}
	}
	if u.anyPCRAbove(maxPCR) {
		return refuse("%s looks at a PCR that no TPM has", what)
	}
	for _, path := range sortedKeys(u.events) {
		list, n := eventPCRs[strings.TrimRight(path, "[]0123456789")], u.events[path]
		if !slices.Contains(list, n) {
			return refuse("%s looks at %s, but there is none: it tells of the PCRs %v", what, path, list)
		}
		if !slices.Contains(b.Quote, n) {
			return refuse("%s looks at %s, which needs PCR %d in pcrs.quote", what, path, n)
		}
	}
	for _, f := range []struct {
		path  string
		pcrs  []int64
		which string
	}{
		{"facts.secure_boot", []int64{7}, "PCR 7"},
		{"facts.shim", []int64{7}, "PCR 7"},
		{"facts.platform.debug", []int64{7}, "PCR 7"},
		{"facts.platform.dma_unprotected", []int64{7}, "PCR 7"},
		{"facts.platform.locality", []int64{0}, "PCR 0"},
		{"facts.platform.version", []int64{0}, "PCR 0"},
		{"facts.boot_apps", []int64{4}, "PCR 4"},
		{"facts.disks", []int64{5}, "PCR 5"},
		{"facts.commands", []int64{8}, "PCR 8"},
		{"facts.sections", []int64{11}, "PCR 11"},
		{"facts.command_line", []int64{8, 12}, "one of the PCRs 8 and 12"},
		{"facts.ima", []int64{imaPCR}, "PCR 10"},
	} {
		if u.any(f.path) && !slices.ContainsFunc(f.pcrs, func(n int64) bool { return slices.Contains(b.Quote, n) }) {
			return refuse("%s looks at %s, which needs %s in pcrs.quote", what, f.path, f.which)
		}
	}
	return nil
}

// eventPCRs are the PCRs of which facts list or count the events.
var eventPCRs = map[string][]int64{
	"facts.measured":    {0, 2, 3, 9, 12, 13, 14},
	"facts.unexplained": {5, 8, 11, 12, 15},
}

func (u *uses) anyPCRAbove(max int64) bool {
	for n := range u.pcrs {
		if n > max {
			return true
		}
	}
	return false
}

// looksAtCode reports whether any requirement looks at a measurement other than those of PCR 7.
func (a *Appraisal) looksAtCode() bool {
	for n := range a.uses.pcrs {
		if n != 7 {
			return true
		}
	}
	onlySeven := slices.Equal(a.body.Quote, []int64{7})
	return a.uses.any("facts.boot_apps", "facts.command_line", "facts.commands", "facts.sections", "facts.measured") || a.uses.any("facts.pcr_digest") && !onlySeven
}

// Hash returns the identity of the policy, zero if there is none.
func (a *Appraisal) Hash() Hash {
	if a == nil {
		return Hash{}
	}
	return a.hash
}

// Selection returns the PCRs that a quote must cover, no more and no less. The zero policy returns none.
func (a *Appraisal) Selection() attest.Selection {
	if a == nil || a.body == nil {
		return attest.Selection{}
	}
	return attest.Selection{Bank: a.body.Bank, PCRs: ints(a.body.Quote)}
}

// Bind returns the PCRs, ascending, to whose values the TPM binds the use of the cnf key.
func (a *Appraisal) Bind() []int {
	if a == nil || a.body == nil {
		return nil
	}
	return ints(a.body.Bind)
}

// Audit reports whether evidence must have an audit session (see attest.AuditSession).
func (a *Appraisal) Audit() bool { return a != nil && a.body != nil && a.body.Audit }

// EvidenceAge returns the greatest time in seconds between a challenge and the decision. The zero policy returns 0.
func (a *Appraisal) EvidenceAge() uint64 {
	if a == nil || a.body == nil {
		return 0
	}
	return a.body.EvidenceAge
}

func ints(list []int64) []int {
	out := make([]int, len(list))
	for i, n := range list {
		out[i] = int(n)
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
