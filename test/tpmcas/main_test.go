package main

import (
	"bytes"
	"os"
	"testing"
)

// The table in the project is what the program makes of the corpus.
func TestTableIsTheOneOfTheCorpus(t *testing.T) {
	corpus := os.Getenv("WRIT_CORPUS")
	if corpus == "" && (os.Getenv("CI") == "true" || os.Getenv("REQUIRE_ALL") == "1") {
		t.Fatal("WRIT_CORPUS does not say where the corpus is")
	} else if corpus == "" {
		t.Skip("WRIT_CORPUS does not say where the corpus is")
	}
	got, err := makeTable(corpus)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../../firmware-policy/tpm-cas.tsv")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("go generate ./firmware-policy makes another table")
	}
}
