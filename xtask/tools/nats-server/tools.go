//go:build tools

// Package tools pins the nats-server that the tests of this repository use.
package tools

import _ "github.com/nats-io/nats-server/v2"
