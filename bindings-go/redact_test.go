package berth

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

func secretive() *runtimev2.Workload {
	resources := &runtimev2.LocalResources{
		Environment: map[string]string{"A": "hunter1"}, Config: map[string]string{"B": "hunter2"},
		AllowedHosts: []string{"shown.example"},
	}
	secret := &runtimev2.ImagePullSecret{Username: "hunter3", Password: "hunter4"}
	return &runtimev2.Workload{
		Name:    "shown",
		Service: &runtimev2.Service{Image: "shown", ImagePullSecret: secret, LocalResources: resources},
		WitWorld: &runtimev2.WitWorld{
			Components:     []*runtimev2.Component{{Name: "shown", ImagePullSecret: secret, LocalResources: resources}},
			HostInterfaces: []*runtimev2.WitInterface{{Namespace: "shown", Config: map[string]string{"host": "hunter5"}}},
		},
	}
}

func TestRedactedMessagesShowNoSecretAndTheRest(t *testing.T) {
	workload := secretive()
	shown := Redact(workload).String()
	if strings.Contains(shown, "hunter") || strings.Count(shown, "shown") != 6 {
		t.Error(shown)
	}
	if !proto.Equal(workload, secretive()) {
		t.Error("the message itself is changed")
	}
}

func TestAStartShowsNoSecret(t *testing.T) {
	start := Start{ID: "a", Workload: secretive()}
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "start", start)
	if shown := fmt.Sprintf("%v %+v %s", start, start, start) + logged.String(); strings.Contains(shown, "hunter") {
		t.Error(shown)
	}
}
