package attester

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Counter is a monotonic counter in the NV memory of a TPM (TPM 2.0 Part 1, section "NV Counters"). Nobody can lower it:
// one that is deleted and made anew begins above every value that any counter of the TPM ever had. Whoever can use the TPM
// can raise it. It implements tlog.Counter.
type Counter struct {
	tpm   *TPM
	index tpm2.TPMHandle
}

// Counter returns the counter at an NV index, which is made on first use, without authorization, under an owner
// hierarchy without password.
func (t *TPM) Counter(index uint32) *Counter { return &Counter{t, tpm2.TPMHandle(index)} }

// Value returns the value, zero before the first Raise.
func (n *Counter) Value(ctx context.Context) (value uint64, err error) {
	err = n.tpm.use(ctx, func(c *call) error {
		name, nv, err := n.find(c)
		if err != nil || nv == nil || !nv.Attributes.Written {
			return err
		}
		value, err = n.read(c, name, nv)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("reading NV counter: %w", err)
	}
	return value, nil
}

// Raise raises the counter by one, the first time to a value that the TPM chooses, and returns it.
func (n *Counter) Raise(ctx context.Context) (value uint64, err error) {
	err = n.tpm.use(ctx, func(c *call) error {
		name, nv, err := n.find(c)
		if err == nil && nv == nil {
			if err = n.define(c); err == nil {
				name, _, err = n.find(c)
			}
		}
		if err != nil {
			return err
		}
		auth := tpm2.AuthHandle{Handle: n.index, Name: name, Auth: tpm2.PasswordAuth(nil)}
		if _, err := (tpm2.NVIncrement{AuthHandle: auth, NVIndex: tpm2.NamedHandle{Handle: n.index, Name: name}}).Execute(c); err != nil {
			return err
		}
		if name, nv, err = n.find(c); err != nil { // the name says whether it was written
			return err
		}
		value, err = n.read(c, name, nv)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("raising NV counter: %w", err)
	}
	return value, nil
}

// find returns the name and the public area, nil if there is nothing at the index. What is there must be a counter.
func (n *Counter) find(c *call) (tpm2.TPM2BName, *tpm2.TPMSNVPublic, error) {
	r, err := tpm2.NVReadPublic{NVIndex: n.index}.Execute(c)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return tpm2.TPM2BName{}, nil, nil
	}
	if err != nil {
		return tpm2.TPM2BName{}, nil, err
	}
	nv, err := r.NVPublic.Contents()
	if err == nil && (nv.Attributes.NT != tpm2.TPMNTCounter || nv.DataSize != 8) {
		err = fmt.Errorf("NV index %#x is something else than a counter", uint32(n.index))
	}
	return r.NVName, nv, err
}

func (n *Counter) define(c *call) error {
	public := tpm2.TPMSNVPublic{NVIndex: n.index, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
		Attributes: tpm2.TPMANV{AuthRead: true, AuthWrite: true, OwnerRead: true, NoDA: true, NT: tpm2.TPMNTCounter}}
	_, err := tpm2.NVDefineSpace{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		PublicInfo: tpm2.New2B(public)}.Execute(c)
	return err
}

func (n *Counter) read(c *call, name tpm2.TPM2BName, nv *tpm2.TPMSNVPublic) (uint64, error) {
	data, err := c.readNV(n.index, name, nv)
	if err != nil || len(data) != 8 {
		return 0, errors.Join(err, fmt.Errorf("NV index %#x gave %d bytes", uint32(n.index), len(data)))
	}
	return binary.BigEndian.Uint64(data), nil
}
