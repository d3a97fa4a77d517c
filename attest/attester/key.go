package attester

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// key is a key that is loaded in the TPM.
type key struct {
	handle tpm2.TPMHandle
	name   tpm2.TPM2BName
	public tpm2.TPM2BPublic
	call   *call // nil for a persistent key, which stays
}

// free removes the key from the TPM unless it is persistent.
func (k *key) free() {
	if k.call != nil {
		k.call.flush(k.handle)
		k.call = nil
	}
}

// withPassword authorizes a use of the key with its password, which is empty for every key that Writ makes.
func (k *key) withPassword() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: k.handle, Name: k.name, Auth: tpm2.PasswordAuth(nil)}
}

func (c *call) createPrimary(hierarchy tpm2.TPMHandle, template tpm2.TPMTPublic) (*key, error) {
	r, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: hierarchy, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(template),
	}.Execute(c)
	if err != nil {
		return nil, err
	}
	return &key{handle: r.ObjectHandle, name: r.Name, public: r.OutPublic, call: c}, nil
}

// policy returns a session that lives for one command. go-tpm keeps the session if a policy command fails; this does not.
func (c *call) policy(satisfy tpm2.PolicyCallback) tpm2.Session {
	return tpm2.Policy(tpm2.TPMAlgSHA256, 16,
		func(conn transport.TPM, session tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
			err := satisfy(conn, session, nonce)
			if err != nil {
				c.flush(session)
			}
			return err
		})
}

// p256Signer returns the template of an ECDSA P-256 key with SHA-256, made in this TPM and fixed to it. No key of Writ
// has a password, so none counts for the TPM's lockout (noDA).
func p256Signer() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgECC,
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, NoDA: true, SignEncrypt: true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
			CurveID: tpm2.TPMECCNistP256,
		}),
	}
}

// createAK makes the attestation key: a primary key of the endorsement hierarchy, restricted to what the TPM itself
// says. The template is fixed, so a TPM derives the same AK each time until its endorsement seed changes.
func (c *call) createAK() (*key, error) {
	template := p256Signer()
	template.ObjectAttributes.Restricted = true
	template.ObjectAttributes.UserWithAuth = true
	unique := sha256.Sum256([]byte("writ-ak-v1"))
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: unique[:]}})
	ak, err := c.createPrimary(tpm2.TPMRHEndorsement, template)
	if err != nil {
		return nil, fmt.Errorf("making AK: %w", err)
	}
	return ak, nil
}

// AK returns the attestation key of the TPM as a TPM2B_PUBLIC. It is the same each time.
func (t *TPM) AK(ctx context.Context) ([]byte, error) {
	var public []byte
	err := t.use(ctx, func(c *call) error {
		ak, err := c.createAK()
		if err != nil {
			return err
		}
		defer ak.free()
		public = tpm2.Marshal(ak.public)
		return nil
	})
	return public, err
}

// Role says what a Key is for. The zero Role is for nothing.
type Role string

// The roles of the keys that a host keeps.
const (
	CNF  Role = "cnf"  // confirmation key: proof of possession while bound PCRs hold
	Gate Role = "gate" // gate key: start and end records
)

// Key is a signing key as the TPM gives it away: its private half is encrypted to that TPM. Whoever has the bytes of a
// cnf key and the TPM can sign with it, but only while the bound PCRs have their values; of a gate key, always.
type Key struct {
	Role    Role   `cbor:"1,keyasint"`
	Public  []byte `cbor:"2,keyasint"`           // TPM2B_PUBLIC
	Private []byte `cbor:"3,keyasint"`           // TPM2B_PRIVATE
	Bank    string `cbor:"4,keyasint,omitempty"` // bank of the PCRs that a cnf key is bound to
	PCRs    []int  `cbor:"5,keyasint,omitempty"` // ascending

	// What the AK said of a cnf key when evidence was first collected with it; absent before. It holds for good.
	AK      []byte                `cbor:"6,keyasint,omitempty"` // TPM Name of that AK
	Certify *attest.Certification `cbor:"7,keyasint,omitempty"`
}

