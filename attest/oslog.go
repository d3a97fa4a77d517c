package attest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/governed-execution/writ/denial"
)

// MaxOSLog is the greatest size in bytes of the log of systemd. Real ones have some 10 KiB.
const MaxOSLog = 256 << 10

// osEvent is one record of the log of systemd that extended a PCR. Nothing about it is verified.
type osEvent struct {
	pcr     uint32
	digests map[string][]byte // by the names of knownBanks
	text    string            // what it says was measured; "" if it says nothing that can be checked
}

// osRecord is a CEL-JSON record (TCG Canonical Event Log Format) as systemd writes it: without a number of the record,
// and with an NV index in place of a PCR where it extended one.
type osRecord struct {
	PCR     *uint32         `json:"pcr"`
	NV      json.RawMessage `json:"nv_index"`
	Digests []struct {
		Alg    string `json:"hashAlg"`
		Digest string `json:"digest"`
	} `json:"digests"`
	Type    string          `json:"content_type"`
	Content json.RawMessage `json:"content"`
}

// parseOSLog reads the log that systemd keeps in /run/log/systemd/tpm2-measure.log, in one pass and in memory proportional
// to it; an empty log has no events. It checks, in this order:
//  1. the log has at most MaxOSLog bytes, and at most maxEvents records (908);
//  2. it is a JSON text sequence (RFC 7464) of whole records, each of a PCR below 24 or of an NV index, which is passed
//     over (605);
//  3. each record has at least one digest, each of an algorithm that has a name here and of its length, none twice (605).
func parseOSLog(raw []byte) ([]osEvent, error) {
	if len(raw) > MaxOSLog {
		return nil, denial.New(denial.RequestLimit, "the log of the system has more than %d bytes", MaxOSLog)
	}
	if len(raw) == 0 {
		return nil, nil
	}
	const separator = 0x1E
	if raw[0] != separator || raw[len(raw)-1] != '\n' {
		return nil, malformed("the log of the system is not a whole sequence of JSON texts")
	}
	if bytes.Count(raw, []byte{separator}) > maxEvents {
		return nil, denial.New(denial.RequestLimit, "the log of the system has more than %d records", maxEvents)
	}
	var events []osEvent
	for i, text := range bytes.Split(raw[1:], []byte{separator}) {
		e, err := parseOSRecord(text)
		if err != nil {
			return nil, malformed("record %d of the log of the system: %s", i+1, err)
		}
		if e != nil {
			events = append(events, *e)
		}
	}
	return events, nil
}

// osFault says what is wrong with a record, in words of this package only.
type osFault string

func (f osFault) Error() string { return string(f) }

// parseOSRecord reads one record. It returns nil for one that extended an NV index.
func parseOSRecord(text []byte) (*osEvent, error) {
	var r osRecord
	if len(text) == 0 || text[len(text)-1] != '\n' || json.Unmarshal(text, &r) != nil {
		return nil, osFault("not a whole record")
	}
	if (r.PCR == nil) == (r.NV == nil) {
		return nil, osFault("either a PCR or an NV index is extended")
	}
	if r.PCR == nil {
		return nil, nil
	}
	if *r.PCR >= pcrCount {
		return nil, osFault("there is no such PCR")
	}
	e := &osEvent{pcr: *r.PCR, digests: make(map[string][]byte, len(r.Digests))}
	for _, d := range r.Digests {
		if err := e.add(d.Alg, d.Digest); err != nil {
			return nil, err
		}
	}
	if len(e.digests) == 0 {
		return nil, osFault("there is no digest")
	}
	var content struct {
		Text string `json:"string"`
	}
	if r.Type == "systemd" && json.Unmarshal(r.Content, &content) == nil {
		e.text = content.Text
	}
	return e, nil
}

// add takes one digest.
func (e *osEvent) add(alg, text string) error {
	for _, b := range knownBanks {
		if b.name != alg {
			continue
		}
		digest, err := hex.DecodeString(text)
		if err != nil || len(digest) != b.size || e.digests[alg] != nil {
			return osFault("a digest is there twice or has another length than its algorithm")
		}
		e.digests[alg] = digest
		return nil
	}
	return osFault("a digest is of an unknown algorithm")
}

// osSeparator is what systemd extends the PCRs of firmware and boot loader with when the system takes over.
const osSeparator = "os-separator"

// extendOS goes on with the events of the system. In PCRs 0 to 7 only its separator may come, once, since nothing but
// firmware has a say there.
func (b *bankReplay) extendOS() error {
	var separated [8]bool
	for i := range b.system {
		e := &b.system[i]
		if _, quoted := b.quoted[int64(e.pcr)]; !quoted {
			continue
		}
		digest := e.digests[b.name]
		if digest == nil {
			return denial.New(denial.LogUncovered, "record %d of the log of the system has no digest in a quoted bank", i+1)
		}
		if e.pcr <= 7 {
			if separated[e.pcr] || !b.covers(digest, []byte(osSeparator)) {
				return denial.New(denial.EventUnexpected, "record %d of the log of the system changes PCR %d", i+1, e.pcr)
			}
			separated[e.pcr] = true
		}
		b.extend(e.pcr, digest)
	}
	return nil
}

// readOS draws the facts from the events of the system.
func (r *factReader) readOS() {
	for i := range r.system {
		e := &r.system[i]
		pcr := int64(e.pcr)
		if _, quoted := r.quoted[pcr]; !quoted {
			continue
		}
		digest := e.digests[r.name]
		event := OSEvent{PCR: pcr, Digest: hex.EncodeToString(digest)}
		if e.text != "" && r.covers(digest, []byte(e.text)) {
			event.Text = e.text
		} else if n, counted := r.facts.Unexplained[pcr]; counted {
			r.facts.Unexplained[pcr] = n + 1
		}
		if list := r.facts.Measured[pcr]; list != nil {
			r.facts.Measured[pcr] = append(list, event.Digest)
		}
		if r.proofs != nil {
			*r.proofs = append(*r.proofs, Proof{Fact: fmt.Sprintf("facts.os[%d]", len(r.facts.OS)), Event: i + 1, OS: true,
				PCR: int(pcr), Digest: event.Digest})
		}
		r.facts.OS = append(r.facts.OS, event)
	}
}
