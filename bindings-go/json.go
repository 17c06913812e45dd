package berth

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"berth.dev/go/internal/wire"
)

// DecodeError is returned when JSON cannot be decoded into a message. It quotes no value, because values may
// be secrets.
type DecodeError struct {
	// Path is the path of the invalid field from the root of the message, for example
	// workload.witWorld.components[0].poolSize. It is empty when the error concerns the whole message.
	Path string
	// Problem describes what is wrong with the field or the message.
	Problem string
}

func (e *DecodeError) Error() string { return "berth: " + (*wire.DecodeError)(e).Error() }

// Unmarshal decodes a message from JSON as liberally as the protocol requires: unknown fields are ignored,
// null means unset, numbers may be strings, enums may be numbers, and fields may have their JSON or their
// proto name. Every error is a [*DecodeError].
func Unmarshal(payload []byte, m proto.Message) error {
	err := wire.Decode(payload, m)
	if decodeErr := (*wire.DecodeError)(nil); errors.As(err, &decodeErr) {
		return (*DecodeError)(decodeErr)
	}
	return err
}

// Marshal encodes a message as JSON in the form that every peer reads: lowerCamelCase, enum names, 64-bit integers
// as strings, no nulls, no fields outside the schema. It returns [ErrEncode] if JSON cannot
// represent the message, which then has an enum number without a name, NaN, an infinity or invalid UTF-8.
func Marshal(m proto.Message) ([]byte, error) {
	payload, err := wire.Encode(m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEncode, err)
	}
	return payload, nil
}

// redacted replaces a secret.
const redacted = "***"

// Redact returns a copy of a message for logging: *** replaces registry credentials and the values of config
// and environment. A message that is printed without Redact shows its secrets.
func Redact[M proto.Message](m M) M {
	copied := proto.Clone(m)
	redact(copied.ProtoReflect())
	return copied.(M)
}

func redact(m protoreflect.Message) {
	isPullSecret := m.Descriptor().Name() == "ImagePullSecret"
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.Name() == "config" || field.Name() == "environment" {
				value.Map().Range(func(key protoreflect.MapKey, _ protoreflect.Value) bool {
					value.Map().Set(key, protoreflect.ValueOfString(redacted))
					return true
				})
			}
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				redact(value.List().Get(i).Message())
			}
		case field.Message() != nil:
			redact(value.Message())
		case isPullSecret:
			m.Set(field, protoreflect.ValueOfString(redacted))
		}
		return true
	})
}
