package record

import (
	"crypto/rand"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Personal data never stands in the log. An enrolment holds commitments to it; each is the SHA-256 of an opening, which holds
// 32 random bytes beside the value, so that nobody can find the value by guessing. The openings travel in the unprotected header of
// the act's first statement, which is stripped before the statement is logged. The issuer keeps them beside the log, gives them out
// where a bundle asks for them, and deletes them under retention: the log and its proofs stay.

// MaxPersonal is how many commitments an enrolment has at most.
const MaxPersonal = 16

// The limits of an opening, and its first element, which no other CBOR array of Writ begins with.
const (
	openingForm = "writ-personal-v1"
	saltSize    = 32
	maxValue    = 1024
)

var fieldName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// IsField reports whether a name of a field has the form that names have.
func IsField(name string) bool { return fieldName.MatchString(name) }

// Opening opens a commitment to one piece of personal data.
type Opening struct {
	_     struct{} `cbor:",toarray"`
	Form  string
	Field string
	Salt  []byte // 32 random bytes
	Value string
}

// Withhold returns openings of these values, by field, each with a salt of its own, and the commitments for an enrolment.
func Withhold(values map[string]string) (openings [][]byte, commitments map[string][]byte, err error) {
	commitments = map[string][]byte{}
	for _, field := range slices.Sorted(maps.Keys(values)) {
		o := Opening{Form: openingForm, Field: field, Salt: make([]byte, saltSize), Value: values[field]}
		if _, err := rand.Read(o.Salt); err != nil {
			return nil, nil, fmt.Errorf("making salt: %w", err)
		}
		if err := o.check(); err != nil {
			return nil, nil, err
		}
		raw, err := statement.Marshal(o)
		if err != nil {
			return nil, nil, err
		}
		digest := statement.DigestOf(raw)
		openings, commitments[field] = append(openings, raw), digest[:]
	}
	return openings, commitments, checkPersonal(commitments)
}

// DecodeOpening reads an opening. It checks its encoding (3xx), its form (911), and field, salt and value (312).
func DecodeOpening(raw []byte) (*Opening, error) {
	var o Opening
	if err := statement.Unmarshal(raw, &o); err != nil {
		return nil, err
	}
	return &o, o.check()
}

func (o *Opening) check() error {
	switch {
	case o.Form != openingForm:
		return denial.New(denial.UnsupportedVersion, "an opening of a form that this version does not know")
	case !IsField(o.Field) || len(o.Salt) != saltSize || o.Value == "" || len(o.Value) > maxValue:
		return denial.New(denial.PayloadForm, "an opening needs a field, a salt of %d bytes and a value of at most %d", saltSize, maxValue)
	}
	return nil
}

// checkPersonal refuses commitments that are too many, or have no proper field or size.
func checkPersonal(commitments map[string][]byte) error {
	for field, digest := range commitments {
		if !IsField(field) || len(digest) != 32 {
			return denial.New(denial.PayloadForm, "a commitment needs a field, in lower case, and 32 bytes")
		}
	}
	if len(commitments) > MaxPersonal {
		return denial.New(denial.StructureLimit, "an enrolment has at most %d commitments", MaxPersonal)
	}
	return nil
}

// Opens checks that an opening opens the commitment of its field (312), and returns it.
func (e *Enrolment) Opens(raw []byte) (*Opening, error) {
	o, err := DecodeOpening(raw)
	if err != nil {
		return nil, err
	}
	if digest := statement.DigestOf(raw); string(e.Personal[o.Field]) != string(digest[:]) {
		return nil, denial.New(denial.PayloadForm, "an opening is not of what the enrolment commits to")
	}
	return o, nil
}

// WithOpenings returns an act whose first statement carries the openings, outside of what is signed and logged.
func (b Bundle) WithOpenings(openings [][]byte) (Bundle, error) {
	if len(openings) == 0 || len(b) == 0 {
		return b, nil
	}
	first, err := statement.WithOpenings(b[0], openings)
	return append(Bundle{first}, b[1:]...), err
}

// Openings returns the openings that an act carries. They are unverified.
func (b Bundle) Openings() ([][]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	env, err := statement.Decode(b[0], statement.MaxStatement)
	if err != nil {
		return nil, err
	}
	return env.Openings()
}
