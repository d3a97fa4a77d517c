package predict

import (
	"crypto"
	_ "crypto/sha256" // the banks
	_ "crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"regexp"
	"strconv"
	"unicode/utf16"
)

// Prediction is what a boot will measure, in hexadecimal.
type Prediction struct {
	Bank       string            `json:"bank"`
	PCR        map[int64]string  `json:"pcr"`                   // 4, 7, 9 and 11
	BootApps   []string          `json:"boot_apps"`             // digests of the images in PCR 4, in order
	Authority  string            `json:"authority,omitempty"`   // digest in PCR 7 of the key that admits the image
	SecureBoot map[string]string `json:"secure_boot,omitempty"` // digests of the variables in PCR 7
	Sections   map[string]string `json:"sections"`              // digests of the parts of the image in PCR 11, by name
	Stub       int               `json:"stub"`                  // version of systemd-stub
	Proven     bool              `json:"proven"`                // real boots with this version were as predicted
}

// UKI predicts a boot of a unified kernel image by firmware with these keys. An image that firmware would not start, or
// that has no kernel in it, is an error.
//
// PCR 4 has the images that firmware itself loads. With Secure Boot off these are the unified image and the kernel in it;
// with Secure Boot on systemd-stub starts the kernel without the firmware's check, which would refuse it, and without the
// measurement that goes with the check. The kernel is then covered by the image's own digest.
func UKI(raw []byte, k Keys, bank string) (*Prediction, error) {
	h, err := hashOf(bank)
	if err != nil {
		return nil, err
	}
	image, err := ParseImage(raw)
	if err != nil {
		return nil, err
	}
	p := &Prediction{Bank: bank, PCR: map[int64]string{}, SecureBoot: map[string]string{}, Sections: map[string]string{}}
	for _, predict := range []func(crypto.Hash, *Image, Keys) error{p.bootPrograms, p.secureBoot, p.kernel, p.unified} {
		if err := predict(h, image, k); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func hashOf(bank string) (crypto.Hash, error) {
	switch bank {
	case "sha256":
		return crypto.SHA256, nil
	case "sha384":
		return crypto.SHA384, nil
	}
	return 0, errors.New("predicting: the bank must be sha256 or sha384")
}

func digest(h crypto.Hash, data []byte) []byte {
	sum := h.New()
	sum.Write(data)
	return sum.Sum(nil)
}

// separator is what ends the measurements before a boot attempt (PC Client Firmware Profile, section 3.3.2.2).
var separator = string(make([]byte, 4))

// set writes the value of a PCR that begins with zero and is extended with the digests in order.
func (p *Prediction) set(h crypto.Hash, pcr int64, digests ...[]byte) {
	value := make([]byte, h.Size())
	for _, d := range digests {
		value = digest(h, append(value, d...))
	}
	p.PCR[pcr] = hex.EncodeToString(value)
}

// bootPrograms predicts PCR 4.
func (p *Prediction) bootPrograms(h crypto.Hash, image *Image, k Keys) error {
	apps := [][]byte{image.Authenticode(h)}
	if !k.Enabled {
		kernel, err := ParseImage(image.Section(".linux"))
		if err != nil {
			return err
		}
		apps = append(apps, kernel.Authenticode(h))
	}
	digests := [][]byte{digest(h, []byte("Calling EFI Application from Boot Option")), digest(h, []byte(separator))}
	for _, a := range apps {
		p.BootApps = append(p.BootApps, hex.EncodeToString(a))
	}
	p.set(h, 4, append(digests, apps...)...)
	return nil
}

// secureBoot predicts PCR 7: the variables, absent ones as empty, and the key that admitted the image.
func (p *Prediction) secureBoot(h crypto.Hash, image *Image, k Keys) error {
	on := []byte{0}
	if k.Enabled {
		on[0] = 1
	}
	var digests [][]byte
	for _, v := range []struct {
		name   string
		vendor GUID
		data   []byte
	}{{"SecureBoot", GlobalVariable, on}, {"PK", GlobalVariable, k.PK}, {"KEK", GlobalVariable, k.KEK},
		{"db", ImageSecurity, k.DB}, {"dbx", ImageSecurity, k.DBX}} {
		d := digest(h, variableData(v.vendor, v.name, v.data))
		p.SecureBoot[v.name] = hex.EncodeToString(d)
		digests = append(digests, d)
	}
	digests = append(digests, digest(h, []byte(separator)))
	if k.Enabled {
		entry, err := k.authority(image)
		if err != nil {
			return err
		}
		d := digest(h, variableData(ImageSecurity, "db", entry.Data))
		p.Authority = hex.EncodeToString(d)
		digests = append(digests, d)
	}
	p.set(h, 7, digests...)
	return nil
}

// kernel predicts PCR 9, which the EFI stub of Linux extends with the command line and the initrd.
func (p *Prediction) kernel(h crypto.Hash, image *Image, _ Keys) error {
	var line []byte
	for _, c := range utf16.Encode([]rune(string(image.Section(".cmdline")) + "\x00")) {
		line = binary.LittleEndian.AppendUint16(line, c)
	}
	p.set(h, 9, digest(h, line), digest(h, image.Section(".initrd")))
	return nil
}

// proven is the version of systemd-stub whose boots were held against predictions, in test/vm.
const proven = 252

// measuredSections are the sections that systemd-stub measures, in its order, each since the version that is given.
var measuredSections = []struct {
	name  string
	since int
}{{".linux", 0}, {".osrel", 0}, {".cmdline", 0}, {".initrd", 0}, {".ucode", 256}, {".splash", 0}, {".dtb", 0}, {".uname", 253}, {".sbat", 254}, {".pcrpkey", 0}}

// unified predicts PCR 11, which systemd-stub extends with the name and the content of each section that it knows.
func (p *Prediction) unified(h crypto.Hash, image *Image, _ Keys) error {
	m := stubVersion.FindSubmatch(image.Section(".sdmagic"))
	if m == nil || image.Section(".linux") == nil {
		return malformed("it is no unified kernel image of systemd-stub")
	}
	var err error
	if p.Stub, err = strconv.Atoi(string(m[1])); err != nil {
		return malformed("its version of systemd-stub is no number")
	}
	p.Proven = p.Stub == proven
	var digests [][]byte
	for _, s := range measuredSections {
		if content := image.Section(s.name); content != nil && p.Stub >= s.since {
			d := digest(h, content)
			p.Sections[s.name] = hex.EncodeToString(d)
			digests = append(digests, digest(h, append([]byte(s.name), 0)), d)
		}
	}
	p.set(h, 11, digests...)
	return nil
}

// stubVersion finds the version in the section by which boot loaders know the image.
var stubVersion = regexp.MustCompile(`^#### LoaderInfo: systemd-stub ([0-9]{1,4})\b`)
