package audit

import (
	"encoding/hex"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// world is what the statements so far have established. It follows from them alone, as the issuer's state must.
type world struct {
	genesis     *record.Genesis
	ring        *record.KeyRing                 // keys and authorities after the key changes so far
	reset       map[record.PolicyKind]bool      // the next policy of the kind may have any version
	changed     map[statement.Thumbprint]uint64 // index of the last change about a key
	policies    map[firmwarepolicy.Hash]published
	force       map[record.PolicyKind]*firmwarepolicy.Document // the newest of each kind
	approvals   map[string]approval                            // by EK, the newest
	hostOfEK    map[string]string
	ekOfHost    map[string]string
	initiators  map[statement.Thumbprint]initiator
	enrolled    map[statement.Digest]*host  // by digest of the enrolment record
	current     map[string]statement.Digest // by host id: the enrolment record in force
	aks         map[string]*host            // by AK name, the newest
	gates       map[statement.Thumbprint]*gate
	revoked     map[revocation]bool
	acts        map[statement.Digest]bool
	numbers     map[subject]uint64          // of the last act about each
	permits     map[[32]byte]uint64         // by cti: index of the artifact
	starts      map[statement.Digest]uint64 // index of the start
	requests    seen                        // initiator and request id: consumed by a permit
	delegations seen                        // parent and id of a delegation, and its digest: consumed by a permit
	disbelieved seen                        // by cti: entries that are no artifacts by a key of the issuer that counts
	uses        seen                        // of artifacts
	emitted     seen                        // numbers of records of the issuer
	clocks      map[string]attest.Clock     // by EK digest, the furthest
	glass       map[statement.Digest]*glass // break-glass authorizations, by digest of the payload
	glassOf     map[string]*glass           // the same, by id
	attested    map[statement.Digest]*glass // by digest of the attestation record
	epoch       uint64                      // index of the newest epoch; 0: none
	held        map[string]bool             // hosts that get nothing until authorities approve them anew
}

type published struct {
	doc  *firmwarepolicy.Document
	kind record.PolicyKind
}

type initiator struct {
	id   string
	kind record.InitiatorKind
	key  statement.Key
	act  statement.Digest
}

// approval is an act that approves an EK for a host.
type approval struct {
	act statement.Digest
	*record.Enrolment
}

type host struct {
	id      string
	labels  map[string]string
	ek, ak  []byte
	request statement.Digest // of the enrolment request
}

// gate is a gate key and the place that its chain of records has reached.
type gate struct {
	uri, host string
	enrolment statement.Digest // the record that names the key
	key       statement.Key
	begun     bool
	epoch     string
	next      uint64
	previous  []byte
}

type revocation struct {
	cause  record.Cause
	target string
}

func newWorld() *world {
	return &world{
		policies: map[firmwarepolicy.Hash]published{}, force: map[record.PolicyKind]*firmwarepolicy.Document{}, reset: map[record.PolicyKind]bool{},
		approvals: map[string]approval{}, current: map[string]statement.Digest{}, hostOfEK: map[string]string{}, ekOfHost: map[string]string{},
		changed:    map[statement.Thumbprint]uint64{},
		initiators: map[statement.Thumbprint]initiator{}, enrolled: map[statement.Digest]*host{}, aks: map[string]*host{},
		gates: map[statement.Thumbprint]*gate{}, revoked: map[revocation]bool{}, acts: map[statement.Digest]bool{}, numbers: map[subject]uint64{},
		permits: map[[32]byte]uint64{}, requests: seen{}, delegations: seen{}, disbelieved: seen{}, uses: seen{},
		starts: map[statement.Digest]uint64{}, emitted: seen{},
		clocks: map[string]attest.Clock{}, held: map[string]bool{}, glass: map[statement.Digest]*glass{}, glassOf: map[string]*glass{}, attested: map[statement.Digest]*glass{},
	}
}

// causes returns what is revoked of a request's host, policies and initiator, ascending.
func (w *world) causes(host, initiator string, policies ...[]byte) (all []uint64) {
	if w.revoked[revocation{record.CauseHost, host}] {
		all = append(all, uint64(record.CauseHost))
	}
	for _, hash := range policies {
		if w.revoked[revocation{record.CausePolicy, hex.EncodeToString(hash)}] {
			all = append(all, uint64(record.CausePolicy))
			break
		}
	}
	if w.revoked[revocation{record.CauseInitiator, initiator}] {
		all = append(all, uint64(record.CauseInitiator))
	}
	return all
}

// permitRevoked refuses an artifact that, or whose host, initiator or policy, is revoked, or whose host is held.
func (w *world) permitRevoked(c *artifact.Claims) error {
	if w.revoked[revocation{record.CauseArtifact, hex.EncodeToString(c.ID)}] {
		return denial.New(denial.ArtifactRevoked, "the artifact had been revoked")
	}
	for _, cause := range w.causes(c.Subject, c.Initiator.Principal, c.Policy.Appraisal.Hash.Value, c.Policy.Hash.Value) {
		return denial.New(record.Cause(cause).Reason(), "the %s had been revoked", record.Cause(cause))
	}
	return w.notHeld(c.Subject)
}

// notHeld refuses a host that was held (803).
func (w *world) notHeld(host string) error {
	if w.held[host] {
		return denial.New(denial.HostRevoked, "the host was held, and authorities had not approved it anew")
	}
	return nil
}

// clockSlack is by how many milliseconds a TPM's clock may lie behind the furthest one in the log: what a decision allows,
// and the ten seconds by which the issuer's mark may lag.
const clockSlack = decision.ClockTolerance + 10_000

// tick takes note of a TPM's clock, and refuses one that has gone back since an earlier entry (507).
func (w *world) tick(in *decision.Input) error {
	ek, now := string(in.Host.EK), in.Facts.Clock // another AK of the same TPM has the same clock
	seen, ok := w.clocks[ek]
	behind := ok && (now.Resets < seen.Resets || now.Resets == seen.Resets && (now.Restarts < seen.Restarts ||
		now.Restarts == seen.Restarts && now.Milliseconds < seen.Milliseconds))
	if !behind {
		w.clocks[ek] = now
		return nil
	}
	if now.Resets == seen.Resets && now.Restarts == seen.Restarts && seen.Milliseconds-now.Milliseconds <= clockSlack {
		return nil
	}
	return denial.New(denial.BootRollback, "the TPM's counters have gone back since an earlier entry")
}
