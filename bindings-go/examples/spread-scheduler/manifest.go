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

// object is what identifies a manifest: a Workload, or a WorkloadDeployment of several.
type object struct{ Kind, Namespace, Name string }

// wanted is what a manifest asks for.
type wanted struct {
	object   object
	content  string // of the workload and its conditions, to see whether they have changed
	workload *runtimev2.Workload
	spec     workloadSpec
	replicas int
}

// manifest is the file. Of the kinds of runtime.wasmcloud.dev/v1alpha1 it has what this example reads.
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

// readManifests gives what the directory asks for now, and what is wrong with the files that cannot be used.
func readManifests(dir string) (map[object]wanted, map[object]error, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, nil, err
	}
	all, wrong := make(map[object]wanted), make(map[object]error)
	for _, file := range files {
		content, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // it is gone since the directory was listed
		}
		if err != nil {
			return nil, nil, err
		}
		var m manifest
		if err := json.Unmarshal(content, &m); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", file, err)
		}
		of := object{m.Kind, m.Metadata.Namespace, m.Metadata.Name}
		if all[of], err = m.wanted(of); err != nil {
			delete(all, of)
			wrong[of] = err
		}
	}
	return all, wrong, nil
}

func (m manifest) wanted(of object) (wanted, error) {
	spec, replicas := m.Spec.workloadSpec, 1
	switch {
	case of.Kind == "WorkloadDeployment":
		spec = m.Spec.Template.Spec
		if m.Spec.Replicas != nil {
			replicas = *m.Spec.Replicas
		}
	case of.Kind != "Workload":
		return wanted{}, fmt.Errorf("this example has no use for a %s", of.Kind)
	}
	if replicas < 0 {
		return wanted{}, errors.New("spec.replicas is negative")
	}
	content, err := json.Marshal(spec)
	if err != nil {
		return wanted{}, err
	}
	workload, err := spec.workload(of)
	return wanted{of, string(content), workload, spec, replicas}, err
}

// fits tells whether a host meets the conditions of the workload.
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

// workload turns a manifest into what hosts read. The two are alike but for pull policies and environments.
func (s workloadSpec) workload(of object) (*runtimev2.Workload, error) {
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
	wire := map[string]any{
		"namespace": of.Namespace, "name": of.Name,
		"witWorld": map[string]any{"components": s.Components, "hostInterfaces": s.HostInterfaces},
	}
	if s.Service != nil {
		wire["service"] = s.Service
	}
	payload, err := json.Marshal(wire)
	if err != nil {
		return nil, err
	}
	workload := &runtimev2.Workload{}
	return workload, berth.Unmarshal(payload, workload)
}
