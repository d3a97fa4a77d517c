// Command table writes the table of recorded boots into a document.
package main

import (
	"fmt"
	"os"

	"github.com/governed-execution/writ/test/vm"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "table: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: table DOCUMENT")
	}
	verdicts, err := vm.Judge("testdata")
	if err != nil {
		return err
	}
	document, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	text, err := vm.Refresh(string(document), vm.Table(verdicts))
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], []byte(text), 0o644)
}
