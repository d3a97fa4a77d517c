package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/governed-execution/writ/test/script"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"writd": main})
}

func TestScripts(t *testing.T) { script.Run(t, nil) }
