// Package cddl holds real bytes against the CDDL files of docs/formats.
package cddl

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/governed-execution/writ/statement"
)

// Schema is a set of CDDL rules (RFC 8610), as far as docs/formats uses the language: rules, choices, ranges, .size and
// .cbor, tags, maps and arrays with occurrences. What it does not know is an error, so that no line goes unread.
type Schema struct {
	rules map[string][]string // tokens by name
	Used  map[string]bool     // rules that a match has reached
}

var cddlToken = regexp.MustCompile(`;[^\n]*|"[^"]*"|=>|\.\.|\.size|\.cbor|#6\.\d+|-?\d+|[A-Za-z][A-Za-z0-9_-]*|[=/{}()\[\],:?*+]|\S`)

// Load reads files of docs/formats; dir is the path to that directory.
func Load(t testing.TB, dir string, files ...string) *Schema {
	t.Helper()
	var tokens []string
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		for _, tok := range cddlToken.FindAllString(string(data), -1) {
			if tok[0] != ';' {
				tokens = append(tokens, tok)
			}
		}
	}
	s := &Schema{rules: map[string][]string{}, Used: map[string]bool{}}
	start := -1
	for i := range len(tokens) + 1 {
		if i == len(tokens) || i+1 < len(tokens) && tokens[i+1] == "=" {
			if start >= 0 {
				s.rules[tokens[start]] = tokens[start+2 : i]
			}
			start = i
		}
	}
	return s
}

// Rules returns the names of all rules.
func (s *Schema) Rules() map[string][]string { return s.rules }

// matcher walks the tokens of one rule along a value.
type matcher struct {
	s    *Schema
	toks []string
	pos  int
}

func (m *matcher) peek() string {
	if m.pos < len(m.toks) {
		return m.toks[m.pos]
	}
	return ""
}

func (m *matcher) next() string { t := m.peek(); m.pos++; return t }

func (m *matcher) accept(tok string) bool {
	if m.peek() == tok {
		m.pos++
		return true
	}
	return false
}

func (m *matcher) want(tok string) {
	if !m.accept(tok) {
		panic(fmt.Sprintf("CDDL: got %q, want %q", m.peek(), tok))
	}
}

// Match reports why v is not of the rule; nil if it is.
func (s *Schema) Match(rule string, v any) error {
	toks, ok := s.rules[rule]
	if !ok {
		panic("CDDL: no rule " + rule)
	}
	s.Used[rule] = true
	m := &matcher{s: s, toks: toks}
	err := m.choice(v)
	if m.pos != len(toks) {
		panic(fmt.Sprintf("CDDL: %s: unread %q", rule, m.peek()))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", rule, err)
	}
	return nil
}

func (m *matcher) choice(v any) error {
	err := m.type1(v)
	for m.accept("/") {
		if e := m.type1(v); e == nil || err == nil {
			err = nil
		}
	}
	return err
}

func expect(ok bool, what string, v any) error {
	if ok {
		return nil
	}
	return fmt.Errorf("%v is not %s", v, what)
}

func (m *matcher) type1(v any) error {
	switch tok := m.next(); {
	case tok == "{":
		return m.mapOf(v)
	case tok == "[":
		return m.arrayOf(v)
	case strings.HasPrefix(tok, "#6."):
		m.want("(")
		t, ok := v.(tagged)
		err := m.choice(t.value)
		m.want(")")
		if !ok || tok != fmt.Sprintf("#6.%d", t.tag) {
			return expect(false, "tagged", v)
		}
		return err
	case tok[0] == '"':
		return expect(v == tok[1:len(tok)-1], tok, v)
	case tok[0] == '-' || tok[0] >= '0' && tok[0] <= '9':
		return m.number(tok, v)
	case tok == "bstr":
		b, ok := v.([]byte)
		return m.control(b, ok)
	case tok == "tstr":
		s, ok := v.(string)
		return m.control([]byte(s), ok)
	default:
		return m.named(tok, v)
	}
}

func (m *matcher) named(name string, v any) error {
	switch name {
	case "uint":
		_, ok := v.(uint64)
		return expect(ok, "a uint", v)
	case "null":
		return expect(v == nil, "null", v)
	case "int":
		_, ok := toInt(v)
		return expect(ok, "an int", v)
	case "bool":
		_, ok := v.(bool)
		return expect(ok, "a bool", v)
	}
	if _, absent := v.(unread); absent {
		return expect(false, name, v)
	}
	return m.s.Match(name, v)
}

// unread stands for a value that is not there. It fits nothing, and rules are not followed for it, so that a rule may
// name itself.
type unread struct{}

func toInt(v any) (int64, bool) {
	switch n := v.(type) {
	case uint64:
		return int64(n), n < 1<<62
	case int64:
		return n, true
	}
	return 0, false
}

