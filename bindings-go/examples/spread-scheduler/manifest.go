package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	berth "berth.dev/go"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// objectKey identifies a manifest: a Workload, or a WorkloadDeployment of several replicas.
type objectKey struct{ Kind, Namespace, Name string }

// desiredObject is the content of a manifest.
type desiredObject struct {
	key      objectKey
	specJSON string // detects changes
	workload *runtimev2.Workload
	spec     workloadSpec
	replicas int
}

// manifest is a file. It has the fields of runtime.wasmcloud.dev/v1alpha1 that this example supports.
type manifest struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Spec     struct {
		workloadSpec
		Replicas *int
		Template struct{ Spec workloadSpec }
	}
}

type workloadSpec struct {
	HostSelector   map[string]string `json:"hostSelector,omitempty"`
	HostID         string            `json:"hostId,omitempty"`
	Environment    string            `json:"environment,omitempty"`
	Components     []map[string]any  `json:"components,omitempty"`
	Service        map[string]any    `json:"service,omitempty"`
	HostInterfaces []map[string]any  `json:"hostInterfaces,omitempty"`
}

// readManifests returns the objects of the valid manifests in a directory, and the errors of the invalid ones.
func readManifests(dir string) (map[objectKey]desiredObject, map[objectKey]error, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, nil, err
	}
	desired, invalid := make(map[objectKey]desiredObject), make(map[objectKey]error)
	for _, file := range files {
		content, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted since the directory was listed
		}
		if err != nil {
			return nil, nil, err
		}
		var m manifest
		if err := json.Unmarshal(content, &m); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", file, err)
		}
		key := objectKey{m.Kind, m.Metadata.Namespace, m.Metadata.Name}
		if desired[key], err = m.desired(key); err != nil {
			delete(desired, key)
			invalid[key] = err
		}
	}
	return desired, invalid, nil
}

func (m manifest) desired(key objectKey) (desiredObject, error) {
	spec, replicas := m.Spec.workloadSpec, 1
	switch {
	case key.Kind == "WorkloadDeployment":
		spec = m.Spec.Template.Spec
		if m.Spec.Replicas != nil {
			replicas = *m.Spec.Replicas
		}
	case key.Kind != "Workload":
		return desiredObject{}, fmt.Errorf("unsupported kind %q", key.Kind)
	}
	if replicas < 0 {
		return desiredObject{}, errors.New("spec.replicas is negative")
	}
	workload, err := spec.workload(key)
	if err != nil {
		return desiredObject{}, err
	}
	request, err := berth.Marshal(workload)
	if err != nil {
		return desiredObject{}, err
	}
	// The request and not the manifest is compared: a field that is set to its default changes nothing.
	placement := workloadSpec{HostSelector: spec.HostSelector, HostID: spec.HostID, Environment: spec.Environment}
	specJSON, err := json.Marshal(struct {
		Placement workloadSpec
		Request   json.RawMessage
	}{placement, request})
	return desiredObject{key, string(specJSON), workload, spec, replicas}, err
}

// acceptedBefore returns the object whose replicas an earlier process has started.
func acceptedBefore(key objectKey, previous []incarnation) (object desiredObject, found bool) {
	for _, each := range previous {
		if each.Replica.Object != key || !each.RetiredAt.IsZero() {
			continue
		}
		var spec workloadSpec
		if err := json.Unmarshal([]byte(each.Spec), &spec); err != nil {
			continue
		}
		workload, err := spec.workload(key)
		if err != nil {
			continue
		}
		object = desiredObject{key, each.Spec, workload, spec, object.replicas + 1}
		found = true
	}
	return object, found
}

// fits reports whether a host meets the placement constraints of the workload.
func (s workloadSpec) fits(host berth.HostView) bool {
	for label, value := range s.HostSelector {
		if host.Heartbeat.GetLabels()[label] != value {
			return false
		}
	}
	return host.Health != berth.HealthLost &&
		(s.HostID == "" || s.HostID == host.ID()) &&
		(s.Environment == "" || s.Environment == host.Heartbeat.GetEnvironment())
}

// workload converts a manifest into a workload message. The two differ in pull policies and environments only.
func (s workloadSpec) workload(key objectKey) (*runtimev2.Workload, error) {
	for _, part := range append(s.Components, s.Service) {
		policies := map[string]string{
			"Always": "ALWAYS", "IfNotPresent": "IF_NOT_PRESENT", "Never": "NEVER",
		}
		if policy, known := policies[fmt.Sprint(part["imagePullPolicy"])]; known {
			part["imagePullPolicy"] = "IMAGE_PULL_POLICY_" + policy
		} else {
			delete(part, "imagePullPolicy")
		}
		if resources, ok := part["localResources"].(map[string]any); ok {
			if environment, ok := resources["environment"].(map[string]any); ok {
				resources["environment"] = environment["config"]
			}
		}
	}
	message := map[string]any{
		"namespace": key.Namespace, "name": key.Name,
		"witWorld": map[string]any{"components": s.Components, "hostInterfaces": s.HostInterfaces},
	}
	if s.Service != nil {
		message["service"] = s.Service
	}
	payload, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	workload := &runtimev2.Workload{}
	return workload, berth.Unmarshal(payload, workload)
}
