// Package wire is the JSON of the protocol: a strict writer and a liberal reader.
//
// protojson alone is neither: as a reader it knows no bound on size, names no field in most of its
// errors and quotes values, which may be secrets; as a writer it lets enum numbers without a name and
// NaN pass.
package wire

import (
	"errors"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	// MaxDepth is the deepest nesting of a message that is read. The schema needs seven levels, the rest
	// is left to later revisions.
	MaxDepth = 64
	// MaxValues is how many values one message may have; a megabyte of `0,` would otherwise become many
	// times its size in memory.
	MaxValues = 65_536
)

// ReadError says why a message cannot be read. It quotes no value: values may be secrets.
type ReadError struct {
	// Path is the field, from the top of the message, as workload.witWorld.components[0].poolSize. Empty
	// when the message as a whole is at fault.
	Path string
	// Problem is what is wrong, in words.
	Problem string
}

func (e *ReadError) Error() string {
	if e.Path == "" {
		return e.Problem
	}
	return "field `" + e.Path + "`: " + e.Problem
}

// Read reads a message as liberally as the protocol demands: unknown fields are ignored, null means
// unset, numbers may be strings, enums may be numbers, both names of a field are known. Every error is a
// [*ReadError]; the message is then left empty.
func Read(payload []byte, m proto.Message) error {
	proto.Reset(m)
	if len(payload) == 0 {
		return &ReadError{Problem: "the payload is empty"}
	}
	tree, err := parse(payload)
	if err != nil {
		if syntax := (*syntaxError)(nil); errors.As(err, &syntax) {
			err = &ReadError{Problem: "the payload is not one JSON object: " + syntax.Error()}
		}
		return err
	}
	if tree.kind != object {
		return &ReadError{Problem: "the payload is not one JSON object: it is " + tree.kind.String()}
	}
	r := &reader{}
	if err := r.message(tree, m.ProtoReflect()); err != nil {
		proto.Reset(m)
		return err
	}
	return nil
}

// reader fits a tree into a message.
type reader struct {
	path path
}

func (r *reader) message(tree node, m protoreflect.Message) error {
	if m.Descriptor().FullName() == "google.protobuf.Timestamp" {
		return r.timestamp(tree, m)
	}
	if tree.kind != object {
		return r.unexpected("an object", tree)
	}
	fields := m.Descriptor().Fields()
	seen := make(map[protoreflect.FieldNumber]bool)
	for _, member := range tree.members {
		// HOST-JSON-010: both names, told apart by case. Other names are ignored (HOST-JSON-009).
		field := fields.ByJSONName(member.key)
		if field == nil {
			field = fields.ByTextName(member.key)
		}
		if field == nil {
			continue
		}
		r.path.push(field.JSONName())
		if seen[field.Number()] {
			return r.path.flaw("is given under both of its names")
		}
		seen[field.Number()] = true
		// HOST-JSON-013: null is unset, and no member of its oneof.
		if member.value.kind != null {
			if err := r.field(member.value, m, field); err != nil {
				return err
			}
		}
		r.path.pop()
	}
	return nil
}

func (r *reader) field(tree node, m protoreflect.Message, field protoreflect.FieldDescriptor) error {
	if oneof := field.ContainingOneof(); oneof != nil {
		if other := m.WhichOneof(oneof); other != nil {
			return r.path.flaw("excludes `%s`, which is set, too", other.JSONName())
		}
	}
	switch {
	case field.IsMap():
		return r.mapping(tree, m.Mutable(field).Map(), field)
	case field.IsList():
		return r.list(tree, m.Mutable(field).List(), field)
	case field.Message() != nil:
		return r.message(tree, m.Mutable(field).Message())
	}
	value, err := r.scalar(tree, field)
	if err == nil {
		m.Set(field, value)
	}
	return err
}

func (r *reader) list(tree node, list protoreflect.List, field protoreflect.FieldDescriptor) error {
	if tree.kind != array {
		return r.unexpected("an array", tree)
	}
	for i, item := range tree.items {
		r.path.pushIndex(i)
		if field.Message() != nil {
			if err := r.message(item, list.AppendMutable().Message()); err != nil {
				return err
			}
		} else {
			value, err := r.scalar(item, field)
			if err != nil {
				return err
			}
			list.Append(value)
		}
		r.path.pop()
	}
	return nil
}

// mapping reads a map of texts, the one kind of map that the schema has.
func (r *reader) mapping(tree node, entries protoreflect.Map, field protoreflect.FieldDescriptor) error {
	if tree.kind != object {
		return r.unexpected("an object", tree)
	}
	for _, member := range tree.members {
		r.path.push(member.key)
		value, err := r.scalar(member.value, field.MapValue())
		if err != nil {
			return err
		}
		r.path.pop()
		entries.Set(protoreflect.ValueOfString(member.key).MapKey(), value)
	}
	return nil
}

