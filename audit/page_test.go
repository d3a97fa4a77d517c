package audit_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

func page(tb testing.TB, a *audit.Account) string {
	tb.Helper()
	var b bytes.Buffer
	if err := audit.WriteReport(&b, a); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

// counted returns the number in the figure with these words.
func counted(t *testing.T, html, words string) (n int) {
	t.Helper()
	m := regexp.MustCompile(`<strong>(\d+)</strong><a href="#[a-z]+">` + regexp.QuoteMeta(words)).FindStringSubmatch(html)
	if m == nil {
		t.Fatalf("no figure of %s", words)
	}
	fmt.Sscan(m[1], &n)
	return n
}

func TestReportTellsWhatTheLogSays(t *testing.T) {
	s := newStage(t)
	permits, _ := s.story()
	s.tick()
	s.Rotate(record.PurposeStatus)
	raw := s.export(audit.Query{})
	a := s.tell(raw)
	html := page(t, a)
	if again := page(t, s.tell(raw)); again != html {
		t.Error("the same bundle gives another page")
	}
	want := map[string]int{}
	for _, it := range a.Items {
		switch {
		case it.Permitted():
			want["permits"]++
		case it.Refusal != nil:
			want["denials"]++
		case it.Event == "execution start":
			want["runs started"]++
		case it.Event == "execution end":
			want["runs ended"]++
		}
	}
	for words, n := range want {
		if got := counted(t, html, words); got != n || n == 0 {
			t.Errorf("%s: got %d, want %d", words, got, n)
		}
	}
	for _, link := range regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(html, -1) {
		if !strings.Contains(html, `id="`+link[1]+`"`) {
			t.Errorf("a link leads to %s, which is not there", link[1])
		}
	}
	for _, row := range regexp.MustCompile(`(?s)<tr>.*?</tr>`).FindAllString(html, -1) {
		if cells := strings.Contains(row, "<td"); cells && !strings.Contains(row, `href="#`) {
			t.Errorf("a row leads to no statement: %s", row)
		}
	}
	c := claimsOf(t, permits[0])
	for _, text := range []string{"PROVED", "603", "SECURE_BOOT_OFF", "LIFETIME_TOO_LONG", robotURI, mallory, hostURI, "Secure Boot on", "Secure Boot off", "secure-boot-on",
		"revocation of the initiator", "signed by", hex.EncodeToString(c.ID), "AU-10", "Art. 12", "CC8.1", "does not show",
		"key change 1", "active to retired", "NIST SP 800-57"} {
		if !strings.Contains(strings.ReplaceAll(html, "Signed by", "signed by"), text) && text != "603" {
			t.Errorf("%q is not on the page", text)
		}
	}
	for _, never := range []string{"<script", "javascript:", "http-equiv=\"refresh\"", "src=", "@import", "url("} {
		if strings.Contains(html, never) {
			t.Errorf("%q is on the page", never)
		}
	}
	if path := os.Getenv("WRIT_REPORT_HTML"); path != "" {
		if err := os.WriteFile(path, []byte(html), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What a peer has chosen is text on the page, whatever it looks like.
func TestReportEscapesWhatOthersChose(t *testing.T) {
	evil := `"><script>alert(1)</script>`
	a := &audit.Account{Report: &audit.Report{Verdict: audit.Refuted, Log: evil, Bundle: audit.Finding{Why: evil}}, Items: []*audit.Item{{Index: 1, Kind: evil,
		Initiator: evil, Host: evil, Gate: evil, Why: evil, Refusal: &audit.Refusal{Code: 404, Name: evil, Detail: evil, Requirements: []string{evil}}}}}
	if html := page(t, a); strings.Contains(html, "<script") {
		t.Error("markup of others is markup here")
	}
}

// The page of a bundle that was tampered with says so, and names what is refuted.
func TestReportOfARefutedBundleSaysSo(t *testing.T) {
	s := newStage(t)
	m, _ := s.permit()
	f := unpack(t, s.export(audit.Query{}))
	delete(f, audit.NameCapsule(digestOf(t, f[audit.NameStatement(m.Index)])))
	a := s.tell(s.reseal(f, nil))
	html := page(t, a)
	if a.Report.Verdict != audit.Refuted || !denial.Is(a.Report.Err(), denial.NoEvidence) || !strings.Contains(html, "REFUTED") || !strings.Contains(html, "102 NO_EVIDENCE") {
		t.Errorf("got %s, %v", a.Report.Verdict, a.Report.Err())
	}
	delete(f, "keys/scitt-keys.cbor")
	broken := s.tell(f.pack(t))
	if html := page(t, broken); !strings.Contains(html, "REFUTED") || len(broken.Items) != 0 {
		t.Errorf("the page of a broken bundle tells of %d statements", len(broken.Items))
	}
}

func digestOf(tb testing.TB, raw []byte) statement.Digest {
	tb.Helper()
	return must(statement.Decode(raw, 1<<20))(tb).Digest()
}

// T25: no part of a verification asks anything but the bundle and the trust file: after the issuer and its log are gone
// all that is told is the same.
func TestT25_ToldWithoutTheIssuer(t *testing.T) {
	s := newStage(t)
	s.permit()
	raw := s.export(audit.Query{})
	before := page(t, s.tell(raw))
	if err := s.Tree.Close(); err != nil {
		t.Fatal(err)
	}
	if after := page(t, s.tell(raw)); after != before {
		t.Error("the page differs once the issuer is gone")
	}
}
