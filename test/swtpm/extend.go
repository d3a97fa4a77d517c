package swtpm

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Extend is one TPM2_PCR_Extend: the digest for each bank, by name.
type Extend struct {
	PCR     int
	Digests map[string][]byte
}

// ExtendAll extends PCRs in the order of the list. No client may be connected: swtpm would make this one wait.
func (t *TPM) ExtendAll(ctx context.Context, list []Extend) error {
	return t.converse(ctx, func(conn transport.TPM) error {
		for i, e := range list {
			if err := e.send(conn); err != nil {
				return fmt.Errorf("extending PCR %d (entry %d): %w", e.PCR, i, err)
			}
		}
		return nil
	})
}

func (e Extend) send(conn transport.TPM) error {
	digests := make([]tpm2.TPMTHA, 0, len(e.Digests))
	for _, bank := range []string{"sha1", "sha256", "sha384", "sha512"} {
		if d, ok := e.Digests[bank]; ok {
			digests = append(digests, tpm2.TPMTHA{HashAlg: bankAlg(bank), Digest: d})
		}
	}
	if len(digests) == 0 || len(digests) != len(e.Digests) {
		return fmt.Errorf("no digest, or one for an unknown bank")
	}
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(e.PCR), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: digests},
	}.Execute(conn)
	return err
}

func bankAlg(bank string) tpm2.TPMAlgID {
	switch bank {
	case "sha1":
		return tpm2.TPMAlgSHA1
	case "sha384":
		return tpm2.TPMAlgSHA384
	case "sha512":
		return tpm2.TPMAlgSHA512
	}
	return tpm2.TPMAlgSHA256
}

// shutdown sends TPM2_Shutdown, so that the clock does not go back at the next start.
func (t *TPM) shutdown(ctx context.Context) error {
	return t.converse(ctx, func(conn transport.TPM) error {
		_, err := tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(conn)
		return err
	})
}

// converse connects, runs f and disconnects, within ten seconds.
func (t *TPM) converse(ctx context.Context, f func(transport.TPM) error) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", t.Socket)
	if err != nil {
		return fmt.Errorf("dialing swtpm: %w", err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return fmt.Errorf("dialing swtpm: %w", err)
	}
	return f(transport.FromReadWriter(conn))
}
