package console

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/witness"
)

// Options are what a console needs.
type Options struct {
	Log         audit.Log
	Index       audit.Index
	Head        func() receipt.Head
	Genesis     *record.Genesis
	Keys        func(context.Context) (*record.KeyRing, error) // of the issuer, as they are now
	Health      func() error                                   // nil if the token signs and the log takes entries
	Counts      func() (minted uint64, denied map[int]uint64)  // since the start of the process
	BreakGlass  func(context.Context) (BreakGlass, error)      // asked for each request; nil: not told
	Readers     func() ([]Reader, error)                       // asked for each request
	Witnessed   Witnessed                                      // nil: nothing is published
	Scrubbed    func() int64                                   // when the whole log was last read and found well; 0 if not since the start; nil: not told
	Certificate tls.Certificate
	ClientCAs   []*x509.Certificate // of readers' certificates: one is demanded of every connection
	SignIn      *SignIn             // instead: readers sign in with OpenID Connect
	Logger      *slog.Logger        // default: none
	Now         func() time.Time    // default time.Now
}

// BreakGlass is how often people let something run in place of a decision, and what of it is still to be reviewed.
type BreakGlass struct {
	Published, Used uint64
	Open, Overdue   int // without a review; of those, later than they may be
}

// Witnessed is what is known of the published checkpoints and of those who cosign them. A witness.Publisher is one.
type Witnessed interface {
	Published() receipt.Checkpoint
	Fault() error
	Witnesses() []witness.State
	Threshold() int
}

// Console serves the pages.
type Console struct {
	o      Options
	server *http.Server

	sessions *sessions

	pages *template.Template
}

//go:embed pages
var files embed.FS

// New returns a console that does not listen yet.
func New(o Options) (*Console, error) {
	if o.Log == nil || o.Index == nil || o.Head == nil || o.Genesis == nil || o.Keys == nil || o.Readers == nil || o.Counts == nil || o.Health == nil {
		return nil, errors.New("opening console: log, index, genesis, keys, readers, counts and health are needed")
	}
	config, err := tlsConfig(&o)
	if err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Console{o: o, sessions: newSessions()}
	if c.pages, err = c.parse(); err != nil {
		return nil, err
	}
	c.server = &http.Server{Handler: c.routes(), TLSConfig: config, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, DisableGeneralOptionsHandler: true,
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug)}
	return c, nil
}

// Serve serves on a listener until ctx ends.
func (c *Console) Serve(ctx context.Context, l net.Listener) error {
	ended := make(chan error, 1)
	go func() { ended <- c.server.ServeTLS(limit(l, maxConnections), "", "") }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		stop, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return c.server.Shutdown(stop)
	}
}

// page is one route. Every route is a page that GET reads.
type page struct {
	pattern string // path, with {name} where a part varies
	title   string // in the navigation; empty if not there
	roles   []Role
	show    func(*Console, *http.Request, *Reader) (template string, data any, err error)
}

// table is every page with the roles that may see it.
func table() []page {
	return []page{
		{"/{$}", "Overview", Roles(), (*Console).overview},
		{"/decisions", "Decisions", []Role{Auditor}, (*Console).decisions},
		{"/entries/{index}", "", []Role{Auditor}, (*Console).entry},
		{"/lineage/{id}", "", []Role{Auditor}, (*Console).lineage},
		{"/hosts", "Hosts", []Role{Operator, PolicyAuthor, Auditor}, (*Console).hosts},
		{"/policies", "Policies", []Role{PolicyAuthor, Auditor}, (*Console).policies},
		{"/keys", "Keys", []Role{Custodian, Auditor}, (*Console).keys},
		{"/log", "Log", []Role{Operator, Custodian, Auditor}, (*Console).health},
	}
}

// routes answers each page of the table to readers with one of its roles, and refuses everything else (910). The style
// sheet is for every reader.
func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	for _, p := range table() {
		mux.HandleFunc(p.pattern, func(w http.ResponseWriter, r *http.Request) { c.serve(w, r, &p) })
	}
	if c.o.SignIn != nil {
		mux.HandleFunc("/signin", c.signIn)
		mux.HandleFunc("/signout", c.signOut)
	}
	mux.HandleFunc("/style.css", func(w http.ResponseWriter, r *http.Request) { c.serve(w, r, nil) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		c.serve(w, r, &page{roles: Roles(), show: func(*Console, *http.Request, *Reader) (string, any, error) {
			return "", nil, absent(denial.New(denial.NotPermitted, "the console has no such page"))
		}})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				c.o.Logger.Error("page stopped unexpectedly", "panic", p)
				c.refuse(w, r, nil, denial.New(denial.Internal, "a page stopped unexpectedly"))
			}
		}()
		mux.ServeHTTP(w, r)
	})
}

// misform is a refusal of what was asked for, with the HTTP status for it.
type misform struct {
	*denial.Denial
	status int
}

// Unwrap returns the denial.
func (m misform) Unwrap() error { return m.Denial }

// absent refuses what is not there.
func absent(d *denial.Denial) error {
	return misform{d.Try("Go to the page from the overview."), http.StatusNotFound}
}

