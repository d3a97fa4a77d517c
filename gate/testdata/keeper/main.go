// Command keeper keeps the programs of the tests of package gate, which are started by a test and not by a main function.
package main

import (
	"os"

	"github.com/governed-execution/writ/gate"
)

func main() {
	if status, kept := gate.Keep(os.Args); kept {
		os.Exit(status)
	}
}