// DecodeKey reads a Key as Encode wrote it.
func DecodeKey(raw []byte) (*Key, error) {
	var k Key
	if err := statement.Unmarshal(raw, &k); err != nil {
		return nil, fmt.Errorf("decoding TPM key: %w", err)
	}
	if k.Role != Gate && (k.Role != CNF || len(k.PCRs) == 0) {
		return nil, fmt.Errorf("decoding TPM key: neither a gate key nor a cnf key with its PCRs")
	}
	if (k.Certify == nil) != (len(k.AK) == 0) || k.Role == Gate && k.Certify != nil {
		return nil, fmt.Errorf("decoding TPM key: a certification without its AK, or of a gate key")
	}
	if _, err := k.Verifier(); err != nil {
		return nil, fmt.Errorf("decoding TPM key: %w", err)
	}
	return &k, nil
}

// Encode returns the key in deterministic CBOR.
func (k *Key) Encode() ([]byte, error) { return statement.Marshal(k) }

// maxKey is the most that a file of a key holds: a certified one takes a few kilobytes.
const maxKey = 64 << 10

// ReadKey reads a Key from a file.
func ReadKey(path string) (*Key, error) {
	raw, err := readAtMost(path, maxKey)
	if err != nil {
		return nil, fmt.Errorf("reading TPM key: %w", err)
	}
	return DecodeKey(raw)
}

// Save writes the key to a file that only its owner may read. An old file is replaced as a whole.
func (k *Key) Save(path string) error {
	raw, err := k.Encode()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // mode 0600
	if err != nil {
		return fmt.Errorf("saving TPM key: %w", err)
	}
	_, err = f.Write(raw)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("saving TPM key: %w", err)
	}
	return nil
}

// Verifier returns the public key.
func (k *Key) Verifier() (statement.Key, error) {
	area, err := k.area()
	if err != nil {
		return statement.Key{}, err
	}
	pub, err := tpm2.Pub(*area)
	if err != nil {
		return statement.Key{}, fmt.Errorf("reading public area: %w", err)
	}
	if _, ok := pub.(*ecdsa.PublicKey); !ok {
		return statement.Key{}, fmt.Errorf("reading public area: not an ECDSA key")
	}
	return statement.NewKey(pub)
}

// area reads the public area.
func (k *Key) area() (*tpm2.TPMTPublic, error) {
	public, err := tpm2.Unmarshal[tpm2.TPM2BPublic](k.Public)
	if err != nil {
		return nil, fmt.Errorf("reading public area: %w", err)
	}
	area, err := public.Contents()
	if err != nil {
		return nil, fmt.Errorf("reading public area: %w", err)
	}
	return area, nil
}

