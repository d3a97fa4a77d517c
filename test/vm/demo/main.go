// Command demo tells on a real machine what Writ is for, for a newcomer: a virtual machine boots a signed image, enrols,
// gets an artifact and runs a program under the gate; boots into a changed image, which its own firmware accepts, and is
// denied; and passes again after people have published what the changed image must measure. Whatever it prints happened;
// the first thing that does not go as told ends it with a fault.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/governed-execution/writ/test/softhsm"
	"github.com/governed-execution/writ/test/vm"
)

func main() {
	bin := flag.String("bin", "bin", "directory of writd, writ and writ-gate")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := run(ctx, *bin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		os.Exit(1)
	}
}

// limit is how long the demo may take. Where two processors have nothing else to do it takes less than two minutes.
const limit = 8 * time.Minute

// demo is the stage: an issuer on this machine, and one virtual machine.
type demo struct {
	dir, bin string
	out      io.Writer
	lab      *vm.Lab
	token    *softhsm.Token
	port     int
	server   *exec.Cmd
	machine  *vm.Machine
	boot     vm.Boot
	program  []byte // the program that may run
	tools    []vm.File
	first    string // path of the image that boots at first
	second   string // and of the changed one
}

func run(ctx context.Context, bin string, out io.Writer) (err error) {
	begun := time.Now()
	if bin, err = filepath.Abs(bin); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "writ-vm-")
	if err != nil {
		return err
	}
	d := &demo{dir: dir, bin: bin, out: out}
	defer func() { err = errors.Join(err, d.close(), os.RemoveAll(dir)) }()
	for _, chapter := range []func(context.Context) error{d.parts, d.issuer, d.powerOn, d.enrol, d.policies, d.permit, d.change, d.update, d.audit} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	d.title("Done in %.0f s. Every line above came from the programs themselves.", time.Since(begun).Seconds())
	return nil
}

func (d *demo) close() error {
	var err error
	if d.machine != nil {
		err = d.machine.Close()
	}
	if d.server != nil {
		err = errors.Join(err, d.server.Process.Signal(os.Interrupt), d.server.Wait())
	}
	return err
}
