// Package wire encodes and decodes the JSON of the protocol: its encoder is strict, its decoder liberal.
//
// protojson alone is neither. Its decoder has no size limits, rarely names the field in an error, and quotes
// values, which may be secrets. Its encoder accepts enum numbers without a name and NaN.
package wire

import (
	"errors"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	// MaxDepth bounds the nesting of a message. The schema needs seven levels; the rest is reserved for later
	// revisions.
	MaxDepth = 64
	// MaxValues bounds the number of values in a message; otherwise, a megabyte of `0,` would need a multiple
	// of its size in memory.
	MaxValues = 65_536
)

// DecodeError is returned when a message cannot be decoded. It quotes no value: values may be secrets.
type DecodeError struct {
	// Path is the path of the invalid field from the root of the message, for example
	// workload.witWorld.components[0].poolSize. It is empty when the error concerns the whole message.
	Path string
	// Problem describes what is wrong with the field or the message.
	Problem string
}

func (e *DecodeError) Error() string {
	if e.Path == "" {
		return e.Problem
	}
	return "field `" + e.Path + "`: " + e.Problem
}

// Decode decodes a message as liberally as the protocol requires: unknown fields are ignored, null means
// unset, numbers may be strings, enums may be numbers, and fields may have their JSON or their proto name.
// Every error is a [*DecodeError]; the message is then empty.
func Decode(payload []byte, m proto.Message) error {
	proto.Reset(m)
	if len(payload) == 0 {
		return &DecodeError{Problem: "the payload is empty"}
	}
	tree, err := parse(payload)
	if err != nil {
		if syntax := (*syntaxError)(nil); errors.As(err, &syntax) {
			err = &DecodeError{Problem: "the payload is not one JSON object: " + syntax.Error()}
		}
		return err
	}
	if tree.kind != object {
		return &DecodeError{Problem: "the payload is not one JSON object: it is " + tree.kind.String()}
	}
	d := &decoder{}
	if err := d.message(tree, m.ProtoReflect()); err != nil {
		proto.Reset(m)
		return err
	}
	return nil
}

// decoder sets the fields of a message from a JSON tree.
type decoder struct {
	path path
}

func (d *decoder) message(tree node, m protoreflect.Message) error {
	if m.Descriptor().FullName() == "google.protobuf.Timestamp" {
		return d.timestamp(tree, m)
	}
	if tree.kind != object {
		return d.unexpected("an object", tree)
	}
	fields := m.Descriptor().Fields()
	seen := make(map[protoreflect.FieldNumber]bool)
	for _, member := range tree.members {
		// HOST-JSON-010: both names are accepted, case-sensitively. Other names are ignored (HOST-JSON-009).
		field := fields.ByJSONName(member.key)
		if field == nil {
			field = fields.ByTextName(member.key)
		}
		if field == nil {
			continue
		}
		d.path.push(field.JSONName())
		if seen[field.Number()] {
			return d.path.errorf("set under both of its names")
		}
		seen[field.Number()] = true
		// HOST-JSON-013: null means unset, also for a member of a oneof.
		if member.value.kind != null {
			if err := d.field(member.value, m, field); err != nil {
				return err
			}
		}
		d.path.pop()
	}
	return nil
}

func (d *decoder) field(tree node, m protoreflect.Message, field protoreflect.FieldDescriptor) error {
	if oneof := field.ContainingOneof(); oneof != nil {
		if other := m.WhichOneof(oneof); other != nil {
			return d.path.errorf("conflicts with `%s`, which is also set", other.JSONName())
		}
	}
	switch {
	case field.IsMap():
		return d.stringMap(tree, m.Mutable(field).Map(), field)
	case field.IsList():
		return d.list(tree, m.Mutable(field).List(), field)
	case field.Message() != nil:
		return d.message(tree, m.Mutable(field).Message())
	}
	value, err := d.scalar(tree, field)
	if err == nil {
		m.Set(field, value)
	}
	return err
}

func (d *decoder) list(tree node, list protoreflect.List, field protoreflect.FieldDescriptor) error {
	if tree.kind != array {
		return d.unexpected("an array", tree)
	}
	for i, item := range tree.items {
		d.path.pushIndex(i)
		if field.Message() != nil {
			if err := d.message(item, list.AppendMutable().Message()); err != nil {
				return err
			}
		} else {
			value, err := d.scalar(item, field)
			if err != nil {
				return err
			}
			list.Append(value)
		}
		d.path.pop()
	}
	return nil
}

// stringMap decodes a map of strings, the only kind of map in the schema.
func (d *decoder) stringMap(tree node, entries protoreflect.Map, field protoreflect.FieldDescriptor) error {
	if tree.kind != object {
		return d.unexpected("an object", tree)
	}
	for _, member := range tree.members {
		d.path.push(member.key)
		if !utf8.ValidString(member.key) {
			return d.path.errorf("the key has an unpaired surrogate")
		}
		value, err := d.scalar(member.value, field.MapValue())
		if err != nil {
			return err
		}
		d.path.pop()
		entries.Set(protoreflect.ValueOfString(member.key).MapKey(), value)
	}
	return nil
}

