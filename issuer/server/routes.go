package server

import (
	"errors"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
)

// routes serves the public route table. echo is named in this file and nowhere else.
func (s *Server) routes() http.Handler { return router(s.publicTable(), s.misrouted) }

// adminRoutes serves the route table of the admin socket.
func (s *Server) adminRoutes() http.Handler { return router(s.adminTable(), s.misrouted) }

// publicTable is the whole public route table.
func (s *Server) publicTable() map[string]http.HandlerFunc {
	return s.logRoutes(map[string]http.HandlerFunc{
		"POST /v1/challenges":     s.challenge,
		"POST /v1/artifacts":      s.mint,
		"POST /v1/attestations":   s.attest,
		"POST /v1/enrol":          s.enrol,
		"POST /v1/enrol/activate": s.activate,
		"POST /v1/acts/:kind":     s.act,
		"GET /v1/acts/:kind":      s.nextAct,
		"POST /v1/records":        s.record,
		"GET /v1/status/:list":    s.status,
		"GET /v1/genesis":         s.genesis,
		"GET /v1/keys":            s.keys,
		"POST /entries":           s.register,
	}, s.entries)
}

// adminTable is the whole route table of the admin socket.
func (s *Server) adminTable() map[string]http.HandlerFunc {
	return s.logRoutes(map[string]http.HandlerFunc{
		"GET /v1/exports":        s.export,
		"GET /v1/keys":           s.keys,
		"POST /v1/keys/:purpose": s.prepareKey,
		"GET /v1/hosts":          s.hosts,
		"GET /v1/holds":          s.holds,
		"POST /v1/holds":         s.placeHold,
		"DELETE /v1/holds":       s.liftHold,
		"GET /metrics":           metrics(s),
		"GET /healthz":           s.health,
	}, true)
}

// router matches a method and a path exactly. Path parameters reach handlers through http.Request.PathValue. What matches none is
// for misrouted, with 404, or with 405 and the methods of the path in Allow.
func router(table map[string]http.HandlerFunc, misrouted func(http.ResponseWriter, *http.Request, int)) http.Handler {
	e := echo.New()
	e.IPExtractor = echo.ExtractIPDirect() // never a header (A05)
	e.HideBanner, e.HidePort = true, true
	for route, h := range table {
		method, path, _ := strings.Cut(route, " ")
		e.Add(method, path, adapt(h, misrouted))
	}
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		status := http.StatusNotFound
		if errors.Is(err, echo.ErrMethodNotAllowed) {
			status = http.StatusMethodNotAllowed
		}
		misrouted(c.Response(), c.Request(), status)
	}
	return e
}

// oneSegmentEach reports whether each named path parameter is one segment of the path: echo takes the whole rest for the last one.
func oneSegmentEach(c echo.Context) bool {
	for _, name := range c.ParamNames() {
		if name != "*" && strings.Contains(c.Param(name), "/") {
			return false
		}
	}
	return true
}

// adapt gives a handler its path parameters.
func adapt(h http.HandlerFunc, misrouted func(http.ResponseWriter, *http.Request, int)) echo.HandlerFunc {
	return func(c echo.Context) error {
		if !oneSegmentEach(c) {
			misrouted(c.Response(), c.Request(), http.StatusNotFound)
			return nil
		}
		for _, name := range c.ParamNames() {
			c.Request().SetPathValue(name, c.Param(name))
		}
		h(c.Response(), c.Request())
		return nil
	}
}
