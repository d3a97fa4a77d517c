// Package server serves an issuer over TLS 1.3, and its admin routes over a Unix socket. It holds limits and wire
// formats; every decision is made in package issuer.
package server

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/issuer/wire"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/witness"
)

// Options are what a server needs.
type Options struct {
	Issuer      *issuer.Issuer
	Certificate tls.Certificate // of the public listener
	Limits      Limits
	Logger      *slog.Logger
	Health      func() error // nil: always healthy; also asked for readiness of token and log

	Maker         issuer.Maker // makes keys for the admin socket; nil: none are made
	Publisher     Publisher    // of the log's checkpoints; nil: none is ever published
	PublicEntries bool         // whether anybody may read entries: they name hosts and initiators
}

// Publisher gives the newest published checkpoint, nil before there is one; what it says, zero before there is one; and
// why the last attempt to publish failed, nil if it did not.
type Publisher interface {
	Publish(context.Context) error
	Newest() (receipt.Head, []byte)
	Checkpoint() []byte
	Published() receipt.Checkpoint
	Fault() error
	Witnesses() []witness.State
	Threshold() int
}

// Server is an HTTP front of an issuer.
type Server struct {
	issuer  *issuer.Issuer
	limits  Limits
	limiter *limiter
	bodies  *bodies
	log     *slog.Logger
	ready   func() error

	maker     issuer.Maker
	publisher Publisher
	entries   bool // on the public listener
	public    *http.Server
	admin     *http.Server
	exports   exports
}

// SummaryPeriod is how often refused strangers are summarised in the log.
const SummaryPeriod = time.Minute

// New returns a server that does not listen yet.
func New(o Options) *Server {
	o.Limits.fill()
	s := &Server{issuer: o.Issuer, limits: o.Limits, limiter: newLimiter(o.Limits),
		bodies: newBodies(o.Limits.Bodies), log: o.Logger, ready: o.Health,
		maker: o.Maker, publisher: o.Publisher, entries: o.PublicEntries}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.public = s.httpServer(s.guard(s.routes()))
	s.public.ConnContext = withConnection
	s.public.TLSConfig = &tls.Config{
		Certificates:           []tls.Certificate{o.Certificate},
		MinVersion:             tls.VersionTLS13, // A24; no 0-RTT in crypto/tls
		SessionTicketsDisabled: true,             // A25
		NextProtos:             []string{"http/1.1"},
	}
	s.admin = s.httpServer(s.adminRoutes())
	s.admin.WriteTimeout = time.Hour // exports stream
	return s
}

func (s *Server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: s.recover(h),
		// OPTIONS * is a request like any other.
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            5 * time.Second, // A06
		ReadTimeout:                  15 * time.Second,
		WriteTimeout:                 30 * time.Second,
		IdleTimeout:                  60 * time.Second, // as long as a challenge lives
		MaxHeaderBytes:               maxHeader,
		TLSNextProto:                 map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 only
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

type connectionKey struct{}

func withConnection(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, issuer.NewConnection())
}

// Serve serves the public routes on one listener and the admin routes on another, which may be nil, until ctx ends.
// Then it finishes what is in flight, and logs the last summary.
func (s *Server) Serve(ctx context.Context, public, admin net.Listener) error {
	fault := make(chan error, 2)
	go func() {
		l := &limitedListener{Listener: public, limits: s.limits, limiter: s.limiter, peers: map[string]int{}}
		fault <- s.public.ServeTLS(l, "", "")
	}()
	if admin != nil {
		go func() { fault <- s.admin.Serve(admin) }()
	}
	tick := time.NewTicker(SummaryPeriod)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.summarise(ctx)
		case err := <-fault:
			return errors.Join(err, s.shutdown())
		case <-ctx.Done():
			return s.shutdown()
		}
	}
}

func (s *Server) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := errors.Join(s.public.Shutdown(ctx), s.admin.Shutdown(ctx))
	if err != nil { // what has not ended by now is cut off
		err = errors.Join(err, s.public.Close(), s.admin.Close())
	}
	s.summarise(context.WithoutCancel(ctx))
	return err
}

func (s *Server) summarise(ctx context.Context) {
	if err := s.issuer.Summarise(ctx); err != nil {
		s.log.Error("summary not logged", "error", err)
	}
}

// guard limits rates before anything else happens (A12, A13), and what bodies take while it happens.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.limiter.allow(peerOf(r.RemoteAddr), time.Now()) {
			s.stranger(w, r, misform{denial.New(denial.Overloaded, "too many requests"), http.StatusTooManyRequests})
			return
		}
		body, done := s.bodies.meter(r)
		defer done()
		r.Body = body
		next.ServeHTTP(w, r)
	})
}

