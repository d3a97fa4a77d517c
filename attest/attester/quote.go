package attester

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
)

// attempts bounds how often something is tried again because PCRs moved under it.
const attempts = 8

var errRestless = errors.New("reading PCRs: they changed at every attempt")

// bankAlgs are the PCR banks by name.
func bankAlgs() map[string]tpm2.TPMAlgID {
	return map[string]tpm2.TPMAlgID{
		"sha1": tpm2.TPMAlgSHA1, "sha256": tpm2.TPMAlgSHA256, "sha384": tpm2.TPMAlgSHA384, "sha512": tpm2.TPMAlgSHA512,
	}
}

func selection(s attest.Selection) (tpm2.TPMLPCRSelection, error) {
	alg, ok := bankAlgs()[s.Bank]
	if !ok || len(s.PCRs) == 0 {
		return tpm2.TPMLPCRSelection{}, fmt.Errorf("selecting PCRs: no bank %q, or no PCR in it", s.Bank)
	}
	indexes := make([]uint, len(s.PCRs))
	for i, p := range s.PCRs {
		if p < 0 || p > 23 || i > 0 && p <= s.PCRs[i-1] {
			return tpm2.TPMLPCRSelection{}, fmt.Errorf("selecting PCRs: PCR %d does not exist or is out of order", p)
		}
		indexes[i] = uint(p)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: alg, PCRSelect: tpm2.PCClientCompatible.PCRs(indexes...)},
	}}, nil
}

