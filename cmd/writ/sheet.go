package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// sheet is an ordered list of named values: an object for machines, lines for people. Values come from files that
// nobody has verified, so text is shown such that no terminal acts on it.
type sheet struct {
	rows []row
}

// row is one value. What is not a string, number, truth value, sheet or list of those is not put on a sheet.
type row struct {
	name  string // in JSON; for people with spaces for underscores
	value any
	words string // for people; "" means that the value speaks for itself
}

// put adds a value that speaks for itself.
func (s *sheet) put(name string, value any) { s.say(name, value, "") }

// say adds a value and what it is in words.
func (s *sheet) say(name string, value any, words string) {
	if b, ok := value.([]byte); ok {
		value = hex.EncodeToString(b)
	}
	s.rows = append(s.rows, row{name, value, words})
}

// putIf adds a value that is not empty.
func (s *sheet) putIf(name string, value []byte) {
	if len(value) > 0 {
		s.put(name, value)
	}
}

// putText adds a text that is not empty.
func (s *sheet) putText(name, text string) {
	if text != "" {
		s.put(name, text)
	}
}

// putTime adds a time in seconds since 1970 UTC.
func (s *sheet) putTime(name string, seconds uint64) { s.put(name, stamp(seconds)) }

// stamp renders a time as RFC 3339, or as a number where it is beyond every calendar.
func stamp(seconds uint64) string {
	if seconds > 253402300799 { // 9999-12-31T23:59:59Z
		return strconv.FormatUint(seconds, 10) + " s"
	}
	return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
}

// MarshalJSON writes the rows as one object, in their order.
func (s *sheet) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, r := range s.rows {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:", r.name)
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(r.value); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// String renders the rows for people.
func (s *sheet) String() string {
	var b strings.Builder
	s.write(&b, "")
	return b.String()
}

func (s *sheet) write(b *strings.Builder, indent string) {
	width := 0
	for _, r := range s.rows {
		if len(r.name) <= 24 {
			width = max(width, len(r.name))
		}
	}
	for _, r := range s.rows {
		name := clean(r.name)
		if name == strings.ToLower(name) { // ours, not the name of a constant
			name = strings.ReplaceAll(name, "_", " ")
		}
		if r.words == "" && writeNested(b, indent, name, r.value) {
			continue
		}
		text := r.words
		if text == "" {
			text = words(r.value)
		}
		lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
		fmt.Fprintf(b, "%s%-*s  %s\n", indent, width, name, clean(lines[0]))
		for _, l := range lines[1:] {
			b.WriteString(strings.TrimRight(fmt.Sprintf("%s%*s  %s", indent, width, "", clean(l)), " ") + "\n")
		}
	}
}

// writeNested renders sheets and lists under their name.
func writeNested(b *strings.Builder, indent, name string, value any) bool {
	switch v := value.(type) {
	case *sheet:
		fmt.Fprintf(b, "%s%s\n", indent, name)
		v.write(b, indent+"  ")
	case []*sheet:
		for i, s := range v {
			fmt.Fprintf(b, "%s%s %d of %d\n", indent, name, i+1, len(v))
			s.write(b, indent+"  ")
		}
	default:
		return false
	}
	return true
}

// words renders one value, a list with one element a line.
func words(value any) string {
	switch v := value.(type) {
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case []string:
		if len(v) == 0 {
			return "none"
		}
		return strings.Join(v, "\n")
	}
	return fmt.Sprint(value)
}

// clean returns text as it is if it is one line of printable characters, and quoted otherwise.
func clean(text string) string {
	if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) && r != '\t' }) < 0 {
		return text
	}
	return strconv.QuoteToASCII(text)
}

// cleanLines cleans each line of a text.
func cleanLines(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, l := range lines {
		lines[i] = clean(l)
	}
	return strings.Join(lines, "\n")
}
