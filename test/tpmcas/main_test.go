package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/governed-execution/writ/test/need"
)

// The table in the project is what the program makes of the corpus.
func TestTableIsTheOneOfTheCorpus(t *testing.T) {
	corpus := need.Corpus(t)
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
