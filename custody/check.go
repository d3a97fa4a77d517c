package custody

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// composeFor builds the structure that a request asks a signature of. In this order: the purpose signs the kind (311);
// the payload is one of the kind, and says the same as the claims of the header, each refused as its reader refuses it;
// then it composes.
func composeFor(key statement.Key, s signRequest) (statement.ToBeSigned, error) {
	if !s.purpose.Signs(s.kind) {
		return statement.ToBeSigned{}, denial.New(denial.WrongType, "a key for purpose %s does not sign a %s", s.purpose, s.kind)
	}
	if s.kind == statement.Checkpoint {
		return composeCheckpoint(s.payload)
	}
	if err := checkPayload(s); err != nil {
		return statement.ToBeSigned{}, err
	}
	return statement.Compose(key, s.kind, s.claims, s.payload)
}

func checkPayload(s signRequest) error {
	differs := denial.New(denial.WrongType, "header and payload do not say the same")
	switch s.kind {
	case statement.Artifact:
		c, err := artifact.DecodeClaims(s.payload)
		if err == nil && (c.Issuer != s.claims.Issuer || c.Subject != s.claims.Subject || s.claims.IssuedAt != 0) {
			err = differs
		}
		return err
	case statement.Record:
		var r record.Record
		err := statement.Unmarshal(s.payload, &r)
		if err == nil {
			err = r.Check()
		}
		if err == nil && (r.Emitter.URI != s.claims.Issuer || r.Time != s.claims.IssuedAt) {
			err = differs
		}
		return err
	case statement.StatusList:
		return artifact.CheckStatusPayload(s.payload, s.claims)
	case statement.Succession:
		next, err := record.ReadSuccession(s.payload)
		if err == nil && (next.Purpose != s.purpose.String() || s.claims.Subject != record.KeySubject(s.claims.Issuer) || s.claims.IssuedAt != 0) {
			err = differs
		}
		return err
	case statement.Receipt, statement.Manifest:
		if len(s.payload) != len(statement.Digest{}) {
			return denial.New(denial.PayloadForm, "the payload of a %s is a hash", s.kind)
		}
		return nil
	}
	return statement.Scan(s.payload) // a capsule: a collection of CBOR that holds other people's statements
}

// composeCheckpoint reads the three lines of a checkpoint and writes them anew.
func composeCheckpoint(text []byte) (none statement.ToBeSigned, err error) {
	malformed := denial.New(denial.WrongType, "not the text of a checkpoint")
	lines := strings.Split(string(text), "\n")
	if len(lines) != 4 || lines[3] != "" {
		return none, malformed
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil {
		return none, malformed
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != 32 {
		return none, malformed
	}
	tbs, err := statement.ComposeCheckpoint(lines[0], size, [32]byte(root))
	if err != nil || string(tbs.Bytes()) != string(text) {
		return none, malformed
	}
	return tbs, nil
}
