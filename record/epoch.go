package record

import (
	"bytes"
	"fmt"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Epoch is the payload of an epoch: the act by which authorities let a log go on from a backup, although more had been
// acknowledged. It is the first entry behind what was restored. Whatever stood in its place before is lost, and what counts
// from then on is what stands here (P20).
type Epoch struct {
	Version uint64 `cbor:"1,keyasint"`
	Number  uint64 `cbor:"2,keyasint"` // 1, 2, 3, …: the number of the act too
	Genesis []byte `cbor:"3,keyasint"` // SHA-256 of the payload of genesis
	Log     string `cbor:"4,keyasint"` // URI
	Size    uint64 `cbor:"5,keyasint"` // entries that were restored: the index of the act
	Root    []byte `cbor:"6,keyasint"` // of their tree
	Lost    *Lost  `cbor:"7,keyasint,omitempty"`
	Counter uint64 `cbor:"8,keyasint,omitempty"` // that the counter in the issuer's TPM stands at; 0: it has none
	Time    uint64 `cbor:"9,keyasint"`           // seconds since 1970 UTC
	Why     string `cbor:"10,keyasint"`          // for people, 1 to 1024 bytes
}

// Lost is the largest tree that anybody is known to have seen of what is lost. Without one nobody knows how much is.
type Lost struct {
	_    struct{} `cbor:",toarray"`
	Size uint64
	Root []byte
}

// Check refuses an epoch that is incomplete, or that loses nothing.
func (e *Epoch) Check() error {
	switch {
	case e.Version != Version:
		return denial.New(denial.UnsupportedVersion, "epoch version %d", e.Version)
	case e.Number == 0 || len(e.Genesis) != 32 || !absolute(e.Log) || e.Size == 0 || len(e.Root) != 32 || e.Time == 0 || e.Why == "" || len(e.Why) > 1024:
		return denial.New(denial.ClaimAbsent, "an epoch needs a number, genesis, the log, the head that was restored, a time and a reason")
	case e.Lost != nil && (e.Lost.Size <= e.Size || len(e.Lost.Root) != 32):
		return denial.New(denial.PayloadForm, "what is lost is a larger tree than the restored one")
	}
	return nil
}

// Words says what is lost, for people.
func (e *Epoch) Words() string {
	if e.Lost == nil {
		return fmt.Sprintf("entries from %d on as they were before are lost; how many is not known", e.Size)
	}
	return fmt.Sprintf("entries %d to %d as they were before are lost, and any after them", e.Size, e.Lost.Size-1)
}

// Covers reports whether the act admits that a tree is lost which somebody has seen: where it does not say how much is, any may be.
func (e *Epoch) Covers(size uint64, root [32]byte) bool {
	return e.Lost == nil || size < e.Lost.Size || size == e.Lost.Size && bytes.Equal(root[:], e.Lost.Root)
}

// ReadEpoch returns the payload of an epoch that enough authorities have signed. Its number is that of the act (409).
func ReadEpoch(act *Act) (*Epoch, error) {
	if act.Kind() != statement.Epoch {
		return nil, denial.New(denial.WrongType, "a %s is no epoch", act.Kind())
	}
	e := &Epoch{}
	if err := statement.Unmarshal(act.Payload(), e); err != nil {
		return nil, err
	}
	if err := e.Check(); err != nil {
		return nil, err
	}
	if e.Number != act.Claims().Sequence {
		return nil, denial.New(denial.DualControlMissing, "epoch %d in act number %d", e.Number, act.Claims().Sequence).
			Try("Draft the epoch anew with \"writd restore\", and have it approved.")
	}
	return e, nil
}

// EpochSubject returns the sub of an issuer's epochs.
func EpochSubject(issuer string) string { return issuer + "/epochs" }
