package wire_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"berth.dev/go/internal/wire"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

func TestDecodeErrorNamesFieldWithoutValue(t *testing.T) {
	for _, c := range []struct{ payload, want string }{
		{`{"workloadId":7}`, "field `workloadId`: expected a string, got a number"},
		{`{"workload":[]}`, "field `workload`: expected an object, got an array"},
		{
			`{"workload":{"witWorld":{"components":[{},{"poolSize":"many"}]}}}`,
			"field `workload.witWorld.components[1].poolSize`: not a decimal number",
		},
		{
			`{"workload":{"wit_world":{"components":[{"pool_size":4294967296}]}}}`,
			"field `workload.witWorld.components[0].poolSize`: not between -2147483648 and 2147483647",
		},
		{
			`{"workload":{"service":{"imagePullSecret":"hunter2"}}}`,
			"field `workload.service.imagePullSecret`: expected an object, got a string",
		},
		{
			`{"workload":{"service":{"imagePullPolicy":"hunter2"}}}`,
			"field `workload.service.imagePullPolicy`: not the full name of a value of ImagePullPolicy",
		},
		{
			`{"workload":{"service":{"imagePullPolicy":9}}}`,
			"field `workload.service.imagePullPolicy`: not the number of a value of ImagePullPolicy",
		},
		{
			`{"workload":{"volumes":[{"hostPath":{},"emptyDir":{}}]}}`,
			"field `workload.volumes[0].emptyDir`: conflicts with `hostPath`, which is also set",
		},
		{
			`{"workloadId":"a","workload_id":"a"}`,
			"field `workloadId`: set under both of its names",
		},
		{
			`{"workload":{"annotations":{"a":"b","a":"c"}}}`,
			"field `workload.annotations`: duplicate key \"a\"",
		},
		{
			`{"workload":{"annotations":{"k":null}}}`,
			"field `workload.annotations.k`: expected a string, got null",
		},
		{
			`{"workload":{"service":{"localResources":{"allowedHosts":["a",null]}}}}`,
			"field `workload.service.localResources.allowedHosts[1]`: expected a string, got null",
		},
		{`[]`, "the payload is not one JSON object: it is an array"},
		{`{} {}`, "the payload is not one JSON object: trailing data at byte 3"},
		{`{"workloadId":"\ud800x"}`, "field `workloadId`: unpaired surrogate"},
		{`{"workload":{"annotations":{"\ud800":"x"}}}`, "field `workload.annotations.\uFFFD`: the key has an unpaired surrogate"},
		{``, "the payload is empty"},
	} {
		err := wire.Decode([]byte(c.payload), &runtimev2.WorkloadStartRequest{})
		var decodeErr *wire.DecodeError
		if !errors.As(err, &decodeErr) || err.Error() != c.want {
			t.Errorf("%s\n got %v\nwant %s", c.payload, err, c.want)
		}
	}
}

func TestDecodeAcceptsIntegersWithFractionOrExponent(t *testing.T) {
	for literal, want := range map[string]uint64{"3.0": 3, "3e2": 300, "-0": 0, "18446744073709551615": math.MaxUint64} {
		service := &runtimev2.Service{}
		if err := wire.Decode([]byte(`{"maxRestarts":`+literal+`}`), service); err != nil || service.MaxRestarts != want {
			t.Errorf("%s is decoded as %d, %v", literal, service.MaxRestarts, err)
		}
	}
	for _, literal := range []string{"1e999999999", "1e-999999999", "0.1e1000000", strings.Repeat("9", 500_000), `"1e2"`, `"+1"`, `""`, `"0x1"`} {
		if err := wire.Decode([]byte(`{"maxRestarts":`+literal+`}`), &runtimev2.Service{}); err == nil {
			t.Errorf("%.20s is accepted", literal)
		}
	}
}

func TestDecodeRejectsHostilePayloads(t *testing.T) {
	for name, payload := range map[string]string{
		"deep":          `{"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`,
		"wide":          `{"x":[` + strings.Repeat("0,", wire.MaxValues) + `0]}`,
		"a megabyte":    strings.Repeat("[", 1<<20),
		"invalid UTF-8": "{\"workloadId\":\"\xff\"}",
		"NUL":           "{\"workloadId\":\"a\"}\x00",
	} {
		if err := wire.Decode([]byte(payload), &runtimev2.WorkloadStartRequest{}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	deepest := `{"x":` + strings.Repeat("[", wire.MaxDepth-1) + strings.Repeat("]", wire.MaxDepth-1) + `}`
	if err := wire.Decode([]byte(deepest), &runtimev2.WorkloadStartRequest{}); err != nil {
		t.Error(err)
	}
}

func TestEncodeRejectsUnrepresentableValues(t *testing.T) {
	component := &runtimev2.Component{ImagePullPolicy: 77}
	for _, m := range []proto.Message{
		&runtimev2.HostHeartbeat{SystemCpuUsage: float32(math.NaN())},
		&runtimev2.HostHeartbeat{SystemCpuUsage: float32(math.Inf(1))},
		&runtimev2.HostHeartbeat{Id: "\xff"},
		&runtimev2.Workload{WitWorld: &runtimev2.WitWorld{Components: []*runtimev2.Component{component}}},
	} {
		if encoded, err := wire.Encode(m); err == nil {
			t.Errorf("encoded as %s", encoded)
		}
	}
}

// FuzzDecode searches for payloads whose decoded message cannot be encoded or decoded again.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"workload_id":"a","later":{"x":[1,{"y":null}]},"workload":{"name":null,"service":{"maxRestarts":3.0,` +
			`"image_pull_policy":2,"localResources":{"memoryLimitMb":"64","config":{"l":"m"}}},` +
			`"volumes":[{"name":"v","emptyDir":{}}],"witWorld":{"components":[{"poolSize":null,"image":"i"}]}}}`,
		`{"workloadId":"\ud83e\udd80"}`, `{"a":1e99}`, `[]`, ``, `{`, `{"workloadId":"`, "\xff", `{"a":-}`, `{"a":01}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var first, again runtimev2.WorkloadStartRequest
		if err := wire.Decode(payload, &first); err != nil {
			return
		}
		encoded, err := wire.Encode(&first)
		if err != nil {
			t.Fatalf("decoded, but cannot be encoded: %v", err)
		}
		if err := wire.Decode(encoded, &again); err != nil {
			t.Fatalf("%s cannot be decoded again: %v", encoded, err)
		}
		if !proto.Equal(&first, &again) {
			t.Fatalf("%v became %v", &first, &again)
		}
	})
}

// FuzzDecodeHeartbeat does the same as FuzzDecode for heartbeats, which have a timestamp and a float.
func FuzzDecodeHeartbeat(f *testing.F) {
	f.Add([]byte(`{"id":"h","startedAt":"2020-01-01T00:00:00+01:00","systemCpuUsage":3.0,"systemMemoryTotal":7}`))
	f.Add([]byte(`{"started_at":"0001-01-01T00:00:00Z","system_cpu_usage":"1e-45","imports":[{"config":{"a":"b"}}]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var first, again runtimev2.HostHeartbeat
		if err := wire.Decode(payload, &first); err != nil {
			return
		}
		encoded, err := wire.Encode(&first)
		if err != nil {
			t.Fatalf("decoded, but cannot be encoded: %v", err)
		}
		if err := wire.Decode(encoded, &again); err != nil || !proto.Equal(&first, &again) {
			t.Fatalf("%v became %v, %v", &first, &again, err)
		}
	})
}
