package artifact

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Limits of a scope.
const (
	MaxPermissions = 32
	MaxCodes       = 64 // code digests of one permission
	MaxVariables   = 64 // environment names of one permission
	maxDirectory   = 1024
)

// Operations is a set of operation bits (the Tperm of RFC 9237).
type Operations uint64

// The operations.
const (
	Execute Operations = 1 << iota
	Read
	Write
	Net
	Delegate
	Spawn
	allOperations = 1<<iota - 1
)

var operationNames = [...]string{"execute", "read", "write", "net", "delegate", "spawn"}

// String returns the names of the operations, joined by plus signs.
func (o Operations) String() string {
	var names []string
	for i, n := range operationNames {
		if o&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return strings.Join(names, "+")
}

// ParseOperations reads what String wrote.
func ParseOperations(s string) (Operations, error) {
	var o Operations
	for _, name := range strings.Split(s, "+") {
		i := slices.Index(operationNames[:], name)
		if i < 0 || o&(1<<i) != 0 {
			return 0, fmt.Errorf("reading operations %q: want names among %s, each once", s, strings.Join(operationNames[:], ", "))
		}
		o |= 1 << i
	}
	return o, nil
}

// Scope is what may be done: an AIF (RFC 9237) with one permission for each target, sorted by target. In claims it is
// a byte string that holds this array. The zero Scope allows nothing and does not encode.
type Scope []Permission

// Permission is what may be done with one target.
type Permission struct {
	_      struct{} `cbor:",toarray"`
	Target string   // URI, matched exactly: file:, oci:, tool:, model:, …
	Terms  Terms
}

// Terms are the operations allowed and what narrows them. Terms of a later version are refused, not ignored.
type Terms struct {
	Operations  Operations   `cbor:"0,keyasint"`
	Code        []Digest     `cbor:"1,keyasint,omitempty"` // only these bytes may run; sorted; empty: not pinned
	Parameters  *Digest      `cbor:"2,keyasint,omitempty"` // only these parameters (see ParametersDigest); nil: not pinned
	Constraints *Constraints `cbor:"3,keyasint,omitempty"`
}

// Constraints are deterministic limits on how a program starts.
type Constraints struct {
	Env       []string `cbor:"env,omitempty"` // names of variables that may be passed on, sorted; all others are dropped
	Directory string   `cbor:"cwd,omitempty"` // working directory, absolute; empty means /
}

// ParametersDigest returns the digest that pins an argument vector: SHA-256("writ-argv-v1" ‖ CBOR array of byte
// strings), argv[0] included.
func ParametersDigest(argv []string) Digest {
	args := make([][]byte, len(argv))
	for i, a := range argv {
		args[i] = []byte(a)
	}
	enc, err := statement.Marshal(args)
	if err != nil {
		return Digest{} // matches nothing; an array of byte strings always encodes
	}
	h := sha256.Sum256(append([]byte("writ-argv-v1"), enc...))
	return SHA256Digest(h)
}

// Canonical returns a copy in canonical order: permissions by target, code digests and names sorted.
func (s Scope) Canonical() Scope {
	c := slices.Clone(s)
	for i, p := range c {
		c[i].Terms.Code = slices.Clone(p.Terms.Code)
		slices.SortFunc(c[i].Terms.Code, compareDigest)
		if k := p.Terms.Constraints; k != nil {
			env := slices.Clone(k.Env)
			slices.Sort(env)
			c[i].Terms.Constraints = &Constraints{Env: env, Directory: k.Directory}
		}
	}
	slices.SortFunc(c, func(a, b Permission) int { return strings.Compare(a.Target, b.Target) })
	return c
}

func compareDigest(a, b Digest) int {
	return cmp.Or(cmp.Compare(b.Algorithm, a.Algorithm), bytes.Compare(a.Value, b.Value))
}

// Check refuses a scope that is not canonical or not safe. In this order: 1 to MaxPermissions permissions (313) with
// sorted, unique targets (309); then for each: the target is a URI (404), its operations are known (911) and not none
// (404), its lists are within limits (313), sorted and unique (309), its digests valid (404), its environment holds no
// name that steers a loader or an interpreter (618, X05), it is no dynamic loader (619, X08), a file to execute has its code
// pinned (404), an interpreter also its parameters (619, X07).
func (s Scope) Check() error {
	if len(s) == 0 || len(s) > MaxPermissions {
		return denial.New(denial.StructureLimit, "a scope has 1 to %d permissions", MaxPermissions)
	}
	for i, p := range s {
		if i > 0 && s[i-1].Target >= p.Target {
			return denial.New(denial.NotCanonical, "the targets of the scope are not sorted and unique").Try("Sort the targets by their bytes, and name each once.")
		}
		if err := p.check(); err != nil {
			return err
		}
	}
	return nil
}

func (p Permission) check() error {
	if !isURI(p.Target) || !cleanFile(p.Target) {
		return denial.New(denial.ScopeDenied, "a target is not a URI, or a file target not an absolute clean path")
	}
	t := p.Terms
	switch {
	case t.Operations > allOperations:
		return denial.New(denial.UnsupportedVersion, "the scope names an operation that this version does not know")
	case t.Operations == 0:
		return denial.New(denial.ScopeDenied, "a permission without any operation")
	case len(t.Code) > MaxCodes:
		return denial.New(denial.StructureLimit, "a permission pins at most %d code digests", MaxCodes)
	case !ascending(t.Code, compareDigest):
		return denial.New(denial.NotCanonical, "code digests are not sorted and unique").Try("Sort the digests by their bytes, and name each once.")
	case slices.ContainsFunc(t.Code, func(d Digest) bool { return !d.Valid() }), t.Parameters != nil && !t.Parameters.Valid():
		return denial.New(denial.ScopeDenied, "a digest of the scope is of an unknown algorithm or wrong length")
	}
	if err := t.Constraints.check(); err != nil {
		return err
	}
	return p.checkProgram()
}

// checkProgram checks what concerns programs alone.
func (p Permission) checkProgram() error {
	base, isFile := fileBase(p.Target)
	if !isFile || p.Terms.Operations&Execute == 0 {
		return nil
	}
	switch {
	case IsLoader(base):
		return denial.New(denial.InterpreterUngoverned, "a dynamic loader is never a target")
	case len(p.Terms.Code) == 0:
		return denial.New(denial.ScopeDenied, "a file to execute needs the digest of its code")
	case IsInterpreter(base) && p.Terms.Parameters == nil:
		return denial.New(denial.InterpreterUngoverned, "an interpreter needs the digest of its parameters")
	}
	return nil
}

func (c *Constraints) check() error {
	switch {
	case c == nil:
		return nil
	case len(c.Env) == 0 && c.Directory == "":
		return denial.New(denial.NotCanonical, "empty constraints").Try("Leave the constraints out where there are none.")
	case len(c.Env) > MaxVariables || len(c.Directory) > maxDirectory:
		return denial.New(denial.StructureLimit, "at most %d variables, and %d bytes of directory", MaxVariables, maxDirectory)
	case !ascending(c.Env, strings.Compare):
		return denial.New(denial.NotCanonical, "environment names are not sorted and unique").Try("Sort the names by their bytes, and give each once.")
	case c.Directory != "" && (!path.IsAbs(c.Directory) || path.Clean(c.Directory) != c.Directory || strings.ContainsRune(c.Directory, 0)):
		return denial.New(denial.ScopeDenied, "the working directory is not an absolute clean path")
	}
	for _, name := range c.Env {
		if !isVariable(name) {
			return denial.New(denial.ScopeDenied, "an environment name is not of letters, digits and underscores")
		}
		if IsDangerousVariable(name) {
			return denial.New(denial.LoaderInjection, "the scope asks for an environment variable that can inject code")
		}
	}
	return nil
}

func ascending[T any](list []T, compare func(a, b T) int) bool {
	for i := 1; i < len(list); i++ {
		if compare(list[i-1], list[i]) >= 0 {
			return false
		}
	}
	return true
}

// cleanFile reports whether target is no file: URI, or one whose path is absolute and clean, without escapes, host,
// query or fragment: so that no loader or interpreter hides behind a second spelling.
func cleanFile(target string) bool {
	p, isFile := filePath(target)
	return !isFile || path.IsAbs(p) && !strings.HasPrefix(p, "//") && p != "/" && path.Clean(p) == p && !strings.ContainsAny(p, "%?#")
}

// filePath returns the path of a file: target, in the spelling file:/path or file:///path (RFC 8089).
func filePath(target string) (string, bool) {
	p, isFile := strings.CutPrefix(target, "file:")
	return strings.TrimPrefix(p, "//"), isFile // a host before the path leaves it relative, which cleanFile refuses
}

// fileBase returns the last element of the path of a file: target.
func fileBase(target string) (string, bool) {
	p, isFile := filePath(target)
	return path.Base(p), isFile
}

// MarshalCBOR encodes the scope as the byte string that claims hold, without Check: UnmarshalCBOR makes it, and so does
// whoever encodes claims.
func (s Scope) MarshalCBOR() ([]byte, error) {
	inner, err := statement.Marshal([]Permission(s))
	if err != nil {
		return nil, err
	}
	return statement.AppendBytes(nil, inner), nil
}

// UnmarshalCBOR decodes the byte string that claims hold.
func (s *Scope) UnmarshalCBOR(data []byte) (err error) {
	inner, ok := statement.BytesOf(data)
	if !ok {
		return denial.New(denial.PayloadForm, "the scope is not a byte string")
	}
	*s, err = DecodeScope(inner)
	return err
}

// Encode returns the scope as application/aif+cbor, after Check.
func (s Scope) Encode() ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	return statement.Marshal([]Permission(s))
}

// DecodeScope reads what Encode wrote: one encoding only, checked by Check.
func DecodeScope(data []byte) (Scope, error) {
	var w scopeArray
	if err := decodeStrict(data, &w); err != nil {
		return nil, err
	}
	return Scope(w), nil
}

// scopeArray is a Scope without the byte string around it.
type scopeArray []Permission

func (w *scopeArray) check() error { return Scope(*w).Check() }

// String renders the scope for people, one permission a line.
func (s Scope) String() string {
	var b strings.Builder
	for i, p := range s {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s %s", p.Terms.Operations, p.Target)
		for _, d := range p.Terms.Code {
			fmt.Fprintf(&b, " code=%s", d)
		}
		if p.Terms.Parameters != nil {
			fmt.Fprintf(&b, " parameters=%s", p.Terms.Parameters)
		}
		if c := p.Terms.Constraints; c != nil {
			fmt.Fprintf(&b, " env=%s cwd=%s", strings.Join(c.Env, ","), c.directory())
		}
	}
	return b.String()
}
