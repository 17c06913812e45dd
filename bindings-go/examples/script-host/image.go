package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// scriptType is the media type of an image's only layer.
	scriptType = "text/x-shellscript"

	manifestType = "application/vnd.oci.image.manifest.v1+json"

	// pullTimeout bounds all registry requests of one start together. It is less than 60 s, because a start must be
	// answered within that time.
	pullTimeout = 30 * time.Second

	// maxImageBytes bounds each manifest and each script, regardless of its announced length.
	maxImageBytes = 1 << 20
)

// images pulls images from registries anonymously.
type images struct {
	client   *http.Client
	insecure []string
}

func newImages(insecure []string) *images {
	return &images{&http.Client{Timeout: pullTimeout}, insecure}
}

// reference matches an image reference with a tag, a digest, or both: registry.example:5000/team/shop:1.4@sha256:….
var reference = regexp.MustCompile(`^([^/]+)/([a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?::([A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?$`)

type manifest struct {
	Layers []struct {
		MediaType string
		Digest    string
	}
}

// pull returns the script in an image, after it has verified its digests.
func (i *images) pull(ctx context.Context, image string) ([]byte, error) {
	parts := reference.FindStringSubmatch(image)
	if parts == nil {
		return nil, errors.New("invalid image reference, want registry/name:tag or registry/name@digest")
	}
	registry, name, tag, digest := parts[1], parts[2], parts[3], parts[4]
	base := i.scheme(registry) + "://" + registry + "/v2/" + name
	tagOrDigest := digest
	if tagOrDigest == "" {
		tagOrDigest = tag
	}
	if tagOrDigest == "" {
		tagOrDigest = "latest"
	}
	content, err := i.get(ctx, base+"/manifests/"+tagOrDigest, digest)
	if err != nil {
		return nil, fmt.Errorf("cannot pull manifest: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(content, &m); err != nil || len(m.Layers) != 1 {
		return nil, errors.New("invalid manifest, want exactly one layer")
	}
	layer := m.Layers[0]
	if layer.MediaType != scriptType {
		return nil, fmt.Errorf("unsupported media type %q, want %s", layer.MediaType, scriptType)
	}
	script, err := i.get(ctx, base+"/blobs/"+layer.Digest, layer.Digest)
	if err != nil {
		return nil, fmt.Errorf("cannot pull script: %w", err)
	}
	return script, nil
}

func (i *images) scheme(registry string) string {
	host, _, err := net.SplitHostPort(registry)
	if err != nil {
		host = strings.Trim(registry, "[]") // there is no port
	}
	isHost := func(insecure string) bool { return strings.Trim(insecure, "[]") == host }
	if slices.Contains(i.insecure, registry) || slices.ContainsFunc(i.insecure, isHost) {
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
		return nil, fmt.Errorf("unexpected response from the registry: %s", response.Status)
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, maxImageBytes+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxImageBytes {
		return nil, fmt.Errorf("content exceeds %d bytes", maxImageBytes)
	}
	if digest != "" && digest != fmt.Sprintf("sha256:%x", sha256.Sum256(content)) {
		return nil, errors.New("content does not match its digest")
	}
	return content, nil
}
