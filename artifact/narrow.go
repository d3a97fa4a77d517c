package artifact

import (
	"slices"
)

// Contains reports whether child is nowhere wider than s: each target of child is one of s, with no operation more,
// code and parameters pinned wherever s pins them and to nothing else, no variable more, in the same directory.
func (s Scope) Contains(child Scope) bool {
	if len(child) == 0 {
		return false // an empty scope is malformed, not narrow
	}
	for _, c := range child {
		p, ok := s.find(c.Target)
		if !ok || !p.Terms.contains(c.Terms) {
			return false
		}
	}
	return true
}

// delegates reports whether each target of child is one that s may delegate.
func (s Scope) delegates(child Scope) bool {
	return !slices.ContainsFunc(child, func(c Permission) bool {
		p, ok := s.find(c.Target)
		return !ok || p.Terms.Operations&Delegate == 0
	})
}

func (s Scope) find(target string) (Permission, bool) {
	i := slices.IndexFunc(s, func(p Permission) bool { return p.Target == target })
	if i < 0 {
		return Permission{}, false
	}
	return s[i], true
}

func (t Terms) contains(child Terms) bool {
	if child.Operations == 0 || child.Operations&^t.Operations != 0 {
		return false
	}
	if len(t.Code) > 0 && (len(child.Code) == 0 || !subset(child.Code, t.Code, Digest.Equal)) {
		return false
	}
	if t.Parameters != nil && (child.Parameters == nil || !child.Parameters.Equal(*t.Parameters)) {
		return false
	}
	same := func(a, b string) bool { return a == b }
	return subset(child.Constraints.env(), t.Constraints.env(), same) && child.Constraints.directory() == t.Constraints.directory()
}

func subset[T any](small, large []T, equal func(a, b T) bool) bool {
	return !slices.ContainsFunc(small, func(x T) bool {
		return !slices.ContainsFunc(large, func(y T) bool { return equal(x, y) })
	})
}

func (c *Constraints) env() []string {
	if c == nil {
		return nil
	}
	return c.Env
}

func (c *Constraints) directory() string {
	if c == nil || c.Directory == "" {
		return "/"
	}
	return c.Directory
}
