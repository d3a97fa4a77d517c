package denial

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// TestA22_StrangersSeeTheConditionOnly: for one condition the bytes are the same, whatever was refused and why.
func TestA22_StrangersSeeTheConditionOnly(t *testing.T) {
	seen := map[Condition]string{}
	for _, r := range All() {
		d := New(r, "detail of %s", r).At(StageQuote)
		d.Requirements = []string{"requirement"}
		data, status := Stranger(d).Encode()
		c := r.Condition()
		if first, ok := seen[c]; ok && first != string(data) {
			t.Errorf("%s: got %s, want %s", r, data, first)
		}
		seen[c] = string(data)
		if (status != 403) != (c == ConditionUndecidable) || status < 400 {
			t.Errorf("%s: status %d", r, status)
		}
		for _, secret := range []string{r.String(), r.Meaning(), r.Hint(), "detail", "requirement", "logged", "stage", "code"} {
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s: a stranger is told %q: %s", r, secret, data)
			}
		}
	}
	if len(seen) != 9 {
		t.Errorf("%d conditions", len(seen))
	}
	zero, _ := Stranger(nil).Encode()
	if string(zero) != seen[ConditionUndecidable] {
		t.Errorf("nil: %s", zero)
	}
}

func TestAKnownCallerSeesEverything(t *testing.T) {
	for _, r := range All() {
		d := New(r, "detail of %d", r.Code()).At(StageAppraisal)
		d.Requirements = []string{"one", "two"}
		p := Known(d)
		p.Logged, p.LogIndex, p.RequestID, p.Statement = true, 7, []byte{1}, []byte{0xd2, 0xff}
		data, status := p.Encode()
		if status < 400 || status > 599 {
			t.Errorf("%s: status %d", r, status)
		}
		got, err := ParseProblem(data)
		if err != nil {
			t.Fatal(err)
		}
		again, _ := got.Encode()
		if !bytes.Equal(again, data) {
			t.Errorf("%s: read %s, want %s", r, again, data)
		}
		back := got.Denial()
		if back.Reason != r || back.Stage != StageAppraisal || back.Detail != d.Detail || len(back.Requirements) != 2 {
			t.Errorf("got %+v, want %+v", back, d)
		}
	}
}

// TestAPlaceMayHaveItsOwnHint: what a place says to try reaches the caller instead of what its reason says.
func TestAPlaceMayHaveItsOwnHint(t *testing.T) {
	plain := New(DualControlMissing, "it is over")
	own := plain.Try("Hold another ceremony.")
	if plain.Hint() != DualControlMissing.Hint() || own.Hint() != "Hold another ceremony." || own.At(StageAppraisal).Hint() != own.Hint() || own.Detail != plain.Detail || !Is(own, DualControlMissing) {
		t.Errorf("got %q and %q", plain.Hint(), own.Hint())
	}
	data, _ := Known(own).Encode()
	p, err := ParseProblem(data)
	if err != nil || p.Hint != own.Hint() || p.Denial().Hint() != own.Hint() {
		t.Errorf("got %s, %v", data, err)
	}
	if stranger, _ := Stranger(own).Encode(); bytes.Contains(stranger, []byte("ceremony")) {
		t.Errorf("a stranger is told %s", stranger)
	}
	p.Hint = "evil\x1b[2J"
	if got := p.Denial().Hint(); strings.ContainsRune(got, 0x1b) {
		t.Errorf("got %q", got)
	}
}

