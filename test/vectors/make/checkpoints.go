package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/vectors"
)

// witness signs checkpoints.
type witness struct {
	key  receipt.NoteKey
	priv ed25519.PrivateKey
}

func newWitness(name string) witness {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(fault(err.Error()))
	}
	return witness{must(receipt.WitnessNoteKey(name, pub)), priv}
}

// line is the line that the witness puts under a checkpoint at a time.
func (w witness) line(checkpoint []byte, time uint64) []byte {
	text, _, _ := strings.Cut(string(checkpoint), "\n\n")
	sig := binary.BigEndian.AppendUint64(nil, time)
	sig = append(sig, ed25519.Sign(w.priv, []byte("cosignature/v1\ntime "+strconv.FormatUint(time, 10)+"\n"+text+"\n"))...)
	parts := strings.Split(w.key.String(), "+")
	id := must(hex.DecodeString(parts[1]))
	return []byte("— " + w.key.Name() + " " + base64.StdEncoding.EncodeToString(append(id, sig...)) + "\n")
}

// checkpointVectors break checkpoints of a log, the cosignatures under them, and their order.
func checkpointVectors(s *setup) []vectors.Vector {
	l := &list{prefix: "checkpoint", signer: "software"}
	const origin, other, now = "issuer.example/log", "other.example/log", 1_800_000_000
	key := must(statement.NewSigner(newSigner().priv))
	tree := testonly.New(rfc6962.DefaultHasher)
	for i := range 9 {
		tree.AppendData([]byte{byte(i)})
	}
	at := func(t *testonly.Tree, origin string, size uint64) []byte {
		return must(receipt.SignCheckpoint(s.ctx, key, origin, receipt.Head{Size: size, Root: receipt.Hash(t.HashAt(size))}))
	}
	log := must(receipt.LogNoteKey(origin, key.Key()))
	a, second, b := newWitness("a.example/w"), newWitness("a.example/second"), newWitness("b.example/w")
	cp := at(tree, origin, 9)
	join := func(parts ...[]byte) vectors.Bytes { return bytes.Join(parts, nil) }
	cosigned := join(cp, a.line(cp, now), b.line(cp, now+5))
	two := 2
	good := vectors.Checkpoint{Raw: cosigned, Keys: []string{log.String()}, Threshold: &two, Since: now,
		Witnesses: []vectors.Witness{{Operator: "A", Key: a.key.String()}, {Operator: "A", Key: second.key.String()}, {Operator: "B", Key: b.key.String()}}}
	add := func(what string, code denial.Reason, edit func(*vectors.Checkpoint)) {
		c := good
		edit(&c)
		l.add(what, code, func(v *vectors.Vector) { v.Checkpoint = &c })
	}
	raw := func(what string, code denial.Reason, raw vectors.Bytes) {
		add(what, code, func(c *vectors.Checkpoint) { c.Raw = raw })
	}
	plain := func(c *vectors.Checkpoint) { c.Threshold, c.Witnesses, c.Since = nil, nil, 0 }
	edited := func(old, new string) vectors.Bytes { return bytes.Replace(cosigned, []byte(old), []byte(new), 1) }
	add("a checkpoint that two operators cosigned", accepted, func(*vectors.Checkpoint) {})
	add("a checkpoint, where no witnesses are demanded", accepted, plain)
	raw("lines of unknown keys", accepted, join(cosigned, newWitness("c.example").line(cp, now)))
	raw("T11: the same witness twice", denial.ThresholdNotMet, join(cp, a.line(cp, now), a.line(cp, now+1)))
	raw("T11: two witnesses of one operator", denial.ThresholdNotMet, join(cp, a.line(cp, now), second.line(cp, now)))
	add("T11: one key as two operators", denial.ThresholdNotMet, func(c *vectors.Checkpoint) {
		c.Witnesses = []vectors.Witness{{Operator: "A", Key: a.key.String()}, {Operator: "B", Key: a.key.String()}, {Operator: "C", Key: b.key.String()}}
	})
	add("a witness without operator", denial.ThresholdNotMet, func(c *vectors.Checkpoint) {
		c.Witnesses = append([]vectors.Witness{{Key: newWitness("c.example").key.String()}}, c.Witnesses...)
	})
	add("a log key as a witness", denial.ThresholdNotMet, func(c *vectors.Checkpoint) {
		c.Witnesses = append([]vectors.Witness{{Operator: "C", Key: log.String()}}, c.Witnesses...)
	})
	for what, n := range map[string]int{"T12: threshold 0": 0, "T12: a negative threshold": -1, "T12: a threshold above the number of operators": 3} {
		add(what, denial.ThresholdNotMet, func(c *vectors.Checkpoint) { c.Threshold = &n })
	}
	raw("T15: a checkpoint of another log", denial.LogInconsistent, at(tree, other, 9))
	add("a witness's key as the log's", denial.LogInconsistent, func(c *vectors.Checkpoint) { plain(c); c.Keys = []string{a.key.String()} })
	raw("nothing", denial.ReceiptInvalid, vectors.Bytes{})
	raw("no signatures", denial.ReceiptInvalid, vectors.Bytes("a\n"))
	raw("an empty line and no signature", denial.ReceiptInvalid, vectors.Bytes("a\n9\n\n"))
	raw("another size", denial.SignatureInvalid, edited("\n9\n", "\n8\n"))
	raw("a leading zero", denial.ReceiptInvalid, edited("\n9\n", "\n09\n"))
	raw("a size that is no number", denial.ReceiptInvalid, edited("\n9\n", "\nx\n"))
	raw("an extension line", denial.ReceiptInvalid, edited("\n\n", "\nmore\n\n"))
	raw("a control character", denial.ReceiptInvalid, edited("\n9\n", "\n9\r\n"))
	raw("bytes that are not UTF-8", denial.ReceiptInvalid, edited("\n9\n", "\n9\xff\n"))
	raw("a root of other length", denial.ReceiptInvalid, edited("\n9\n", "\n9\nAA"))
	raw("a line that is no signature", denial.ReceiptInvalid, join(cosigned, []byte("— x\n")))
	raw("a signature without its dash", denial.ReceiptInvalid, edited("— b.example", "b.example"))
	raw("a signature without bytes", denial.ReceiptInvalid, join(cosigned, []byte("— x AAAA\n")))
	raw("a last line without newline", denial.ReceiptInvalid, cosigned[:len(cosigned)-1])
	raw("too many lines", denial.ReceiptInvalid, join(cosigned, bytes.Repeat(a.line(cp, 1), 600)))
	add("an unknown log key", denial.KeyUnknown, func(c *vectors.Checkpoint) {
		c.Keys = []string{must(receipt.LogNoteKey(origin, newSigner().key)).String()}
	})
	raw("cosigned and not signed by the log", denial.KeyUnknown, join(cp[:bytes.Index(cp, []byte("\n\n"))+2], a.line(cp, now), b.line(cp, now)))
	raw("the log's signature of another checkpoint", denial.SignatureInvalid, join(cp, bytes.SplitAfter(at(tree, origin, 8), []byte("\n\n"))[1]))
	raw("a cosignature of another checkpoint", denial.SignatureInvalid, join(cp, a.line(cp, now), b.line(at(tree, origin, 8), now)))
	raw("a cosignature cut short", denial.SignatureInvalid, join(cp, a.line(cp, now), cut(b.line(cp, now))))
	raw("a cosignature after the end of time", denial.SignatureInvalid, join(cp, a.line(cp, now), b.line(cp, 1<<63)))
	raw("T18: a checkpoint that was kept back", denial.CheckpointStale, join(cp, a.line(cp, now-1), b.line(cp, now+5)))
	l.follows(add, at, tree, origin, other)
	return l.all
}