// recover turns a panic into 901: counted, answered, and the process lives (A23). An answer that is cut off on purpose
// stays cut off.
func (s *Server) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				panic(p)
			default:
				s.log.Error("handler stopped unexpectedly", "panic", p, "stack", string(debug.Stack()))
				s.stranger(w, r, denial.New(denial.Internal, "a handler stopped unexpectedly"))
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// stranger refuses what the issuer never saw.
func (s *Server) stranger(w http.ResponseWriter, r *http.Request, err error) {
	d, status := denial.Of(err), statusOf(err)
	if status != 0 {
		d = d.At(denial.StageLimits)
	}
	s.issuer.CountStranger(d)
	s.refuseWith(w, r, &issuer.Refusal{Denial: d}, status)
}

// refuse answers with problem details: everything for a known caller, the condition for a stranger.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var ref *issuer.Refusal
	if !errors.As(err, &ref) {
		ref = &issuer.Refusal{Denial: denial.Of(err)}
		s.issuer.CountStranger(ref.Denial)
		if ref.Denial.Reason.Code() == denial.Internal.Code() {
			s.log.Error("request went wrong", "error", err)
		}
	}
	s.refuseWith(w, r, ref, statusOf(err))
}

// refuseWith answers with the HTTP status, or with that of the denial if it is 0.
func (s *Server) refuseWith(w http.ResponseWriter, r *http.Request, ref *issuer.Refusal, status int) {
	level := slog.LevelDebug // of strangers there can be many
	if ref.Known {
		level = slog.LevelInfo
	}
	s.log.Log(r.Context(), level, "denied", "code", ref.Denial.Reason.Code(), "reason", ref.Denial.Reason.String(), "stage", ref.Denial.Stage.String(),
		"known", ref.Known, "logged", ref.Logged, "index", ref.Index)
	writeProblem(w, ref, status)
}

// unknown refuses a path that names nothing.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	s.misrouted(w, r, http.StatusNotFound)
}

// misrouted refuses a path or method that there is not (910).
func (s *Server) misrouted(w http.ResponseWriter, r *http.Request, status int) {
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close") // nobody waits for the body
	}
	s.stranger(w, r, misform{denial.New(denial.NotPermitted, "no such route"), status})
}

func answer(w http.ResponseWriter, status int, media string, data []byte) {
	w.Header().Set("Content-Type", media)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(data) // the caller went away: nothing is left to tell
}

func (s *Server) answerCBOR(w http.ResponseWriter, r *http.Request, media string, v any) {
	data, err := statement.Marshal(v)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, media, data)
}

func connection(r *http.Request) *issuer.Connection {
	return r.Context().Value(connectionKey{}).(*issuer.Connection)
}

// exporter derives the 32 bytes that evidence on this connection is bound to.
func exporter(r *http.Request) (out [32]byte, err error) {
	if r.TLS == nil {
		return out, denial.New(denial.ChannelBinding, "not a TLS connection")
	}
	key, err := r.TLS.ExportKeyingMaterial(wire.ExporterLabel, nil, len(out))
	if err != nil {
		return out, denial.New(denial.ChannelBinding, "the connection has no exporter")
	}
	return [32]byte(key), nil
}

func (s *Server) challenge(w http.ResponseWriter, r *http.Request) {
	if _, err := body(w, r, "", 0); err != nil {
		s.stranger(w, r, err)
		return
	}
	ch, err := s.issuer.Challenge(r.Context(), connection(r))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.answerCBOR(w, r, wire.MediaChallenge, ch)
}

// bringChallenge puts the next challenge of the connection into the answer. Where there is none the caller asks for it and is
// told why.
func (s *Server) bringChallenge(w http.ResponseWriter, r *http.Request) {
	ch, err := s.issuer.Challenge(r.Context(), connection(r))
	if err != nil {
		return
	}
	if data, err := statement.Marshal(ch); err == nil {
		w.Header().Set(wire.HeaderChallenge, base64.RawURLEncoding.EncodeToString(data))
	}
}

func (s *Server) mint(w http.ResponseWriter, r *http.Request) {
	s.decideOn(w, r, wire.MediaArtifact, s.issuer.Mint)
}

// attest answers a request for an attestation.
func (s *Server) attest(w http.ResponseWriter, r *http.Request) {
	s.decideOn(w, r, wire.MediaStatement, s.issuer.Attest)
}

