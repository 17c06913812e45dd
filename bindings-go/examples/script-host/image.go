package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// scriptType is the media type of the one layer of an image.
	scriptType = "text/x-shellscript"

	manifestType = "application/vnd.oci.image.manifest.v1+json"

	// pullTimeout is around all requests for a workload: a start has 60 s in all.
	pullTimeout = 30 * time.Second

	// maxImageBytes holds for what arrives, whatever length was announced.
	maxImageBytes = 1 << 20
)

// images pulls from registries, anonymously.
type images struct {
	client   *http.Client
	insecure []string
}

func newImages(insecure []string) *images {
	return &images{&http.Client{Timeout: pullTimeout}, insecure}
}

// reference is an image by tag, by digest, or both, as in registry.example:5000/team/shop:1.4@sha256:….
var reference = regexp.MustCompile(`^([^/]+)/([a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?::([A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?$`)

type manifest struct {
	Layers []struct {
		MediaType string
		Digest    string
	}
}

// pull gives the script in an image. The digests of what arrives are verified.
func (i *images) pull(ctx context.Context, image string) ([]byte, error) {
	parts := reference.FindStringSubmatch(image)
	if parts == nil {
		return nil, errors.New("not a reference of the form registry/name:tag or registry/name@digest")
	}
	registry, name, tag, digest := parts[1], parts[2], parts[3], parts[4]
	base := i.scheme(registry) + "://" + registry + "/v2/" + name
	wanted := digest
	if wanted == "" {
		wanted = tag
	}
	if wanted == "" {
		wanted = "latest"
	}
	content, err := i.get(ctx, base+"/manifests/"+wanted, digest)
	if err != nil {
		return nil, fmt.Errorf("the manifest: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(content, &m); err != nil || len(m.Layers) != 1 {
		return nil, errors.New("not a manifest of one layer")
	}
	layer := m.Layers[0]
	if layer.MediaType != scriptType {
		return nil, fmt.Errorf("this host runs %s and not %q", scriptType, layer.MediaType)
	}
	script, err := i.get(ctx, base+"/blobs/"+layer.Digest, layer.Digest)
	if err != nil {
		return nil, fmt.Errorf("the script: %w", err)
	}
	return script, nil
}

func (i *images) scheme(registry string) string {
	host, _, _ := strings.Cut(registry, ":")
	if slices.Contains(i.insecure, host) || slices.Contains(i.insecure, registry) {
		return "http"
	}
	return "https"
}

func (i *images) get(ctx context.Context, url, digest string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", manifestType)
	response, err := i.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the registry answers %s", response.Status)
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, maxImageBytes+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxImageBytes {
		return nil, fmt.Errorf("it is larger than %d bytes", maxImageBytes)
	}
	if digest != "" && digest != fmt.Sprintf("sha256:%x", sha256.Sum256(content)) {
		return nil, errors.New("its content is not that of its digest")
	}
	return content, nil
}
