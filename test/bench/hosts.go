package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/issuer/client"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softtpm"
)

// hostsCommand is the argument that makes this program be the hosts.
const hostsCommand = "hosts"

// maxHosts is how many hosts there are; each has a TPM of its own.
const maxHosts = 64

// made is what the hosts' process says first: what authorities must know to admit them.
type made struct {
	Root  []byte // certificate of the TPM vendor, DER
	EKs   [][]byte
	Robot []byte // public key of the initiator, as statements hold it
}

// order is what the hosts are told to do. Exactly one member is set.
type order struct {
	Enrol   *enrolOrder
	Prepare *prepareOrder // make requests and connections for the next Run, which is not measured
	Run     *runOrder
}

type enrolOrder struct {
	URL string
	CA  []byte // DER
}

type prepareOrder struct{ Clients, Requests int } // requests for each client

type runOrder struct{ Limit time.Duration }

// report answers an order.
type report struct {
	Sample    sample
	Artifacts [][]byte // the last one that each client got
}

// setup stands in for a test where package softtpm wants one. A fault ends the program.
type setup struct{ testing.TB }

func (setup) Helper() {}

func (setup) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// fleet is the hosts and the initiator who asks on their behalf.
type fleet struct {
	robot  statement.Signer
	hosts  []*host
	client *client.Client
}

// host is a machine whose TPM is made of software keys. Its cnf key, which it uses for all requests, the AK's certification of
// that key and its evidence, but for what it answers and the quote, are made before anything is measured.
type host struct {
	id       string
	robot    statement.Signer
	tpm      *softtpm.TPM
	form     form
	cnf      statement.Thumbprint
	session  *client.Session
	requests [][]byte
	got      []byte
}

// serveOrders is the hosts' process: it says what it has made, then obeys orders until the input ends.
func serveOrders(ctx context.Context, in io.Reader, out io.Writer) error {
	f, m, err := newFleet()
	if err != nil {
		return err
	}
	debug.SetGCPercent(800) // the load should cost the shared cores little
	enc, dec := json.NewEncoder(out), json.NewDecoder(in)
	if err := enc.Encode(m); err != nil {
		return fmt.Errorf("answering: %w", err)
	}
	for {
		var o order
		if err := dec.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading order: %w", err)
		}
		r, err := f.obey(ctx, o)
		if err != nil {
			return err
		}
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("answering: %w", err)
		}
	}
}

func newFleet() (*fleet, made, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, made{}, err
	}
	robot, err := statement.NewSigner(key)
	if err != nil {
		return nil, made{}, err
	}
	vendor, boot := softtpm.NewVendor(setup{}), bootlog.New(bootlog.Options{})
	f, m := &fleet{robot: robot}, made{Root: vendor.Root.Raw}
	if m.Robot, err = statement.Marshal(robot.Key()); err != nil {
		return nil, made{}, err
	}
	for i := range maxHosts {
		h, err := newHost(hostURI(i), robot, vendor, boot)
		if err != nil {
			return nil, made{}, err
		}
		ek := h.tpm.EKDigest()
		f.hosts, m.EKs = append(f.hosts, h), append(m.EKs, ek[:])
	}
	return f, m, nil
}

func newHost(id string, robot statement.Signer, vendor *softtpm.Vendor, boot *bootlog.Boot) (*host, error) {
	h := &host{id: id, robot: robot, tpm: vendor.New(setup{}, softtpm.Options{})}
	want := attest.Want{AK: h.tpm.AK, Challenge: attest.NewNonce(), Request: statement.Digest(random(32)), Selection: selection, Bind: bind}
	e := h.tpm.Evidence(setup{}, want, boot.PCRs("sha256"), boot.Log)
	key, err := statement.NewKey(e.CNFKey.Public())
	if err != nil {
		return nil, err
	}
	h.cnf = key.Thumbprint()
	h.form, err = newForm(e.EvidenceParts, want)
	return h, err
}

