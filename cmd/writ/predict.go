package main

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/cmd/command"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/firmware-policy/predict"
)

// predictFlags are what "writ policy predict" takes.
type predictFlags struct {
	pk, kek, db, dbx string
	off              bool
	bank, id, out    string
	pcrs             []string
	valid            time.Duration
}

func (a *app) policyPredict() *cobra.Command {
	var f predictFlags
	cmd := &cobra.Command{
		Use:   "predict IMAGE",
		Short: "Compute the PCR values of a boot from its unified kernel image and the Secure Boot variables",
		Long: `Predict computes PCRs 4, 7, 9 and 11 of a machine that will boot IMAGE, a unified kernel image with systemd-stub, without
booting it. With --id it writes an appraisal policy that demands them, to be published before machines are updated.

The variables are EFI signature lists: what efi-readvar -o and sign-efi-sig-list take, or files of efivarfs as they are.
Firmware itself cannot be predicted: give its PCR from a machine that you trust, with --pcr 0=VALUE.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.predict(cmd, &f, args[0]) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.pk, "pk", "", "file of the variable PK")
	fl.StringVar(&f.kek, "kek", "", "file of the variable KEK")
	fl.StringVar(&f.db, "db", "", "file of the variable db")
	fl.StringVar(&f.dbx, "dbx", "", "file of the variable dbx; default: empty")
	fl.BoolVar(&f.off, "secure-boot-off", false, "Secure Boot is off")
	fl.StringVar(&f.bank, "bank", "sha256", "PCR bank: sha256 or sha384")
	fl.StringVar(&f.id, "id", "", "write a policy with this URI")
	fl.StringArrayVar(&f.pcrs, "pcr", nil, "for the policy: N=VALUE of a PCR that cannot be predicted, in hexadecimal; repeat")
	fl.DurationVar(&f.valid, "valid", 365*24*time.Hour, "for the policy: for how long it is good")
	fl.StringVarP(&f.out, "out", "o", "", "file; default standard output")
	return cmd
}

// maxImage is more than any kernel image with its initrd.
const maxImage = 1 << 30

func (a *app) predict(cmd *cobra.Command, f *predictFlags, path string) error {
	image, err := command.ReadFile(path, maxImage)
	if err != nil {
		return fmt.Errorf("reading image: %w", err)
	}
	keys, err := f.keys()
	if err != nil {
		return err
	}
	p, err := predict.UKI(image, keys, f.bank)
	if err != nil {
		return err
	}
	if !p.Proven {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: predictions for systemd-stub %d have not been held against real boots; compare with a machine first\n", p.Stub)
	}
	if f.id == "" {
		return a.print(cmd, p, predictionText(p))
	}
	others, err := f.others()
	if err != nil {
		return err
	}
	text, err := firmwarepolicy.FromPrediction(f.id, uint64(time.Now().Add(f.valid).Unix()), p, others)
	if err != nil {
		return err
	}
	return writeOut(cmd, f.out, text)
}

// keys reads the files of the variables.
func (f *predictFlags) keys() (predict.Keys, error) {
	k := predict.Keys{Enabled: !f.off}
	if k.Enabled && (f.pk == "" || f.kek == "" || f.db == "") {
		return k, misuse("give --pk, --kek and --db, or --secure-boot-off")
	}
	for _, v := range []struct {
		path string
		to   *[]byte
	}{{f.pk, &k.PK}, {f.kek, &k.KEK}, {f.db, &k.DB}, {f.dbx, &k.DBX}} {
		if v.path == "" {
			continue
		}
		raw, err := command.ReadFile(v.path, command.Small)
		if err != nil {
			return k, fmt.Errorf("reading variable: %w", err)
		}
		if *v.to, err = signatureLists(raw); err != nil {
			return k, fmt.Errorf("%s: %w", v.path, err)
		}
	}
	return k, nil
}

// signatureLists returns signature lists without the four bytes of attributes that efivarfs puts in front.
func signatureLists(raw []byte) ([]byte, error) {
	const attributes = 4
	_, err := predict.ParseSignatureLists(raw)
	if err != nil && len(raw) >= attributes {
		if _, err := predict.ParseSignatureLists(raw[attributes:]); err == nil {
			return raw[attributes:], nil
		}
	}
	return raw, err
}

// others reads the PCR values that are given.
func (f *predictFlags) others() (map[int64]string, error) {
	out := map[int64]string{}
	for _, v := range f.pcrs {
		number, value, _ := strings.Cut(v, "=")
		n, err := strconv.ParseUint(number, 10, 5)
		raw, errHex := hex.DecodeString(value)
		if err != nil || errHex != nil || len(raw) == 0 {
			return nil, misuse("--pcr wants N=VALUE, such as 0=9a3c…, with the value in hexadecimal")
		}
		out[int64(n)] = hex.EncodeToString(raw)
	}
	return out, nil
}

func predictionText(p *predict.Prediction) string {
	var b strings.Builder
	for _, n := range slices.Sorted(maps.Keys(p.PCR)) {
		fmt.Fprintf(&b, "PCR %-2d  %s\n", n, p.PCR[n])
	}
	for _, digest := range p.BootApps {
		fmt.Fprintf(&b, "boot program  %s\n", digest)
	}
	if p.Authority != "" {
		fmt.Fprintf(&b, "key in db     %s\n", p.Authority)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
