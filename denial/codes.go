package denial

// The reasons, by number. A number is never reused and never renumbered.
const (
	NoArtifact        Reason = 101
	NoEvidence        Reason = 102
	NoChallenge       Reason = 103
	ClaimAbsent       Reason = 104
	NoReceipt         Reason = 105
	NotEnrolled       Reason = 106
	RequiredPCRAbsent Reason = 107
	NoActivePolicy    Reason = 108

	Expired            Reason = 201
	NotYetValid        Reason = 202
	LifetimeTooLong    Reason = 203
	TimeMalformed      Reason = 204
	EvidenceStale      Reason = 205
	PolicyExpired      Reason = 206
	CheckpointStale    Reason = 207
	KeyOutsideValidity Reason = 208

	SignatureInvalid    Reason = 301
	AlgNotAllowed       Reason = 302
	AlgKeyMismatch      Reason = 303
	AlgNotProtected     Reason = 304
	KeyUnknown          Reason = 305
	KeyAmbiguous        Reason = 306
	CritUnknown         Reason = 307
	LabelDuplicate      Reason = 308
	NotCanonical        Reason = 309
	TrailingData        Reason = 310
	WrongType           Reason = 311
	PayloadForm         Reason = 312
	StructureLimit      Reason = 313
	QuoteMagic          Reason = 314
	QuoteType           Reason = 315
	QuoteSignature      Reason = 316
	QuoteMalformed      Reason = 317
	AKUntrusted         Reason = 318
	AKAttributes        Reason = 319
	AKSubstituted       Reason = 320
	EKUntrusted         Reason = 321
	EKWeak              Reason = 322
	ActivationFailed    Reason = 323
	ReceiptInvalid      Reason = 324
	LogInconsistent     Reason = 325
	ThresholdNotMet     Reason = 326
	LineageChainInvalid Reason = 327

	PolicyHashMismatch Reason = 401
	PolicyRollback     Reason = 402
	PolicyUnsigned     Reason = 403
	ScopeDenied        Reason = 404
	InitiatorDenied    Reason = 405
	DelegationExceeded Reason = 406
	PolicyError        Reason = 407
	PolicyAmbiguous    Reason = 408
	DualControlMissing Reason = 409
	BreakGlassInvalid  Reason = 410
	AudienceMismatch   Reason = 411

	ChallengeUnknown  Reason = 501
	ChallengeReused   Reason = 502
	ChallengeExpired  Reason = 503
	ArtifactReplayed  Reason = 504
	UseCountExceeded  Reason = 505
	ChallengeMismatch Reason = 506
	BootRollback      Reason = 507
	StateRollback     Reason = 508
	RequestReplayed   Reason = 509

	PCRDigestMismatch     Reason = 601
	PCRNotAllowed         Reason = 602
	LogReplayMismatch     Reason = 603
	LogUncovered          Reason = 604
	LogMalformed          Reason = 605
	EventDigestMismatch   Reason = 606
	EventUnexpected       Reason = 607
	SecureBootOff         Reason = 608
	SecureBootKeys        Reason = 609
	RevocationDBStale     Reason = 610
	BankNotAllowed        Reason = 611
	BankUncapped          Reason = 612
	IMAViolation          Reason = 613
	IMAUnknownFile        Reason = 614
	DebugState            Reason = 615
	CodeDigestMismatch    Reason = 616
	CodeMutated           Reason = 617
	LoaderInjection       Reason = 618
	InterpreterUngoverned Reason = 619
	TPMFirmware           Reason = 620

	HostMismatch         Reason = 701
	KeyBinding           Reason = 702
	ChannelBinding       Reason = 703
	WorkloadMismatch     Reason = 704
	TenantMismatch       Reason = 705
	IdentityConflict     Reason = 706
	PCRSelectionMismatch Reason = 707

	ArtifactRevoked   Reason = 801
	KeyRevoked        Reason = 802
	HostRevoked       Reason = 803
	PolicyWithdrawn   Reason = 804
	InitiatorRevoked  Reason = 805
	RevocationUnknown Reason = 806
	AncestorRevoked   Reason = 807

	Internal           Reason = 901
	AuditUnavailable   Reason = 902
	HSMUnavailable     Reason = 903
	HSMKeyPolicy       Reason = 904
	ClockUntrusted     Reason = 905
	StoreFault         Reason = 906
	Overloaded         Reason = 907
	RequestLimit       Reason = 908
	Unauthenticated    Reason = 909
	NotPermitted       Reason = 910
	UnsupportedVersion Reason = 911
	ModeForbidden      Reason = 912
	EgressForbidden    Reason = 913
	SelfTestFailed     Reason = 914
)
