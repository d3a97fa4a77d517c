package attest

import "fmt"

// eventType is the type of a TCG event (PC Client Platform Firmware Profile, section "Event Types"). No digest covers
// it: whoever hands over a log can change it.
type eventType uint32

const (
	evPostCode         eventType = 0x01
	evNoAction         eventType = 0x03
	evSeparator        eventType = 0x04
	evEventTag         eventType = 0x06
	evCRTMContents     eventType = 0x07
	evCRTMVersion      eventType = 0x08
	evMicrocode        eventType = 0x09
	evPlatformConfig   eventType = 0x0A
	evTableOfDevices   eventType = 0x0B
	evCompactHash      eventType = 0x0C
	evIPL              eventType = 0x0D
	evIPLPartitionData eventType = 0x0E
	evNonhostCode      eventType = 0x0F
	evNonhostConfig    eventType = 0x10
	evNonhostInfo      eventType = 0x11
	evOmitBootDevices  eventType = 0x12
	evPostCode2        eventType = 0x13
	evVariableConfig   eventType = 0x80000001
	evVariableBoot     eventType = 0x80000002
	evBootApplication  eventType = 0x80000003
	evBootDriver       eventType = 0x80000004
	evRuntimeDriver    eventType = 0x80000005
	evGPT              eventType = 0x80000006
	evAction           eventType = 0x80000007
	evFirmwareBlob     eventType = 0x80000008
	evHandoffTables    eventType = 0x80000009
	evFirmwareBlob2    eventType = 0x8000000A
	evHandoffTables2   eventType = 0x8000000B
	evVariableBoot2    eventType = 0x8000000C
	evGPT2             eventType = 0x8000000D
	evHCRTM            eventType = 0x80000010
	evAuthority        eventType = 0x800000E0
	evSPDMFirmware     eventType = 0x800000E1
	evSPDMConfig       eventType = 0x800000E2
	evSPDMPolicy       eventType = 0x800000E3
	evSPDMAuthority    eventType = 0x800000E4
)

var eventTypeNames = map[eventType]string{
	evPostCode: "EV_POST_CODE", evNoAction: "EV_NO_ACTION", evSeparator: "EV_SEPARATOR", evEventTag: "EV_EVENT_TAG",
	evCRTMContents: "EV_S_CRTM_CONTENTS", evCRTMVersion: "EV_S_CRTM_VERSION", evMicrocode: "EV_CPU_MICROCODE",
	evPlatformConfig: "EV_PLATFORM_CONFIG_FLAGS", evTableOfDevices: "EV_TABLE_OF_DEVICES",
	evCompactHash: "EV_COMPACT_HASH", evIPL: "EV_IPL", evIPLPartitionData: "EV_IPL_PARTITION_DATA",
	evNonhostCode: "EV_NONHOST_CODE", evNonhostConfig: "EV_NONHOST_CONFIG", evNonhostInfo: "EV_NONHOST_INFO",
	evOmitBootDevices: "EV_OMIT_BOOT_DEVICE_EVENTS", evPostCode2: "EV_POST_CODE2",
	evVariableConfig: "EV_EFI_VARIABLE_DRIVER_CONFIG", evVariableBoot: "EV_EFI_VARIABLE_BOOT",
	evBootApplication: "EV_EFI_BOOT_SERVICES_APPLICATION", evBootDriver: "EV_EFI_BOOT_SERVICES_DRIVER",
	evRuntimeDriver: "EV_EFI_RUNTIME_SERVICES_DRIVER", evGPT: "EV_EFI_GPT_EVENT", evAction: "EV_EFI_ACTION",
	evFirmwareBlob: "EV_EFI_PLATFORM_FIRMWARE_BLOB", evHandoffTables: "EV_EFI_HANDOFF_TABLES",
	evFirmwareBlob2: "EV_EFI_PLATFORM_FIRMWARE_BLOB2", evHandoffTables2: "EV_EFI_HANDOFF_TABLES2",
	evVariableBoot2: "EV_EFI_VARIABLE_BOOT2", evGPT2: "EV_EFI_GPT_EVENT2", evHCRTM: "EV_EFI_HCRTM_EVENT",
	evAuthority: "EV_EFI_VARIABLE_AUTHORITY", evSPDMFirmware: "EV_EFI_SPDM_FIRMWARE_BLOB",
	evSPDMConfig: "EV_EFI_SPDM_FIRMWARE_CONFIG", evSPDMPolicy: "EV_EFI_SPDM_DEVICE_POLICY",
	evSPDMAuthority: "EV_EFI_SPDM_DEVICE_AUTHORITY",
}

// String returns the name of the type in the profile, or its number.
func (t eventType) String() string {
	if name, ok := eventTypeNames[t]; ok {
		return name
	}
	return fmt.Sprintf("%#08x", uint32(t))
}

// firmwareEvents are the types that firmware may extend PCRs 0 to 7 with (PC Client Platform Firmware Profile, section
// "PCR Usage", and what real firmware logs there). A type that is not listed is refused, so an event cannot be hidden
// from the facts under another type. The lists of PCR 4 and PCR 7 are complete for that purpose: what is neither an
// image nor a variable there has text that its digest covers.
var firmwareEvents = [8][]eventType{
	0: {evPostCode, evPostCode2, evCRTMContents, evCRTMVersion, evMicrocode, evNonhostCode, evNonhostInfo, evAction,
		evFirmwareBlob, evFirmwareBlob2, evHandoffTables, evHandoffTables2, evHCRTM, evBootDriver, evRuntimeDriver},
	1: {evPostCode, evEventTag, evMicrocode, evPlatformConfig, evTableOfDevices, evNonhostConfig, evNonhostInfo, evAction,
		evHandoffTables, evHandoffTables2, evVariableConfig, evVariableBoot, evVariableBoot2},
	2: {evNonhostCode, evNonhostInfo, evAction, evFirmwareBlob, evFirmwareBlob2, evBootApplication, evBootDriver,
		evRuntimeDriver, evSPDMFirmware},
	3: {evEventTag, evPlatformConfig, evNonhostConfig, evNonhostInfo, evAction, evVariableConfig, evSPDMConfig},
	4: {evOmitBootDevices, evAction, evBootApplication},
	5: {evEventTag, evIPLPartitionData, evAction, evGPT, evGPT2, evVariableConfig, evVariableBoot, evVariableBoot2},
	6: {evEventTag, evPlatformConfig, evCompactHash, evNonhostCode, evNonhostConfig, evNonhostInfo, evAction},
	7: {evAction, evVariableConfig, evAuthority, evSPDMPolicy, evSPDMAuthority},
}
