package settings

import (
	"strings"
	"testing"
)

// A file is read as it is meant, or refused with the place.
func TestDecode(t *testing.T) {
	for text, want := range map[string]string{
		"name = \"a\"\n":                "",
		"name = \"a\"\n[more]\nb = 1\n": `line 2, column 2: unknown key "more"`,
		"name = \"a\"\nnane = \"b\"\n":  `line 2, column 1: unknown key "nane"`,
		"name = \n":                     "line 1, column",
		"name = 7\n":                    "line 1, column 8",
	} {
		var f struct {
			Name string `toml:"name"`
		}
		if err := Decode([]byte(text), &f); want == "" && (err != nil || f.Name != "a") || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%q: got %+v, %v; want %q", text, f, err, want)
		}
	}
}