func (r *reader) scalar(tree node, field protoreflect.FieldDescriptor) (value protoreflect.Value, err error) {
	switch field.Kind() {
	case protoreflect.StringKind:
		if tree.kind != text {
			return value, r.unexpected("a string", tree)
		}
		return protoreflect.ValueOfString(tree.text), nil
	case protoreflect.BoolKind:
		if tree.kind != boolean {
			return value, r.unexpected("a boolean", tree)
		}
		return protoreflect.ValueOfBool(tree.truth), nil
	case protoreflect.EnumKind:
		return r.enum(tree, field.Enum())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind:
		n, err := r.integer(tree, math.MinInt32, math.MaxInt32)
		return protoreflect.ValueOfInt32(int32(n.Int64())), err
	case protoreflect.Uint32Kind:
		n, err := r.integer(tree, 0, math.MaxUint32)
		return protoreflect.ValueOfUint32(uint32(n.Uint64())), err
	case protoreflect.Uint64Kind:
		n, err := r.integer(tree, 0, math.MaxUint64)
		return protoreflect.ValueOfUint64(n.Uint64()), err
	case protoreflect.FloatKind:
		return r.float(tree)
	}
	return value, r.path.flaw("is of a type that this reader does not know")
}

func (r *reader) enum(tree node, enum protoreflect.EnumDescriptor) (value protoreflect.Value, err error) {
	if tree.kind == text {
		named := enum.Values().ByName(protoreflect.Name(tree.text))
		if named == nil {
			return value, r.path.flaw("is not the full name of a value of %s", enum.Name())
		}
		return protoreflect.ValueOfEnum(named.Number()), nil
	}
	if tree.kind != number {
		return value, r.unexpected("the name of a value of "+string(enum.Name()), tree)
	}
	n, err := r.integer(tree, math.MinInt32, math.MaxInt32)
	if err != nil {
		return value, err
	}
	numbered := protoreflect.EnumNumber(n.Int64())
	if enum.Values().ByNumber(numbered) == nil {
		return value, r.path.flaw("is not the number of a value of %s", enum.Name())
	}
	return protoreflect.ValueOfEnum(numbered), nil
}

// maxExponent is more than any number in range needs; it keeps 1e999999999 from being worked out.
const maxExponent = 99

// integer reads a number or a decimal string (HOST-JSON-012). A fraction or an exponent is borne with
// where the number is whole all the same.
func (r *reader) integer(tree node, low int64, high uint64) (*big.Int, error) {
	nought := new(big.Int)
	if tree.kind != number && tree.kind != text {
		return nought, r.unexpected("a number", tree)
	}
	if tree.kind == text && !isDecimal(tree.text) {
		return nought, r.path.flaw("is not a decimal number")
	}
	n, err := whole(tree.text)
	if err != nil {
		return nought, r.path.flaw("%s", err)
	}
	if n.Cmp(big.NewInt(low)) < 0 || n.Cmp(new(big.Int).SetUint64(high)) > 0 {
		return nought, r.path.flaw("is not within %d and %d", low, high)
	}
	return n, nil
}

var (
	errFraction = errors.New("is not an integer")
	errRange    = errors.New("is out of range")
)

// maxDigits is more than any number in range needs.
const maxDigits = 400

func whole(literal string) (*big.Int, error) {
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

func (r *reader) float(tree node) (value protoreflect.Value, err error) {
	if tree.kind != number && tree.kind != text {
		return value, r.unexpected("a number", tree)
	}
	// No hexadecimal, no underscore, no infinity: as JSON writes numbers.
	if strings.Trim(tree.text, "0123456789+-.eE") != "" {
		return value, r.path.flaw("is not a decimal number")
	}
	f, err := strconv.ParseFloat(tree.text, 32)
	if err != nil {
		return value, r.path.flaw("is not a decimal number in range")
	}
	return protoreflect.ValueOfFloat32(float32(f)), nil
}

func (r *reader) timestamp(tree node, m protoreflect.Message) error {
	if tree.kind != text {
		return r.unexpected("a time in the form of RFC 3339", tree)
	}
	var instant time.Time
	// UnmarshalText is strict where time.Parse is not.
	if err := instant.UnmarshalText([]byte(tree.text)); err != nil {
		return r.path.flaw("is not a time in the form of RFC 3339")
	}
	stamp := timestamppb.New(instant)
	if !stamp.IsValid() {
		return r.path.flaw("is a time out of range")
	}
	proto.Merge(m.Interface(), stamp)
	return nil
}

func (r *reader) unexpected(expected string, tree node) error {
	return r.path.flaw("expected %s, got %s", expected, tree.kind)
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
