package decision

import "github.com/governed-execution/writ/artifact"

// environmentOf writes what the TPM proved into the claims.
func environmentOf(in *Input) artifact.Environment {
	f := in.Facts
	env := artifact.Environment{
		PCRs:     []artifact.PCRBinding{{Bank: bankOf(f.Bank), Select: bitmap(f.PCR), Digest: unhex(f.PCRDigest)}},
		AK:       artifact.AK{Thumbprint: in.Host.AK, Name: unhex(f.AK)},
		Clock:    artifact.Clock{Milliseconds: f.Clock.Milliseconds, Resets: f.Clock.Resets, Restarts: f.Clock.Restarts, Safe: f.Clock.Safe},
		Firmware: f.Firmware, Evidence: digestOf(in.Evidence),
		CNFName: unhex(f.CNF.Name), CNFPolicy: unhex(f.CNF.AuthPolicy),
		SecureBoot: artifact.SecureBoot{Enabled: f.SecureBoot.Enabled},
	}
	if f.SecureBoot.DBX != "" {
		env.SecureBoot.DBX = &artifact.Digest{Algorithm: bankOf(f.Bank), Value: unhex(f.SecureBoot.DBX)}
	}
	return env
}

// bankOf returns the COSE algorithm of a bank, zero for one that no check accepts.
func bankOf(name string) int64 {
	switch name {
	case "sha256":
		return artifact.SHA256
	case "sha384":
		return artifact.SHA384
	}
	return 0
}

// bitmap returns the selection bytes of TPMS_PCR_SELECTION: three of them, PCR 0 the least significant bit of the first.
func bitmap(pcrs map[int64]string) []byte {
	b := make([]byte, 3)
	for i := range pcrs {
		if i >= 0 && i < 24 {
			b[i/8] |= 1 << (i % 8)
		}
	}
	return b
}

func ref(b []byte) *artifact.Digest {
	d := digestOf(b)
	return &d
}
