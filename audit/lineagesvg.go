package audit

import (
	"fmt"
	"html"
	"regexp"
	"strings"
)

// The measures of the drawing, in pixels.
const (
	boxWidth  = 250
	boxGap    = 14
	columnGap = 30
	lineStep  = 15
	margin    = 16
	maxChars  = 36
)

// drawing lays boxes out in columns: derived to the right of the execution, origin to its left.
type drawing struct {
	boxes, lines strings.Builder
	link         func(index uint64) string // where a statement is shown; nil: nowhere
	height       int
}

// box is where a node is drawn.
type box struct{ x, y, w, h int }

// SVG returns the lineage as a picture for screens and paper. Link says where a statement is shown, nil nowhere.
func (l *Lineage) SVG(link func(index uint64) string) string {
	d := &drawing{link: link}
	left, right := depth(l.Origin), depth(l.Derived)
	centre := margin + left*(boxWidth+columnGap)
	bottomLeft := d.column(l.Origin, centre-columnGap-boxWidth, margin, -1)
	bottomRight := d.column(l.Derived, centre+boxWidth+columnGap, margin, 1)
	root := d.draw(&Node{Kind: "execution", Title: "execution " + l.Execution}, centre, margin)
	d.join(root, l.Origin, margin, -1)
	d.join(root, l.Derived, margin, 1)
	width := centre + boxWidth + right*(boxWidth+columnGap) + margin
	d.height = max(bottomLeft, bottomRight, root.y+root.h) + margin
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="lineage of execution %s" font-family="system-ui, sans-serif" font-size="11">%s%s</svg>`,
		width, d.height, width, d.height, html.EscapeString(l.Execution), d.lines.String(), d.boxes.String()) + "\n"
}

func depth(nodes []*Node) (n int) {
	for _, c := range nodes {
		n = max(n, 1+depth(c.Next))
	}
	return n
}

// column draws nodes below each other and what comes next beside them, and returns where they end.
func (d *drawing) column(nodes []*Node, x, y, side int) int {
	for _, n := range nodes {
		b := d.draw(n, x, y)
		d.join(b, n.Next, y, side)
		y = max(b.y+b.h, d.column(n.Next, x+side*(boxWidth+columnGap), y, side)-boxGap) + boxGap
	}
	return y
}

// join draws lines from a box to those beside it, which stand from y on.
func (d *drawing) join(from box, nodes []*Node, y, side int) {
	start := from.x
	if side > 0 {
		start += from.w
	}
	for _, n := range nodes {
		h := heightOf(n)
		mid, fromY, toY := start+side*columnGap/2, from.y+12, y+12
		fmt.Fprintf(&d.lines, `<path d="M%d %dH%dV%dH%d" fill="none" stroke="#8a94a3"/>`, start, fromY, mid, toY, start+side*columnGap)
		y = max(y+h, bottom(n.Next, y)-boxGap) + boxGap
	}
}

// bottom returns where column would end.
func bottom(nodes []*Node, y int) int {
	for _, n := range nodes {
		y = max(y+heightOf(n), bottom(n.Next, y)-boxGap) + boxGap
	}
	return y
}

func textOf(n *Node) []string {
	lines := wrapped(n.Title)
	for _, d := range n.Detail {
		lines = append(lines, wrapped(d)...)
	}
	if s := n.source(); s != "" {
		lines = append(lines, strings.Trim(s, " []"))
	}
	return lines
}

// digests are written short in a picture: the text and the statements have them whole.
var digests = regexp.MustCompile(`\b[0-9a-f]{24,}\b`)

// wrapped cuts a text into lines that fit a box, at blanks where it can.
func wrapped(s string) (lines []string) {
	s = digests.ReplaceAllStringFunc(s, func(d string) string { return d[:12] + "…" })
	for r := []rune(s); len(r) > 0; {
		cut := min(len(r), maxChars)
		if cut < len(r) {
			for k := cut; k > maxChars/2; k-- {
				if r[k] == ' ' {
					cut = k
					break
				}
			}
		}
		lines = append(lines, strings.TrimSpace(string(r[:cut])))
		r = r[cut:]
	}
	return lines
}

func heightOf(n *Node) int { return 10 + lineStep*len(textOf(n)) }

// colours are fill and border of a node's kind.
func colours(n *Node) (fill, border string) {
	switch {
	case n.Verdict == Refuted:
		return "#fdecea", "#b3261e"
	case n.Kind == "denial":
		return "#fff1e6", "#b45309"
	case n.Kind == "execution":
		return "#17324d", "#17324d"
	case n.Kind == "artifact":
		return "#e8f1fb", "#2b6cb0"
	case n.Kind == "start" || n.Kind == "end":
		return "#eaf6ee", "#2f7d4f"
	case n.Kind == "chip" || n.Kind == "boot state" || n.Kind == "host":
		return "#f4f0fa", "#6b4fa0"
	}
	return "#f7f8fa", "#8a94a3"
}

func (d *drawing) draw(n *Node, x, y int) box {
	b := box{x, y, boxWidth, heightOf(n)}
	fill, border := colours(n)
	ink := "#1c2733"
	if n.Kind == "execution" {
		ink = "#ffffff"
	}
	if d.link != nil && len(n.Indices) > 0 {
		fmt.Fprintf(&d.boxes, `<a href="%s">`, html.EscapeString(d.link(n.Indices[0])))
		defer d.boxes.WriteString(`</a>`)
	}
	fmt.Fprintf(&d.boxes, `<rect x="%d" y="%d" width="%d" height="%d" rx="4" fill="%s" stroke="%s"/>`, b.x, b.y, b.w, b.h, fill, border)
	title := len(wrapped(n.Title))
	for i, line := range textOf(n) {
		weight := "normal"
		if i < title {
			weight = "bold"
		}
		fmt.Fprintf(&d.boxes, `<text x="%d" y="%d" fill="%s" font-weight="%s">%s</text>`, b.x+8, b.y+17+lineStep*i, ink, weight, html.EscapeString(printable(line)))
	}
	return b
}

// printable replaces what XML does not allow.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0xfffe || r == 0xffff {
			return 0xfffd
		}
		return r
	}, s)
}
