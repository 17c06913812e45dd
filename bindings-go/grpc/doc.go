// Package grpc is the root of a module that holds the gRPC stubs of wasmcloud.runtime.v2, for peers without
// NATS: see [berth.dev/go/grpc/wasmcloud/runtime/v2]. The messages are those of berth.dev/go.
package grpc
