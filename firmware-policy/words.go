package firmwarepolicy

import (
	"path"
	"strings"
)

const maxName = 64

// checkName refuses what is not the name of a requirement or a rule: letters, digits and hyphens, lower case.
func checkName(what, name string) error {
	ok := name != "" && len(name) <= maxName && only(name, "abcdefghijklmnopqrstuvwxyz0123456789-") && name[0] != '-'
	if !ok {
		return refuse("%s name %q: use 1 to %d of a-z, 0-9 and -", what, name, maxName)
	}
	return nil
}

// checkSetName refuses what cannot follow "ref." in an expression.
func checkSetName(name string) error {
	ok := name != "" && len(name) <= maxName && only(name, "abcdefghijklmnopqrstuvwxyz0123456789_") && only(name[:1], "abcdefghijklmnopqrstuvwxyz")
	if !ok {
		return refuse("reference set name %q: use a-z, 0-9 and _, with a letter first", name)
	}
	return nil
}

// checkList refuses a list with too many entries, an empty entry or the same entry twice.
func checkList(what string, list []string) error {
	if len(list) > maxListItems {
		return refuse("%s has more than %d entries", what, maxListItems)
	}
	seen := map[string]bool{}
	for _, v := range list {
		if v == "" {
			return refuse("%s has an empty entry", what)
		}
		if seen[v] {
			return refuse("%s names %q twice", what, v)
		}
		seen[v] = true
	}
	return nil
}

// checkDigests refuses a list that holds anything but SHA-256 digests in lower-case hexadecimal.
func checkDigests(what string, list []string) error {
	for _, v := range list {
		if len(v) != 64 || !only(v, hexDigits) {
			return refuse("%s: %q is not a SHA-256 digest in lower-case hexadecimal", what, v)
		}
	}
	return checkList(what, list)
}

// checkURIs refuses an empty list, or one that holds anything but absolute URIs.
func checkURIs(what string, list []string) error {
	if len(list) == 0 {
		return refuse("%s is empty", what)
	}
	for _, v := range list {
		if !absolute(v) {
			return refuse("%s: %q is not an absolute URI", what, v)
		}
	}
	return checkList(what, list)
}

// checkVariables refuses a list that holds anything but names of environment variables: letters, digits and underscores,
// no digit first. Whether a name can inject code is for the scope of the request to say, which is checked before.
func checkVariables(what string, list []string) error {
	for _, v := range list {
		ok := v != "" && len(v) <= maxVariable && only(v, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") && (v[0] < '0' || v[0] > '9')
		if !ok {
			return refuse("%s: %q is not the name of a variable: use 1 to %d letters, digits and _, no digit first", what, v, maxVariable)
		}
	}
	return checkList(what, list)
}

// cleanDirectory reports whether a path is absolute and can be written in no other way.
func cleanDirectory(p string) bool {
	return path.IsAbs(p) && path.Clean(p) == p && len(p) <= maxDirPath && !strings.ContainsRune(p, 0)
}

const hexDigits = "0123456789abcdef"

// shouted reports whether s looks like a digest that is not written in lower case: no fact would ever equal it.
func shouted(s string) bool {
	low := strings.ToLower(s)
	return s != low && (len(s) == 40 || len(s) == 64 || len(s) == 96 || len(s) == 128) && only(low, hexDigits)
}

func only(s, allowed string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(allowed, r) })
}
