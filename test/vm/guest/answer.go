package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/vm/talk"
)

const tpmDevice = "/dev/tpmrm0"

// answer says that the guest is ready and answers requests until the machine goes off.
func answer(port io.ReadWriter) error {
	if _, err := fmt.Fprintf(port, "\n%s\n", talk.Ready); err != nil {
		return fmt.Errorf("writing to the test: %w", err)
	}
	in := bufio.NewReaderSize(port, 1<<16)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("reading from the test: %w", err)
		}
		var q talk.Request
		if err := json.Unmarshal(line, &q); err != nil {
			return fmt.Errorf("reading a request: %w", err)
		}
		reply := perform(q)
		enc, err := json.Marshal(reply)
		if err != nil {
			return fmt.Errorf("writing a reply: %w", err)
		}
		if _, err := port.Write(append(enc, '\n')); err != nil {
			return fmt.Errorf("writing a reply: %w", err)
		}
		if err := leave(q.Op); err != nil {
			return err
		}
	}
}

// leave ends the machine if that was asked for. The reply is on its way in the serial port's buffer: a moment is left to it.
func leave(op string) error {
	how := map[string]int{talk.Off: syscall.LINUX_REBOOT_CMD_POWER_OFF, talk.Reboot: syscall.LINUX_REBOOT_CMD_RESTART}[op]
	if how == 0 {
		return nil
	}
	_ = syscall.Unmount("/data", 0) // may not be mounted
	syscall.Sync()
	time.Sleep(100 * time.Millisecond)
	return syscall.Reboot(how)
}

func perform(q talk.Request) talk.Reply {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	r, err := operate(ctx, q)
	if err != nil {
		r.Fault = err.Error()
	}
	return r
}

func operate(ctx context.Context, q talk.Request) (r talk.Reply, err error) {
	switch q.Op {
	case talk.Run:
		return run(ctx, q.Args)
	case talk.Put:
		if err := os.MkdirAll(filepath.Dir(q.Path), 0o700); err != nil {
			return r, err
		}
		return r, os.WriteFile(q.Path, q.Data, os.FileMode(q.Mode))
	case talk.Get:
		r.Data, err = os.ReadFile(q.Path)
		return r, err
	case talk.Off, talk.Reboot:
		return r, nil
	}
	tpm, err := attester.Open(ctx, tpmDevice)
	if err != nil {
		return r, err
	}
	defer tpm.Close()
	return withTPM(ctx, tpm, q)
}

func withTPM(ctx context.Context, tpm *attester.TPM, q talk.Request) (r talk.Reply, err error) {
	s := attest.Selection{Bank: q.Bank, PCRs: q.PCRs}
	switch q.Op {
	case talk.Enrol:
		e, err := tpm.Enrol(ctx, attester.EnrolOptions{})
		if err != nil {
			return r, err
		}
		r.Data, r.Kind = e.Request, uint8(e.EK.Kind)
		r.AK, err = tpm.AK(ctx)
		return r, err
	case talk.Activate:
		r.Data, err = tpm.Activate(ctx, attester.EKKind(q.Kind), q.Credential)
	case talk.PCRs:
		r.Values, err = tpm.PCRs(ctx, s)
	case talk.Collect:
		log, err := os.ReadFile(attester.BootLogPath)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // a missing one is sent as an empty one: the verifier must judge it
			return r, err
		}
		c, err := tpm.Collect(ctx, attester.CollectOptions{Challenge: q.Challenge, RequestDigest: statement.Digest(q.Request),
			Exporter: q.Exporter, Selection: s, Bind: q.Bind, EventLog: append([]byte{}, log...)})
		if err != nil {
			return r, err
		}
		r.Data = c.Evidence
	default:
		err = fmt.Errorf("there is no operation %q", q.Op)
	}
	return r, err
}

// run runs a program to its end.
func run(ctx context.Context, args []string) (r talk.Reply, err error) {
	if len(args) == 0 {
		return r, errors.New("running nothing")
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = []string{"PATH=/bin", "HOME=/tmp"}
	err = cmd.Run()
	r.Stdout, r.Stderr = stdout.Bytes(), stderr.Bytes()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.Status, err = exit.ExitCode(), nil
	}
	return r, err
}
