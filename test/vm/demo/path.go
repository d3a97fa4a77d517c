package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	"github.com/governed-execution/writ/test/softhsm"
	"github.com/governed-execution/writ/test/vm"
	"github.com/governed-execution/writ/test/vm/talk"
)

// parts makes the images, the machine and its disks.
func (d *demo) parts(ctx context.Context) (err error) {
	d.title("1. A machine: firmware with Secure Boot keys made a moment ago, and two signed images")
	if d.lab, err = vm.NewLab(ctx, d.dir); err != nil {
		return err
	}
	if d.program, err = vm.BuildProgram(ctx, d.dir, "./test/demo/workload"); err != nil {
		return err
	}
	d.tools = []vm.File{{Path: "bin/reconcile", Mode: 0o755, Data: d.program}}
	for _, name := range []string{"writ", "writ-gate"} {
		data, err := vm.BuildProgram(ctx, d.dir, "./cmd/"+name)
		if err != nil {
			return err
		}
		d.tools = append(d.tools, vm.File{Path: "bin/" + name, Mode: 0o755, Data: data})
	}
	modules, err := d.lab.NetworkModules()
	if err != nil {
		return err
	}
	d.tools = append(d.tools, modules...)
	if d.first, err = d.lab.SignedImage(ctx, "first", vm.CommandLine, d.tools...); err != nil {
		return err
	}
	if d.second, err = d.lab.SignedImage(ctx, "second", vm.CommandLine+" audit=1", d.tools...); err != nil {
		return err
	}
	d.say("first.efi and second.efi: kernel, initrd with writ, writ-gate and a program, command line; signed with the key in db")
	d.say("second.efi has one more word on its kernel command line: audit=1")
	if err := d.lab.Keys().WriteFiles(d.dir); err != nil {
		return err
	}
	if d.boot, err = d.lab.Machine(ctx, d.dir, d.first, d.lab.Keys()); err != nil {
		return err
	}
	d.boot.Network, d.boot.Data, d.boot.Memory = true, d.path("data.img"), 512
	d.say("the machine: QEMU in software, OVMF firmware, a software TPM with its vendor's certificate, a disk")
	return vm.DataDisk(ctx, d.boot.Data, "")
}

// issuer makes the keys and the log, and starts the issuer on this machine.
func (d *demo) issuer(ctx context.Context) (err error) {
	d.title("2. An issuer on this machine: keys on a PKCS#11 token, a genesis statement that two people sign")
	if d.token, err = softhsm.Init(d.path("token")); err != nil {
		return err
	}
	if d.port, err = freePort(); err != nil {
		return err
	}
	if err := d.certificate(); err != nil {
		return err
	}
	root, err := d.lab.TPM.Root()
	if err != nil {
		return err
	}
	config := fmt.Sprintf("url = \"https://10.0.2.2:%d\"\nlisten = \"127.0.0.1:%d\"\nadmin_socket = %q\nlog = %q\ntls_cert = %q\ntls_key = %q\ntpm_roots = [%q]\n\n[token]\nmodule = %q\ntoken = %q\npin_file = %q\n",
		d.port, d.port, d.path("admin.sock"), d.path("log.db"), d.path("tls.pem"), d.path("tls.key"), d.path("tpm-root.pem"), d.token.Module, d.token.Label, d.token.PINFile)
	office := fmt.Sprintf("server = \"https://127.0.0.1:%d\"\nca = \"tls.pem\"\nissuer = %q\n", d.port, issuerURI)
	for name, text := range map[string][]byte{"writd.toml": []byte(config), "office.toml": []byte(office),
		"tpm-root.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})} {
		if err := os.WriteFile(d.path(name), text, 0o600); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"writ", "key", "new", "--out", d.path("alice.pem")}, {"writ", "key", "new", "--out", d.path("bob.pem")}, {"writ", "key", "new", "--out", d.path("robot.pem")},
		{"writd", "init", "--config", d.path("writd.toml"), "--issuer", issuerURI, "--authority", alice + "=" + d.path("alice.pem.pub"),
			"--authority", bob + "=" + d.path("bob.pem.pub"), "--draft", d.path("genesis.draft")},
		{"writ", "sign", d.path("genesis.draft"), "--key", d.path("alice.pem"), "-o", d.path("genesis.act")},
		{"writ", "sign", d.path("genesis.act"), "--key", d.path("bob.pem")},
		{"writd", "init", "--config", d.path("writd.toml"), "--genesis", d.path("genesis.act")},
	} {
		if _, err := d.here(ctx, args[0], args[1:]...); err != nil {
			return err
		}
	}
	return d.serve(ctx)
}

