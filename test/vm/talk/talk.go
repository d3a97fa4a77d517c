// Package talk is what a test and the guest of a virtual machine say to each other over a serial port: one JSON object a
// line, a request from the test and one reply from the guest. Nothing that is said is measured.
package talk

import (
	"github.com/governed-execution/writ/attest"
)

// Ready is the first line that a guest sends.
const Ready = "writ-guest-ready"

// The operations of a guest.
const (
	Run      = "run"      // run a program to its end
	Put      = "put"      // write a file
	Get      = "get"      // read a file
	Enrol    = "enrol"    // make an enrolment request
	Activate = "activate" // open a credential
	Collect  = "collect"  // collect evidence
	PCRs     = "pcrs"     // read PCRs
	Off      = "off"      // switch the machine off, after the reply
	Reboot   = "reboot"   // restart it, after the reply
)

// Request is one line of the test. Op says which of the other members count.
type Request struct {
	Op   string   `json:"op"`
	Args []string `json:"args,omitempty"` // Run: program and arguments
	Path string   `json:"path,omitempty"` // Put, Get
	Mode uint32   `json:"mode,omitempty"` // Put
	Data []byte   `json:"data,omitempty"` // Put

	Credential attest.Credential `json:"credential"` // Activate
	Kind       uint8             `json:"kind,omitempty"`

	Challenge attest.Nonce `json:"challenge"` // Collect
	Request   [32]byte     `json:"request"`
	Exporter  [32]byte     `json:"exporter"`
	Bank      string       `json:"bank,omitempty"` // also PCRs
	PCRs      []int        `json:"pcrs,omitempty"`
	Bind      []int        `json:"bind,omitempty"`
}

// Reply is one line of the guest. Fault is what went wrong in the guest itself.
type Reply struct {
	Fault  string           `json:"fault,omitempty"`
	Status int              `json:"status,omitempty"` // Run: exit status
	Stdout []byte           `json:"stdout,omitempty"`
	Stderr []byte           `json:"stderr,omitempty"`
	Data   []byte           `json:"data,omitempty"` // Get, Enrol (the request), Activate (the secret), Collect (the evidence)
	AK     []byte           `json:"ak,omitempty"`   // Enrol
	Kind   uint8            `json:"kind,omitempty"` // Enrol: of the EK
	Values map[int64][]byte `json:"values,omitempty"`
}
