package firmwarepolicy

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
)

// Limits on one expression. They bound what a signed policy can cost, and are the same on every machine.
const (
	MaxExpression = 4096    // characters
	MaxCost       = 100_000 // cost units of one evaluation; about one per operation or compared list entry
	maxNodes      = 1000
	maxNesting    = 2 // loops inside loops
)

// language returns the part of CEL that a policy may use: comparisons, logic, membership, index, size, the tests for a
// piece of text, and loops over lists. It has no functions of time, no conversions, no arithmetic but what the loops
// need, and no regular expressions, which match more than their writers mean when they are not anchored.
func language() *env.LibrarySubset {
	lib := env.NewLibrarySubset().AddIncludedMacros(operators.All, operators.Exists, operators.ExistsOne, operators.Filter,
		operators.Map)
	for _, f := range []string{operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals,
		operators.Greater, operators.GreaterEquals, operators.LogicalNot, operators.LogicalAnd, operators.LogicalOr,
		operators.Conditional, operators.In, operators.Index, operators.NotStrictlyFalse, overloads.Size,
		overloads.StartsWith, overloads.EndsWith, overloads.Contains} {
		lib.AddIncludedFunctions(env.NewFunction(f))
	}
	return lib.AddIncludedFunctions(env.NewFunction(operators.Add,
		env.NewOverload(overloads.AddInt64, nil, nil), env.NewOverload(overloads.AddList, nil, nil)))
}

func newEnv(options ...cel.EnvOption) (*cel.Env, error) {
	return cel.NewCustomEnv(append([]cel.EnvOption{
		cel.StdLib(cel.StdLibSubset(language())),
		cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(MaxExpression),
		cel.ExpressionNodeLimit(maxNodes),
		cel.ASTValidators(cel.ValidateHomogeneousAggregateLiterals(), cel.ValidateComprehensionNestingLimit(maxNesting)),
	}, options...)...)
}

// program is one compiled expression. It may be used by several goroutines at once.
type program struct {
	run  cel.Program
	uses uses
}

// compile checks that an expression is within the limits, has the types it needs, gives a bool, and passes inspect. It
// then makes the logic strict, as strictLogic says.
func compile(e *cel.Env, what, expr string) (*program, error) {
	checked, issues := e.CompileSource(common.NewStringSource(expr, what))
	if issues.Err() != nil {
		return nil, refuse("%v", issues.Err())
	}
	if !checked.OutputType().IsExactType(cel.BoolType) {
		return nil, refuse("%s: the expression gives %s, it must give true or false", what, checked.OutputType())
	}
	used, err := inspect(what, checked.NativeRep())
	if err != nil {
		return nil, err
	}
	optimizer, err := cel.NewStaticOptimizer(strictLogic{})
	if err != nil {
		return nil, refuse("%s: %v", what, err)
	}
	strict, issues := optimizer.Optimize(e, checked)
	if issues.Err() != nil {
		return nil, refuse("%v", issues.Err())
	}
	run, err := e.Program(strict, cel.CostLimit(MaxCost))
	if err != nil {
		return nil, refuse("%s: %v", what, err)
	}
	return &program{run: run, uses: *used}, nil
}

// holds evaluates the program. Only the value true holds; an error, an unknown, a value of another type and the stop at
// the cost limit are errors, whose text may name facts and is not shown.
func (p *program) holds(vars cel.Activation) (bool, error) {
	if p == nil || p.run == nil {
		return false, refuse("an expression is not compiled")
	}
	out, _, err := p.run.Eval(vars)
	if err != nil {
		return false, refuse("an expression cannot be evaluated")
	}
	value, ok := out.(types.Bool)
	if !ok {
		return false, refuse("an expression gives neither true nor false")
	}
	return value == types.True, nil
}

// strictLogic replaces a && b by a ? b : false, and a || b by a ? true : b. In CEL the plain operators absorb an error
// of one side if the other side decides ("error || true" is true), in loops too. The conditional does not: operands are
// evaluated from left to right until one decides, and an error in any operand that is evaluated is the result.
type strictLogic struct{}

// Optimize implements cel.ASTOptimizer.
func (strictLogic) Optimize(c *cel.OptimizerContext, a *ast.AST) *ast.AST {
	ast.PostOrderVisit(a.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch call := e.AsCall(); call.FunctionName() { // "" of what is no call
		case operators.LogicalAnd:
			c.UpdateExpr(e, c.NewCall(operators.Conditional, call.Args()[0], call.Args()[1], c.NewLiteral(types.False)))
		case operators.LogicalOr:
			c.UpdateExpr(e, c.NewCall(operators.Conditional, call.Args()[0], c.NewLiteral(types.True), call.Args()[1]))
		}
	}))
	return a
}

// literalInt returns the value of an integer literal that is not negative.
func literalInt(e ast.Expr) (int64, bool) {
	v, ok := e.AsLiteral().(types.Int)
	return int64(v), ok && int64(v) >= 0
}
