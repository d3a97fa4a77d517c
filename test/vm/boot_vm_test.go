//go:build vm

package vm

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/governed-execution/writ/firmware-policy/predict"
)

func TestFirst(t *testing.T) {
	dir, err := os.MkdirTemp("", "vm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	t0 := time.Now()
	step := func(s string) { t.Logf("%6.1f s %s", time.Since(t0).Seconds(), s) }
	lab, err := NewLab(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	step("lab")
	initrd, err := lab.Initrd()
	if err != nil {
		t.Fatal(err)
	}
	img, err := UKI{lab.Deps.Kernel, initrd, CommandLine, "ID=writ\n"}.Build(ctx, lab.Deps, dir, "good")
	if err != nil {
		t.Fatal(err)
	}
	if img, err = Sign(ctx, img, lab.DB); err != nil {
		t.Fatal(err)
	}
	scratch, _ := lab.Scratch()
	b, err := lab.Machine(ctx, scratch, img, lab.Keys())
	if err != nil {
		t.Fatal(err)
	}
	step("image " + filepath.Base(img))
	m, err := Start(ctx, scratch, b)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	step("start")
	if err := m.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	step("ready")
	root, _ := lab.TPM.Root()
	inter, _ := lab.TPM.Intermediate()
	ak, err := m.Enrol(ctx, root, inter)
	if err != nil {
		t.Fatal(err)
	}
	step("enrolled")
	tes, err := m.Collect(ctx, ak, "sha256")
	if err != nil {
		t.Fatal(err)
	}
	step("collected")
	raw, _ := os.ReadFile(img)
	p, err := predict.UKI(raw, lab.Keys().Expect(), "sha256")
	if err != nil {
		t.Fatal(err)
	}
	facts, err := tes.Verify()
	if err != nil {
		t.Fatal(err)
	}
	c := facts.Claims()
	for pcr, want := range p.PCR {
		t.Logf("PCR %d %s %v", pcr, c.PCR[pcr], c.PCR[pcr] == want)
	}
	t.Logf("%+v", c)
	if err := m.Off(ctx); err != nil {
		t.Fatal(err)
	}
	step("off")
}
