package main

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// recordPayload says what an audit record tells of.
func recordPayload(payload []byte) (*sheet, error) {
	var r record.Record
	if err := statement.Unmarshal(payload, &r); err != nil {
		return nil, err
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	s := &sheet{}
	s.put("event", r.Event.String())
	s.putTime("time", r.Time)
	s.say("emitter", map[string]any{"uri": r.Emitter.URI, "epoch": fmt.Sprintf("%x", r.Emitter.Epoch), "number": r.Emitter.Seq},
		fmt.Sprintf("%s, record %d of epoch %x", r.Emitter.URI, r.Emitter.Seq, r.Emitter.Epoch))
	s.putIf("previous_record", r.Previous)
	putRefusal(s, &r)
	putSubject(s, &r)
	if r.Event == record.EventSummary {
		putCounts(s, &r)
	}
	if r.Enrolled != nil {
		s.put("enrolled", explainEnrolled(r.Enrolled))
	}
	if r.Birth != nil {
		s.put("key_birth", explainBirth(r.Birth))
	}
	if k := r.Retention; k != nil {
		kept := &sheet{}
		kept.put("what", k.Words())
		kept.putText("hold", k.Name)
		kept.putText("reason", k.Reason)
		s.put("retention", kept)
	}
	putGlass(s, &r)
	if r.Execution != nil {
		s.put("execution", explainExecution(r.Execution, r.Event))
	}
	return s, nil
}

// putRefusal says why and where something was refused.
func putRefusal(s *sheet, r *record.Record) {
	if r.Outcome == record.Permitted {
		return
	}
	var lines []string
	for _, code := range r.Reasons {
		lines = append(lines, reasonText(code))
	}
	s.put("refused_because", lines)
	if r.Stage != 0 && r.Stage < 256 {
		s.put("decided_at", denial.Stage(r.Stage).String())
	}
	s.putText("detail", r.Detail)
	if r.Hold {
		s.put("host_held", "until authorities approve it anew: its TPM was there twice, or was put back")
	}
	if len(r.Requirements) > 0 {
		s.put("did_not_hold", r.Requirements)
	}
	checks := &sheet{}
	for _, stage := range slices.Sorted(maps.Keys(r.Checks)) {
		if stage < 256 {
			checks.put(denial.Stage(stage).String(), stateText(denial.State(r.Checks[stage])))
		}
	}
	if len(checks.rows) > 0 {
		s.put("checks", checks)
	}
}

func stateText(s denial.State) string {
	switch s {
	case denial.Success:
		return "held"
	case denial.Fail:
		return "failed"
	case denial.NotRun:
		return "not run"
	case denial.Absent:
		return "absent"
	}
	return "unknown"
}

// reasonText names a code, and says so where this version does not know it.
func reasonText(code uint64) string {
	r, err := denial.Parse(strconv.FormatUint(code, 10))
	if err != nil {
		return fmt.Sprintf("%d, which this version does not know", code)
	}
	return fmt.Sprintf("%d %s: %s", code, r, r.Meaning())
}

func putSubject(s *sheet, r *record.Record) {
	s.putText("workload", r.Workload)
	s.putText("initiator", r.Initiator)
	s.putIf("request_id", r.RequestID)
	s.putIf("artifact_id", r.CTI)
	s.putIf("artifact", r.Artifact)
	putPolicy(s, "appraisal_policy", r.Appraisal)
	putPolicy(s, "authorization_policy", r.Policy)
	s.putIf("decision_input", r.Input)
	s.putIf("evidence", r.Evidence)
	s.putIf("request", r.Request)
	s.putIf("challenge", r.Challenge)
	s.putIf("exporter", r.Exporter)
}

func putPolicy(s *sheet, name string, p *record.PolicyRef) {
	if p != nil {
		s.say(name, map[string]any{"id": p.ID, "hash": fmt.Sprintf("%x", p.Hash)}, fmt.Sprintf("%s\n%x", p.ID, p.Hash))
	}
}

func putCounts(s *sheet, r *record.Record) {
	s.putTime("counted_since", r.Since)
	counts := &sheet{}
	for _, code := range slices.Sorted(maps.Keys(r.Counts)) {
		counts.say(fmt.Sprint(code), r.Counts[code], fmt.Sprintf("%d times: %s", r.Counts[code], reasonText(code)))
	}
	s.put("refusals", counts)
}

func explainEnrolled(e *record.Enrolled) *sheet {
	s := &sheet{}
	s.put("host", e.Host)
	s.put("trusted_by", e.Method)
	s.put("ek", e.EK)
	s.put("ak_public", e.AK)
	s.put("enrolment_act", e.Enrolment)
	s.put("enrolment_request", e.Request)
	if e.GateKey != nil {
		s.put("gate_key", e.GateKey.Thumbprint().String())
	}
	return s
}

func explainBirth(b *record.Birth) *sheet {
	s := &sheet{}
	s.put("purpose", b.Purpose)
	s.put("key", b.Key.Thumbprint().String())
	if len(b.Attributes) > 0 { // the first step of a ceremony has none yet
		s.put("attributes", explainMap(b.Attributes))
	}
	s.put("token", explainMap(b.Token))
	if c := b.Ceremony; c != nil {
		of := &sheet{}
		of.put("script", c.Script)
		of.put("transcript", c.Transcript)
		of.say("persons", c.Persons, strings.Join(c.Persons, ", "))
		putHostQuote(of, c.Quote)
		s.put("ceremony", of)
	}
	return s
}

func explainMap(m map[string]string) *sheet {
	s := &sheet{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		s.put(k, m[k])
	}
	return s
}

func explainExecution(e *record.Execution, event record.Event) *sheet {
	s := &sheet{}
	s.put("id", e.ID)
	s.say("use", e.Use, fmt.Sprintf("use number %d of the artifact", e.Use))
	s.putIf("code", e.Code)
	s.putIf("script", e.Script)
	s.putIf("parameters", e.Args)
	s.putIf("start_record", e.Start)
	if event == record.EventEnd {
		text := fmt.Sprintf("exit status %d", e.Status)
		if e.Status < 0 {
			text = fmt.Sprintf("ended by signal %d", -e.Status)
		}
		s.say("status", e.Status, text)
		if e.Ended != 0 {
			s.say("ended_by_gate", e.Ended, record.EndedWords(e.Ended))
		}
		if e.Left != 0 {
			s.say("left_behind", e.Left, fmt.Sprintf("%d process(es), which the gate killed", e.Left))
		}
	}
	return s
}

// statusList are the claims of a status list token (docs/formats).
type statusList struct {
	Issuer   string `cbor:"1,keyasint"`
	URI      string `cbor:"2,keyasint"`
	Expires  uint64 `cbor:"4,keyasint"`
	IssuedAt uint64 `cbor:"6,keyasint"`
	Profile  string `cbor:"265,keyasint"`
	List     struct {
		Bits uint64 `cbor:"bits"`
		List []byte `cbor:"lst"`
	} `cbor:"65533,keyasint"`
	TTL   uint64           `cbor:"65534,keyasint"`
	Keys  *artifact.KeyPin `cbor:"-90011,keyasint,omitempty"`
	Since uint64           `cbor:"-90021,keyasint,omitempty"`
}

// maxShown bounds how many entries of a status list are shown one by one.
const maxShown = 1000

func statusPayload(payload []byte) (*sheet, error) {
	var c statusList
	if err := statement.Unmarshal(payload, &c); err != nil {
		return nil, err
	}
	if c.Profile != artifact.StatusProfile || c.List.Bits != 4 {
		return nil, denial.New(denial.UnsupportedVersion, "not a status list of profile 1, with 4 bits an entry")
	}
	r, err := zlib.NewReader(bytes.NewReader(c.List.List))
	if err != nil {
		return nil, denial.New(denial.PayloadForm, "the status list is not zlib data")
	}
	list, err := io.ReadAll(io.LimitReader(r, artifact.MaxStatuses/2))
	if err != nil {
		return nil, denial.New(denial.PayloadForm, "the status list is not zlib data")
	}
	s := &sheet{}
	s.put("issuer", c.Issuer)
	s.put("uri", c.URI)
	s.putTime("issued", c.IssuedAt)
	s.putTime("expires", c.Expires)
	s.say("ttl", c.TTL, fmt.Sprintf("may be kept for %d s", c.TTL))
	if c.Keys != nil {
		s.say("key_change", c.Keys.Change, "the issuer's keys have changed so often; who does not know of the last change must not go on")
		s.put("key_change_sha256", c.Keys.Digest)
	}
	if c.Since != 0 {
		s.putTime("epoch_since", c.Since)
		s.say("epoch", nil, "the log was restored from a backup then: artifacts that were logged before are void")
	}
	s.put("entries", 2*len(list))
	putRevoked(s, list)
	return s, nil
}

// putRevoked lists the entries that refuse.
func putRevoked(s *sheet, list []byte) {
	revoked, n := &sheet{}, 0
	for i := range 2 * len(list) {
		err := artifact.StatusValue(list[i/2] >> (4 * (i % 2)) & 15).Check()
		if err == nil {
			continue
		}
		if n++; n <= maxShown {
			d := denial.Of(err)
			revoked.say(fmt.Sprint(i), d.Reason.Code(), fmt.Sprintf("%d %s", d.Reason.Code(), d.Reason))
		}
	}
	s.say("revoked", n, fmt.Sprintf("%d entries", n))
	if n > 0 {
		s.put("by_index", revoked)
	}
}