// powerOn boots the machine, and waits until its first program has started.
func (d *demo) powerOn(ctx context.Context) (err error) {
	d.title("3. The machine boots; firmware, systemd-stub and Linux measure into its TPM what they start")
	return d.start(ctx)
}

func (d *demo) start(ctx context.Context) (err error) {
	if d.machine, err = vm.Start(ctx, d.boot); err != nil {
		return err
	}
	return d.machine.Ready(ctx)
}

// enrol admits the machine and the initiator.
func (d *demo) enrol(ctx context.Context) error {
	d.title("4. Enrolment: two people name the TPM, and the TPM proves over the network that it is the one")
	between, err := d.lab.TPM.Intermediate()
	if err != nil {
		return err
	}
	robotKey, err := os.ReadFile(d.path("robot.pem"))
	if err != nil {
		return err
	}
	tls, err := os.ReadFile(d.path("tls.pem"))
	if err != nil {
		return err
	}
	config := fmt.Sprintf("server = \"https://10.0.2.2:%d\"\nca = \"tls.pem\"\nissuer = %q\nhost = %q\naudience = %q\ninitiator = %q\nkey = \"robot.pem\"\ntrust = \"/data/trust.toml\"\nstate = \"/data/gate\"\n",
		d.port, issuerURI, hostURI, gateURI, robot)
	for name, data := range map[string][]byte{"writ.toml": []byte(config), "robot.pem": robotKey, "tls.pem": tls,
		"between.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: between.Raw})} {
		if err := d.put(ctx, "/data/"+name, data); err != nil {
			return err
		}
	}
	r, err := d.must(ctx, "writ", "-c", "/data/writ.toml", "host", "status", "--json")
	if err != nil {
		return err
	}
	var status struct{ EKs []struct{ Digest string } }
	if err := json.Unmarshal(r.Stdout, &status); err != nil || len(status.EKs) == 0 {
		return fmt.Errorf("reading host status: %w", err)
	}
	if _, err := d.here(ctx, "writ", d.acts("initiator", "approve", "--id", robot, "--kind", "service", "--public", d.path("robot.pem.pub"))...); err != nil {
		return err
	}
	if _, err := d.here(ctx, "writ", d.acts("host", "approve", "--id", hostURI, "--ek", status.EKs[0].Digest, "--label", "env=demo", "--gate", gateURI)...); err != nil {
		return err
	}
	_, err = d.must(ctx, "writ", "-c", "/data/writ.toml", "host", "enroll", "--gate-state", "/data/gate", "--intermediate", "/data/between.pem")
	return err
}

// policies publishes what the machine must have booted, computed from first.efi, and who may run what.
func (d *demo) policies(ctx context.Context) error {
	d.title("5. Policy: computed from first.efi and the keys, never copied from the machine; only the firmware's own PCR 0 is read there")
	if err := d.predict(ctx, d.first, 1); err != nil {
		return err
	}
	sum := sha256.Sum256(d.program)
	text := fmt.Sprintf("schema = 1\nkind = \"authorization\"\nid = %q\nversion = 1\nexpires = 2036-01-01T00:00:00Z\n\n[[rule]]\nname = \"nightly-reconciliation\"\ninitiators = [%q]\naudiences = [%q]\nlifetime = \"10m\"\nuses = 1\n\n[rule.hosts]\nenv = \"demo\"\n\n[[rule.scope]]\ntarget = %q\noperations = [\"execute\"]\ncode = [%q]\n",
		authorizeID, robot, gateURI, "file:"+workload, hex.EncodeToString(sum[:]))
	if err := os.WriteFile(d.path("authorization.toml"), []byte(text), 0o600); err != nil {
		return err
	}
	if _, err := d.here(ctx, "writ", d.acts("policy", "sign", d.path("authorization.toml"))...); err != nil {
		return err
	}
	trust, err := d.quietly(ctx, "writd", "trust", "--config", d.path("writd.toml"), "--audience", gateURI)
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.path("trust.toml"), []byte(trust), 0o600); err != nil {
		return err
	}
	d.say("the gate in the machine gets this trust file: genesis digest, issuer keys, accepted policies, TPM roots")
	return d.put(ctx, "/data/trust.toml", []byte(trust))
}

