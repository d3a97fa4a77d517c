// Command make writes the vectors of package vectors into a directory. Evidence comes from swtpm, which boots each log
// that it quotes; what no TPM would sign is signed by a software AK. All keys are made here and thrown away.
//
//	go run ./test/vectors/make DIR
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"testing"
	"time"

	"github.com/governed-execution/writ/test/vectors"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: make DIR")
		os.Exit(2)
	}
	if err := run(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "making vectors:", err)
		os.Exit(3)
	}
}

// setup stands in for a test where packages of tests want one. A fault ends the program.
type setup struct {
	testing.TB
	ctx     context.Context
	cleanup []func()
}

func (s *setup) Helper()                      {}
func (s *setup) Cleanup(f func())             { s.cleanup = append(s.cleanup, f) }
func (s *setup) Context() context.Context     { return s.ctx }
func (s *setup) Fatal(args ...any)            { panic(fault(fmt.Sprint(args...))) }
func (s *setup) Fatalf(f string, args ...any) { panic(fault(fmt.Sprintf(f, args...))) }
func (s *setup) Skipf(f string, args ...any)  { s.Fatalf(f, args...) }
func (s *setup) Errorf(f string, args ...any) { s.Fatalf(f, args...) }
func (s *setup) end() {
	for _, f := range s.cleanup {
		f()
	}
}

// fault is a panic of Fatal.
type fault string

// must returns a value, or ends the program.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fault(err.Error()))
	}
	return v
}

func run(ctx context.Context, dir string) (err error) {
	s := &setup{ctx: ctx}
	defer s.end()
	defer func() {
		if f, ok := recover().(fault); ok {
			err = fmt.Errorf("%s", string(f))
		}
	}()
	out := &output{dir: dir}
	var wrong []error
	for _, part := range []struct {
		name, kind string
		make       func(*setup) []vectors.Vector
	}{
		{"evidence.json", "evidence", evidenceVectors}, {"eventlogs.json", "evidence", logVectors},
		{"measured.json", "evidence", measuredVectors}, {"sessions.json", "evidence", sessionVectors}, {"checkpoints.json", "checkpoint", checkpointVectors},
		{"enrolments.json", "enrolment", enrolmentVectors}, {"statements.json", "statement", statementVectors},
		{"artifacts.json", "artifact", artifactVectors}, {"status.json", "status", statusVectors},
		{"requests.json", "request", requestVectors}, {"possessions.json", "possession", possessionVectors},
		{"delegations.json", "delegation", delegationVectors},
	} {
		wrong = append(wrong, out.write(part.name, part.kind, part.make(s)))
	}
	if err := errors.Join(wrong...); err != nil {
		return err
	}
	return out.finish()
}

// output writes files. Byte strings that are long or shared stand in files of their own, named by their digest.
type output struct {
	dir   string
	files map[string]string
	seen  map[string]bool
}

// inline is the length from which a byte string stands in a file.
const inline = 300

func (o *output) write(name, kind string, list []vectors.Vector) error {
	var wrong []error
	for i := range list {
		v := &list[i]
		if o.seen == nil {
			o.seen, o.files = map[string]bool{}, map[string]string{}
		}
		if o.seen[v.ID] {
			return fmt.Errorf("two vectors have the id %q", v.ID)
		}
		o.seen[v.ID] = true
		if err := vectors.Run(*v); err != nil {
			wrong = append(wrong, err)
			continue
		}
		if err := o.spill(v); err != nil {
			return err
		}
	}
	if err := errors.Join(wrong...); err != nil {
		return err
	}
	o.files[name] = kind
	return o.json(name, vectors.File{Format: vectors.Format, Type: kind, Vectors: list})
}

func (o *output) spill(v *vectors.Vector) error {
	for _, b := range v.Large() {
		if len(*b) < inline {
			continue
		}
		name := "files/" + vectors.Digest(*b)[:16] + ".gz"
		path := filepath.Join(o.dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		var packed bytes.Buffer
		z := must(gzip.NewWriterLevel(&packed, gzip.BestCompression))
		if _, err := z.Write(*b); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		if err := os.WriteFile(path, packed.Bytes(), 0o644); err != nil {
			return err
		}
		*b = []byte("file:" + name)
	}
	return nil
}

func (o *output) json(name string, v any) error {
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.dir, name), append(text, '\n'), 0o644)
}

func (o *output) finish() error {
	return o.json("index.json", vectors.Index{Format: vectors.Format, Files: o.files, Made: time.Now().UTC().Format(time.RFC3339),
		About: "Inputs of a verifier of TPM evidence and COSE statements, each with the code it answers. See README.md."})
}
