package corpus

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/governed-execution/writ/test/need"
)

// file is one row of the manifest.
type file struct {
	path, kind, polarity, what, expected string
}

// manifest returns the files of one kind.
func manifest(tb testing.TB, kind string) []file {
	tb.Helper()
	f, err := os.Open(filepath.Join(need.Corpus(tb), "MANIFEST.tsv"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma, r.LazyQuotes, r.FieldsPerRecord = '\t', true, -1
	rows, err := r.ReadAll()
	if err != nil {
		tb.Fatal(err)
	}
	column := func(name string) int {
		i := slices.Index(rows[0], name)
		if i < 0 {
			tb.Fatalf("the manifest has no column %s", name)
		}
		return i
	}
	path, kinds, polarity, what, expected := column("path"), column("kind"), column("polarity"), column("what"), column("expected")
	var files []file
	for _, row := range rows[1:] {
		if row[kinds] == kind {
			files = append(files, file{row[path], row[kinds], row[polarity], row[what], row[expected]})
		}
	}
	if len(files) == 0 {
		tb.Fatalf("the manifest has no files of kind %s", kind)
	}
	return files
}

// read returns the content of a file of the corpus.
func read(tb testing.TB, path string) []byte {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join(need.Corpus(tb), path))
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// readJSON decodes a file of the corpus.
func readJSON[T any](tb testing.TB, path string) T {
	tb.Helper()
	var v T
	if err := json.Unmarshal(read(tb, path), &v); err != nil {
		tb.Fatalf("reading %s: %v", path, err)
	}
	return v
}

// companion says of a file that is no evidence what it is, "" if it is evidence.
func companion(path string) string {
	for _, c := range []struct{ pattern, what string }{
		{".pcrs.json", "PCR values of the log beside it"},
		{".expected.json", "boot programs of the log beside it"},
		{".yaml", "the log beside it as tpm2_eventlog explains it"},
		{".warn", "a warning of tpm2_eventlog"},
		{"_out.json", "the log beside it as text"},
		{".table.bin", "an ACPI table"},
		{".md", "text"},
		{".txt", "text"},
		{"LICENSE", "text"},
		{".esl", "UEFI variables of the machine"},
		{"bundle.json", "the description of the bundle"},
		{"/ima_binary_runtime_measurements", "an IMA list, of which the verifier draws no facts"},
		{"ak-recovered.pem", "the key of the quote beside it"},
		{"quote.sig", "the signature of the quote beside it"},
		{"tpm-quote.sig", "the signature of the quote beside it"},
		{"hcl-report.bin", "the key of the quotes beside it"},
		{"vcek.pem", "a certificate of a processor"},
		{"vcek-genoa.pem", "a certificate of a processor"},
		{"basic.json", "reference values of the token beside it"},
		{"basic.pem.pub", "the key of the token beside it"},
		{"/binary_bios_measurements_15.json", "the log beside it as text"},
		{"/linux_event_log.json", "the log beside it as text"},
		{"/windows_event_log.json", "the log beside it as text"},
		{".cer.json", "the certificate beside it as text"},
	} {
		if strings.HasSuffix(path, c.pattern) {
			return c.what
		}
	}
	if strings.HasPrefix(path, "bundle/rust-keylime/") {
		return "a message with placeholders where evidence would be"
	}
	return ""
}
