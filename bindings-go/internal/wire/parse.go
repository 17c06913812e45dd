package wire

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// kind is what a JSON value is.
type kind int

const (
	null kind = iota
	boolean
	number
	text
	array
	object
)

// node is a JSON value. Only what belongs to its kind is set.
type node struct {
	kind    kind
	truth   bool
	text    string // of a text, decoded; of a number, as it was written
	items   []node
	members []member
}

type member struct {
	key   string
	value node
}

// parser reads one JSON value. encoding/json is not used because it lets pass what the protocol refuses:
// bytes that are no UTF-8, halves of surrogate pairs, and keys that stand twice.
type parser struct {
	data   []byte
	at     int
	values int
	path   path
}

// syntaxError is a flaw of the JSON itself; a key that stands twice and a bound that is exceeded are
// flaws of a field.
type syntaxError struct {
	what string
	at   int
}

func (e *syntaxError) Error() string { return fmt.Sprintf("%s at byte %d", e.what, e.at) }

// parse reads exactly one value, with nothing but white space around it.
func parse(data []byte) (node, error) {
	p := &parser{data: data}
	if at := invalidUTF8(data); at >= 0 {
		p.at = at
		return node{}, p.syntax("bytes that are no UTF-8")
	}
	p.space()
	tree, err := p.value(0)
	if err != nil {
		return node{}, err
	}
	p.space()
	if p.at < len(p.data) {
		return node{}, p.syntax("something behind the end")
	}
	return tree, nil
}

func invalidUTF8(data []byte) int {
	if utf8.Valid(data) {
		return -1
	}
	for at := 0; at < len(data); {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size <= 1 {
			return at
		}
		at += size
	}
	return -1
}

func (p *parser) value(depth int) (node, error) {
	p.values++
	if p.values > MaxValues {
		return node{}, p.path.flaw("the payload has more than %d values", MaxValues)
	}
	switch c := p.peek(); {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		s, err := p.string()
		return node{kind: text, text: s}, err
	case c == '-' || isDigit(c):
		return p.number()
	case p.skip("null"):
		return node{}, nil
	case p.skip("true"):
		return node{kind: boolean, truth: true}, nil
	case p.skip("false"):
		return node{kind: boolean}, nil
	case p.at >= len(p.data):
		return node{}, p.syntax("an end before the end")
	}
	return node{}, p.syntax("no JSON value")
}

func (p *parser) object(depth int) (node, error) {
	if depth == MaxDepth {
		return node{}, p.path.flaw("nested deeper than %d levels", MaxDepth)
	}
	tree := node{kind: object}
	seen := make(map[string]struct{})
	p.at++
	for p.space(); !p.skip("}"); p.space() {
		if len(tree.members) > 0 {
			if !p.skip(",") {
				return node{}, p.syntax("no comma and no end of an object")
			}
			p.space()
		}
		key, err := p.string()
		if err != nil {
			return node{}, err
		}
		if _, twice := seen[key]; twice {
			return node{}, p.path.flaw("the key %q stands twice in one object", shorten(key))
		}
		seen[key] = struct{}{}
		if p.space(); !p.skip(":") {
			return node{}, p.syntax("no colon behind a key")
		}
		p.space()
		p.path.push(key)
		value, err := p.value(depth + 1)
		if err != nil {
			return node{}, err
		}
		p.path.pop()
		tree.members = append(tree.members, member{key, value})
	}
	return tree, nil
}

func (p *parser) array(depth int) (node, error) {
	if depth == MaxDepth {
		return node{}, p.path.flaw("nested deeper than %d levels", MaxDepth)
	}
	tree := node{kind: array}
	p.at++
	for p.space(); !p.skip("]"); p.space() {
		if len(tree.items) > 0 {
			if !p.skip(",") {
				return node{}, p.syntax("no comma and no end of an array")
			}
			p.space()
		}
		p.path.pushIndex(len(tree.items))
		item, err := p.value(depth + 1)
		if err != nil {
			return node{}, err
		}
		p.path.pop()
		tree.items = append(tree.items, item)
	}
	return tree, nil
}

// number reads a number as RFC 8259 has it: no leading zero, no bare point.
func (p *parser) number() (node, error) {
	start := p.at
	p.skip("-")
	if !p.skip("0") && !p.digits() {
		return node{}, p.syntax("no digits in a number")
	}
	if p.skip(".") && !p.digits() {
		return node{}, p.syntax("no digits behind a point")
	}
	if p.skip("e") || p.skip("E") {
		if !p.skip("+") {
			p.skip("-")
		}
		if !p.digits() {
			return node{}, p.syntax("no digits in an exponent")
		}
	}
	return node{kind: number, text: string(p.data[start:p.at])}, nil
}

func (p *parser) digits() bool {
	start := p.at
	for isDigit(p.peek()) {
		p.at++
	}
	return p.at > start
}

func (p *parser) string() (string, error) {
	if !p.skip(`"`) {
		return "", p.syntax("no text where there must be one")
	}
	start := p.at
	var decoded []byte // nil as long as nothing was escaped
	for {
		switch c := p.peek(); {
		case p.at >= len(p.data):
			return "", p.syntax("a text without an end")
		case c == '"':
			plain := p.data[start:p.at]
			p.at++
			return string(append(decoded, plain...)), nil
		case c < ' ':
			return "", p.syntax("a control character in a text")
		case c == '\\':
			decoded = append(decoded, p.data[start:p.at]...)
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			decoded = utf8.AppendRune(decoded, r)
			start = p.at
		default:
			p.at++
		}
	}
}

var escapes = map[byte]rune{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

func (p *parser) escape() (rune, error) {
	p.at++
	if r, simple := escapes[p.peek()]; simple {
		p.at++
		return r, nil
	}
	first, ok := p.unicode()
	if !ok {
		return 0, p.syntax("an escape that is none")
	}
	if !utf16.IsSurrogate(first) {
		return first, nil
	}
	if p.skip(`\`) {
		if second, ok := p.unicode(); ok {
			if pair := utf16.DecodeRune(first, second); pair != utf8.RuneError {
				return pair, nil
			}
		}
	}
	return 0, p.syntax("half a surrogate pair")
}

// unicode reads the rest of \uXXXX.
func (p *parser) unicode() (rune, bool) {
	if p.peek() != 'u' || len(p.data)-p.at < 5 {
		return 0, false
	}
	code, err := strconv.ParseUint(string(p.data[p.at+1:p.at+5]), 16, 16)
	if err != nil {
		return 0, false
	}
	p.at += 5
	return rune(code), true
}

func (p *parser) space() {
	for {
		switch p.peek() {
		case ' ', '\t', '\r', '\n':
			p.at++
		default:
			return
		}
	}
}

// peek gives the next byte, or 0 at the end; a 0 in the payload is an error wherever it stands.
func (p *parser) peek() byte {
	if p.at < len(p.data) {
		return p.data[p.at]
	}
	return 0
}

func (p *parser) skip(literal string) bool {
	end := p.at + len(literal)
	if end > len(p.data) || string(p.data[p.at:end]) != literal {
		return false
	}
	p.at = end
	return true
}

func (p *parser) syntax(what string) error { return &syntaxError{what, p.at} }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
