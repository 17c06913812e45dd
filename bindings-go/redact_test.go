package berth

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

func workloadWithSecrets() *runtimev2.Workload {
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

func TestRedactHidesSecretsOnly(t *testing.T) {
	workload := workloadWithSecrets()
	shown := Redact(workload).String()
	if strings.Contains(shown, "hunter") || strings.Count(shown, "shown") != 6 {
		t.Errorf("the message prints a secret or hides other text: %s", shown)
	}
	if !proto.Equal(workload, workloadWithSecrets()) {
		t.Error("Redact changes its argument")
	}
}

func TestStartRequestPrintsNoSecret(t *testing.T) {
	request := StartRequest{ID: "a", Workload: workloadWithSecrets()}
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "request", request)
	if shown := fmt.Sprintf("%v %+v %s", request, request, request) + logged.String(); strings.Contains(shown, "hunter") {
		t.Errorf("the request prints a secret: %s", shown)
	}
}