// serve answers a page. It checks, in this order: who asks (909), that it is a GET or HEAD (910), and the role (910).
func (c *Console) serve(w http.ResponseWriter, r *http.Request, p *page) {
	if p == nil && c.o.SignIn != nil { // who has not signed in yet sees a page too
		c.style(w)
		return
	}
	reader, err := c.reader(r)
	if err != nil {
		c.refuse(w, r, nil, err)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		c.refuse(w, r, reader, misform{denial.New(denial.NotPermitted, "the console is read only"), http.StatusMethodNotAllowed})
		return
	}
	if p == nil {
		c.style(w)
		return
	}
	if !reader.may(*p) {
		c.refuse(w, r, reader, denial.New(denial.NotPermitted, "none of your roles may see this page"))
		return
	}
	name, data, err := p.show(c, r, reader)
	if err != nil {
		c.refuse(w, r, reader, err)
		return
	}
	c.o.Logger.Info("page read", "reader", reader.Name, "path", p.pattern)
	c.write(w, http.StatusOK, view{Name: name, Title: p.title, Reader: reader, Data: data})
}

// refuse answers with a page that says why.
func (c *Console) refuse(w http.ResponseWriter, r *http.Request, reader *Reader, err error) {
	d := denial.Of(err)
	if d.Reason.Code() == denial.Internal.Code() {
		c.o.Logger.Error("page went wrong", "error", err)
	}
	name := ""
	if reader != nil {
		name = reader.Name
	}
	c.o.Logger.Info("page refused", "reader", name, "code", d.Reason.Code(), "why", d.Detail)
	status := denial.Known(d).Status
	var m misform
	switch {
	case errors.As(err, &m):
		status = m.status
	case reader == nil && !denial.Is(err, denial.Unauthenticated):
		status = denial.Stranger(d).Status
	}
	v := view{Name: "refused", Title: "Not shown", Reader: reader, Data: refusedData{d.Reason, d.Hint()}}
	if reader == nil && c.o.SignIn != nil && denial.Is(err, denial.Unauthenticated) {
		v.Name, v.Title, v.Data = "signin", "Sign in", signInData{Failed: r.Method == http.MethodPost, To: pageOf(r), Provider: c.o.SignIn.Issuer}
	}
	c.write(w, status, v)
}

// refusedData is a refusal for people.
type refusedData struct {
	denial.Reason
	Hint string
}

// view is what a page is made from.
type view struct {
	Name   string // of the template
	Title  string
	Reader *Reader // nil for a stranger
	Data   any

	Session bool // the reader has signed in, and can sign out
}

// Nav returns the pages that the reader may see.
func (v view) Nav() (links []navLink) {
	for _, p := range table() {
		if v.Reader != nil && p.title != "" && v.Reader.may(p) {
			path := p.pattern
			if path == "/{$}" {
				path = "/"
			}
			links = append(links, navLink{path, p.title, p.title == v.Title})
		}
	}
	return links
}

type navLink struct {
	Path, Title string
	Here        bool
}

func (c *Console) write(w http.ResponseWriter, status int, v view) {
	v.Session = c.o.SignIn != nil && v.Reader != nil
	var b bytes.Buffer
	if err := c.pages.ExecuteTemplate(&b, v.Name, v); err != nil {
		c.o.Logger.Error("page not made", "error", err)
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	c.headers(w, "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the reader went away: nothing is left to tell
}

// headers forbid the browser everything but to show the page with the console's own style sheet.
func (c *Console) headers(w http.ResponseWriter, media string) {
	h := w.Header()
	h.Set("Content-Type", media)
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
}

func (c *Console) style(w http.ResponseWriter) {
	data, err := files.ReadFile("pages/style.css")
	if err != nil {
		http.Error(w, "no style sheet", http.StatusInternalServerError)
		return
	}
	c.headers(w, "text/css; charset=utf-8")
	_, _ = w.Write(data)
}

func (c *Console) parse() (*template.Template, error) {
	return template.New("console").Funcs(template.FuncMap{"when": audit.When, "short": audit.Short, "method": audit.MethodWords, "signer": c.signer, "handover": c.handover,
		"fault": faultWords, "unix": func(t time.Time) uint64 { return uint64(t.Unix()) },
		"live": isLive, "cssstate": func(s string) string { return strings.ReplaceAll(s, " ", "-") }}).ParseFS(files, "pages/*.gohtml")
}

// isLive reports whether a page shows the newest decisions, and is loaded again after a while.
func isLive(v view) bool {
	d, ok := v.Data.(*decisionsData)
	return ok && d.Live
}

// people returns the person that the key of everybody who is or was an authority is of; nobody while the keys cannot be read.
func (c *Console) people(ctx context.Context) map[string]string {
	ring, err := c.o.Keys(ctx)
	if err != nil {
		return nil
	}
	return audit.PeopleOf(ring)
}

// signer names the person whose key signed a statement of the authorities.
func (c *Console) signer(thumbprint string) string {
	if name := c.people(context.Background())[thumbprint]; name != "" {
		return name
	}
	return "key " + audit.Short(thumbprint)
}

// handover tells what an act changes about who the authorities are; nothing of any other act, and of one that the keys do not follow
// from or that cannot be looked up.
func (c *Console) handover(act *audit.ActWords) []string {
	ring, err := c.o.Keys(context.Background())
	if err != nil {
		return nil
	}
	since, ok := ring.Handover(act.Number)
	digest, _ := ring.Change(act.Number)
	if !ok || digest.String() != act.Payload {
		return nil
	}
	return since.Words()
}
