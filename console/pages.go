package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/witness"
)

// The sizes of lists.
const (
	perPage = 50   // decisions on one page
	maxScan = 2000 // entries that are looked through for them
)

// overviewData is what the overview shows. Decisions are for auditors.
type overviewData struct {
	logData
	Issuer, Log string
	Recent      []*audit.Item
	Since       uint64 // entries that Recent was found among
	Glass       *BreakGlass
}

func (c *Console) overview(r *http.Request, reader *Reader) (string, any, error) {
	d := overviewData{logData: c.logData(), Issuer: c.o.Genesis.Issuer, Log: c.o.Genesis.Log}
	if c.o.BreakGlass != nil {
		b, err := c.o.BreakGlass(r.Context())
		if err != nil {
			return "", nil, err
		}
		d.Glass = &b
	}
	if slices.Contains(reader.Roles, Auditor) {
		found, err := c.recent(r.Context(), d.Head.Size, 8, "")
		if err != nil {
			return "", nil, err
		}
		d.Recent = found.Items
	}
	return "overview", d, nil
}

// decisionsData is a page of decisions, the newest first.
type decisionsData struct {
	Items  []*audit.Item
	Show   string // "", "permitted" or "denied"
	Live   bool   // the newest: the page is loaded again after a while
	Before uint64 // where older ones begin; 0 if there are none
	Size   uint64
}

func (c *Console) decisions(r *http.Request, _ *Reader) (string, any, error) {
	q := r.URL.Query()
	before, show := c.o.Head().Size, q.Get("show")
	if show != "" && show != "permitted" && show != "denied" {
		return "", nil, misform{denial.New(denial.RequestLimit, "show is permitted or denied"), http.StatusBadRequest}
	}
	if q.Has("before") {
		n, err := number(q.Get("before"))
		if err != nil {
			return "", nil, misform{denial.Of(err), http.StatusBadRequest}
		}
		before = min(before, n)
	}
	d, err := c.recent(r.Context(), before, perPage, show)
	if err != nil {
		return "", nil, err
	}
	d.Live, d.Size = !q.Has("before"), c.o.Head().Size
	return "decisions", d, nil
}

// recent returns decisions before an index, the newest first.
func (c *Console) recent(ctx context.Context, before uint64, n int, show string) (*decisionsData, error) {
	d := &decisionsData{Items: []*audit.Item{}, Show: show}
	from := before - min(before, maxScan)
	err := c.o.Log.Leaves(ctx, from, before, func(index uint64, leaf []byte) error {
		it, err := audit.Describe(index, leaf)
		if err != nil {
			return err
		}
		if it.Permitted() && show != "denied" || it.Refusal != nil && show != "permitted" {
			d.Items = append(d.Items, it)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading log: %w", err)
	}
	slices.Reverse(d.Items)
	d.Before = from
	if len(d.Items) > n {
		d.Items = d.Items[:n]
		d.Before = d.Items[n-1].Index
	}
	return d, nil
}

// number reads a decimal number in its one spelling.
func number(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, denial.New(denial.RequestLimit, "not the index of an entry")
	}
	return n, nil
}

// entryData is one statement explained.
type entryData struct {
	*audit.Item
	Proof  *receipt.Proof // of the receipt, verified; nil for a sole entry
	Stages []audit.Check  // of a permit: all of them held
	Hint   string         // of a denial: what to try
}

func (c *Console) entry(r *http.Request, _ *Reader) (string, any, error) {
	index, err := number(r.PathValue("index"))
	if err != nil {
		return "", nil, absent(denial.Of(err))
	}
	if index >= c.o.Head().Size {
		return "", nil, absent(denial.New(denial.RequestLimit, "the log has no such entry"))
	}
	d := entryData{}
	if d.Item, err = audit.Look(r.Context(), c.o.Log, index); err != nil {
		return "", nil, err
	}
	if d.Proof, err = c.proof(r.Context(), index); err != nil {
		return "", nil, err
	}
	switch {
	case d.Permitted():
		for _, s := range denial.IssuanceOrder() {
			d.Stages = append(d.Stages, audit.Check{Stage: s.String(), State: "success"})
		}
	case d.Refusal != nil:
		d.Stages = d.Refusal.Checks
		d.Hint = denial.Reason(d.Refusal.Code).Hint()
	}
	return "entry", d, nil
}

// proof verifies the receipt of an entry with the log keys that the issuer has or had.
func (c *Console) proof(ctx context.Context, index uint64) (p *receipt.Proof, err error) {
	raw, err := c.o.Log.Receipt(ctx, index)
	if err != nil {
		return nil, fmt.Errorf("reading receipt: %w", err)
	}
	ring, err := c.o.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading keys: %w", err)
	}
	keys, err := ring.StatementKeys()
	if err != nil {
		return nil, err
	}
	err = c.o.Log.Leaves(ctx, index, index+1, func(_ uint64, leaf []byte) error {
		if p, err = receipt.Verify(raw, leaf, keys); err != nil {
			return err
		}
		return ring.Find(p.Key).CheckThen(p.Time)
	})
	return p, err
}

