package attest

// replay replays the log of the firmware alone.
func replay(log []byte, bank string, pcrs map[int64][]byte) (*bootFacts, error) {
	return bootLogs{firmware: log}.replay(bank, pcrs, nil)
}

func replayBanks(log []byte, bank string, quoted map[string]map[int64][]byte) (*bootFacts, error) {
	return bootLogs{firmware: log}.replayBanks(bank, quoted, nil)
}
