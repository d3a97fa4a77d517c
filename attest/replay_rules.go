package attest

import (
	"bytes"
	"slices"

	"github.com/governed-execution/writ/denial"
)

// firmwareRules is what checkEvent has seen so far in PCRs 0 to 7.
type firmwareRules struct {
	separated [8]bool
	variables map[variableKey]bool // measured into PCR 7 as configuration
}

type variableKey struct {
	guid efiGUID
	name string
}

// checkEvent makes the check 4 of replayBanks for one event that extended a quoted PCR.
func (b *bankReplay) checkEvent(i int, e *logEvent) error {
	if e.pcr > 7 {
		return nil
	}
	if e.kind == evSeparator {
		return b.checkSeparator(i, e)
	}
	if !slices.Contains(firmwareEvents[e.pcr], e.kind) {
		return denial.New(denial.EventUnexpected, "event %d is of a type that does not belong in PCR %d", i+1, e.pcr)
	}
	switch e.kind {
	case evAction, evOmitBootDevices:
		if err := b.checkText(i, e); err != nil {
			return err
		}
	case evBootApplication, evBootDriver, evRuntimeDriver:
		return b.checkImage(i)
	case evSPDMPolicy:
		return b.checkVariable(i, e)
	case evVariableConfig:
		if e.pcr == 7 {
			return b.checkVariable(i, e)
		}
	case evAuthority, evSPDMAuthority:
		return b.checkAuthority(i, e)
	}
	if e.pcr == 7 && b.rules.separated[7] {
		return denial.New(denial.EventUnexpected, "event %d changes PCR 7 after its separator", i+1)
	}
	return nil
}

// checkSeparator takes the one event that ends the firmware's part of a PCR. Its data must be zeros or ones (PC Client
// Platform Firmware Profile, section "EV_SEPARATOR"): 1 says that firmware met an error.
func (b *bankReplay) checkSeparator(i int, e *logEvent) error {
	if !b.covers(b.log.digest(i, b.bank), e.data) {
		return denial.New(denial.EventDigestMismatch, "event %d is a separator with another digest", i+1)
	}
	if !bytes.Equal(e.data, []byte{0, 0, 0, 0}) && !bytes.Equal(e.data, []byte{0xFF, 0xFF, 0xFF, 0xFF}) {
		return denial.New(denial.EventUnexpected, "event %d is a separator with an unknown value", i+1)
	}
	if b.rules.separated[e.pcr] {
		return denial.New(denial.EventUnexpected, "event %d is a second separator in PCR %d", i+1, e.pcr)
	}
	b.rules.separated[e.pcr] = true
	return nil
}

// checkSeparators makes sure that each quoted PCR of the firmware has its separator.
func (b *bankReplay) checkSeparators() error {
	for pcr := range int64(8) {
		if _, quoted := b.quoted[pcr]; quoted && !b.rules.separated[pcr] {
			return denial.New(denial.EventUnexpected, "PCR %d has no separator", pcr)
		}
	}
	return nil
}

// maxAction bounds the text of an action. Those of the profile have up to 47 bytes.
const maxAction = 128

// checkText takes an event that is nothing but the text that its digest covers. Were that not checked, an image could be
// hidden as an action.
func (b *bankReplay) checkText(i int, e *logEvent) error {
	if !b.covers(b.log.digest(i, b.bank), e.data) {
		return denial.New(denial.EventDigestMismatch, "event %d is an action with another digest", i+1)
	}
	for _, c := range e.data {
		if c < ' ' || c > '~' {
			return denial.New(denial.EventUnexpected, "event %d is an action that is not plain text", i+1)
		}
	}
	if len(e.data) == 0 || len(e.data) > maxAction {
		return denial.New(denial.EventUnexpected, "event %d is an action that is empty or too long", i+1)
	}
	return nil
}

// loaderActions are the actions of PCR 4 (PC Client Platform Firmware Profile, section "EV_EFI_ACTION").
var loaderActions = [...]string{
	"Calling EFI Application from Boot Option", "Returning from EFI Application from Boot Option",
	"Calling INT 19h", "Returned INT 19h", "Return via INT 18h",
}

// checkImage takes an image. No digest covers its data, but an action could pose as one: the digest of an image is never
// that of such a text.
func (b *bankReplay) checkImage(i int) error {
	digest := b.log.digest(i, b.bank)
	for _, action := range loaderActions {
		if b.covers(digest, []byte(action)) {
			return denial.New(denial.EventUnexpected, "event %d is an image with the digest of an action", i+1)
		}
	}
	return nil
}

// checkVariable takes a variable that PCR 7 holds: covered, well-formed, once, and before the separator. A policy of a
// device is a variable too, but none of those that Secure Boot rests on: they cannot hide as one.
func (b *bankReplay) checkVariable(i int, e *logEvent) error {
	if !b.covers(b.log.digest(i, b.bank), e.data) {
		return denial.New(denial.EventDigestMismatch, "event %d is a variable with another digest", i+1)
	}
	v, err := parseVariable(e.data)
	if err != nil {
		return err
	}
	if e.kind == evSPDMPolicy && v.secureBootVariable() != "" {
		return denial.New(denial.EventUnexpected, "event %d measures a variable of Secure Boot as a policy of a device", i+1)
	}
	if err := v.check(); err != nil {
		return err
	}
	key := variableKey{v.guid, v.name}
	if b.rules.separated[7] || b.rules.variables[key] {
		return denial.New(denial.EventUnexpected, "event %d measures a variable twice or after the separator", i+1)
	}
	if b.rules.variables == nil {
		b.rules.variables = make(map[variableKey]bool)
	}
	b.rules.variables[key] = true
	return nil
}

// checkAuthority takes what verified an image. After the separator nothing else can stand in PCR 7. Before it an event
// of another type could pose as an authority, so there it must be one entry of db, and not db itself.
func (b *bankReplay) checkAuthority(i int, e *logEvent) error {
	if b.rules.separated[7] {
		return nil
	}
	if !b.covers(b.log.digest(i, b.bank), e.data) {
		return denial.New(denial.EventDigestMismatch, "event %d is an early authority with another digest", i+1)
	}
	v, err := parseVariable(e.data)
	if err != nil {
		return err
	}
	if _, err := parseSignatureLists(v.data); err == nil || v.secureBootVariable() != "db" {
		return denial.New(denial.EventUnexpected, "event %d is an early authority that is not an entry of db", i+1)
	}
	return nil
}
