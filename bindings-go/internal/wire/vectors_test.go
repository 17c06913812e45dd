package wire_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"berth.dev/go/internal/wire"
	_ "berth.dev/go/wasmcloud/runtime/v2"
)

// vectors is the directory of the golden vectors that all languages share.
const vectors = "../../../proto/vectors"

type vector struct {
	Name      string
	Message   string
	Canonical json.RawMessage
	Accepts   []variant
	Refuses   []variant
}

type variant struct {
	Why    string
	Rule   string
	Field  string
	JSON   json.RawMessage
	Text   *string
	Base64 *string
}

func (v variant) payload(t *testing.T) []byte {
	switch {
	case v.JSON != nil:
		return v.JSON
	case v.Text != nil:
		return []byte(*v.Text)
	case v.Base64 != nil:
		payload, err := base64.StdEncoding.DecodeString(*v.Base64)
		if err != nil {
			t.Fatal(err)
		}
		return payload
	}
	t.Fatalf("%q has no payload", v.Why)
	return nil
}

// TestVectors decodes and encodes every vector.
func TestVectors(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(vectors, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors in %s: %v", vectors, err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var list struct{ Vectors []vector }
		if err := json.Unmarshal(content, &list); err != nil {
			t.Fatal(err)
		}
		if len(list.Vectors) == 0 {
			t.Errorf("%s has no vectors", file)
		}
		for _, v := range list.Vectors {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".json")+"/"+v.Name, v.check)
		}
	}
}

func (v vector) check(t *testing.T) {
	messageType, err := protoregistry.GlobalTypes.FindMessageByName("wasmcloud.runtime.v2." + protoreflect.FullName(v.Message))
	if err != nil {
		t.Fatal(err)
	}
	message := messageType.New().Interface()
	if err := wire.Decode(v.Canonical, message); err != nil {
		t.Fatalf("the canonical form is rejected: %v", err)
	}
	encoded, err := wire.Encode(message)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := canonical(t, encoded), canonical(t, v.Canonical); got != want {
		t.Errorf("encoded as %s\nwant %s", got, want)
	}
	for _, valid := range v.Accepts {
		decoded := messageType.New().Interface()
		if err := wire.Decode(valid.payload(t), decoded); err != nil {
			t.Errorf("%s (%s): %v", valid.Why, valid.Rule, err)
		} else if !proto.Equal(decoded, message) {
			t.Errorf("%s (%s): decoded as %v", valid.Why, valid.Rule, decoded)
		}
	}
	for _, invalid := range v.Refuses {
		decoded := messageType.New().Interface()
		err := wire.Decode(invalid.payload(t), decoded)
		if err == nil {
			t.Errorf("%s (%s): decoded as %v", invalid.Why, invalid.Rule, decoded)
		} else if !strings.Contains(err.Error(), invalid.Field) {
			t.Errorf("%s (%s): %q does not name %s", invalid.Why, invalid.Rule, err, invalid.Field)
		}
		if proto.Size(decoded) != 0 {
			t.Errorf("%s (%s): the message is not empty after an error", invalid.Why, invalid.Rule)
		}
	}
}

// canonical returns JSON in a form in which equivalent values are equal: timestamps in UTC, the one float in
// single precision.
func canonical(t *testing.T, payload []byte) string {
	var value any
	if err := json.Unmarshal(payload, &value); err != nil {
		t.Fatal(err)
	}
	normal, err := json.Marshal(normalize(t, "", value))
	if err != nil {
		t.Fatal(err)
	}
	return string(normal)
}

func normalize(t *testing.T, key string, value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, member := range value {
			value[key] = normalize(t, key, member)
		}
	case []any:
		for i, item := range value {
			value[i] = normalize(t, "", item)
		}
	case string:
		if key == "startedAt" {
			instant, err := time.Parse(time.RFC3339Nano, value)
			if err != nil {
				t.Fatal(err)
			}
			return instant.UTC().Format(time.RFC3339Nano)
		}
	case float64:
		if key == "systemCpuUsage" {
			return float32(value)
		}
	}
	return value
}
