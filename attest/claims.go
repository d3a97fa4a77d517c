package attest

// Claims are the typed facts that verified evidence shows. They are plain data: policies name their fields through the
// cel tags, and their canonical CBOR is part of the decision input. Digests, names and PCR values are lower-case
// hexadecimal. A Claims value proves nothing by itself; Facts does.
type Claims struct {
	AK          string             `cbor:"1,keyasint" cel:"ak"`           // TPM Name of the AK: nameAlg || digest, 34 bytes
	Bank        string             `cbor:"2,keyasint" cel:"bank"`         // "sha256" or "sha384"
	PCR         map[int64]string   `cbor:"3,keyasint" cel:"pcr"`          // every PCR that the quote covers
	PCRDigest   string             `cbor:"4,keyasint" cel:"pcr_digest"`   // TPMS_QUOTE_INFO.pcrDigest
	Clock       Clock              `cbor:"5,keyasint" cel:"clock"`        // TPMS_CLOCK_INFO
	Firmware    uint64             `cbor:"6,keyasint" cel:"firmware"`     // TPMS_ATTEST.firmwareVersion
	SecureBoot  SecureBoot         `cbor:"7,keyasint" cel:"secure_boot"`  // as measured into PCR 7
	BootApps    []BootApp          `cbor:"8,keyasint" cel:"boot_apps"`    // in the order of measurement
	CommandLine []string           `cbor:"9,keyasint" cel:"command_line"` // kernel command lines whose text a digest covers
	CNF         CNF                `cbor:"10,keyasint" cel:"cnf"`         // the certified confirmation key
	Log         Log                `cbor:"11,keyasint" cel:"log"`         // the event log that replayed
	Platform    Platform           `cbor:"12,keyasint" cel:"platform"`    // what firmware says of itself
	Disks       []Disk             `cbor:"13,keyasint" cel:"disks"`       // partition tables that PCR 5 holds, in order
	Shim        Shim               `cbor:"14,keyasint" cel:"shim"`        // what shim measured into PCR 7
	Commands    []string           `cbor:"15,keyasint" cel:"commands"`    // commands of GRUB in PCR 8 whose text a digest covers, in order
	Sections    map[string]string  `cbor:"16,keyasint" cel:"sections"`    // what systemd-stub measured into PCR 11 of the unified kernel image: digest of each section's content, by its name
	Measured    map[int64][]string `cbor:"17,keyasint" cel:"measured"`    // digests of all events of the PCRs 0, 2, 3, 9, 12, 13 and 14, in order, whatever their labels say
	Unexplained map[int64]int64    `cbor:"18,keyasint" cel:"unexplained"` // how many events of the PCRs 5, 8, 11, 12 and 15 no other fact tells of: who forbids must demand 0
	OS          []OSEvent          `cbor:"19,keyasint" cel:"os"`          // what systemd measured while the system ran, in order

	Banks []string `cbor:"21,keyasint,omitempty" cel:"banks"` // PCR banks that the TPM keeps, by an audit session: firmware measured into each; empty without one

	IMA IMA `cbor:"20,keyasint" cel:"ima"` // what Linux measured while the system ran
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
	Setup       bool     `cbor:"8,keyasint" cel:"setup"`       // PK was empty: whoever boots may enrol keys
}

// Platform is what firmware measured about itself. The two last fields are told by PCR 7, the others by PCR 0.
type Platform struct {
	Locality       int64  `cbor:"1,keyasint" cel:"locality"`        // of TPM2_Startup: 0 or 3; 4 after an H-CRTM sequence
	Version        string `cbor:"2,keyasint" cel:"version"`         // text of EV_S_CRTM_VERSION, "" if there is none or it is no text
	Debug          bool   `cbor:"3,keyasint" cel:"debug"`           // a debugger of the firmware was enabled
	DMAUnprotected bool   `cbor:"4,keyasint" cel:"dma_unprotected"` // firmware had switched protection against DMA off
}

// Disk is one GUID partition table (UEFI 2.10, section 5.3).
type Disk struct {
	GUID       string      `cbor:"1,keyasint" cel:"guid"`
	Partitions []Partition `cbor:"2,keyasint" cel:"partitions"`
}

// Partition is one entry of a partition table. GUIDs are in lower case with hyphens.
type Partition struct {
	Type string `cbor:"1,keyasint" cel:"type"`
	GUID string `cbor:"2,keyasint" cel:"guid"`
	Name string `cbor:"3,keyasint" cel:"name"` // "" if it is no text
}

// Shim is what shim measured into PCR 7. Whatever runs later can extend PCR 7 too: these facts are as good as the programs
// of PCR 4. The keys of the machine's owner (MokList and others) are the digests of PCR 14, in Claims.Measured.
type Shim struct {
	SBAT        int64            `cbor:"1,keyasint" cel:"sbat"`        // date of SbatLevel as a number such as 2023012900; 0 if absent
	Generations map[string]int64 `cbor:"2,keyasint" cel:"generations"` // least generation of each component that SbatLevel names
	Insecure    bool             `cbor:"3,keyasint" cel:"insecure"`    // MokSBState was 1: shim verified nothing
}

// OSEvent is one event of the log of systemd. It says more than its digest only where that covers the text.
type OSEvent struct {
	PCR    int64  `cbor:"1,keyasint" cel:"pcr"`
	Digest string `cbor:"2,keyasint" cel:"digest"`
	Text   string `cbor:"3,keyasint" cel:"text"` // "" if the digest is not that of the text
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

// IMA is what Linux's Integrity Measurement Architecture measured: the part of its list that gives the quoted PCR 10. Root
// can extend PCR 10 with anything, so the list shows that nothing else was measured, and cannot show that what it
// names ran.
type IMA struct {
	Present    bool      `cbor:"1,keyasint" cel:"present"`    // PCR 10 is quoted, and the list gives its value
	Entries    int64     `cbor:"2,keyasint" cel:"entries"`    // that PCR 10 covers
	Violations int64     `cbor:"3,keyasint" cel:"violations"` // of them: a file was written while it was measured; no digest covers which
	Unknown    int64     `cbor:"4,keyasint" cel:"unknown"`    // of them: neither in ima.known nor signed with a key of ima.keys
	Files      []IMAFile `cbor:"5,keyasint" cel:"files"`      // those that ima.watch names, each once, in order
	Buffers    []Buffer  `cbor:"6,keyasint" cel:"buffers"`    // data that the kernel measured, each once, in order
	Reference  string    `cbor:"7,keyasint" cel:"reference"`  // digest of what ima.known, ima.keys and ima.watch say
}

// IMAFile is a file that was measured when it was run, mapped or read. The path is the one that the kernel saw, perhaps in
// a container; bytes that cannot be printed, and backslashes, stand as \x and two digits.
type IMAFile struct {
	Path   string `cbor:"1,keyasint" cel:"path"`
	Digest string `cbor:"2,keyasint" cel:"digest"` // such as "sha256:…", or "verity:sha256:…" of fs-verity
	Signed bool   `cbor:"3,keyasint" cel:"signed"` // with a key of ima.keys
}

// Buffer is data that the kernel measured without a file: certificates added to a keyring under the keyring's name, the
// command line of kexec under "kexec-cmdline", and others.
type Buffer struct {
	Name   string `cbor:"1,keyasint" cel:"name"`
	Digest string `cbor:"2,keyasint" cel:"digest"`
}
