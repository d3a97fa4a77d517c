package issuer

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// SealCapsule signs an evidence capsule with the record key.
func (i *Issuer) SealCapsule(ctx context.Context, subject string, payload []byte) ([]byte, error) {
	_, s, err := i.signer(ctx, record.PurposeRecord)
	if err != nil {
		return nil, err
	}
	return statement.Sign(ctx, s, statement.Capsule, i.claims(subject), payload)
}

// SealManifest signs the hash of a manifest with the record key, logs it, and returns it with its receipt.
func (i *Issuer) SealManifest(ctx context.Context, subject string, hash []byte) ([]byte, error) {
	var leaf []byte
	var done []tlog.Appended
	err := untilFresh(func() error {
		use, s, err := i.signer(ctx, record.PurposeRecord)
		if err != nil {
			return err
		}
		if leaf, err = statement.Sign(ctx, s, statement.Manifest, i.claims(subject), hash); err != nil {
			return err
		}
		done, err = i.append(ctx, tlog.Entry{Leaf: leaf, Guards: []tlog.Guard{use.guard()}})
		return err
	})
	if err != nil {
		return nil, err
	}
	return statement.Attach(leaf, done[0].Receipt)
}

// StatusLists returns the tokens of all status lists that artifacts can name, by number.
func (i *Issuer) StatusLists(ctx context.Context) ([][]byte, error) {
	i.indices.mu.Lock()
	last := i.indices.next / ListSize
	i.indices.mu.Unlock()
	var all [][]byte
	for n := range last + 1 {
		token, err := i.Status(ctx, n)
		if err != nil {
			return nil, err
		}
		all = append(all, token)
	}
	return all, nil
}

func (i *Issuer) claims(subject string) statement.Claims {
	return statement.Claims{Issuer: i.genesis.Issuer, Subject: subject, IssuedAt: uint64(i.now().Unix())}
}

// HostView is what the issuer knows of a host, for people.
type HostView struct {
	ID     string            `json:"id"`
	Labels map[string]string `json:"labels"`
	EK     string            `json:"ek"` // SHA-256 of TPMT_PUBLIC
	AK     string            `json:"ak"` // TPM Name
	Gate   string            `json:"gate,omitempty"`
	Held   string            `json:"held,omitempty"` // since when the host is held: it gets nothing until authorities approve it anew
}

// Host returns an enrolled host; NOT_ENROLLED if there is none with the id.
func (i *Issuer) Host(ctx context.Context, id string) (*HostView, error) {
	var h hostState
	found, err := load(ctx, i.log, bucketHost, []byte(id), &h)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, denial.New(denial.NotEnrolled, "no host with this id has been enrolled")
	}
	view := &HostView{ID: h.ID, Labels: h.Labels, EK: hex.EncodeToString(h.EK), AK: hex.EncodeToString(h.AKName), Gate: h.Gate}
	since, held, err := i.log.Value(ctx, bucketHeld, []byte(id))
	if held {
		view.Held = time.Unix(int64(binary.BigEndian.Uint64(since)), 0).UTC().Format(time.RFC3339)
	}
	return view, err
}
