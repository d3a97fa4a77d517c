package denial

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"
)

// docs is the page that describes every condition and code.
const docs = "https://github.com/governed-execution/writ/blob/main/docs/denials.md#"

// MaxProblem is the greatest size of an encoded Problem that ParseProblem reads.
const MaxProblem = 256 << 10

// Problem is a refusal on the wire: problem details for HTTP (RFC 9457). Only Stranger and Known make one to be sent.
type Problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Condition string `json:"condition"`
	*Details         // nil for a stranger
}

// Details are the members of a Problem that only a caller whose key verified gets.
type Details struct {
	Code         int       `json:"code"`
	Name         string    `json:"name"`
	Stage        Stage     `json:"stage,omitempty"`
	Detail       string    `json:"detail,omitempty"`
	Hint         string    `json:"hint,omitempty"`
	Requirements []string  `json:"requirements,omitempty"`
	RequestID    Base64URL `json:"request_id,omitempty"`
	Logged       bool      `json:"logged"`              // the denial stands in the log
	LogIndex     uint64    `json:"log_index,omitempty"` // never 0, which is genesis
	Statement    Base64URL `json:"statement,omitempty"` // the denial's leaf
}

// Base64URL is a byte string that stands in JSON as base64url without padding (RFC 4648, section 5).
type Base64URL []byte

// MarshalText encodes the bytes.
func (b Base64URL) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText decodes the bytes.
func (b *Base64URL) UnmarshalText(text []byte) (err error) {
	*b, err = base64.RawURLEncoding.Strict().DecodeString(string(text))
	return err
}

// Stranger returns what is said to a caller whose key has not verified: the condition. It is the same, byte for byte,
// for all reasons of a condition.
func Stranger(d *Denial) *Problem {
	c := d.orInternal().Reason.Condition()
	status := http.StatusForbidden
	if c == ConditionUndecidable {
		status = http.StatusServiceUnavailable
	}
	return &Problem{
		Type: docs + strings.ReplaceAll(c.String(), " ", "-"), Title: c.String(), Status: status, Condition: c.String(),
	}
}

// Known returns what is said to a caller whose key has verified: everything. What became of the record is for the
// caller to add.
func Known(d *Denial) *Problem {
	d = d.orInternal()
	r := d.Reason
	return &Problem{
		Type: fmt.Sprint(docs, r.Code()), Title: r.Meaning(), Status: r.status(), Condition: r.Condition().String(),
		Details: &Details{
			Code: r.Code(), Name: r.String(), Stage: d.Stage, Detail: d.Detail, Hint: d.Hint(),
			Requirements: slices.Clone(d.Requirements),
		},
	}
}

func (d *Denial) orInternal() *Denial {
	if d == nil {
		return &Denial{Reason: Internal}
	}
	return d
}

// status returns the HTTP status of a refusal. None of them is a success, and none makes a client ask elsewhere.
func (r Reason) status() int {
	switch r.row().reason {
	case Internal:
		return http.StatusInternalServerError
	case AuditUnavailable, HSMUnavailable, HSMKeyPolicy, ClockUntrusted, StoreFault, SelfTestFailed:
		return http.StatusServiceUnavailable
	case Overloaded:
		return http.StatusTooManyRequests
	case RequestLimit:
		return http.StatusRequestEntityTooLarge
	case UnsupportedVersion:
		return http.StatusBadRequest
	}
	return http.StatusForbidden
}

// Encode returns the JSON document, of the media type application/problem+json, and the HTTP status to send it with.
func (p *Problem) Encode() (data []byte, status int) {
	data, err := json.Marshal(p)
	if err != nil { // no member can fail; if one does, the caller is refused all the same
		return Stranger(nil).Encode()
	}
	return data, p.Status
}

// ParseProblem reads a problem. Members that it does not know are ignored, as RFC 9457 demands: no member can turn a
// refusal into anything else.
func ParseProblem(data []byte) (*Problem, error) {
	if len(data) > MaxProblem {
		return nil, fmt.Errorf("reading problem details: more than %d bytes", MaxProblem)
	}
	var p Problem
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("reading problem details: %w", err)
	}
	if p.Title == "" || p.Condition == "" {
		return nil, fmt.Errorf("reading problem details: title and condition are needed")
	}
	return &p, nil
}

// Denial returns the refusal that the problem tells of. A code that this version does not know, and a stranger's
// problem, are the denial Internal. The texts come from a peer: only printable ones are kept.
func (p *Problem) Denial() *Denial {
	if p.Details == nil {
		return New(Internal, "the issuer says no more than %q", printable(p.Condition))
	}
	d := &Denial{Reason: Reason(0), Stage: p.Stage, Detail: printable(p.Detail), hint: printable(p.Hint)}
	for _, r := range All() {
		if r.Code() == p.Code {
			d.Reason = r
		}
	}
	for _, name := range p.Requirements {
		d.Requirements = append(d.Requirements, printable(name))
	}
	if d.Reason == 0 {
		d.Detail = fmt.Sprintf("the issuer refuses with the unknown code %d %s", p.Code, printable(p.Name))
	}
	return d
}

// printable returns at most 500 printable characters, so that a peer cannot write to a terminal what it likes.
func printable(s string) string {
	var b strings.Builder
	for i, r := range s {
		if i >= 500 {
			break
		}
		if !unicode.IsPrint(r) {
			r = unicode.ReplacementChar
		}
		b.WriteRune(r)
	}
	return b.String()
}
