package firmwarepolicy

import (
	"bytes"
	"errors"
	"testing"

	"github.com/governed-execution/writ/denial"
)

func checkDocument(t *testing.T, d *Document, err error) {
	t.Helper()
	if err != nil {
		var refusal *denial.Denial
		if d != nil || !errors.As(err, &refusal) {
			t.Fatalf("got %v, %v", d, err)
		}
		return
	}
	again, err := Decode(d.Canonical())
	if err != nil || again.Hash() != d.Hash() {
		t.Fatalf("an accepted policy does not decode: %v", err)
	}
	text, err := d.TOML()
	if err != nil {
		t.Fatal(err)
	}
	if parsed, err := ParseTOML(text); err != nil || parsed.Hash() != d.Hash() {
		t.Fatalf("an accepted policy does not parse from its own TOML: %v\n%s", err, text)
	}
	Lint(d, 0)
}

func FuzzParseTOML(f *testing.F) {
	f.Add([]byte(appraisalTOML))
	f.Add([]byte(authorizationTOML))
	f.Add([]byte("schema = 1\nkind = \"appraisal\"\n[[require]]\nexpr = 'facts.pcr[4] == \"\"'"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ParseTOML(data)
		checkDocument(t, d, err)
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(mustParse(f, appraisalTOML).Canonical())
	f.Add(mustParse(f, authorizationTOML).Canonical())
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Decode(data)
		checkDocument(t, d, err)
		if err == nil && !bytes.Equal(d.Canonical(), data) {
			t.Fatal("two encodings of one policy are accepted")
		}
	})
}

func FuzzRunTests(f *testing.F) {
	d := mustParse(f, appraisalTOML)
	facts, _ := EncodeFacts(goodClaims())
	f.Add([]byte(appraisalCases))
	f.Fuzz(func(t *testing.T, file []byte) {
		results, err := RunTests(d, file, func(string) ([]byte, error) { return facts, nil })
		if (len(results) == 0) == (err == nil) {
			t.Fatalf("got %v, %v", results, err)
		}
	})
}