// predict writes, signs and publishes an appraisal policy for an image.
func (d *demo) predict(ctx context.Context, image string, version int) error {
	r, err := d.machine.Ask(ctx, talk.Request{Op: talk.PCRs, Bank: "sha256", PCRs: []int{0}})
	if err != nil {
		return err
	}
	name := fmt.Sprintf("appraisal-%d.toml", version)
	if _, err := d.here(ctx, "writ", "policy", "predict", image, "--pk", d.path("PK.esl"), "--kek", d.path("KEK.esl"), "--db", d.path("db.esl"),
		"--pcr", "0="+hex.EncodeToString(r.Values[0]), "--id", appraisalID, "-o", d.path(name)); err != nil {
		return err
	}
	text, err := os.ReadFile(d.path(name))
	if err != nil {
		return err
	}
	text = bytes.Replace(text, []byte("\nversion = 1 "), fmt.Appendf(nil, "\nversion = %d ", version), 1)
	if err := os.WriteFile(d.path(name), text, 0o600); err != nil {
		return err
	}
	_, err = d.here(ctx, "writ", d.acts("policy", "sign", d.path(name))...)
	return err
}

// ask and execute are the arguments of a request in the machine, and of running the program under its gate.
func ask(out string) []string {
	return []string{"-c", "/data/writ.toml", "request", "--exec", workload, "-o", "/data/" + out}
}

func execute(artifact string) []string {
	return []string{"exec", "-c", "/data/writ.toml", "--artifact", "/data/" + artifact, "--", workload}
}

// permit is the whole path, in the machine.
func (d *demo) permit(ctx context.Context) error {
	d.title("6. A permit: fresh quote, decision, signature on the token, receipt of the log, and the program runs in the machine")
	if err := d.works(ctx, "permit.cose"); err != nil {
		return err
	}
	d.say("and one more artifact, not used yet:")
	_, err := d.must(ctx, "writ", ask("unused.cose")...)
	return err
}

func (d *demo) works(ctx context.Context, artifact string) error {
	if _, err := d.must(ctx, "writ", ask(artifact)...); err != nil {
		return err
	}
	r, err := d.must(ctx, "writ-gate", execute(artifact)...)
	if err == nil && !strings.Contains(string(r.Stdout), "reconciled 42 accounts") {
		err = fmt.Errorf("running the program: it did not run")
	}
	return err
}

// change boots the second image, and asks for the same.
func (d *demo) change(ctx context.Context) error {
	d.title("7. The machine boots into second.efi: signed with the right key, Secure Boot on, accepted by firmware")
	if err := d.machine.Off(ctx); err != nil {
		return err
	}
	if err := vm.Disk(ctx, d.boot.Disk, d.second, nil); err != nil {
		return err
	}
	if err := d.start(ctx); err != nil {
		return err
	}
	d.title("…the same request is denied, and the denial names what changed")
	if err := d.refused(ctx, 607, []string{"section-cmdline", "boot-apps", "pcr-4", "pcr-9", "pcr-11"}, "writ", ask("changed.cose")...); err != nil {
		return err
	}
	d.title("…and the artifact from before the reboot is worthless")
	return d.refused(ctx, 701, []string{"restarted"}, "writ-gate", execute("unused.cose")...)
}

// update publishes what the second image must measure.
func (d *demo) update(ctx context.Context) error {
	d.title("8. An update as it should be: predict second.efi, two people sign, publish; the same request passes")
	if err := d.predict(ctx, d.second, 2); err != nil {
		return err
	}
	return d.works(ctx, "updated.cose")
}

// audit pulls the evidence and decides again, offline.
func (d *demo) audit(ctx context.Context) error {
	d.title("9. Audit: all of it is pulled, verified and decided again, without issuer and machine")
	if _, err := d.here(ctx, "writ", "audit", "pull", "--admin", d.path("admin.sock"), "-o", d.path("evidence.tar")); err != nil {
		return err
	}
	if err := d.machine.Off(ctx); err != nil {
		return err
	}
	_, err := d.here(ctx, "writ", "audit", "verify", d.path("evidence.tar"), "--trust", d.path("trust.toml"))
	return err
}
