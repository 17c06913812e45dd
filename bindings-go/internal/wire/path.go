package wire

import (
	"fmt"
	"strconv"
	"strings"
)

// path is a position in a message: workload.witWorld.components[0].poolSize.
type path struct {
	steps []string
}

func (p *path) push(key string)     { p.steps = append(p.steps, "."+shorten(key)) }
func (p *path) pushIndex(index int) { p.steps = append(p.steps, "["+strconv.Itoa(index)+"]") }
func (p *path) pop()                { p.steps = p.steps[:len(p.steps)-1] }

func (p *path) String() string {
	return strings.TrimPrefix(strings.Join(p.steps, ""), ".")
}

// errorf returns an error at this position. Its text must quote no value: values may be secrets.
func (p *path) errorf(format string, args ...any) error {
	return &DecodeError{Path: p.String(), Problem: fmt.Sprintf(format, args...)}
}

// maxKeyBytes bounds keys in errors; no field name of the schema is as long.
const maxKeyBytes = 64

// shorten returns a key for errors: bounded, and without unpaired surrogates.
func shorten(key string) string {
	key = strings.ToValidUTF8(key, "\uFFFD")
	if len(key) <= maxKeyBytes {
		return key
	}
	return strings.ToValidUTF8(key[:maxKeyBytes], "") + "…"
}