// Banks returns the names of the PCR banks that the TPM keeps, in the order of the TPM.
func (t *TPM) Banks(ctx context.Context) ([]string, error) {
	var names []string
	err := t.use(ctx, func(c *call) error {
		r, err := tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1}.Execute(c)
		if err != nil {
			return err
		}
		pcrs, err := r.CapabilityData.Data.AssignedPCR()
		if err != nil {
			return err
		}
		for _, s := range pcrs.PCRSelections {
			if bytes.Count(s.PCRSelect, []byte{0}) < len(s.PCRSelect) { // one without any PCR is not allocated
				names = append(names, bankName(s.Hash))
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing PCR banks: %w", err)
	}
	return names, nil
}

func bankName(alg tpm2.TPMAlgID) string {
	for name, a := range bankAlgs() {
		if a == alg {
			return name
		}
	}
	return fmt.Sprintf("algorithm %#04x", uint16(alg))
}

// PCRs reads PCR values, all at one moment.
func (t *TPM) PCRs(ctx context.Context, s attest.Selection) (map[int64][]byte, error) {
	var values map[int64][]byte
	err := t.use(ctx, func(c *call) (err error) {
		values, err = c.readPCRs(s)
		return err
	})
	return values, err
}

func (c *call) readPCRs(s attest.Selection) (map[int64][]byte, error) {
	for range attempts {
		values, steady, err := c.readPCRsOnce(s)
		if err != nil {
			return nil, fmt.Errorf("reading PCRs: %w", err)
		}
		if steady {
			return values, nil
		}
	}
	return nil, errRestless
}

// readPCRsOnce asks for eight PCRs at a time, the most that a TPM returns. The values are steady if the TPM's update
// counter did not move between the first answer and the last.
func (c *call) readPCRsOnce(s attest.Selection) (values map[int64][]byte, steady bool, err error) {
	values = make(map[int64][]byte, len(s.PCRs))
	var counter uint32
	steady = true
	for rest := s.PCRs; len(values) == 0 || len(rest) > 0; {
		part := rest[:min(8, len(rest))]
		rest = rest[len(part):]
		sel, err := selection(attest.Selection{Bank: s.Bank, PCRs: part})
		if err != nil {
			return nil, false, err
		}
		r, err := tpm2.PCRRead{PCRSelectionIn: sel}.Execute(c)
		if err != nil {
			return nil, false, err
		}
		if len(r.PCRValues.Digests) != len(part) {
			return nil, false, fmt.Errorf("the TPM has no bank %s with all of the PCRs %v", s.Bank, part)
		}
		if len(values) > 0 && r.PCRUpdateCounter != counter {
			steady = false
		}
		counter = r.PCRUpdateCounter
		for i, p := range part {
			values[int64(p)] = r.PCRValues.Digests[i].Buffer
		}
	}
	return values, steady, nil
}

// Clock returns the TPM's clock and reset counters. They are not signed; a quote holds them signed.
func (t *TPM) Clock(ctx context.Context) (attest.Clock, error) {
	var clock attest.Clock
	err := t.use(ctx, func(c *call) error {
		r, err := tpm2.ReadClock{}.Execute(c)
		if err != nil {
			return fmt.Errorf("reading TPM clock: %w", err)
		}
		info := r.CurrentTime.ClockInfo
		clock = attest.Clock{
			Milliseconds: info.Clock, Resets: uint64(info.ResetCount), Restarts: uint64(info.RestartCount), Safe: bool(info.Safe),
		}
		return nil
	})
	return clock, err
}

// Quote is an answer of TPM2_Quote with the values that it covers.
type Quote struct {
	Attest    []byte           // TPMS_ATTEST
	Signature []byte           // TPMT_SIGNATURE
	PCRs      map[int64][]byte // their digest is the quoted one
	AK        []byte           // TPM2B_PUBLIC
}

// Quote has the AK sign PCR values and the qualifying data.
func (t *TPM) Quote(ctx context.Context, s attest.Selection, qualifying [32]byte) (*Quote, error) {
	var q *Quote
	err := t.use(ctx, func(c *call) error {
		ak, err := c.createAK()
		if err != nil {
			return err
		}
		defer ak.free()
		q, err = c.quote(ak, s, qualifying)
		return err
	})
	return q, err
}

// quote reads the values, quotes, and starts again if the quoted digest is not that of the values.
func (c *call) quote(ak *key, s attest.Selection, qualifying [32]byte) (*Quote, error) {
	sel, err := selection(s)
	if err != nil {
		return nil, err
	}
	for range attempts {
		values, err := c.readPCRs(s)
		if err != nil {
			return nil, err
		}
		r, err := tpm2.Quote{
			SignHandle: ak.withPassword(), QualifyingData: tpm2.TPM2BData{Buffer: qualifying[:]},
			InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, PCRSelect: sel,
		}.Execute(c)
		if err != nil {
			return nil, fmt.Errorf("quoting PCRs: %w", err)
		}
		covered, err := covers(&r.Quoted, s, values)
		if err != nil {
			return nil, fmt.Errorf("reading quote: %w", err)
		}
		if covered {
			return &Quote{
				Attest: r.Quoted.Bytes(), Signature: tpm2.Marshal(r.Signature), PCRs: values, AK: tpm2.Marshal(ak.public),
			}, nil
		}
	}
	return nil, errRestless
}

// covers reports whether the quoted digest is that of the values.
func covers(quoted *tpm2.TPM2BAttest, s attest.Selection, values map[int64][]byte) (bool, error) {
	att, err := quoted.Contents()
	if err != nil {
		return false, err
	}
	info, err := att.Attested.Quote()
	if err != nil {
		return false, err
	}
	h := sha256.New()
	for _, p := range s.PCRs {
		h.Write(values[int64(p)])
	}
	return bytes.Equal(info.PCRDigest.Buffer, h.Sum(nil)), nil
}

// certify has the AK state that this TPM holds the key, over the qualifying data.
func (c *call) certify(ak *key, k *Key, qualifying [32]byte) (attest.Certification, error) {
	loaded, err := c.load(k)
	if err != nil {
		return attest.Certification{}, err
	}
	defer loaded.free()
	r, err := tpm2.Certify{
		// Certifying is an act of the ADMIN role, for which the empty password serves while adminWithPolicy is clear.
		ObjectHandle: loaded.withPassword(), SignHandle: ak.withPassword(),
		QualifyingData: tpm2.TPM2BData{Buffer: qualifying[:]},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
	}.Execute(c)
	if err != nil {
		return attest.Certification{}, fmt.Errorf("certifying %s key: %w", k.Role, err)
	}
	return attest.Certification{Attest: r.CertifyInfo.Bytes(), Signature: tpm2.Marshal(r.Signature)}, nil
}
