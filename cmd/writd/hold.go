package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
)

func holdCommand(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hold",
		Short: "Keep payloads from being deleted while a legal hold lasts",
		Long: `With retention_days in the configuration, evidence, requests and decision inputs are deleted when they are that old. A legal
hold keeps those of all entries from an index on. Placing and lifting one is logged. Statements are never deleted.`,
	}
	var h issuer.Hold
	place := &cobra.Command{
		Use:   "place NAME",
		Short: "Place a legal hold",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			h.Name = args[0]
			body, err := json.Marshal(h)
			if err != nil {
				return fmt.Errorf("writing hold: %w", err)
			}
			if _, err := askAdmin(cmd.Context(), *path, http.MethodPost, "/v1/holds", body); err != nil {
				return err
			}
			return output(cmd, h, fmt.Sprintf("held: payloads of entries from %d on", h.From))
		},
	}
	place.Flags().Uint64Var(&h.From, "from", 0, "first entry whose payloads are kept; 0 keeps all, the number of entries what comes from now on")
	place.Flags().StringVar(&h.Reason, "reason", "", "why, for the log")
	cmd.AddCommand(place, &cobra.Command{
		Use:   "lift NAME",
		Short: "Lift a legal hold",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := askAdmin(cmd.Context(), *path, http.MethodDelete, "/v1/holds?name="+url.QueryEscape(args[0]), nil); err != nil {
				return err
			}
			return output(cmd, issuer.Hold{Name: args[0]}, "lifted")
		},
	}, &cobra.Command{
		Use:   "list",
		Short: "List the legal holds",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			raw, err := askAdmin(cmd.Context(), *path, http.MethodGet, "/v1/holds", nil)
			if err != nil {
				return err
			}
			var all []issuer.Hold
			if err := json.Unmarshal(raw, &all); err != nil {
				return fmt.Errorf("reading holds: %w", err)
			}
			text := "no holds"
			for n, h := range all {
				if n == 0 {
					text = ""
				}
				text += fmt.Sprintf("%q  entries from %d on  %q\n", h.Name, h.From, h.Reason)
			}
			return output(cmd, all, text)
		},
	})
	return cmd
}

// askAdmin asks the writd that is serving, over its admin socket.
func askAdmin(ctx context.Context, config, method, route string, body []byte) ([]byte, error) {
	c, err := loadConfig(config)
	if err != nil {
		return nil, err
	}
	if c.AdminSocket == "" {
		return nil, fmt.Errorf("%w: the configuration names no admin_socket", errMisuse)
	}
	web := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", c.AdminSocket)
	}}}
	req, err := http.NewRequestWithContext(ctx, method, "http://writd"+route, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("asking writd: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := web.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking writd, which must be serving: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("asking writd: %w", err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		var p denial.Problem
		if err := json.Unmarshal(raw, &p); err != nil || p.Details == nil {
			return nil, fmt.Errorf("asking writd: status %d", resp.StatusCode)
		}
		return nil, p.Denial()
	}
	return raw, nil
}
