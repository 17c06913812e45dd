package wire

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// kind is the kind of a JSON value.
type kind int

const (
	null kind = iota
	boolean
	number
	text
	array
	object
)

// node is a JSON value. Only the fields of its kind are set.
type node struct {
	kind    kind
	truth   bool
	text    string // the decoded string, or the number as in the input; WTF-8 if it has unpaired surrogates
	items   []node
	members []member
}

type member struct {
	key   string
	value node
}

// parser parses one JSON value. encoding/json is not an option: it accepts invalid UTF-8 and duplicate keys, which
// the protocol rejects, and hides unpaired surrogates, which are valid in unknown fields only.
type parser struct {
	data   []byte
	at     int
	values int
	path   path
}

// syntaxError reports invalid JSON syntax. A duplicate key and an exceeded limit are a [DecodeError] instead.
type syntaxError struct {
	problem string
	at      int
}

func (e *syntaxError) Error() string { return fmt.Sprintf("%s at byte %d", e.problem, e.at) }

// parse parses exactly one value, with optional white space around it.
func parse(data []byte) (node, error) {
	p := &parser{data: data}
	if at := invalidUTF8(data); at >= 0 {
		p.at = at
		return node{}, p.syntax("invalid UTF-8")
	}
	p.space()
	tree, err := p.value(0)
	if err != nil {
		return node{}, err
	}
	p.space()
	if p.at < len(p.data) {
		return node{}, p.syntax("trailing data")
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
		return node{}, p.path.errorf("the payload has more than %d values", MaxValues)
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
		return node{}, p.syntax("unexpected end of input")
	}
	return node{}, p.syntax("invalid value")
}

func (p *parser) object(depth int) (node, error) {
	if depth == MaxDepth {
		return node{}, p.path.errorf("nested deeper than %d levels", MaxDepth)
	}
	tree := node{kind: object}
	seen := make(map[string]struct{})
	p.at++
	for p.space(); !p.skip("}"); p.space() {
		if len(tree.members) > 0 {
			if !p.skip(",") {
				return node{}, p.syntax("expected a comma or the end of the object")
			}
			p.space()
		}
		key, err := p.string()
		if err != nil {
			return node{}, err
		}
		if _, duplicate := seen[key]; duplicate {
			return node{}, p.path.errorf("duplicate key %q", shorten(key))
		}
		seen[key] = struct{}{}
		if p.space(); !p.skip(":") {
			return node{}, p.syntax("expected a colon after the key")
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
		return node{}, p.path.errorf("nested deeper than %d levels", MaxDepth)
	}
	tree := node{kind: array}
	p.at++
	for p.space(); !p.skip("]"); p.space() {
		if len(tree.items) > 0 {
			if !p.skip(",") {
				return node{}, p.syntax("expected a comma or the end of the array")
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

// number parses a number by RFC 8259: no leading zero, no bare decimal point.
func (p *parser) number() (node, error) {
	start := p.at
	p.skip("-")
	if !p.skip("0") && !p.digits() {
		return node{}, p.syntax("number without digits")
	}
	if p.skip(".") && !p.digits() {
		return node{}, p.syntax("no digits after the decimal point")
	}
	if p.skip("e") || p.skip("E") {
		if !p.skip("+") {
			p.skip("-")
		}
		if !p.digits() {
			return node{}, p.syntax("exponent without digits")
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
		return "", p.syntax("expected a string")
	}
	start := p.at
	var decoded []byte // nil until the first escape
	for {
		switch c := p.peek(); {
		case p.at >= len(p.data):
			return "", p.syntax("unterminated string")
		case c == '"':
			plain := p.data[start:p.at]
			p.at++
			return string(append(decoded, plain...)), nil
		case c < ' ':
			return "", p.syntax("control character in a string")
		case c == '\\':
			decoded = append(decoded, p.data[start:p.at]...)
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			decoded = appendRune(decoded, r)
			start = p.at
		default:
			p.at++
		}
	}
}

var escapes = map[byte]rune{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// escape parses an escape. An unpaired surrogate is valid JSON, and is an error only in a field of the schema.
func (p *parser) escape() (rune, error) {
	p.at++
	if r, simple := escapes[p.peek()]; simple {
		p.at++
		return r, nil
	}
	first, ok := p.unicode()
	if !ok {
		return 0, p.syntax("invalid escape")
	}
	if !utf16.IsSurrogate(first) {
		return first, nil
	}
	afterFirst := p.at
	if p.skip(`\`) {
		if second, ok := p.unicode(); ok {
			if pair := utf16.DecodeRune(first, second); pair != utf8.RuneError {
				return pair, nil
			}
		}
	}
	p.at = afterFirst
	return first, nil
}

// appendRune appends a character in UTF-8, and an unpaired surrogate in WTF-8. Names that differ remain different,
// and [utf8.ValidString] detects the surrogate.
func appendRune(text []byte, r rune) []byte {
	if utf16.IsSurrogate(r) {
		return append(text, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
	}
	return utf8.AppendRune(text, r)
}

// unicode parses the rest of \uXXXX.
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

// peek returns the next byte, or 0 at the end. A 0 byte in the payload is an error at any position.
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

func (p *parser) syntax(problem string) error { return &syntaxError{problem, p.at} }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