func (f *fleet) obey(ctx context.Context, o order) (r report, err error) {
	switch {
	case o.Enrol != nil:
		return r, f.enrol(ctx, *o.Enrol)
	case o.Prepare != nil:
		return r, f.prepare(ctx, *o.Prepare)
	case o.Run != nil:
		return f.run(ctx, *o.Run)
	}
	return r, errors.New("reading order: nothing is ordered")
}

func (f *fleet) enrol(ctx context.Context, o enrolOrder) error {
	ca, err := x509.ParseCertificate(o.CA)
	if err != nil {
		return fmt.Errorf("reading CA: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if f.client, err = client.New(o.URL, roots); err != nil {
		return err
	}
	for _, h := range f.hosts {
		if err := h.enrol(ctx, f.client); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) enrol(ctx context.Context, c *client.Client) error {
	s, err := c.Dial(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	request, err := h.tpm.EnrolRequest().Encode()
	if err != nil {
		return err
	}
	cred, err := s.BeginEnrolment(ctx, request)
	if err != nil {
		return err
	}
	secret, err := h.tpm.Activate(attest.Credential{Blob: cred.Blob, Secret: cred.Secret})
	if err != nil {
		return err
	}
	_, err = s.FinishEnrolment(ctx, secret)
	return err
}

// prepare has the initiator sign what the first hosts will ask for, then connects them. Each asks for a challenge at once,
// which it leaves unused: an issuer does not wait long for the first request on a connection.
func (f *fleet) prepare(ctx context.Context, o prepareOrder) (err error) {
	for _, h := range f.hosts {
		if h.session != nil {
			h.session.Close()
		}
		h.session, h.requests, h.got = nil, nil, nil
	}
	asking := f.hosts[:o.Clients]
	for _, h := range asking {
		for range o.Requests {
			request, err := h.request(ctx)
			if err != nil {
				return err
			}
			h.requests = append(h.requests, request)
		}
	}
	for _, h := range asking {
		if h.session, err = f.client.Dial(ctx); err != nil {
			return err
		}
		h.session.Ahead()
		if _, err := h.session.Challenge(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) request(ctx context.Context) ([]byte, error) {
	now := uint64(time.Now().Unix())
	return artifact.SignRequest(ctx, h.robot, artifact.RequestClaims{
		Initiator: robotURI, Host: h.id, Audience: gateURI, IssuedAt: now, Expires: now + 300, ID: random(16), Lifetime: 300,
		Confirmation: artifact.Thumbprint{Key: h.cnf[:]}, Execution: artifact.Execution{ID: random(16)},
		Scope: artifact.Scope{{Target: program, Terms: artifact.Terms{Operations: artifact.Execute,
			Code: []artifact.Digest{artifact.SHA256Digest([32]byte(code()))}}}},
	})
}

// run has every connected host ask again and again.
func (f *fleet) run(ctx context.Context, o runOrder) (r report, err error) {
	var asking []*host
	for _, h := range f.hosts {
		if h.session != nil {
			asking = append(asking, h)
		}
	}
	r.Sample, err = concurrently(len(asking), o.Limit, func(caller int) error { return asking[caller].ask(ctx) })
	for _, h := range asking {
		if err == nil && h.got == nil {
			err = fmt.Errorf("asking: host %s got nothing", h.id)
		}
		r.Artifacts = append(r.Artifacts, h.got)
	}
	return r, err
}

// ask gets one artifact: a challenge, evidence that answers it, the answer.
func (h *host) ask(ctx context.Context) error {
	if len(h.requests) == 0 {
		return errEnough
	}
	request := h.requests[0]
	h.requests = h.requests[1:]
	ch, err := h.session.Challenge(ctx)
	if err != nil {
		return err
	}
	h.got, err = h.session.Mint(ctx, request, h.answer(attest.Nonce(ch.Challenge), statement.DigestOf(request)))
	return err
}

// answer signs the quote for a challenge.
func (h *host) answer(challenge attest.Nonce, request statement.Digest) []byte {
	extra := attest.QualifyingData(challenge, request, h.session.Exporter())
	return h.form.fill(challenge, request, extra, func(attested []byte) []byte { return h.tpm.Sign(setup{}, attested) })
}