func atoi(tok string) int64 {
	n, err := strconv.ParseInt(tok, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func (m *matcher) number(tok string, v any) error {
	low := atoi(tok)
	high := low
	if m.accept("..") {
		high = atoi(m.next())
	}
	n, ok := toInt(v)
	return expect(ok && low <= n && n <= high, fmt.Sprintf("%d..%d", low, high), v)
}

// control matches what may follow bstr and tstr: .size N, .size (N..M), in bytes, or .cbor type.
func (m *matcher) control(b []byte, ok bool) error {
	switch {
	case m.accept(".size"):
		paren := m.accept("(")
		err := m.number(m.next(), uint64(len(b)))
		if paren {
			m.want(")")
		}
		if !ok || err != nil {
			return fmt.Errorf("length %d of a string: %v", len(b), err)
		}
		return nil
	case m.accept(".cbor"):
		var inner any
		err := statement.Unmarshal(b, &inner)
		if e := m.choice(inner); err == nil {
			err = e
		}
		return err
	}
	return expect(ok, "a bstr", b)
}

// occurrence reads an optional ?, + or * and returns how often the entry may stand.
func (m *matcher) occurrence() (least, most int) {
	switch {
	case m.accept("?"):
		return 0, 1
	case m.accept("*"):
		return 0, 1 << 20
	case m.accept("+"):
		return 1, 1 << 20
	}
	return 1, 1
}

func (m *matcher) mapOf(v any) (err error) {
	values, ok := v.(map[any]any)
	seen := 0
	for !m.accept("}") {
		least, most := m.occurrence()
		key := m.next()
		m.want("=>")
		if key == "tstr" || key == "uint" {
			n, e := m.entries(values, key, most)
			if seen += n; e != nil && err == nil {
				err = e
			}
			if n < least && err == nil {
				err = expect(false, "a map with entries", v)
			}
			m.accept(",")
			continue
		}
		value, there := find(values, key)
		switch e := m.choice(value); {
		case there && e != nil && err == nil:
			err = fmt.Errorf("key %s: %w", key, e)
		case !there && least > 0 && err == nil:
			err = fmt.Errorf("key %s is missing", key)
		case there:
			seen++
		}
		m.accept(",")
	}
	if err == nil && (!ok || seen != len(values)) {
		err = expect(false, "a map of the known keys", v)
	}
	return err
}

// entries matches every entry whose key is of a type, at most some, and returns how many there are.
func (m *matcher) entries(values map[any]any, kind string, most int) (n int, err error) {
	at := m.pos
	for k, v := range values {
		_, text := k.(string)
		if _, number := k.(uint64); (kind == "tstr") != text || kind == "uint" && !number {
			continue
		}
		m.pos = at
		n++
		if e := m.choice(v); e != nil && err == nil {
			err = fmt.Errorf("key %v: %w", k, e)
		}
	}
	if n == 0 {
		_ = m.choice(unread{}) // only to read on
	}
	if n > most && err == nil {
		err = fmt.Errorf("%d entries", n)
	}
	return n, err
}

func find(values map[any]any, key string) (any, bool) {
	for k, v := range values {
		if n, ok := toInt(k); ok && key == strconv.FormatInt(n, 10) || key == fmt.Sprintf("%q", k) {
			return v, true
		}
	}
	return unread{}, false
}

func (m *matcher) arrayOf(v any) (err error) {
	values, ok := v.([]any)
	i := 0
	for !m.accept("]") {
		least, most := m.occurrence()
		if m.pos+1 < len(m.toks) && m.toks[m.pos+1] == ":" {
			m.pos += 2 // a name for people
		}
		at := m.pos
		count := 0
		for ; count < most && i < len(values); count++ {
			m.pos = at
			if e := m.choice(values[i]); e != nil && err == nil {
				err = fmt.Errorf("element %d: %w", i, e)
			}
			i++
		}
		if count == 0 {
			_ = m.choice(unread{}) // only to read on
		}
		if count < least && err == nil {
			err = expect(false, "long enough", v)
		}
		m.accept(",")
	}
	if err == nil && (!ok || i != len(values)) {
		err = expect(false, "an array of this length", v)
	}
	return err
}

type tagged struct {
	tag   int
	value any
}

// Decode decodes CBOR without tags for matching.
func Decode(t testing.TB, raw []byte) any {
	t.Helper()
	var v any
	if err := statement.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// Statement decodes a tagged COSE_Sign1 for matching.
func Statement(t testing.TB, raw []byte) any {
	t.Helper()
	if raw[0] != 0xd2 {
		t.Fatal("not tagged 18")
	}
	return tagged{18, Decode(t, raw[1:])}
}