func TestAProblemAsJSON(t *testing.T) {
	d := New(AuditUnavailable, "the disk is full").At(StageTransaction)
	p := Known(d)
	p.RequestID = []byte{0xfb, 0xef, 0xff}
	data, status := p.Encode()
	want := `{"type":"https://github.com/governed-execution/writ/blob/main/docs/denials.md#902",` +
		`"title":"The log cannot take the record, so nothing may leave.","status":503,"condition":"undecidable",` +
		`"code":902,"name":"AUDIT_UNAVAILABLE","stage":11,"detail":"the disk is full",` +
		`"hint":"Try again later; the operator finds the cause with \"writd doctor\", often a full or read-only disk.",` +
		`"request_id":"--__","logged":false}`
	if string(data) != want || status != 503 {
		t.Errorf("got  %s\nwant %s", data, want)
	}
	data, _ = Stranger(New(NotEnrolled, "x")).Encode()
	want = `{"type":"https://github.com/governed-execution/writ/blob/main/docs/denials.md#missing","title":"missing",` +
		`"status":403,"condition":"missing"}`
	if string(data) != want {
		t.Errorf("got  %s\nwant %s", data, want)
	}
	data, _ = Known(nil).Encode()
	if !json.Valid(data) || !bytes.Contains(data, []byte(`"code":901`)) {
		t.Errorf("nil: %s", data)
	}
}

func TestWhateverAProblemSaysItIsARefusal(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want Reason
	}{
		"unknown code":         {`{"title":"t","condition":"c","code":999,"name":"NEW_REASON","logged":true}`, Internal},
		"code zero":            {`{"title":"t","condition":"c","code":0}`, Internal},
		"code beyond 16 bits":  {`{"title":"t","condition":"c","code":65837}`, Internal},
		"negative code":        {`{"title":"t","condition":"c","code":-301}`, Internal},
		"success status":       {`{"title":"t","condition":"c","status":200,"code":301}`, SignatureInvalid},
		"members of an allow":  {`{"title":"t","condition":"c","code":301,"artifact":"0oQ","allowed":true}`, SignatureInvalid},
		"name of another code": {`{"title":"t","condition":"c","code":301,"name":"EXPIRED"}`, SignatureInvalid},
		"a stranger's":         {`{"title":"t","condition":"expired"}`, Internal},
	} {
		p, err := ParseProblem([]byte(c.body))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := p.Denial(); d == nil || d.Reason.Code() != c.want.Code() {
			t.Errorf("%s: got %v, want %s", name, d, c.want)
		}
	}
	for name, body := range map[string]string{
		"nothing": "", "null": "null", "array": "[]", "HTML": "<html>", "empty": "{}", "two documents": `{"title":"t","condition":"c"}{}`,
		"fractional code": `{"title":"t","condition":"c","code":301.5}`, "padded base64": `{"title":"t","condition":"c","statement":"AA=="}`,
		"too long": `{"title":"` + strings.Repeat("x", MaxProblem) + `","condition":"c"}`, "no condition": `{"title":"t"}`,
	} {
		if _, err := ParseProblem([]byte(body)); err == nil || Of(err).Reason != Internal {
			t.Errorf("%s: got %v, want a fault", name, err)
		}
	}
}

func TestAPeersTextCannotReachTheTerminal(t *testing.T) {
	evil := "\x1b[2J\r\nallowed\u202e" + strings.Repeat("x", 1000)
	data, _ := (&Problem{Type: "t", Title: "t", Condition: "c", Details: &Details{Code: 301, Detail: evil, Requirements: []string{evil}}}).Encode()
	p, err := ParseProblem(data)
	if err != nil {
		t.Fatal(err)
	}
	d := p.Denial()
	for _, text := range append(d.Requirements, d.Error()) {
		if strings.ContainsAny(text, "\x1b\r\n\u202e") || len(text) > 600 {
			t.Errorf("got %q", text)
		}
	}
}

func FuzzParseProblem(f *testing.F) {
	for _, r := range []Reason{Expired, Internal} {
		known, _ := Known(New(r, "x")).Encode()
		stranger, _ := Stranger(New(r, "x")).Encode()
		f.Add(known)
		f.Add(stranger)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseProblem(data)
		if err != nil {
			return
		}
		d := p.Denial()
		if d == nil || d.Error() == "" {
			t.Errorf("%q is no refusal: %v", data, d)
		}
	})
}
