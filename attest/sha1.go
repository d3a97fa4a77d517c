package attest

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"slices"
)

// sha1Exceptions are the only certificates that may be on the way to a root though their issuer signed them with SHA-1:
// the intermediate CAs "IFX TPM EK Intermediate CA" of Infineon, by their number, each SHA-256 of the DER. Infineon signed
// them from 2006 to 2017 under "IFX TPM EK Root CA" and has published no others, and TPMs with certificates by them are in
// use until 2030. They are named by SHA-256, so a collision of SHA-1 gives nobody another one. Number 01 has expired.
//
// There is no switch: a certificate that is not here and is signed with SHA-1 or MD5 is refused, and so is every EK
// certificate that is. Roots are pinned by digest, so that what signed them means nothing.
var sha1Exceptions = [...]string{
	"b33027e90f3f47bb5c0c54b18451121af0211a568eca51b68927280707b42f0e", // 02
	"2b2ab3993b854e496569fd1f187a383617eec1574bef0fa8c34bc013da40935f", // 03
	"c2b50c0544fbfae3f8257410818bd2228759c04150989982c1b42c397abf00a8", // 04
	"ed80849cf19acd6df5895ab47c6ec91555a3081b4696b900f8e346e777177aed", // 05
	"a7006d265241bb3821a807b3a2474514c1d437e396394bbcfce37b1f74f5800a", // 06
	"f5ee7dcec9ff49c08f6f30e153b1195e4a49a41214c58b55e6e0e8fb4a5d88af", // 07
	"608dd48ff87759f404917c7471ec8cbe7ad972c1699d810f0e1a70fb2b02573f", // 08
	"d290dc388de06a3c65009555944f07cf625c27ee7368ec98d15fbaf0cbf066ee", // 10
	"989ea30656b72626aca17481b45f7a56836fa5176d4341010f43f875e77377c7", // 11
	"02259ca25d2d816c14bb62a2e5b646e9286d982a792c652929dc3d68a12d570b", // 12
	"02519486609f8918cd380d70942bb97a18fb751134edc1041db7277c1831527d", // 13
	"a92b721a453409136c4ffca84e65e9df646789e28d269961e9b67f52861284e5", // 14
	"8a3e7db4445c4a795fb9e524db3ed2edf96f8423723f16ff5f71ca6b84a3e88c", // 15
	"462f02c540310b608883c0601248d202219aac0cff5d91ca7917c582536f7c11", // 16
	"cb1a77acd98db771d35b1977eb82485f0e0f64f6deb0577a97330b5b532eb7ed", // 17
	"9cd83ef4897819d545d3cccccf33ba7947e34439a93c5d45a3f136303e1c248e", // 18
	"24fa065d574c6862400f81113bcc008af4b211de37285663bf684abe28ffb447", // 19
	"73a42ded6eab007af264a51c5a3956092cdbf5a6d209303a4e0d57416d762067", // 20
	"014df370f125f4bc18c9fc4b41c17ec2311e8514fc9b622f5a633c10287c1ebd", // 21
	"d98eb3ae80509cb1fc0268899a0313fe39806e6ec7eec4df8675d89a7e82c0d0", // 22
	"8d6c6ba687cc56ee7e4ffe9b28b7cab6bb8b4e76adfccf555536bc6224efcb11", // 23
	"cbbc0439c1c48e4e1bee1904799be78cc321b41be4af6d961b26d191f948a0b7", // 25
	"5b0bcb05856cd0ad0fb731b943be33e1038ccd30e58d70dc12b9379c7aadd8b6", // 26
	"1e365f07b4259f65d5d88df37e76aa8570adcee46d3f11b1ccbdcc4dd7c559e4", // 27
	"8946af884ee7f508a4667c815ba44a8f94b68786999745bda3c40f4361e2aae5", // 28
	"fd9f74383f7a915755b5a656e6acde5a3c2e39bd2632ff03e4e8384f417e37cc", // 29
	"b0e1f7c8e4b1f66df38838f0f4e781941dfa3bf2bbad555526a553ccc96fd2e3", // 31
	"e557b5f5da2c194cf319290a59fc3991851fc03dab5204ecb12fd2de3bc0aea2", // 32
	"8bc4dc0a99b3660ed4895eb1b86e998926aa4946d7c3d6115e2e4d68ac2b7369", // 33
	"7e735db8b1ef56af29341b6451ff5a4aa9dc295970b65ace2f0d857cc4a6fa69", // 37
	"c86f46a81a2c48e98d34d6f03242d6bca107b1ec4e27ebd3d2a12f8f86318209", // 39
	"dae8b3c1bd0781786ffbe17355c0e35a4beec4eb08b3c9df091f4fe18429ee2e", // 53
	"3124c4d490e28dadd85ca91b638b9feef1e9588e3572a5cc1c9e3092c12b4818", // 55
	"db453a8f49a5d26f7f83d2f6c6f78b19f94d8f94abd8bfba35b17c90acfe1ee8", // 63
}

func sha1Excepted(cert *x509.Certificate) bool {
	sum := sha256.Sum256(cert.Raw)
	return slices.Contains(sha1Exceptions[:], hex.EncodeToString(sum[:]))
}