// NewCNF makes a confirmation key that the TPM lets sign only while the given PCRs have the values they have now. It
// has no other authorization for signing: no password (userWithAuth is clear).
func (t *TPM) NewCNF(ctx context.Context, bind attest.Selection) (*Key, error) {
	var k *Key
	err := t.use(ctx, func(c *call) error {
		values, err := c.readPCRs(bind)
		if err != nil {
			return err
		}
		k, err = c.createCNF(bind, values)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("making cnf key: %w", err)
	}
	return k, nil
}

// checkBound checks that a cnf key that was made before is bound to the wanted PCRs, and these still have the values that it
// is bound to (KeyBinding): else the issuer would refuse it.
func (k *Key) checkBound(bind attest.Selection, values map[int64][]byte) error {
	if k.Role != CNF || k.Bank != bind.Bank || !slices.Equal(k.PCRs, bind.PCRs) {
		return denial.New(denial.KeyBinding, "the %s key is bound to PCRs %v of bank %q, and the policy wants a cnf key bound to %v of %q",
			k.Role, k.PCRs, k.Bank, bind.PCRs, bind.Bank)
	}
	area, err := k.area()
	if err != nil {
		return err
	}
	policy, err := attest.CNFPolicy(bind, values)
	if err == nil && !bytes.Equal(policy, area.AuthPolicy.Buffer) {
		return denial.New(denial.KeyBinding, "a PCR among %v has changed since the cnf key was made", k.PCRs)
	}
	return err
}

// certifiedBy returns the key with the AK's certification: the one that it has, or a new one if it has none or another
// AK's. HostMismatch means that this TPM did not make it.
func (c *call) certifiedBy(ak *key, k *Key) (*Key, error) {
	if k.Certify != nil && bytes.Equal(k.AK, ak.name.Buffer) {
		return k, nil
	}
	certify, err := c.certify(ak, k, attest.CNFQualifyingData())
	if err != nil {
		return nil, err
	}
	certified := *k
	certified.AK, certified.Certify = ak.name.Buffer, &certify
	return &certified, nil
}

func (c *call) createCNF(bind attest.Selection, values map[int64][]byte) (*Key, error) {
	policy, err := attest.CNFPolicy(bind, values)
	if err != nil {
		return nil, err
	}
	template := p256Signer()
	template.AuthPolicy = tpm2.TPM2BDigest{Buffer: policy}
	k, err := c.create(template)
	if err != nil {
		return nil, err
	}
	k.Role, k.Bank, k.PCRs = CNF, bind.Bank, slices.Clone(bind.PCRs)
	return k, nil
}

func (c *call) createGate() (*Key, error) {
	template := p256Signer()
	template.ObjectAttributes.UserWithAuth = true
	k, err := c.create(template)
	if err != nil {
		return nil, fmt.Errorf("making gate key: %w", err)
	}
	k.Role = Gate
	return k, nil
}

// storage makes the parent of all kept keys: the TCG storage root key on P-256, the same each time.
func (c *call) storage() (*key, error) {
	srk, err := c.createPrimary(tpm2.TPMRHOwner, tpm2.ECCSRKTemplate)
	if err != nil {
		return nil, fmt.Errorf("making storage key: %w", err)
	}
	return srk, nil
}

func (c *call) create(template tpm2.TPMTPublic) (*Key, error) {
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	srk, err := c.storage()
	if err != nil {
		return nil, err
	}
	defer srk.free()
	r, err := tpm2.Create{ParentHandle: srk.withPassword(), InPublic: tpm2.New2B(template)}.Execute(c)
	if err != nil {
		return nil, err
	}
	return &Key{Public: tpm2.Marshal(r.OutPublic), Private: tpm2.Marshal(r.OutPrivate)}, nil
}

// load brings a kept key into the TPM. One that another TPM made, or one that was altered, is HostMismatch: the
// private half is encrypted and authenticated under the storage key of the TPM that made it.
func (c *call) load(k *Key) (*key, error) {
	public, err := tpm2.Unmarshal[tpm2.TPM2BPublic](k.Public)
	if err != nil {
		return nil, fmt.Errorf("reading public area: %w", err)
	}
	private, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](k.Private)
	if err != nil {
		return nil, fmt.Errorf("reading private area: %w", err)
	}
	srk, err := c.storage()
	if err != nil {
		return nil, err
	}
	defer srk.free()
	r, err := tpm2.Load{ParentHandle: srk.withPassword(), InPublic: *public, InPrivate: *private}.Execute(c)
	if errors.Is(err, tpm2.TPMRCIntegrity) {
		return nil, denial.New(denial.HostMismatch, "the %s key was not made by this TPM as it is now, or its file was altered", k.Role)
	} else if err != nil {
		return nil, fmt.Errorf("loading %s key: %w", k.Role, err)
	}
	return &key{handle: r.ObjectHandle, name: r.Name, public: *public, call: c}, nil
}
