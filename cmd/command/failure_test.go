package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/denial"
)

// TestFailuresAreToldToPeopleAndMachines: what went wrong and what to try, with the exit status.
func TestFailuresAreToldToPeopleAndMachines(t *testing.T) {
	cmd := &cobra.Command{Use: "writ"}
	for name, row := range map[string]struct {
		err  error
		want Failure
	}{
		"misuse":                {Misuse("give a file"), Failure{"misuse: give a file", "run writ --help", ExitMisuse}},
		"a fault with a remedy": {os.ErrNotExist, Failure{"file does not exist", Advice(os.ErrNotExist), ExitFault}},
		"another":               {errors.New("odd"), Failure{"odd", "see what it needs with writ --help", ExitFault}},
	} {
		for _, asJSON := range []bool{false, true} {
			var out, errs bytes.Buffer
			status := Report(cmd, row.err, asJSON, &out, &errs)
			if status != row.want.Exit || errs.String() != "writ: "+row.want.Error+"\nhint: "+row.want.Hint+"\n" {
				t.Errorf("%s: status %d, %q", name, status, errs.String())
			}
			var got Failure
			if err := json.Unmarshal(out.Bytes(), &got); asJSON && (err != nil || got != row.want) || !asJSON && out.Len() > 0 {
				t.Errorf("%s: got %q", name, out.String())
			}
		}
	}
}

// TestFilesAreReadUpToALimit: of what is longer no more is read, whether its size is known before or not.
func TestFilesAreReadUpToALimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := ReadFile(path, 5); err != nil || string(data) != "12345" {
		t.Errorf("got %q, %v", data, err)
	}
	if _, err := ReadFile(path, 4); !denial.Is(err, denial.StructureLimit) {
		t.Errorf("got %v", err)
	}
	if _, err := ReadAll(strings.NewReader("12345"), 4); !denial.Is(err, denial.StructureLimit) {
		t.Errorf("got %v", err)
	}
	if _, err := ReadFile(filepath.Dir(path), 4); Advice(err) != "that is a directory: name a file" {
		t.Errorf("got %v", err)
	}
	if _, err := ReadFile("/dev/zero", 1<<20); !denial.Is(err, denial.StructureLimit) {
		t.Errorf("got %v", err)
	}
}
