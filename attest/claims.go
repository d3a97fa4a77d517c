package attest

// Claims are the typed facts that verified evidence shows. They are plain data: policies name their fields through the
// cel tags, and their canonical CBOR is part of the decision input. Digests, names and PCR values are lower-case
// hexadecimal. A Claims value proves nothing by itself; Facts does.
type Claims struct {
	AK          string           `cbor:"1,keyasint" cel:"ak"`           // TPM Name of the AK: nameAlg || digest, 34 bytes
	Bank        string           `cbor:"2,keyasint" cel:"bank"`         // "sha256" or "sha384"
	PCR         map[int64]string `cbor:"3,keyasint" cel:"pcr"`          // every PCR that the quote covers
	PCRDigest   string           `cbor:"4,keyasint" cel:"pcr_digest"`   // TPMS_QUOTE_INFO.pcrDigest
	Clock       Clock            `cbor:"5,keyasint" cel:"clock"`        // TPMS_CLOCK_INFO
	Firmware    uint64           `cbor:"6,keyasint" cel:"firmware"`     // TPMS_ATTEST.firmwareVersion
	SecureBoot  SecureBoot       `cbor:"7,keyasint" cel:"secure_boot"`  // as measured into PCR 7
	BootApps    []BootApp        `cbor:"8,keyasint" cel:"boot_apps"`    // in the order of measurement
	CommandLine []string         `cbor:"9,keyasint" cel:"command_line"` // kernel command lines whose text a digest covers
	CNF         CNF              `cbor:"10,keyasint" cel:"cnf"`         // the certified confirmation key
	Log         Log              `cbor:"11,keyasint" cel:"log"`         // the event log that replayed
}

// Clock is TPMS_CLOCK_INFO (TPM 2.0 Part 2, section 10.11.1).
type Clock struct {
	Milliseconds uint64 `cbor:"1,keyasint" cel:"milliseconds"`
	Resets       uint64 `cbor:"2,keyasint" cel:"resets"`   // resetCount: TPM resets since manufacture or clear
	Restarts     uint64 `cbor:"3,keyasint" cel:"restarts"` // restartCount: resumes since the last reset
	Safe         bool   `cbor:"4,keyasint" cel:"safe"`     // no higher clock value can have been reported before
}

// SecureBoot is the UEFI Secure Boot state as measured into PCR 7. Where Present is false nothing else is set.
type SecureBoot struct {
	Present     bool     `cbor:"1,keyasint" cel:"present"` // the SecureBoot variable was measured
	Enabled     bool     `cbor:"2,keyasint" cel:"enabled"` // its value was exactly 1
	PK          string   `cbor:"3,keyasint" cel:"pk"`      // digest of the measured variable, "" if absent
	KEK         string   `cbor:"4,keyasint" cel:"kek"`
	DB          string   `cbor:"5,keyasint" cel:"db"`
	DBX         string   `cbor:"6,keyasint" cel:"dbx"`
	Authorities []string `cbor:"7,keyasint" cel:"authorities"` // digests of EV_EFI_VARIABLE_AUTHORITY events, in order
}

// BootApp is one EV_EFI_BOOT_SERVICES_APPLICATION event: a program that the firmware or a loader measured and started.
type BootApp struct {
	PCR    int64  `cbor:"1,keyasint" cel:"pcr"`
	Digest string `cbor:"2,keyasint" cel:"digest"` // Authenticode digest in the bank of the quote
}

// CNF is the confirmation key that the AK certified.
type CNF struct {
	Name       string  `cbor:"1,keyasint" cel:"name"`        // TPM Name
	AuthPolicy string  `cbor:"2,keyasint" cel:"auth_policy"` // PolicyPCR over PCRs, recomputed from quoted values
	PCRs       []int64 `cbor:"3,keyasint" cel:"pcrs"`        // ascending
}

// Log describes the event log that replayed to the quoted PCRs.
type Log struct {
	Events int64  `cbor:"1,keyasint" cel:"events"`
	Digest string `cbor:"2,keyasint" cel:"digest"` // SHA-256 of the log bytes
}
