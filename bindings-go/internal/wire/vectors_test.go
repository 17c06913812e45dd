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

// The golden vectors that all languages share.
const vectors = "../../../proto/vectors"

type vector struct {
	Name      string
	Message   string
	Canonical json.RawMessage
	Accepts   []spelling
	Refuses   []spelling
}

type spelling struct {
	Why    string
	Rule   string
	Field  string
	JSON   json.RawMessage
	Text   *string
	Base64 *string
}

func (s spelling) payload(t *testing.T) []byte {
	switch {
	case s.JSON != nil:
		return s.JSON
	case s.Text != nil:
		return []byte(*s.Text)
	case s.Base64 != nil:
		payload, err := base64.StdEncoding.DecodeString(*s.Base64)
		if err != nil {
			t.Fatal(err)
		}
		return payload
	}
	t.Fatalf("%q has no payload", s.Why)
	return nil
}

// TestVectors plays every vector both ways; none is left out.
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
	kind, err := protoregistry.GlobalTypes.FindMessageByName("wasmcloud.runtime.v2." + protoreflect.FullName(v.Message))
	if err != nil {
		t.Fatal(err)
	}
	message := kind.New().Interface()
	if err := wire.Read(v.Canonical, message); err != nil {
		t.Fatalf("canonical is refused: %v", err)
	}
	written, err := wire.Write(message)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := comparable(t, written), comparable(t, v.Canonical); got != want {
		t.Errorf("written as %s\nand not as %s", got, want)
	}
	for _, other := range v.Accepts {
		read := kind.New().Interface()
		if err := wire.Read(other.payload(t), read); err != nil {
			t.Errorf("%s (%s): %v", other.Why, other.Rule, err)
		} else if !proto.Equal(read, message) {
			t.Errorf("%s (%s): read as %v", other.Why, other.Rule, read)
		}
	}
	for _, wrong := range v.Refuses {
		read := kind.New().Interface()
		err := wire.Read(wrong.payload(t), read)
		if err == nil {
			t.Errorf("%s (%s): read as %v", wrong.Why, wrong.Rule, read)
		} else if !strings.Contains(err.Error(), wrong.Field) {
			t.Errorf("%s (%s): %q does not name %s", wrong.Why, wrong.Rule, err, wrong.Field)
		}
		if proto.Size(read) != 0 {
			t.Errorf("%s (%s): a refused message is left half read", wrong.Why, wrong.Rule)
		}
	}
}

// comparable brings JSON into a form that is equal where the vectors say that it is: instants as
// instants, the one float in single precision.
func comparable(t *testing.T, payload []byte) string {
	var value any
	if err := json.Unmarshal(payload, &value); err != nil {
		t.Fatal(err)
	}
	normal, err := json.Marshal(normalized(t, "", value))
	if err != nil {
		t.Fatal(err)
	}
	return string(normal)
}

func normalized(t *testing.T, key string, value any) any {
	switch value := value.(type) {
	case map[string]any:
		for key, member := range value {
			value[key] = normalized(t, key, member)
		}
	case []any:
		for i, item := range value {
			value[i] = normalized(t, "", item)
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
