// Package secret lets a test search for secrets where they must not be.
package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Set holds what must be nowhere, by name, in every form in which a program may write bytes.
type Set map[string][][]byte

// Add puts a secret into the set.
func (s Set) Add(name string, secret []byte) {
	quoted, numbers := fmt.Sprintf("%q", secret), strings.Trim(fmt.Sprint(secret), "[]")
	forms := []string{string(secret), hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)), quoted[1 : len(quoted)-1],
		numbers, strings.ReplaceAll(numbers, " ", ", "), strings.ReplaceAll(numbers, " ", ",")}
	for before := range 3 { // base64 has three forms, by what stands before; the characters that others share are cut off
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			form := encoding.EncodeToString(append(make([]byte, before), secret...))
			if (before+len(secret))%3 != 0 {
				form = form[:len(form)-1]
			}
			forms = append(forms, form[(8*before+5)/6:])
		}
	}
	for _, form := range forms {
		s[name] = append(s[name], []byte(form))
	}
}

// In names the secrets that are in a text, also across its lines.
func (s Set) In(text []byte) (found []string) {
	joined := bytes.ReplaceAll(text, []byte("\n"), nil)
	for name, forms := range s {
		if slices.ContainsFunc(forms, func(form []byte) bool { return bytes.Contains(text, form) || bytes.Contains(joined, form) }) {
			found = append(found, name)
		}
	}
	return found
}

// Without returns the set but for the secrets whose name begins with a prefix.
func (s Set) Without(prefix string) Set {
	out := Set{}
	for name, forms := range s {
		if !strings.HasPrefix(name, prefix) {
			out[name] = forms
		}
	}
	return out
}