// cut makes a signature line one byte shorter.
func cut(line []byte) []byte {
	fields := strings.Fields(string(line))
	sig := must(base64.StdEncoding.DecodeString(fields[2]))
	return []byte(fields[0] + " " + fields[1] + " " + base64.StdEncoding.EncodeToString(sig[:len(sig)-1]) + "\n")
}

// follows are checkpoints after an older one.
func (l *list) follows(add func(string, denial.Reason, func(*vectors.Checkpoint)), at func(*testonly.Tree, string, uint64) []byte,
	tree *testonly.Tree, origin, other string) {
	fork := testonly.New(rfc6962.DefaultHasher)
	for i := range 9 {
		fork.AppendData([]byte{byte(i), byte(i)})
	}
	after := func(what string, code denial.Reason, t *testonly.Tree, size uint64, path [][]byte, edit func(*vectors.Checkpoint)) {
		add(what, code, func(c *vectors.Checkpoint) {
			c.Threshold, c.Witnesses, c.Since = nil, nil, 0
			c.Raw, c.Old = at(t, origin, size), &vectors.Tree{Origin: origin, Size: 5, Root: tree.HashAt(5)}
			for _, node := range path {
				c.Path = append(c.Path, node)
			}
			if edit != nil {
				edit(c)
			}
		})
	}
	path, forked := must(tree.ConsistencyProof(5, 9)), must(fork.ConsistencyProof(5, 9))
	after("a log that has grown", accepted, tree, 9, path, nil)
	after("a log that has not grown", accepted, tree, 5, nil, nil)
	after("T07: a log that has shrunk", denial.StateRollback, tree, 4, nil, nil)
	after("T09: a fork", denial.LogInconsistent, fork, 9, forked, nil)
	after("T09: a fork with the path of the true log", denial.LogInconsistent, fork, 9, path, nil)
	after("T10: another root at the same size", denial.LogInconsistent, fork, 5, nil, nil)
	after("no path", denial.LogInconsistent, tree, 9, nil, nil)
	after("T15: after a checkpoint of another log", denial.LogInconsistent, tree, 9, path, func(c *vectors.Checkpoint) { c.Old.Origin = other })
}
