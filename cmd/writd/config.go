package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/settings"
)

// config is writd.toml. Whoever can change it can make the issuer load another module, log or TLS key; no artifact
// verifies then at those who pinned genesis, but the service is theirs.
type config struct {
	URL         string        `toml:"url"`          // https address that hosts and gates use; stands in artifacts
	Listen      string        `toml:"listen"`       // address and port of the public listener
	AdminSocket string        `toml:"admin_socket"` // Unix socket for exports, metrics and health; default none
	Log         string        `toml:"log"`          // database file
	TLSCert     string        `toml:"tls_cert"`     // PEM chain
	TLSKey      string        `toml:"tls_key"`      // PEM key, readable by the owner alone
	TPMRoots    []string      `toml:"tpm_roots"`    // PEM files of TPM vendor roots; only those named in genesis count
	Profile     string        `toml:"profile"`      // "regulated" refuses tokens that do not keep keys in hardware; default none
	Token       tokenConfig   `toml:"token"`
	Limits      limitsConfig  `toml:"limits"`
	Console     consoleConfig `toml:"console"` // pages for people; default none

	PublicEntries bool             `toml:"public_entries"` // serve entries, which name hosts and people, to anybody; default no
	ScrubHours    float64          `toml:"scrub_hours"`    // between two readings of the whole log; default 6
	TPM           string           `toml:"tpm"`            // device whose counter tells a log that was set back; default none
	TPMCounter    uint32           `toml:"tpm_counter"`    // NV index of the counter; default 0x01805752
	RetentionDays int              `toml:"retention_days"` // age at which payloads are deleted, at least 183; default never
	Witnesses     *witnessesConfig `toml:"witnesses"`      // who must cosign checkpoints; default nobody
}

type limitsConfig struct {
	Connections     int     `toml:"connections"`      // in all; default 1024
	PeerConnections int     `toml:"peer_connections"` // from one address; default 64
	Rate            float64 `toml:"rate"`             // requests a second, in all; default 2000
	PeerRate        float64 `toml:"peer_rate"`        // from one address; default 200
}

func loadConfig(path string) (*config, error) {
	data, err := command.ReadFile(path, command.Small)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	var c config
	if err := settings.Decode(data, &c); err != nil {
		return nil, fmt.Errorf("%w: reading %s: %w", errMisuse, path, err)
	}
	for _, need := range [][2]string{{"url", c.URL}, {"listen", c.Listen}, {"log", c.Log}} {
		if need[1] == "" {
			return nil, fmt.Errorf("%w: %s needs the key %s", errMisuse, path, need[0])
		}
	}
	if c.Profile != "" && c.Profile != regulated {
		return nil, fmt.Errorf("%w: %s: profile is %q, and the only one is %q", errMisuse, path, c.Profile, regulated)
	}
	if err := c.Token.check(path, "token"); err != nil {
		return nil, err
	}
	if c.RetentionDays != 0 && time.Duration(c.RetentionDays)*24*time.Hour < issuer.MinRetention {
		return nil, fmt.Errorf("%w: retention_days is at least %d", errMisuse, issuer.MinRetention/(24*time.Hour))
	}
	c.URL = strings.TrimSuffix(c.URL, "/")
	return &c, nil
}

// roots reads every certificate in the files of tpm_roots.
func (c *config) roots() ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for _, path := range c.TPMRoots {
		data, err := command.ReadFile(path, command.Small)
		if err != nil {
			return nil, fmt.Errorf("reading TPM roots: %w", err)
		}
		for {
			var block *pem.Block
			if block, data = pem.Decode(data); block == nil {
				break
			}
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("reading TPM roots in %s: %w", path, err)
			}
			all = append(all, cert)
		}
	}
	return all, nil
}

// expiry is for how long a trust file that writd prints is good.
const expiry = 90 * 24 * time.Hour
