package attester

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/statement"
)

// BootLogPath is where Linux shows the event log of the firmware.
const BootLogPath = "/sys/kernel/security/tpm0/binary_bios_measurements"

// OSLogPath is where systemd logs what it measures while the system runs.
const OSLogPath = "/run/log/systemd/tpm2-measure.log"

// IMALogPath is where Linux shows the list of files that it measured.
const IMALogPath = "/sys/kernel/security/ima/binary_runtime_measurements"

// imaPCR is the PCR that the list is about.
const imaPCR = 10

// CollectOptions say what evidence is wanted, and for what.
type CollectOptions struct {
	Challenge     attest.Nonce     // from the verifier, on the connection that the evidence will be sent on
	RequestDigest statement.Digest // of the signed request that the evidence is for
	Exporter      [32]byte         // TLS exporter of that connection
	Selection     attest.Selection // the PCRs that the policy names
	Audit         bool             // whether the policy wants an audit session: which banks the TPM keeps, and what stands in them
	Bind          []int            // those of them that the cnf key is bound to
	CNF           *Key             // made by NewCNF beforehand, or kept from a Collection before, since the request names it; nil: a new one
	EventLog      []byte           // TCG boot log; nil means: read EventLogPath
	EventLogPath  string           // default BootLogPath
	OSLogPath     string           // default OSLogPath beside a boot log of BootLogPath, else none; a host without it has none
	IMALogPath    string           // default IMALogPath; read where the selection has PCR 10
}

// Collection is evidence with the key that it is about.
type Collection struct {
	Evidence []byte // evidence collection, as attest.DecodeEvidence reads it
	CNF      *Key   // the cnf key with its certification; save it, it proves possession of the artifact
}

// Collect makes evidence: a quote over the qualifying data of this challenge, request and connection, and a cnf key that is
// bound to quoted values and certified by the AK. The AK certifies a key once: for one that it has certified already, the
// quote is all that the TPM signs. KeyBinding means that a key made before is bound to other PCRs or values, HostMismatch that
// another TPM made it.
func (t *TPM) Collect(ctx context.Context, o CollectOptions) (*Collection, error) {
	for _, p := range o.Bind {
		if !slices.Contains(o.Selection.PCRs, p) {
			return nil, fmt.Errorf("collecting evidence: the cnf key cannot be bound to PCR %d, which is not quoted", p)
		}
	}
	log, err := o.bootLog()
	if err != nil {
		return nil, err
	}
	system, err := o.osLog()
	if err != nil {
		return nil, err
	}
	qualifying := attest.QualifyingData(o.Challenge, o.RequestDigest, o.Exporter)
	parts := attest.EvidenceParts{Bank: o.Selection.Bank, Challenge: o.Challenge, Request: o.RequestDigest, BootLog: log, OSLog: system}
	var cnf *Key
	err = t.use(ctx, func(c *call) error {
		ak, err := c.createAK()
		if err != nil {
			return err
		}
		defer ak.free()
		q, err := c.quote(ak, o.Selection, qualifying)
		if err != nil {
			return err
		}
		if cnf, err = c.confirmation(ak, o, q.PCRs); err != nil {
			return err
		}
		parts.Quote, parts.Signature, parts.PCRs, parts.AK = q.Attest, q.Signature, q.PCRs, q.AK
		if parts.CNF, parts.Certify = cnf.Public, *cnf.Certify; !o.Audit {
			return nil
		}
		parts.Session, err = c.audit(ak, o.Selection.Bank, qualifying)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("collecting evidence: %w", err)
	}
	if again, err := o.osLog(); err != nil || !bytes.Equal(system, again) {
		return nil, errors.Join(errors.New("collecting evidence: systemd measured something meanwhile: ask again"), err)
	}
	// Linux adds to its list before it extends the PCR. So a list that is read after the quote has all that was quoted, and
	// what was measured meanwhile behind it. A PCR that moved while it was quoted was quoted again.
	if slices.Contains(o.Selection.PCRs, imaPCR) {
		if parts.IMALog, err = o.imaLog(); err != nil {
			return nil, fmt.Errorf("collecting evidence: %w", err)
		}
	}
	evidence, err := parts.Encode()
	if err != nil {
		return nil, fmt.Errorf("collecting evidence: %w", err)
	}
	return &Collection{Evidence: evidence, CNF: cnf}, nil
}

// confirmation returns the cnf key of a collection, bound to the quoted values and certified.
func (c *call) confirmation(ak *key, o CollectOptions, values map[int64][]byte) (*Key, error) {
	cnf, bind := o.CNF, attest.Selection{Bank: o.Selection.Bank, PCRs: o.Bind}
	if cnf == nil {
		made, err := c.createCNF(bind, values)
		if err != nil {
			return nil, fmt.Errorf("making cnf key: %w", err)
		}
		cnf = made
	} else if err := cnf.checkBound(bind, values); err != nil {
		return nil, err
	}
	return c.certifiedBy(ak, cnf)
}

func (o CollectOptions) bootLog() ([]byte, error) {
	if o.EventLog != nil {
		return o.EventLog, nil
	}
	path := o.EventLogPath
	if path == "" {
		path = BootLogPath
	}
	log, err := readAtMost(path, attest.MaxBootLog)
	if err != nil {
		return nil, fmt.Errorf("reading boot log: %w", err)
	}
	return log, nil
}

var errTooLong = errors.New("the file is too long")

// readAtMost reads a file, and no more of it than limit bytes and one: then it is refused.
func readAtMost(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%w: %s has more than %d bytes", errTooLong, path, limit)
	}
	return data, err
}

// osLog reads the log of systemd, nil where there is none.
func (o CollectOptions) osLog() ([]byte, error) {
	path := o.OSLogPath
	if path == "" && o.EventLog == nil && (o.EventLogPath == "" || o.EventLogPath == BootLogPath) {
		path = OSLogPath
	}
	if path == "" {
		return nil, nil
	}
	log, err := readAtMost(path, attest.MaxOSLog)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && len(log) == 0:
		return nil, nil
	case errors.Is(err, errTooLong):
		return nil, fmt.Errorf("reading log of systemd: %w: start the host again", err)
	case err != nil:
		return nil, fmt.Errorf("reading log of systemd: %w", err)
	}
	return log, nil
}

// imaLog reads the list to its end, and no more of it than evidence may hold.
func (o CollectOptions) imaLog() ([]byte, error) {
	path := o.IMALogPath
	if path == "" {
		path = IMALogPath
	}
	list, err := readAtMost(path, attest.MaxIMALog)
	switch {
	case errors.Is(err, errTooLong):
		return nil, fmt.Errorf("reading IMA list: %w: measure less, or start the host again", err)
	case err != nil:
		return nil, fmt.Errorf("reading IMA list, which the policy wants: %w", err)
	}
	return list, nil
}
