package arch

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// attacks counts the rows of each section of the list of attacks that this project holds itself against; Q01 is the first
// of section Q. A test that exercises a row has the row's id in its name or beside it.
var attacks = map[string]int{"Q": 23, "K": 24, "F": 25, "L": 28, "I": 8, "C": 40, "H": 20, "T": 26, "X": 24, "A": 25, "P": 23, "R": 20}

// untested are the rows that no test names, each with what there is of it. A row that gets a test leaves the list.
var untested = map[string]string{
	"R11": "make fuzz", "R12": "test/vm and test/interop hold ours against others", "R13": "make mutate", "R14": "make mutants",
	"X06": "a limit in docs/threat-model.md: shared libraries are not pinned",
}

var (
	rowID    = regexp.MustCompile(`(?:\b|Test|Fuzz|Benchmark|_)([QKFLICHTXAPR]\d\d)(?:\b|_)`)
	rowRange = regexp.MustCompile(`\b([QKFLICHTXAPR])(\d\d)–[QKFLICHTXAPR]?(\d\d)\b`)
)

// TestEveryAttackHasItsTest holds that each row is named by a test or stands in the list of those that are not, never both.
func TestEveryAttackHasItsTest(t *testing.T) {
	named := map[string]bool{}
	for _, text := range testTexts(t) {
		for _, m := range rowID.FindAllStringSubmatch(text, -1) {
			named[m[1]] = true
		}
		for _, m := range rowRange.FindAllStringSubmatch(text, -1) {
			from, _ := strconv.Atoi(m[2])
			to, _ := strconv.Atoi(m[3])
			for i := from; i <= to; i++ {
				named[row(m[1], i)] = true
			}
		}
	}
	rows := 0
	for section, n := range attacks {
		for i := 1; i <= n; i++ {
			id := row(section, i)
			switch _, excused := untested[id]; {
			case named[id] && excused:
				t.Errorf("%s has a test: take it off the list", id)
			case !named[id] && !excused:
				t.Errorf("%s has no test", id)
			}
			rows++
		}
	}
	if rows != 286 {
		t.Errorf("%d rows, there are 286", rows)
	}
	for id := range untested {
		if n, _ := strconv.Atoi(id[1:]); n < 1 || n > attacks[id[:1]] {
			t.Errorf("%s is no row", id)
		}
	}
}

func row(section string, i int) string {
	return section + string(rune('0'+i/10)) + string(rune('0'+i%10))
}

// testTexts returns what tests are written in: Go files of tests and of the helpers below test/, and scripts.
func testTexts(t *testing.T) (texts []string) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") && rel != "." {
				return filepath.SkipDir
			}
			return nil
		}
		if rel == "test/arch/rows_test.go" {
			return nil
		}
		script := strings.Contains(rel, "testdata/") && (strings.HasSuffix(rel, ".txt") || strings.HasSuffix(rel, ".txtar"))
		if !script && !strings.HasSuffix(rel, "_test.go") && !(strings.HasPrefix(rel, "test/") && strings.HasSuffix(rel, ".go")) {
			return nil
		}
		text, err := os.ReadFile(path)
		texts = append(texts, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}
