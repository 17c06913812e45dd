// Package grpc is the root of the module with the gRPC stubs of wasmcloud.runtime.v2, for hosts and schedulers
// without NATS: see [berth.dev/go/grpc/wasmcloud/runtime/v2]. The messages are those of berth.dev/go.
package grpc
