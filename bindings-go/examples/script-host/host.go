package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	berth "berth.dev/go"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// host is the berth.Host.
type host struct {
	images   *images
	hostname string
	// name is made at random, because two hosts with one name fight over one Kubernetes object.
	name string
}

func newHost(insecure []string) (*host, error) {
	hostname, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	name := "script-" + strings.ToLower(rand.Text()[:12])
	return &host{images: newImages(insecure), hostname: hostname, name: name}, nil
}

func (h *host) Describe() berth.Description {
	return berth.Description{
		Hostname:     h.hostname,
		FriendlyName: h.name,
		Version:      "0.1.0",
		Labels:       map[string]string{"hostgroup": "default"},
		OSArch:       runtime.GOARCH,
		OSName:       runtime.GOOS,
	}
}

// Start pulls everything first, so that nothing runs of a workload that lacks a part. Only when ctx ends,
// because the workload was stopped meanwhile, does it give up early.
func (h *host) Start(ctx context.Context, start berth.Start) (berth.Instance, error) {
	if err := offered(start.Workload); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	// Components are pulled and then idle: nothing on this host calls them.
	for i, component := range start.Workload.GetWitWorld().GetComponents() {
		if _, err := h.pull(ctx, component.Image, component.ImagePullPolicy); err != nil {
			return nil, fmt.Errorf("component %d %q: %w", i, component.Name, err)
		}
	}
	service := start.Workload.Service
	if service == nil {
		return berth.StopFunc(func(context.Context) {}), nil
	}
	script, err := h.pull(ctx, service.Image, service.ImagePullPolicy)
	if err != nil {
		return nil, fmt.Errorf("the service: %w", err)
	}
	return startProcess(script, service, start.Reporter)
}

func (h *host) pull(ctx context.Context, image string, policy runtimev2.ImagePullPolicy) ([]byte, error) {
	if policy == runtimev2.ImagePullPolicy_IMAGE_PULL_POLICY_NEVER {
		return nil, fmt.Errorf("image %q: this host keeps no images, so it has none to run without a pull", image)
	}
	script, err := h.images.pull(ctx, image)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", image, err)
	}
	return script, nil
}

// offered refuses what this host does not have, rather than run a workload that then lacks it. An interface
// that is declared and not used does no harm, and scripts import none.
func offered(workload *runtimev2.Workload) error {
	for _, each := range workload.GetWitWorld().GetHostInterfaces() {
		if each.Namespace == "wasi" && each.Package == "http" {
			return errors.New("this host serves no HTTP: a workload with wasi:http could not be reached")
		}
	}
	if len(workload.GetService().GetLocalResources().GetVolumeMounts()) > 0 {
		return errors.New("the service: this host has no volumes to mount")
	}
	return nil
}
