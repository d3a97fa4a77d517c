// Command demo tells the whole path on real parts, for a newcomer: a software TPM, a PKCS#11 token, the three binaries.
// Whatever it prints happened; the first thing that does not go as told ends it with a fault.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

func main() {
	bin := flag.String("bin", "bin", "directory of writd, writ and writ-gate")
	keep := flag.Bool("keep", false, "keep the working directory and say where it is")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *bin, *keep, nil); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		os.Exit(1)
	}
}

// run tells all chapters. After them, while everything is still there, it calls after, if that is given.
func run(ctx context.Context, bin string, keep bool, after func(*demo) error) (err error) {
	begun := time.Now()
	bin, err = filepath.Abs(bin)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "writ-demo-")
	if err != nil {
		return err
	}
	d := &demo{dir: dir, bin: bin, out: os.Stdout}
	defer func() {
		err = errors.Join(err, d.close())
		if keep || err != nil {
			fmt.Fprintf(os.Stderr, "working directory kept: %s\n", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	for _, chapter := range []func(context.Context) error{d.parts, d.issuer, d.enrol, d.policies, d.permit, d.breakGlass, d.delegation, d.denials, d.audit} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	if after != nil {
		if err := after(d); err != nil {
			return err
		}
	}
	d.title("Done in %.0f s. Every line above came from the programs themselves.", time.Since(begun).Seconds())
	return nil
}