func (d *decoder) scalar(tree node, field protoreflect.FieldDescriptor) (value protoreflect.Value, err error) {
	switch field.Kind() {
	case protoreflect.StringKind:
		if tree.kind != text {
			return value, d.unexpected("a string", tree)
		}
		if !utf8.ValidString(tree.text) {
			return value, d.path.errorf("unpaired surrogate")
		}
		return protoreflect.ValueOfString(tree.text), nil
	case protoreflect.BoolKind:
		if tree.kind != boolean {
			return value, d.unexpected("a boolean", tree)
		}
		return protoreflect.ValueOfBool(tree.truth), nil
	case protoreflect.EnumKind:
		return d.enum(tree, field.Enum())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind:
		n, err := d.integer(tree, math.MinInt32, math.MaxInt32)
		return protoreflect.ValueOfInt32(int32(n.Int64())), err
	case protoreflect.Uint32Kind:
		n, err := d.integer(tree, 0, math.MaxUint32)
		return protoreflect.ValueOfUint32(uint32(n.Uint64())), err
	case protoreflect.Uint64Kind:
		n, err := d.integer(tree, 0, math.MaxUint64)
		return protoreflect.ValueOfUint64(n.Uint64()), err
	case protoreflect.FloatKind:
		return d.float(tree)
	}
	return value, d.path.errorf("has an unsupported type")
}

func (d *decoder) enum(tree node, enum protoreflect.EnumDescriptor) (value protoreflect.Value, err error) {
	if tree.kind == text {
		named := enum.Values().ByName(protoreflect.Name(tree.text))
		if named == nil {
			return value, d.path.errorf("not the full name of a value of %s", enum.Name())
		}
		return protoreflect.ValueOfEnum(named.Number()), nil
	}
	if tree.kind != number {
		return value, d.unexpected("the name of a value of "+string(enum.Name()), tree)
	}
	n, err := d.integer(tree, math.MinInt32, math.MaxInt32)
	if err != nil {
		return value, err
	}
	numbered := protoreflect.EnumNumber(n.Int64())
	if enum.Values().ByNumber(numbered) == nil {
		return value, d.path.errorf("not the number of a value of %s", enum.Name())
	}
	return protoreflect.ValueOfEnum(numbered), nil
}

// maxExponent bounds exponents, so that 1e999999999 is not evaluated; it is more than any valid number needs.
const maxExponent = 99

// integer decodes a number or a decimal string (HOST-JSON-012). It accepts a fraction or an exponent if the
// value is an integer.
func (d *decoder) integer(tree node, low int64, high uint64) (*big.Int, error) {
	zero := new(big.Int)
	if tree.kind != number && tree.kind != text {
		return zero, d.unexpected("a number", tree)
	}
	if tree.kind == text && !isDecimal(tree.text) {
		return zero, d.path.errorf("not a decimal number")
	}
	n, err := parseInteger(tree.text)
	if err != nil {
		return zero, d.path.errorf("%s", err)
	}
	if n.Cmp(big.NewInt(low)) < 0 || n.Cmp(new(big.Int).SetUint64(high)) > 0 {
		return zero, d.path.errorf("not between %d and %d", low, high)
	}
	return n, nil
}

var (
	errFraction = errors.New("not an integer")
	errRange    = errors.New("out of range")
)

// maxDigits bounds the length of a number; it is more than any valid number needs.
const maxDigits = 400

func parseInteger(literal string) (*big.Int, error) {
	if n, short := new(big.Int), len(literal) <= 20; short {
		if n, ok := n.SetString(literal, 10); ok {
			return n, nil
		}
	}
	if len(literal) > maxDigits {
		return nil, errRange
	}
	if at := strings.IndexAny(literal, "eE"); at >= 0 {
		exponent, err := strconv.Atoi(literal[at+1:])
		if err != nil || exponent > maxExponent || exponent < -maxExponent {
			return nil, errRange
		}
	}
	rational, ok := new(big.Rat).SetString(literal)
	if !ok || !rational.IsInt() {
		return nil, errFraction
	}
	return rational.Num(), nil
}

func isDecimal(s string) bool {
	digits := strings.TrimPrefix(s, "-")
	return digits != "" && strings.Trim(digits, "0123456789") == ""
}

var jsonNumber = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

func (d *decoder) float(tree node) (value protoreflect.Value, err error) {
	if tree.kind != number && tree.kind != text {
		return value, d.unexpected("a number", tree)
	}
	// Only the JSON syntax is accepted: no plus sign, no hexadecimal, no underscore, no infinity.
	if !jsonNumber.MatchString(tree.text) {
		return value, d.path.errorf("not a decimal number")
	}
	f, err := strconv.ParseFloat(tree.text, 32)
	if err != nil {
		return value, d.path.errorf("not a decimal number in range")
	}
	return protoreflect.ValueOfFloat32(float32(f)), nil
}

// timestampForm is RFC 3339 in upper case with at most nine fractional digits, the precision of the message.
var timestampForm = regexp.MustCompile(
	`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$`)

func (d *decoder) timestamp(tree node, m protoreflect.Message) error {
	if tree.kind != text {
		return d.unexpected("an RFC 3339 timestamp", tree)
	}
	var instant time.Time
	// UnmarshalText checks the ranges, unlike time.Parse, but accepts a comma and hours of one digit.
	if !timestampForm.MatchString(tree.text) {
		return d.path.errorf("not an RFC 3339 timestamp with at most nine fractional digits")
	}
	if err := instant.UnmarshalText([]byte(tree.text)); err != nil {
		return d.path.errorf("not an RFC 3339 timestamp")
	}
	stamp := timestamppb.New(instant)
	if !stamp.IsValid() {
		return d.path.errorf("timestamp out of range")
	}
	proto.Merge(m.Interface(), stamp)
	return nil
}

func (d *decoder) unexpected(expected string, tree node) error {
	return d.path.errorf("expected %s, got %s", expected, tree.kind)
}

func (k kind) String() string {
	switch k {
	case boolean:
		return "a boolean"
	case number:
		return "a number"
	case text:
		return "a string"
	case array:
		return "an array"
	case object:
		return "an object"
	default:
		return "null"
	}
}
