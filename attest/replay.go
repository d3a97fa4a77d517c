package attest

import "github.com/governed-execution/writ/denial"

// bootFacts is what an event log that replayed to quoted PCR values shows. Nothing in it rests on data that no digest covers.
type bootFacts struct {
	SecureBoot  SecureBoot
	BootApps    []BootApp
	CommandLine []string
	Log         Log
}

// replay checks an event log against the quoted PCR values of one bank and returns the facts that the log proves.
func replay(log []byte, bank string, pcrs map[int64][]byte) (*bootFacts, error) {
	return nil, denial.New(denial.LogMalformed, "no event log can be read")
}
