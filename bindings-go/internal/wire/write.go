package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Write writes a message in the canonical form: JSON names, enum names, 64-bit integers as strings, no
// nulls, defaults left out, no white space. It fails for what JSON has no form for: an enum number
// without a name, NaN and infinities, text that is no UTF-8.
func Write(m proto.Message) ([]byte, error) {
	if err := writable(m.ProtoReflect()); err != nil {
		return nil, err
	}
	written, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	// protojson varies white space from build to build, so that nobody compares bytes.
	var compact bytes.Buffer
	if err := json.Compact(&compact, written); err != nil {
		return nil, err
	}
	return compact.Bytes(), nil
}

// writable looks for what protojson would write and no peer would read.
func writable(m protoreflect.Message) (err error) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap(): // of texts
		case field.IsList():
			for i := range value.List().Len() {
				if err = writableValue(field, value.List().Get(i)); err != nil {
					break
				}
			}
		default:
			err = writableValue(field, value)
		}
		return err == nil
	})
	return err
}

func writableValue(field protoreflect.FieldDescriptor, value protoreflect.Value) error {
	switch field.Kind() {
	case protoreflect.MessageKind:
		return writable(value.Message())
	case protoreflect.EnumKind:
		if field.Enum().Values().ByNumber(value.Enum()) == nil {
			return fmt.Errorf("%s: %d has no name", field.FullName(), value.Enum())
		}
	case protoreflect.FloatKind:
		if f := value.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("%s: JSON has no number for %v", field.FullName(), f)
		}
	}
	return nil
}
