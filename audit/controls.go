package audit

import "fmt"

// Control says what a bundle gives as evidence for one requirement of a norm, and what it leaves to others.
type Control struct {
	Norm     string
	ID       string
	Asks     string
	Evidence string
	Missing  string
	See      []string // ids of the sections that hold the evidence
}

// controls maps what was counted to requirements. It claims no compliance: an auditor decides that.
func controls(t *tally) []Control {
	decisions := fmt.Sprintf("%d permits and %d denials, each a signed statement with who, what, where, when, under which policy and outcome", t.Permits.N, t.Denials.N)
	proof := fmt.Sprintf("%d statements proved, %d refuted, %d unchecked, against a tree head whose key the auditor pinned", t.Proved.N, t.Refuted.N, t.Unchecked.N)
	machines := fmt.Sprintf("%d host states, each from a TPM quote with a replayed event log", len(t.Machines))
	changes := fmt.Sprintf("%d policy acts and %d enrolments, revocations and genesis acts, each with its signatures", len(t.Policies), len(t.Changes))
	kept := fmt.Sprintf("every statement is kept; %d records of deletions and legal holds of payloads", len(t.Kept))
	return []Control{
		{"NIST SP 800-53 r5", "AU-2, AU-3, AU-12", "Events are logged with type, time, place, source, outcome and identity", decisions, "events outside governed execution", []string{"permitted", "denied"}},
		{"NIST SP 800-53 r5", "AU-8", "Time stamps", "logged time under the log key, rising with the index; dates of statements compared with it", "that the issuer's clock follows an agreed reference", []string{"statements"}},
		{"NIST SP 800-53 r5", "AU-9, AU-9(3)", "Audit information is protected, cryptographically", proof, "storage of this file", []string{"gaps", "statements"}},
		{"NIST SP 800-53 r5", "AU-10", "Non-repudiation", "requests signed by initiators, acts by authorities, outcomes by a key on a token", "custody of the initiators' keys", []string{"statements"}},
		{"NIST SP 800-53 r5", "AU-6, AU-7", "Review and reduction of audit records", "this report and writ audit lineage", "that somebody reviewed it", []string{"who"}},
		{"NIST SP 800-53 r5", "AU-11", "Audit records are retained", kept, "the period that the organisation has set", []string{"kept"}},
		{"NIST SP 800-53 r5", "AC-3, AC-6", "Approved authorizations are enforced, with least privilege", decisions + "; scopes pin code by digest", "access that does not pass a gate", []string{"permitted", "denied"}},
		{"NIST SP 800-53 r5", "AC-3(2), AC-3(10)", "Dual authorization; overrides are audited", fmt.Sprintf("%d break-glass authorizations, each with its quorum, its use and its review", len(t.Account.Report.BreakGlass)), "whether the emergency was one", []string{"emergency"}},
		{"NIST SP 800-53 r5", "AC-5", "Separation of duties", changes, "that the persons behind the keys are distinct", []string{"changes"}},
		{"NIST SP 800-53 r5", "SI-7, SI-7(9)", "Integrity of software, firmware and boot", machines + fmt.Sprintf("; %d starts of code by digest", t.Starts.N), "integrity at run time behind the measured boot", []string{"machines"}},
		{"NIST SP 800-53 r5", "SC-12, SC-13", "Keys are established and managed", fmt.Sprintf("%d births of issuer keys with the attributes that their token stated", len(t.Keys)), "validation of the token (FIPS 140-3)", []string{"keys"}},
		{"DORA RTS (EU) 2024/1774", "Art. 12", "Logging: events, levels of detail, protection, clock", decisions + "; " + proof, "retention for the period that the entity has set", []string{"permitted", "denied", "gaps"}},
		{"DORA RTS (EU) 2024/1774", "Art. 21", "Access rights: need to know, accountability, review", changes, "the periodic review itself", []string{"changes"}},
		{"EU AI Act (2024/1689)", "Art. 12, 19", "Automatic recording of events over the lifetime; logs are kept", decisions + "; " + kept, "events inside the AI system; a retention of at least six months", []string{"permitted", "denied", "kept"}},
		{"SOC 2", "CC6.1, CC6.8", "Logical access; unauthorised software is prevented or detected", machines, "systems outside the gates", []string{"machines"}},
		{"SOC 2", "CC7.2, CC7.3", "Anomalies are monitored and evaluated", fmt.Sprintf("%d denials by reason, %d refusals of strangers counted", t.Denials.N, t.Strangers), "that somebody evaluated them", []string{"denied", "strangers"}},
		{"SOC 2", "CC8.1", "Changes are authorised", changes, "tests of a change before it was signed", []string{"changes"}},
	}
}
