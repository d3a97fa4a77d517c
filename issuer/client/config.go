package client

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/governed-execution/writ/settings"
)

// Config is writ.toml: what hosts, gates and authorities would otherwise have to say with every command. Whoever can
// change it can send this machine to another issuer, whose answers no trust file accepts, and can make a gate read
// another trust file: keep it as safe as that.
type Config struct {
	Server    string `toml:"server"`    // https address of the issuer
	CA        string `toml:"ca"`        // PEM file: roots of the issuer's TLS certificate
	Issuer    string `toml:"issuer"`    // URI of the issuer, for acts
	TPM       string `toml:"tpm"`       // device or Unix socket; default /dev/tpmrm0
	EventLog  string `toml:"eventlog"`  // boot log; default that of Linux
	IMAList   string `toml:"imalist"`   // list of measured files; default that of Linux
	Host      string `toml:"host"`      // URI of this host
	Initiator string `toml:"initiator"` // URI of the initiator that asks from here
	Key       string `toml:"key"`       // its private key
	Audience  string `toml:"audience"`  // URI of the gate on this host
	Trust     string `toml:"trust"`     // trust file
	State     string `toml:"state"`     // state directory of the gate
	Cgroup    string `toml:"cgroup"`    // control group that is delegated to the gate, or "own"

	Callers map[string][]string `toml:"callers"` // initiator to the users of this host, by name or number, who may present to the gate what he was given; default: whoever can call the gate
}

// DefaultConfig is where Config is looked for; it need not exist there.
const DefaultConfig = "/etc/writ/writ.toml"

// ReadConfig reads a file strictly: an unknown key is an error with its line. Paths in it are relative to the file. A
// missing file is an empty Config only at DefaultConfig.
func ReadConfig(path string) (*Config, error) {
	data, err := readFile(path)
	if errors.Is(err, os.ErrNotExist) && path == DefaultConfig {
		return &Config{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	var c Config
	if err := settings.Decode(data, &c); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	for _, p := range []*string{&c.CA, &c.TPM, &c.EventLog, &c.IMAList, &c.Key, &c.Trust, &c.State} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(path), *p)
		}
	}
	return &c, nil
}

// maxFile is the most that is read of a configuration or of a file of certificates.
const maxFile = 4 << 20

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return data, err
}

// Open returns a client for the issuer at a URL whose TLS certificate chains to the PEM file.
func Open(server, ca string) (*Client, error) {
	data, err := readFile(ca)
	if err != nil {
		return nil, fmt.Errorf("reading roots of the issuer's TLS certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("reading roots of the issuer's TLS certificate: %s holds no PEM certificate", ca)
	}
	return New(server, pool)
}
