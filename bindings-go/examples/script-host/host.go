package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"runtime"
	"strings"

	berth "berth.dev/go"
	runtimev2 "berth.dev/go/wasmcloud/runtime/v2"
)

// host implements berth.Host.
type host struct {
	images   *images
	hostname string
	// name is random, because two hosts with the same name would conflict over one Kubernetes object.
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

// Start pulls all images before it runs anything, so that an incomplete workload runs nothing. If the workload is
// stopped during the start, ctx ends and Start returns an error.
func (h *host) Start(ctx context.Context, request berth.StartRequest) (berth.Instance, error) {
	if err := checkSupported(request.Workload); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	// Components are only pulled: nothing on this host calls them.
	for i, component := range request.Workload.GetWitWorld().GetComponents() {
		if _, err := h.pull(ctx, component.Image, component.ImagePullPolicy); err != nil {
			return nil, berth.StartErrorf("component %d %q: %w", i, component.Name, err)
		}
	}
	service := request.Workload.Service
	if service == nil {
		return berth.StopFunc(func(context.Context) {}), nil
	}
	script, err := h.pull(ctx, service.Image, service.ImagePullPolicy)
	if err != nil {
		return nil, berth.StartErrorf("service: %w", err)
	}
	running, err := startProcess(script, service, request.Reporter)
	if err != nil {
		return nil, err
	}
	return running, nil
}

func (h *host) pull(ctx context.Context, image string, policy runtimev2.ImagePullPolicy) ([]byte, error) {
	if policy == runtimev2.ImagePullPolicy_IMAGE_PULL_POLICY_NEVER {
		return nil, fmt.Errorf("image %q: pull policy Never is not supported, because this host stores no images", image)
	}
	script, err := h.images.pull(ctx, image)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", image, err)
	}
	return script, nil
}

// checkSupported rejects a workload that needs a feature this host lacks. Other declared interfaces are harmless:
// scripts import none.
func checkSupported(workload *runtimev2.Workload) error {
	for _, each := range workload.GetWitWorld().GetHostInterfaces() {
		if each.Namespace == "wasi" && each.Package == "http" {
			return berth.StartErrorf("wasi:http is not supported: this host has no HTTP ingress")
		}
	}
	if len(workload.GetService().GetLocalResources().GetVolumeMounts()) > 0 {
		return berth.StartErrorf("service: volume mounts are not supported")
	}
	return nil
}
