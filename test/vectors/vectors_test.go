package vectors

import (
	"encoding/json"
	"slices"
	"testing"
)

const published = "v1"

// TestPublishedVectors runs every published vector.
func TestPublishedVectors(t *testing.T) {
	t.Parallel()
	all, err := Load(published)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[int]int{}
	for _, v := range all {
		codes[v.Code]++
		if err := Run(v); err != nil {
			t.Error(err)
		}
		if (v.Code == 0) != (v.Breaks == "") || (v.Code == 0) != (v.Says != "") || v.Signer != "swtpm" && v.Signer != "software" {
			t.Errorf("%s: an accepted vector says what it is, a refused one what it breaks, and both who signed", v.ID)
		}
	}
	if len(all) < 860 || codes[0] < 45 || len(codes) < 55 {
		t.Errorf("%d vectors, %d of them accepted, with %d codes: some are missing", len(all), codes[0], len(codes))
	}
}

// TestRunNoticesAnotherAnswer makes sure that a vector with another code fails.
func TestRunNoticesAnotherAnswer(t *testing.T) {
	t.Parallel()
	all, err := Load(published)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(all); i += 7 {
		v := all[i]
		if v.Code++; Run(v) == nil {
			t.Errorf("%s: passes with code %d too", v.ID, v.Code)
		}
	}
	if Run(Vector{ID: "empty", Code: 901}) == nil {
		t.Error("a vector without an input passes")
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Bytes{`"00ff"`: {0, 0xff}, `""`: {}, `"file:files/x.gz"`: Bytes("file:files/x.gz")} {
		var b Bytes
		if err := json.Unmarshal([]byte(text), &b); err != nil || !slices.Equal(b, want) {
			t.Errorf("%s: got %x, %v", text, b, err)
		}
		if again, err := json.Marshal(b); err != nil || string(again) != text {
			t.Errorf("%s: written as %s, %v", text, again, err)
		}
	}
	if json.Unmarshal([]byte(`"0g"`), new(Bytes)) == nil {
		t.Error("read what is not hexadecimal")
	}
}
