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

func TestErrorsNameTheFieldAndNoValue(t *testing.T) {
	for _, c := range []struct{ payload, want string }{
		{`{"workloadId":7}`, "field `workloadId`: expected a string, got a number"},
		{`{"workload":[]}`, "field `workload`: expected an object, got an array"},
		{
			`{"workload":{"witWorld":{"components":[{},{"poolSize":"many"}]}}}`,
			"field `workload.witWorld.components[1].poolSize`: is not a decimal number",
		},
		{
			`{"workload":{"wit_world":{"components":[{"pool_size":4294967296}]}}}`,
			"field `workload.witWorld.components[0].poolSize`: is not within -2147483648 and 2147483647",
		},
		{
			`{"workload":{"service":{"imagePullSecret":"hunter2"}}}`,
			"field `workload.service.imagePullSecret`: expected an object, got a string",
		},
		{
			`{"workload":{"service":{"imagePullPolicy":"hunter2"}}}`,
			"field `workload.service.imagePullPolicy`: is not the full name of a value of ImagePullPolicy",
		},
		{
			`{"workload":{"service":{"imagePullPolicy":9}}}`,
			"field `workload.service.imagePullPolicy`: is not the number of a value of ImagePullPolicy",
		},
		{
			`{"workload":{"volumes":[{"hostPath":{},"emptyDir":{}}]}}`,
			"field `workload.volumes[0].emptyDir`: excludes `hostPath`, which is set, too",
		},
		{
			`{"workloadId":"a","workload_id":"a"}`,
			"field `workloadId`: is given under both of its names",
		},
		{
			`{"workload":{"annotations":{"a":"b","a":"c"}}}`,
			"field `workload.annotations`: the key \"a\" stands twice in one object",
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
		{`{} {}`, "the payload is not one JSON object: something behind the end at byte 3"},
		{`{"a":"\ud800x"}`, "the payload is not one JSON object: half a surrogate pair at byte 12"},
		{``, "the payload is empty"},
	} {
		err := wire.Read([]byte(c.payload), &runtimev2.WorkloadStartRequest{})
		var flaw *wire.ReadError
		if !errors.As(err, &flaw) || err.Error() != c.want {
			t.Errorf("%s\n got %v\nwant %s", c.payload, err, c.want)
		}
	}
}

func TestIntegersWithAFractionOrAnExponentAreBorneWith(t *testing.T) {
	for literal, want := range map[string]uint64{"3.0": 3, "3e2": 300, "-0": 0, "18446744073709551615": math.MaxUint64} {
		service := &runtimev2.Service{}
		if err := wire.Read([]byte(`{"maxRestarts":`+literal+`}`), service); err != nil || service.MaxRestarts != want {
			t.Errorf("%s is read as %d, %v", literal, service.MaxRestarts, err)
		}
	}
	for _, literal := range []string{"1e999999999", "1e-999999999", "0.1e1000000", strings.Repeat("9", 500_000), `"1e2"`, `"+1"`, `""`, `"0x1"`} {
		if err := wire.Read([]byte(`{"maxRestarts":`+literal+`}`), &runtimev2.Service{}); err == nil {
			t.Errorf("%.20s is read", literal)
		}
	}
}

func TestHostilePayloadsAreRefused(t *testing.T) {
	for name, payload := range map[string]string{
		"deep":       `{"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`,
		"wide":       `{"x":[` + strings.Repeat("0,", wire.MaxValues) + `0]}`,
		"a megabyte": strings.Repeat("[", 1<<20),
		"no UTF-8":   "{\"workloadId\":\"\xff\"}",
		"NUL":        "{\"workloadId\":\"a\"}\x00",
	} {
		if err := wire.Read([]byte(payload), &runtimev2.WorkloadStartRequest{}); err == nil {
			t.Errorf("%s is read", name)
		}
	}
	deepest := `{"x":` + strings.Repeat("[", wire.MaxDepth-1) + strings.Repeat("]", wire.MaxDepth-1) + `}`
	if err := wire.Read([]byte(deepest), &runtimev2.WorkloadStartRequest{}); err != nil {
		t.Error(err)
	}
}

func TestWhatNobodyCouldReadIsNotWritten(t *testing.T) {
	component := &runtimev2.Component{ImagePullPolicy: 77}
	for _, m := range []proto.Message{
		&runtimev2.HostHeartbeat{SystemCpuUsage: float32(math.NaN())},
		&runtimev2.HostHeartbeat{SystemCpuUsage: float32(math.Inf(1))},
		&runtimev2.HostHeartbeat{Id: "\xff"},
		&runtimev2.Workload{WitWorld: &runtimev2.WitWorld{Components: []*runtimev2.Component{component}}},
	} {
		if written, err := wire.Write(m); err == nil {
			t.Errorf("written as %s", written)
		}
	}
}

// FuzzRead looks for payloads that are read into something that cannot be written or read again.
func FuzzRead(f *testing.F) {
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
		if err := wire.Read(payload, &first); err != nil {
			return
		}
		written, err := wire.Write(&first)
		if err != nil {
			t.Fatalf("read and cannot be written: %v", err)
		}
		if err := wire.Read(written, &again); err != nil {
			t.Fatalf("%s cannot be read again: %v", written, err)
		}
		if !proto.Equal(&first, &again) {
			t.Fatalf("%v became %v", &first, &again)
		}
	})
}

// FuzzReadHeartbeat does the same for what hosts send, with its time and its float.
func FuzzReadHeartbeat(f *testing.F) {
	f.Add([]byte(`{"id":"h","startedAt":"2020-01-01T00:00:00+01:00","systemCpuUsage":3.0,"systemMemoryTotal":7}`))
	f.Add([]byte(`{"started_at":"0001-01-01T00:00:00Z","system_cpu_usage":"1e-45","imports":[{"config":{"a":"b"}}]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var first, again runtimev2.HostHeartbeat
		if err := wire.Read(payload, &first); err != nil {
			return
		}
		written, err := wire.Write(&first)
		if err != nil {
			t.Fatalf("read and cannot be written: %v", err)
		}
		if err := wire.Read(written, &again); err != nil || !proto.Equal(&first, &again) {
			t.Fatalf("%v became %v, %v", &first, &again, err)
		}
	})
}
