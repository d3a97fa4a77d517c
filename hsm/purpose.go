package hsm

import (
	"fmt"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Purpose is the one use of a key. The zero Purpose signs nothing.
type Purpose uint8

// The purposes. Every issuer has one active key for each.
const (
	_        Purpose = iota
	Artifact         // artifacts
	Record           // denials and other records, manifests, capsules
	Log              // tree heads in receipts
	Status           // status list tokens
	purposes
)

var purposeNames = [purposes]string{Artifact: "artifact", Record: "record", Log: "log", Status: "status"}

// Purposes returns every purpose.
func Purposes() []Purpose { return []Purpose{Artifact, Record, Log, Status} }

// ParsePurpose returns the purpose with the given name.
func ParsePurpose(name string) (Purpose, error) {
	for _, p := range Purposes() {
		if p.String() == name {
			return p, nil
		}
	}
	return 0, fmt.Errorf("reading key purpose %q: want artifact, record, log or status", name)
}

// String returns the name of the purpose.
func (p Purpose) String() string {
	if !p.valid() {
		return "unknown purpose"
	}
	return purposeNames[p]
}

func (p Purpose) valid() bool { return p > 0 && p < purposes }

// label is the CKA_LABEL of both halves of a key for the purpose.
func (p Purpose) label() string { return "writ-" + p.String() }

// Signs reports whether a key for the purpose may sign statements of the kind.
func (p Purpose) Signs(k statement.Kind) bool {
	return p.valid() && statement.Purpose(p.String()).Signs(k)
}

func (p Purpose) check(k statement.Kind) error {
	if !p.Signs(k) {
		return denial.New(denial.WrongType, "a key for purpose %s does not sign a %s", p, k)
	}
	return nil
}
