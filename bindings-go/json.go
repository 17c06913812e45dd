package berth

import (
	"errors"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"berth.dev/go/internal/wire"
)

// ReadError says why a message cannot be read. It quotes no value, for values may be secrets.
type ReadError struct {
	// Path is the field, from the top of the message, as workload.witWorld.components[0].poolSize. It is
	// empty when the message as a whole is at fault.
	Path string
	// Problem is what is wrong, in words.
	Problem string
}

func (e *ReadError) Error() string { return (*wire.ReadError)(e).Error() }

// Unmarshal reads a message from JSON as liberally as the protocol demands of its readers: unknown fields
// are ignored, null means unset, numbers may be strings, enums may be numbers, both names of a field are
// known. What it refuses, a [*ReadError] names by its field.
func Unmarshal(payload []byte, m proto.Message) error {
	err := wire.Read(payload, m)
	if flaw := (*wire.ReadError)(nil); errors.As(err, &flaw) {
		return (*ReadError)(flaw)
	}
	return err
}

// Marshal writes a message as JSON in the form that every deployed peer reads: lowerCamelCase, enum names,
// 64-bit integers as strings, no nulls, nothing outside the schema. It fails for what JSON has no form
// for: an enum number without a name, NaN and infinities, text that is no UTF-8.
func Marshal(m proto.Message) ([]byte, error) { return wire.Write(m) }

// redacted stands where a secret was.
const redacted = "***"

// Redact gives a copy of a message that may be logged: registry credentials, and the values of config and
// environment, are replaced by ***. The messages themselves print everything that they hold.
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