// lineageData is the picture of a lineage and its words.
type lineageData struct {
	*audit.Lineage
	Picture template.HTML // made by audit, which escapes all that it did not write itself
}

func (c *Console) lineage(r *http.Request, _ *Reader) (string, any, error) {
	q, err := audit.ParseQuery(map[string][]string{"execution": {r.PathValue("id")}})
	if err != nil {
		return "", nil, absent(denial.Of(err))
	}
	q.To = c.o.Head().Size
	items, err := audit.Gather(r.Context(), c.o.Log, c.o.Index, q)
	if err != nil {
		return "", nil, err
	}
	l, err := audit.Trace(items, c.people(r.Context()), r.PathValue("id"))
	if denial.Is(err, denial.NoArtifact) {
		return "", nil, absent(denial.Of(err))
	}
	if err != nil {
		return "", nil, err
	}
	picture := l.SVG(func(i uint64) string { return fmt.Sprintf("/entries/%d", i) })
	return "lineage", lineageData{l, template.HTML(picture)}, nil
}

// context describes genesis, acts, enrolments and key births.
func (c *Console) context(ctx context.Context) ([]*audit.Item, error) {
	found, err := c.o.Index.Context(ctx)
	if err != nil {
		return nil, err
	}
	items := []*audit.Item{}
	for _, i := range found {
		if i >= c.o.Head().Size {
			break
		}
		it, err := audit.Look(ctx, c.o.Log, i)
		if err != nil {
			return nil, err
		}
		items = append(items, it)
	}
	return items, nil
}

// hostRow is a host and what was last decided about it.
type hostRow struct {
	ID       string
	Approved *audit.Item // the newest act
	Bound    *audit.Item // the newest enrolment record; nil until its TPM has answered
	Last     *audit.Item // the newest decision with a quote; nil if there is none
	Revoked  *audit.Item
	Held     *audit.Item // the refusal since which it is held
}

func (c *Console) hosts(r *http.Request, reader *Reader) (string, any, error) {
	items, err := c.context(r.Context())
	if err != nil {
		return "", nil, err
	}
	rows := map[string]*hostRow{}
	for _, it := range items {
		switch {
		case it.Act != nil && it.Act.Subject == "host":
			rows[it.Host] = &hostRow{ID: it.Host, Approved: it}
		case it.Held && rows[it.Host] != nil:
			rows[it.Host].Held = it
		case it.Act == nil && it.Enrolled != nil && rows[it.Host] != nil:
			rows[it.Host].Bound = it
		case it.Act != nil && it.Act.Cause == "host" && rows[it.Act.ID] != nil:
			rows[it.Act.ID].Revoked = it
		}
	}
	list := slices.SortedFunc(maps.Values(rows), func(a, b *hostRow) int { return cmp.Compare(a.ID, b.ID) })
	for _, row := range list {
		if row.Last, err = c.lastQuote(r.Context(), row.ID); err != nil {
			return "", nil, err
		}
	}
	return "hosts", map[string]any{"Hosts": list, "Entries": slices.Contains(reader.Roles, Auditor)}, nil
}

// lastQuote returns the newest decision about a host that was made on a quote.
func (c *Console) lastQuote(ctx context.Context, host string) (*audit.Item, error) {
	found, err := c.o.Index.OfHost(ctx, host)
	if err != nil {
		return nil, err
	}
	slices.Reverse(found)
	for n, i := range found {
		if i >= c.o.Head().Size {
			continue
		}
		if n > maxScan {
			break
		}
		it, err := audit.Look(ctx, c.o.Log, i)
		if err != nil {
			return nil, err
		}
		if it.Machine != nil {
			return it, nil
		}
	}
	return nil, nil
}

// actRow is an act with all its signatures.
type actRow struct {
	*audit.Item
	Signers []string
	Indices []uint64
	Force   bool // the policy is the newest of its kind
	Gone    bool // the policy was withdrawn
}

