package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

func (c *foundCA) vendor() string { return cmp.Or(c.known.Vendor, "unknown vendor") }

func (c *foundCA) name() string { return cmp.Or(c.cert.Subject.CommonName, c.cert.Subject.String()) }

func (c *foundCA) role() string {
	if c.root {
		return "root"
	}
	return "intermediate"
}

// sheet shows what was found: for machines and with all everything, else of the intermediate CAs only those that were
// chosen or are not known.
func (f *foundCAs) sheet(all bool) *sheet {
	s := &sheet{}
	s.put("files", f.files)
	s.put("certificates", len(f.cas))
	s.put("vendors", f.vendors())
	var cas, lists []*sheet
	var lines []string
	for _, c := range f.cas {
		if all || c.root || c.chosen != "" || !c.isKnown {
			cas, lines = append(cas, c.sheet()), append(lines, c.line())
		}
	}
	s.say("cas", append([]*sheet{}, cas...), strings.Join(lines, "\n"))
	if hidden := len(f.cas) - len(cas); hidden > 0 {
		s.say("not_shown", hidden, fmt.Sprintf("%d known intermediate CAs; --all shows them", hidden))
	}
	for _, l := range f.lists {
		lists = append(lists, l.sheet(f.now))
	}
	if len(lists) > 0 {
		s.put("lists", lists)
	}
	if len(f.unreadable) > 0 {
		var lines []string
		for _, u := range f.unreadable {
			lines = append(lines, u.File+": "+u.Why)
		}
		s.say("unreadable", f.unreadable, strings.Join(slices.Compact(lines), "\n"))
	}
	if f.others > 0 {
		s.say("other_files", f.others, fmt.Sprintf("%d without certificates", f.others))
	}
	return s
}

// vendors counts the CAs of each vendor.
func (f *foundCAs) vendors() *sheet {
	type count struct{ roots, intermediates int }
	counts := map[string]count{}
	for _, c := range f.cas {
		n := counts[c.vendor()]
		if c.root {
			n.roots++
		} else {
			n.intermediates++
		}
		counts[c.vendor()] = n
	}
	s := &sheet{}
	for _, v := range slices.Sorted(maps.Keys(counts)) {
		n := counts[v]
		s.say(v, map[string]int{"roots": n.roots, "intermediates": n.intermediates}, fmt.Sprintf("%d roots, %d intermediate CAs", n.roots, n.intermediates))
	}
	return s
}

func (c *foundCA) sheet() *sheet {
	s := &sheet{}
	s.put("name", c.name())
	s.put("sha256", c.sum)
	s.say("known", c.isKnown, c.knownWords())
	s.put("vendor", c.vendor())
	s.put("role", c.role())
	s.put("not_before", c.cert.NotBefore.UTC().Format(time.RFC3339))
	s.put("not_after", c.cert.NotAfter.UTC().Format(time.RFC3339))
	s.put("key", keyText(c.cert.PublicKey))
	s.put("signature_algorithm", c.cert.SignatureAlgorithm.String())
	if c.isKnown {
		s.put("published", append([]string{}, c.known.Published...))
	}
	if len(c.against) > 0 {
		s.say("against", c.against, strings.Join(c.against, ", "))
	}
	s.put("file", c.files[0])
	if len(c.files) > 1 {
		s.say("copies", len(c.files), fmt.Sprintf("%d times", len(c.files)))
	}
	s.putText("chosen", c.chosen)
	return s
}

// line says the same to people: what to name the CA by, and what is remarkable about it.
func (c *foundCA) line() string {
	notes := slices.Clone(c.against)
	switch {
	case !c.isKnown:
		notes = append(notes, "not known to this version")
	case c.known.Role == "unverified":
		notes = append(notes, "nobody vouches for where it came from")
	}
	if len(c.files) > 1 {
		notes = append(notes, fmt.Sprintf("read %d times", len(c.files)))
	}
	if c.chosen != "" {
		notes = append(notes, "chosen as "+c.chosen)
	}
	line := fmt.Sprintf("%s  %-18s %-12s until %s  %-14s %s", c.sum[:16], c.vendor(), c.role(), c.cert.NotAfter.UTC().Format(time.DateOnly), keyText(c.cert.PublicKey), c.name())
	if len(notes) > 0 {
		line += ": " + strings.Join(notes, "; ")
	}
	return line
}

func (c *foundCA) knownWords() string {
	switch {
	case !c.isKnown:
		return "no: this version does not know its digest"
	case c.known.Role == "unverified":
		return "yes, but nobody vouches for where it came from"
	}
	return "yes, a CA of " + c.known.Vendor
}

func (l *foundList) sheet(now time.Time) *sheet {
	s := &sheet{}
	s.put("issuer", l.list.Issuer.String())
	s.put("revoked", len(l.list.RevokedCertificateEntries))
	s.put("this_update", l.list.ThisUpdate.UTC().Format(time.RFC3339))
	s.put("next_update", l.list.NextUpdate.UTC().Format(time.RFC3339))
	s.put("fresh", !now.Before(l.list.ThisUpdate) && now.Before(l.list.NextUpdate))
	s.put("file", l.file)
	s.put("chosen", l.chosen)
	return s
}
