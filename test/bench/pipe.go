package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// hosts is the other process.
type hosts struct {
	made made
	cmd  *exec.Cmd
	in   io.WriteCloser
	enc  *json.Encoder
	dec  *json.Decoder
}

func startHosts(ctx context.Context, kind string) (*hosts, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("starting hosts: %w", err)
	}
	h := &hosts{cmd: exec.CommandContext(ctx, self, "-token", kind, hostsCommand)}
	h.cmd.Stderr = os.Stderr
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("starting hosts: %w", err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting hosts: %w", err)
	}
	h.enc, h.dec = json.NewEncoder(h.in), json.NewDecoder(out)
	if err := h.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting hosts: %w", err)
	}
	if err := h.dec.Decode(&h.made); err != nil {
		return nil, errors.Join(fmt.Errorf("starting hosts: %w", err), h.close())
	}
	return h, nil
}

// order has the hosts do something and returns when they have.
func (h *hosts) order(o order) (r report, err error) {
	if err := h.enc.Encode(o); err != nil {
		return r, fmt.Errorf("ordering hosts: %w", err)
	}
	if err := h.dec.Decode(&r); err != nil {
		return r, fmt.Errorf("hearing from hosts: %w", err)
	}
	return r, nil
}

// enrol has every host enrol with the site.
func (h *hosts) enrol(s *site) error {
	_, err := h.order(order{Enrol: &enrolOrder{URL: s.url, CA: s.cert.Certificate[0]}})
	return err
}

func (h *hosts) close() error { return errors.Join(h.in.Close(), h.cmd.Wait()) }