func (c *Console) policies(r *http.Request, reader *Reader) (string, any, error) {
	items, err := c.context(r.Context())
	if err != nil {
		return "", nil, err
	}
	rows, newest := map[string]*actRow{}, map[string]*actRow{}
	var policies, others []*actRow
	for _, it := range items {
		if it.Act == nil {
			continue
		}
		row := rows[it.Act.Payload]
		if row == nil {
			row = &actRow{Item: it}
			rows[it.Act.Payload] = row
			if it.Act.Policy != nil {
				policies = append(policies, row)
				newest[it.Act.Subject] = row
			} else {
				others = append(others, row)
			}
		}
		row.Signers, row.Indices = append(row.Signers, c.signer(it.Signer)), append(row.Indices, it.Index)
	}
	for _, row := range newest {
		row.Force = true
	}
	withdrawn(policies, others)
	slices.Reverse(policies)
	slices.Reverse(others)
	return "policies", map[string]any{"Policies": policies, "Others": others, "Entries": slices.Contains(reader.Roles, Auditor)}, nil
}

// withdrawn marks the policies that authorities have revoked, by hash.
func withdrawn(policies, others []*actRow) {
	for _, act := range others {
		for _, row := range policies {
			row.Gone = row.Gone || act.Act.Cause == "policy" && act.Act.ID == row.Act.Policy.Hash
		}
	}
}

// keysData is what became of the issuer's keys.
type keysData struct {
	Now     []audit.KeyNow
	Changes []*actRow // the newest first
	Births  []*audit.Item
}

func (c *Console) keys(r *http.Request, _ *Reader) (string, any, error) {
	items, err := c.context(r.Context())
	if err != nil {
		return "", nil, err
	}
	ring, err := c.o.Keys(r.Context())
	if err != nil {
		return "", nil, err
	}
	d := keysData{Now: audit.KeysNow(ring, nil)}
	for _, it := range items {
		switch {
		case it.Birth != nil:
			d.Births = append(d.Births, it)
		case it.Keys == nil:
		case len(d.Changes) > 0 && d.Changes[len(d.Changes)-1].Act.Payload == it.Act.Payload:
			row := d.Changes[len(d.Changes)-1]
			row.Signers, row.Indices = append(row.Signers, c.signer(it.Signer)), append(row.Indices, it.Index)
		default:
			d.Changes = append(d.Changes, &actRow{Item: it, Signers: []string{c.signer(it.Signer)}, Indices: []uint64{it.Index}})
		}
	}
	slices.Reverse(d.Changes)
	return "keys", d, nil
}

// logData is the state of the log and of the service.
type logData struct {
	Head    receipt.Head
	Root    string
	Age     time.Duration
	Problem *denial.Denial // nil: healthy
	Minted  uint64
	Denied  []count
	Total   uint64 // of Denied

	Publishes bool
	Published receipt.Checkpoint // zero before there is one
	Threshold int                // operators that must cosign; 0: no witnesses
	Failing   string             // why the newest head is not published; empty: it is
	Witnesses []witness.State
	Scrubbed  uint64 // 0: not since the start
}

// count is how often a reason was given since the start.
type count struct {
	Reason denial.Reason
	N      uint64
}

func (c *Console) logData() logData {
	d := logData{Head: c.o.Head()}
	d.Root = fmt.Sprintf("%x", d.Head.Root)
	d.Age = c.o.Now().Sub(time.Unix(int64(d.Head.Time), 0)).Round(time.Second)
	if err := c.o.Health(); err != nil {
		d.Problem = denial.Of(err)
	}
	var denied map[int]uint64
	d.Minted, denied = c.o.Counts()
	for code, n := range denied {
		d.Denied, d.Total = append(d.Denied, count{denial.Reason(code), n}), d.Total+n
	}
	if c.o.Scrubbed != nil {
		d.Scrubbed = uint64(c.o.Scrubbed())
	}
	c.tellWitnesses(&d)
	slices.SortFunc(d.Denied, func(a, b count) int { return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Reason, b.Reason)) })
	return d
}

func (c *Console) tellWitnesses(d *logData) {
	w := c.o.Witnessed
	if w == nil {
		return
	}
	d.Publishes, d.Published, d.Threshold, d.Witnesses = true, w.Published(), w.Threshold(), w.Witnesses()
	if err := w.Fault(); err != nil {
		d.Failing = faultWords(err)
	}
}

// faultWords tells why a checkpoint was not published or a witness did not cosign. What other machines said is not in it.
func faultWords(err error) string {
	var d *denial.Denial
	if errors.As(err, &d) {
		return fmt.Sprintf("%d %s: %s", d.Reason.Code(), d.Reason, d.Detail)
	}
	return "it does not answer as a witness does"
}

func (c *Console) health(*http.Request, *Reader) (string, any, error) { return "log", c.logData(), nil }
