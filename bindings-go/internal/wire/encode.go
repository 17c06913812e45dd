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

// Encode encodes a message in the canonical form: JSON names, enum names, 64-bit integers as strings, no nulls,
// no default values, no white space. It fails where JSON cannot represent the message: on an enum number
// without a name, NaN, infinities and invalid UTF-8.
func Encode(m proto.Message) ([]byte, error) {
	if err := check(m.ProtoReflect()); err != nil {
		return nil, err
	}
	encoded, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	// protojson varies the white space from build to build to discourage the comparison of bytes.
	var compact bytes.Buffer
	if err := json.Compact(&compact, encoded); err != nil {
		return nil, err
	}
	return compact.Bytes(), nil
}

// check rejects values that protojson would encode but no peer could decode.
func check(m protoreflect.Message) (err error) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			// All maps of the schema have string values, which need no check here.
		case field.IsList():
			for i := range value.List().Len() {
				if err = checkValue(field, value.List().Get(i)); err != nil {
					break
				}
			}
		default:
			err = checkValue(field, value)
		}
		return err == nil
	})
	return err
}

func checkValue(field protoreflect.FieldDescriptor, value protoreflect.Value) error {
	switch field.Kind() {
	case protoreflect.MessageKind:
		return check(value.Message())
	case protoreflect.EnumKind:
		if field.Enum().Values().ByNumber(value.Enum()) == nil {
			return fmt.Errorf("field %s: enum number %d has no name", field.FullName(), value.Enum())
		}
	case protoreflect.FloatKind:
		if f := value.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("field %s: JSON cannot represent %v", field.FullName(), f)
		}
	}
	return nil
}