// decideOn has the issuer decide on a request and its evidence.
func (s *Server) decideOn(w http.ResponseWriter, r *http.Request, media string,
	decide func(ctx context.Context, conn *issuer.Connection, exporter [32]byte, request, evidence []byte, delegations ...[]byte) (*issuer.Minted, error)) {
	raw, err := body(w, r, wire.MediaMint, maxMint)
	if err != nil {
		s.stranger(w, r, err)
		return
	}
	var m wire.Mint
	if err := statement.Unmarshal(raw, &m); err != nil {
		s.stranger(w, r, denial.Of(err).At(denial.StageDecode))
		return
	}
	channel, err := exporter(r)
	if err != nil {
		s.stranger(w, r, denial.Of(err))
		return
	}
	out, err := decide(r.Context(), connection(r), channel, m.Request, m.Evidence, m.Delegations...)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	if m.Next {
		s.bringChallenge(w, r)
	}
	s.log.Info("minted", "index", out.Index)
	answer(w, http.StatusCreated, media, out.Artifact)
}

// relay reads a body, hands it to the issuer, and answers with the bytes that come back.
func (s *Server) relay(w http.ResponseWriter, r *http.Request, media string, limit int64, act func([]byte) (string, []byte, error)) {
	raw, err := body(w, r, media, limit)
	if err != nil {
		s.stranger(w, r, err)
		return
	}
	out, data, err := act(raw)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusCreated, out, data)
}

func (s *Server) enrol(w http.ResponseWriter, r *http.Request) {
	s.relay(w, r, wire.MediaEnrol, maxBody, func(raw []byte) (string, []byte, error) {
		cred, err := s.issuer.BeginEnrolment(r.Context(), connection(r), raw)
		if err != nil {
			return "", nil, err
		}
		data, err := statement.Marshal(wire.Credential{Blob: cred.Blob, Secret: cred.Secret})
		return wire.MediaCredential, data, err
	})
}

func (s *Server) activate(w http.ResponseWriter, r *http.Request) {
	s.relay(w, r, wire.MediaActivation, maxBody, func(raw []byte) (string, []byte, error) {
		var a wire.Activation
		if err := statement.Unmarshal(raw, &a); err != nil {
			return "", nil, err
		}
		data, err := s.issuer.FinishEnrolment(r.Context(), connection(r), a.Secret)
		return wire.MediaStatement, data, err
	})
}

// actKinds are the acts that authorities may send.
var actKinds = []statement.Kind{statement.Policy, statement.Enrolment, statement.Revocation, statement.KeyChange, statement.BreakGlass, statement.Review}

// actKind returns the kind of acts that a path names.
func actKind(r *http.Request) (statement.Kind, bool) {
	n := slices.IndexFunc(actKinds, func(k statement.Kind) bool { return wire.ActName(k) == r.PathValue("kind") })
	if n < 0 {
		return 0, false
	}
	return actKinds[n], true
}

// nextAct answers which number the next act about a subject gets, to anybody: who asks must know the subject, and learns how
// many acts about it there were.
func (s *Server) nextAct(w http.ResponseWriter, r *http.Request) {
	kind, ok := actKind(r)
	if !ok || !kind.Acts() {
		s.unknown(w, r)
		return
	}
	subject := r.URL.Query().Get("subject")
	if subject == "" {
		s.stranger(w, r, misform{denial.New(denial.RequestLimit, "the query names no subject"), http.StatusBadRequest})
		return
	}
	n, err := s.issuer.NextAct(r.Context(), kind, subject)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	data, err := statement.Marshal(n)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, wire.MediaCBOR, data)
}

func (s *Server) act(w http.ResponseWriter, r *http.Request) {
	kind, ok := actKind(r)
	if !ok {
		s.unknown(w, r)
		return
	}
	s.relay(w, r, wire.MediaAct, maxAct, func(raw []byte) (string, []byte, error) {
		b, err := record.DecodeBundle(raw)
		if err != nil {
			return "", nil, err
		}
		out, err := s.issuer.Apply(r.Context(), kind, b)
		if err != nil {
			return "", nil, err
		}
		if kind == statement.BreakGlass || kind == statement.Review {
			s.log.Warn("break-glass", "what", kind.String(), "signatures", len(b))
		}
		data, err := record.Bundle(out).Encode()
		return wire.MediaAct, data, err
	})
}

func (s *Server) record(w http.ResponseWriter, r *http.Request) {
	s.relay(w, r, wire.MediaStatement, statement.MaxStatement, func(raw []byte) (string, []byte, error) {
		data, err := s.issuer.Take(r.Context(), raw)
		if err == nil {
			s.alarm(data)
		}
		return wire.MediaStatement, data, err
	})
}

// alarm warns of a start by break-glass: raw is a record that the issuer has taken.
func (s *Server) alarm(raw []byte) {
	env, err := statement.Decode(raw, 2*statement.MaxStatement)
	var r record.Record
	if err == nil && statement.Unmarshal(env.Payload(), &r) == nil && r.Glass != nil {
		s.log.Warn("break-glass", "what", "used", "id", hex.EncodeToString(r.CTI), "host", r.Workload, "initiator", r.Initiator, "waived", len(r.Glass.Waived) > 0)
	}
}
